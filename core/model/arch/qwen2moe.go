package arch

// qwen2moe is qwen2 with experts by a soft-max over all, which is not renormalised, and one that every row goes through, weighted
// by a sigmoid (Qwen team 2024).
func qwen2moe() Family {
	return Family{
		Names: []string{"qwen2_moe", "qwen2moe"},
		GGUF:  "qwen2moe",
		Modules: decoderModules().With(qwenExperts()...).With(
			".mlp.shared_expert.gate_proj", "ffn_gate_shexp",
			".mlp.shared_expert.up_proj", "ffn_up_shexp",
			".mlp.shared_expert.down_proj", "ffn_down_shexp",
			".mlp.shared_expert_gate", "ffn_gate_inp_shexp",
		),
		read: func(k *Keys) Spec {
			bias := Required
			if !k.Bool("|qkv_bias", true) {
				bias = Optional
			}
			sparse := k.sparse()
			return k.llamaLike(likeLlama{qkvBias: bias, window: k.qwenWindows(), ffn: func(d *Dims, layer int) Op {
				if !sparse(layer) {
					return GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}
				}
				m := k.mixture(d, Router{Kind: Softmax, Normalise: k.Bool("|norm_topk_prob", false)})
				m.Shared, m.SharedGate = k.shared(layer), true
				return m
			}})
		},
	}
}
