package arch

// qwen35moe is qwen35 with experts by a soft-max over all, renormalised, and one that every row goes through, weighted by a sigmoid.
func qwen35moe() Family {
	return Family{
		Names:   []string{"qwen3_5_moe", "qwen3_5_moe_text", "qwen35moe"},
		GGUF:    "qwen35moe",
		Modules: qwenDelta().With(qwenDeltaExperts()...),
		Drafted: "mtp.",
		Tiled:   true,
		read: func(k *Keys) Spec {
			s := k.qwenDelta(k.IsGGUF(), func(d *Dims, layer int) Op { return k.qwenDeltaMixture(d, layer, true) })
			s.Fixes = append(s.Fixes,
				Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v"}},
				Stack{Of: "blk.N.ffn_gate_up_exps", Into: []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"}},
				Stack{Of: "blk.N.ffn_down_exps", Into: []string{"blk.N.ffn_down.E"}},
			)
			return s
		},
	}
}

// qwenDeltaExperts are the names of experts, which may stand one by one or in one tensor.
func qwenDeltaExperts() []string {
	return append(qwenExperts(),
		".mlp.experts.gate_up_proj", "ffn_gate_up_exps",
		".mlp.experts.down_proj", "ffn_down_exps",
		".mlp.shared_expert.gate_proj", "ffn_gate_shexp",
		".mlp.shared_expert.up_proj", "ffn_up_shexp",
		".mlp.shared_expert.down_proj", "ffn_down_shexp",
		".mlp.shared_expert_gate", "ffn_gate_inp_shexp",
	)
}

// qwenDeltaMixture is a layer's mixture.
func (k *Keys) qwenDeltaMixture(d *Dims, layer int, normalise bool) Op {
	m := k.mixture(d, Router{Kind: Softmax, Normalise: normalise})
	m.Shared, m.SharedGate = k.shared(layer), true
	return m
}
