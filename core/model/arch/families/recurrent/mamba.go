package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// mamba is Mamba (Gu and Dao 2023): selective scans with a decay for each channel and state, neither
// attention nor feed-forward networks.
func mamba() family.Family {
	return family.Family{
		Names:   []string{"mamba"},
		Base:    "backbone.",
		Modules: mambaModules(),
		Spec:    func(k *keys.Keys) arch.Spec { return pureMamba(k, arch.Norm{}) },
	}
}

// falconmamba is Falcon-Mamba (TII 2024): mamba with the steps of time, B and C normalised without weights.
// Its files do not hold that norm's epsilon: there it is that of the layers.
func falconmamba() family.Family {
	return family.Family{
		Names:   []string{"falcon_mamba"},
		GGUF:    "mamba", // a file of which says that it normalises
		Base:    "backbone.",
		Modules: mambaModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			return pureMamba(k, arch.Norm{Kind: arch.RMSNorm, Eps: float32(k.FloatOr("|mixer_rms_eps", 1e-6))})
		},
	}
}

func mambaModules() family.Modules {
	return mamba2().Modules.With(mamba1Parts("backbone.layers.N.mixer")...)
}

// mamba1Parts are the names of what Mamba's mixer has and Mamba-2's has not.
func mamba1Parts(module string) []string {
	gguf := "blk.N."
	if module[0] == '.' {
		gguf = ""
	}
	return []string{
		module + ".x_proj", gguf + "ssm_x", module + ".dt_proj", gguf + "ssm_dt", module + ".dt_layernorm", gguf + "ssm_dt_norm",
		module + ".b_layernorm", gguf + "ssm_b_norm", module + ".c_layernorm", gguf + "ssm_c_norm",
	}
}

// pureMamba reads a model of nothing but Mamba's mixers.
func pureMamba(k *keys.Keys, norm arch.Norm) arch.Spec {
	k.Defaults(map[string]any{"layer_norm_epsilon": 1e-5, "state_size": int64(16)})
	eps := float32(k.Float("attention.layer_norm_rms_epsilon|layer_norm_epsilon"))
	d := keys.Dims{
		Layers: k.Int("block_count|num_hidden_layers"), Width: k.Int("embedding_length|hidden_size"),
		Context: k.IntOr("context_length|max_position_embeddings", 1<<20), // nothing in it knows positions
	}
	k.ActOf("|hidden_act", arch.SiLU)
	if k.Bool("ssm.dt_b_c_rms|", false) {
		norm = arch.Norm{Kind: arch.RMSNorm, Eps: eps}
	}
	s, scan := k.DecoderSpec(&d, arch.RMS("output_norm", eps), true), mamba1Op(k, d.Width, norm)
	for range k.LayerCount(d.Layers) {
		s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: scan})
	}
	return s
}

// mamba1Op reads a mixer.
func mamba1Op(k *keys.Keys, width int, norm arch.Norm) arch.Mamba1 {
	m := arch.Mamba1{
		Inner: k.IntOr("ssm.inner_size|", 0), States: k.Int("ssm.state_size|mamba_d_state|state_size"),
		Kernel: k.IntOr("ssm.conv_kernel|mamba_d_conv|conv_kernel", 4), Norm: norm, Logs: !k.IsGGUF(),
	}
	width = max(0, min(width, arch.MaxWidth))
	if !k.IsGGUF() {
		m.Inner = int(min(k.FloatOr("|mamba_expand|expand", 2), arch.MaxFFN) * float64(width))
		m.Bias = k.RequiredIf("|mamba_proj_bias|use_bias")
		if k.Bool("|mamba_conv_bias|use_conv_bias", true) {
			m.ConvBias = arch.Required
		}
	}
	const rank = "ssm.time_step_rank|mamba_dt_rank|time_step_rank"
	if v, _, ok := k.Value(rank); ok && v != "auto" {
		m.Rank = k.Int(rank)
	} else {
		m.Rank = (width + 15) / 16
	}
	return m
}
