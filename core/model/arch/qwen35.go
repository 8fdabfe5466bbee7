package arch

// qwen35 is Qwen3.5 and its kin (Qwen team 2026): three layers of four are gated delta nets, the fourth is attention whose result is
// gated and of whose heads a quarter turns. Rotations by several sections turn text, which has one position, like plain ones. Norms
// but that of the delta net are stored without their 1. A file's value heads stand tile by tile, a folder's side by side with those of
// the same key head.
func qwen35() Family {
	return Family{
		Names:   []string{"qwen3_5", "qwen3_5_text", "qwen35"},
		GGUF:    "qwen35",
		Modules: qwenDelta(),
		Drafted: "mtp.",
		Tiled:   true,
		read: func(k *Keys) Spec {
			ffn := k.Int("feed_forward_length|intermediate_size")
			s := k.qwenDelta(k.IsGGUF(), func(*Dims, int) Op { return GLU{Hidden: ffn, Act: k.ActOf("|hidden_act", SiLU)} })
			s.Fixes = append(s.Fixes, Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v"}})
			return s
		},
	}
}

// qwenDelta are the names of modules of this line.
func qwenDelta() Modules {
	return decoderModules().With(
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

// qwenDelta reads what the line has in common. The network behind the mixers is the family's own.
func (k *Keys) qwenDelta(tiled bool, ffn func(d *Dims, layer int) Op) Spec {
	d, eps := Dims{
		Layers:  k.Int("block_count|num_hidden_layers"),
		Width:   k.Int("embedding_length|hidden_size"),
		Heads:   k.Int("attention.head_count|num_attention_heads"),
		Context: k.Int("context_length|max_position_embeddings"),
	}, k.RMSEps()
	d.KVHeads = k.Int("attention.head_count_kv|num_key_value_heads")
	d.HeadDim = k.headDim(d.Width, d.Heads)
	d.Layers -= k.draftsInside()
	bias := k.given("|attention_bias")
	if !k.Bool("|attn_output_gate", true) {
		k.Unsupported("attn_output_gate is false: attention without a gate")
	}
	a := Attention{
		Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, QKVBias: bias, OutBias: bias, Gated: true,
		QKNorm: QKNorm{Of: PerHead, Kind: RMSNorm, Eps: eps}, Position: k.Rope(RopeOf{HeadDim: d.HeadDim, Partial: 0.25}),
	}
	delta := Delta{
		KeyHeads: k.Int("ssm.group_count|linear_num_key_heads"), Heads: k.Int("ssm.time_step_rank|linear_num_value_heads"),
		KeyDim: k.Int("ssm.state_size|linear_key_head_dim"), Kernel: k.IntOr("ssm.conv_kernel|linear_conv_kernel_dim", 4), Tiled: tiled, Eps: eps,
		Logs: !k.IsGGUF(),
	}
	if k.IsGGUF() { // the size of all value heads together
		inner := k.Int("ssm.inner_size|")
		if delta.Heads < 1 || inner%delta.Heads != 0 {
			k.Invalid("%s %d is no multiple of the %d value heads", k.Say("ssm.inner_size|"), inner, delta.Heads)
			return Spec{}
		}
		delta.ValueDim = inner / delta.Heads
	} else {
		delta.ValueDim = k.Int("|linear_value_head_dim")
	}
	s := k.decoderSpec(&d, RMS("output_norm", eps), false)
	s.Drafts = k.drafts()
	s.Fixes = []Fix{AddOne{Of: []string{"output_norm", "blk.N.attn_norm", "blk.N.post_attention_norm", "blk.N.attn_q_norm", "blk.N.attn_k_norm"}}}
	for i, recurrent := range k.recurrent(k.layers(d.Layers)) {
		var mixer Op = a
		if recurrent {
			mixer = delta
		}
		s.Add(Sub{Pre: RMS("attn_norm", eps), Op: mixer}, Sub{Pre: RMS("post_attention_norm", eps), Op: ffn(&d, i)})
	}
	return s
}

// recurrent says which layers have a state and no attention: all but each fourth where the container does not tell.
func (k *Keys) recurrent(layers int) []bool {
	out := make([]bool, layers)
	pattern, kinds := k.pattern("attention.recurrent_layers|", layers), k.Kinds(layers)
	every := everyNth(k.IntOr("full_attention_interval|full_attention_interval", 4))
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
