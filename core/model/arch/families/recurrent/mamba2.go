package recurrent

import (
	"strings"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// mamba2 is Mamba-2 (Dao and Gu 2024): selective scans with one decay for each head, neither attention nor
// feed-forward networks.
func mamba2() family.Family {
	return family.Family{
		Names: []string{"mamba2"},
		Base:  "backbone.",
		Modules: family.ModulesOf(
			"backbone.embeddings", "token_embd",
			"backbone.embedding", "token_embd", // as its authors publish it
			"backbone.norm_f", "output_norm",
			"lm_head", "output",
			"backbone.layers.N.norm", "blk.N.attn_norm",
		).With(scanParts("backbone.layers.N.mixer")...),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{
				"num_heads": int64(128), "head_dim": int64(64), "state_size": int64(128), "n_groups": int64(8), "layer_norm_epsilon": 1e-5,
			})
			eps := float32(k.Float("attention.layer_norm_rms_epsilon|layer_norm_epsilon"))
			d := keys.Dims{
				Layers: k.Int("block_count|num_hidden_layers"), Width: k.Int("embedding_length|hidden_size"),
				Context: k.IntOr("context_length|max_position_embeddings", 1<<20), // nothing in it knows positions
			}
			k.ActOf("|hidden_act", arch.SiLU)
			s, scan := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false), mamba2Op(k, d.Width, "|head_dim", eps)
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: scan})
			}
			return s
		},
	}
}

// scanParts are the names of Mamba-2's mixer, which a folder calls module.
func scanParts(module string) []string {
	var out []string
	for _, x := range [][2]string{
		{"in_proj", "ssm_in"},
		{"conv1d", "ssm_conv1d"},
		{"dt_bias", "ssm_dt.bias"},
		{"A_log", "ssm_a"},
		{"D", "ssm_d"},
		{"norm", "ssm_norm"},
		{"out_proj", "ssm_out"},
	} {
		gguf := x[1]
		if !strings.HasPrefix(module, ".") {
			gguf = "blk.N." + gguf
		}
		out = append(out, module+"."+x[0], gguf)
	}
	return out
}

// mamba2Op reads a mixer with a gate before the norm of its result. headDim are the folder's names of the
// size of a head.
func mamba2Op(k *keys.Keys, width int, headDim string, eps float32) arch.Mamba2 {
	m := arch.Mamba2{
		Heads:  k.Int("ssm.time_step_rank|mamba_n_heads|mamba_num_heads|num_heads"),
		States: k.Int("ssm.state_size|mamba_d_state|ssm_state_size|state_size"),
		Groups: k.IntOr("ssm.group_count|mamba_n_groups|n_groups", 1),
		Kernel: k.IntOr("ssm.conv_kernel|mamba_d_conv|conv_kernel", 4),
		Norm:   arch.RMS("ssm_norm", eps),
		Logs:   !k.IsGGUF(),
	}
	if v, _, ok := k.Value(headDim); ok && v != "auto" {
		m.HeadDim = k.Int(headDim)
	} else {
		inner := k.IntOr("ssm.inner_size|mamba_d_ssm", 0)
		if inner == 0 && !k.IsGGUF() {
			inner = int(k.FloatOr("|mamba_expand|expand", 2) * float64(min(width, arch.MaxWidth)))
		}
		if m.Heads < 1 || inner%m.Heads != 0 {
			k.Invalid("%s is %d, which does not divide the scan's width %d", k.Say("ssm.time_step_rank|mamba_n_heads"), m.Heads, inner)
			return m
		}
		m.HeadDim = inner / m.Heads
	}
	if !k.IsGGUF() {
		m.InBias = k.RequiredIf("|mamba_proj_bias|use_bias")
		m.OutBias = m.InBias
		if k.Bool("|mamba_conv_bias|use_conv_bias", true) {
			m.ConvBias = arch.Required
		}
	}
	if limit := k.Floats("|mamba_dt_limit|time_step_limit"); len(limit) == 2 {
		m.Least = float32(limit[0])
		if limit[1] < 1e30 {
			m.Most = float32(limit[1])
		}
	} else if limit != nil {
		k.Invalid("time_step_limit has %d values: want two", len(limit))
	}
	return m
}
