package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// qwen35 is Qwen3.5 and its kin (Qwen team 2026): three layers of four are gated delta nets, the fourth is
// attention whose result is gated and of whose heads a quarter turns. Rotations by several sections turn
// text, which has one position, like plain ones. Norms but that of the delta net are stored without their 1.
// A file's value heads stand tile by tile, a folder's side by side with those of the same key head.
func qwen35() family.Family {
	return family.Family{
		Names:   []string{"qwen3_5", "qwen3_5_text", "qwen35"},
		GGUF:    "qwen35",
		Modules: qwenDeltaModules(),
		Drafted: "mtp.",
		Tiled:   true,
		Spec: func(k *keys.Keys) arch.Spec {
			ffn := k.Int("feed_forward_length|intermediate_size")
			s := qwenDeltaSpec(
				k,
				k.IsGGUF(),
				func(*keys.Dims, int) arch.Op { return arch.GLU{Hidden: ffn, Act: k.ActOf("|hidden_act", arch.SiLU)} },
			)
			s.Fixes = append(s.Fixes, arch.Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v"}})
			return s
		},
	}
}

// qwenDeltaModules are the names of modules of this line.
func qwenDeltaModules() family.Modules {
	return family.DecoderModules().With(
		".post_attention_layernorm", "post_attention_norm",
		".linear_attn.in_proj_qkv", "attn_qkv",
		".linear_attn.in_proj_z", "attn_gate",
		".linear_attn.in_proj_b", "ssm_beta",
		".linear_attn.in_proj_a", "ssm_alpha",
		".linear_attn.conv1d", "ssm_conv1d",
		".linear_attn.dt_bias", "ssm_dt.bias",
		".linear_attn.A_log", "ssm_a",
		".linear_attn.norm", "ssm_norm",
		".linear_attn.out_proj", "ssm_out",
	)
}

// qwenDeltaSpec reads what the line has in common. The network behind the mixers is the family's own.
func qwenDeltaSpec(k *keys.Keys, tiled bool, ffn func(d *keys.Dims, layer int) arch.Op) arch.Spec {
	d, eps := keys.Dims{
		Layers:  k.Int("block_count|num_hidden_layers"),
		Width:   k.Int("embedding_length|hidden_size"),
		Heads:   k.Int("attention.head_count|num_attention_heads"),
		Context: k.Int("context_length|max_position_embeddings"),
	}, k.RMSEps()
	d.KVHeads = k.Int("attention.head_count_kv|num_key_value_heads")
	d.HeadDim = k.HeadDim(d.Width, d.Heads)
	d.Layers -= k.DraftsCounted()
	bias := k.RequiredIf("|attention_bias")
	if !k.Bool("|attn_output_gate", true) {
		k.Unsupported("attn_output_gate is false: attention without a gate")
	}
	a := arch.Attention{
		Heads:    d.Heads,
		KVHeads:  d.KVHeads,
		KeyDim:   d.HeadDim,
		ValueDim: d.HeadDim,
		QKVBias:  bias,
		OutBias:  bias,
		Gated:    true,
		QKNorm: arch.QKNorm{
			Of:   arch.PerHead,
			Kind: arch.RMSNorm,
			Eps:  eps,
		},
		Position: k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.25}),
	}
	delta := arch.Delta{
		KeyHeads: k.Int("ssm.group_count|linear_num_key_heads"),
		Heads:    k.Int("ssm.time_step_rank|linear_num_value_heads"),
		KeyDim: k.Int(
			"ssm.state_size|linear_key_head_dim",
		),
		Kernel: k.IntOr("ssm.conv_kernel|linear_conv_kernel_dim", 4),
		Tiled:  tiled,
		Eps:    eps,
		Logs:   !k.IsGGUF(),
	}
	if k.IsGGUF() { // the size of all value heads together
		inner := k.Int("ssm.inner_size|")
		if delta.Heads < 1 || inner%delta.Heads != 0 {
			k.Invalid("%s %d is no multiple of the %d value heads", k.Say("ssm.inner_size|"), inner, delta.Heads)
			return arch.Spec{}
		}
		delta.ValueDim = inner / delta.Heads
	} else {
		delta.ValueDim = k.Int("|linear_value_head_dim")
	}
	s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
	s.Drafts = k.Drafts()
	s.Fixes = []arch.Fix{
		arch.AddOne{Of: []string{"output_norm", "blk.N.attn_norm", "blk.N.post_attention_norm", "blk.N.attn_q_norm", "blk.N.attn_k_norm"}},
	}
	for i, recurrent := range recurrentLayers(k, k.LayerCount(d.Layers)) {
		var mixer arch.Op = a
		if recurrent {
			mixer = delta
		}
		s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: mixer}, arch.Sub{Pre: arch.RMS("post_attention_norm", eps), Op: ffn(&d, i)})
	}
	return s
}

// recurrentLayers says which layers have a state and no attention: all but each fourth where the container
// does not tell.
func recurrentLayers(k *keys.Keys, layers int) []bool {
	out := make([]bool, layers)
	pattern, kinds := k.Pattern("attention.recurrent_layers|", layers), k.Kinds(layers)
	every := keys.EveryNth(k.IntOr("full_attention_interval|full_attention_interval", 4))
	for i := range out {
		switch {
		case pattern != nil:
			out[i] = pattern[i]
		case kinds == nil:
			out[i] = every(i)
		case kinds[i] == "linear_attention":
			out[i] = true
		case kinds[i] != "full_attention":
			k.Unsupported("layer_types has %q", kinds[i])
		}
	}
	return out
}
