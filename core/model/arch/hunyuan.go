package arch

// hunyuan is HunYuan's dense models (Tencent 2025): llama with an RMSNorm over each query and key head after it is turned. Its
// "dynamic" scaling with alpha is a base of its own, which files hold already.
func hunyuan() Family {
	return Family{
		Names: []string{"hunyuan_v1_dense", "hunyuan-dense"},
		GGUF:  "hunyuan-dense",
		Modules: decoderModules().With(
			".self_attn.query_layernorm", "attn_q_norm",
			".self_attn.key_layernorm", "attn_k_norm",
		),
		read: func(k *Keys) Spec {
			bias := k.given("|attention_bias")
			s := k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, mlpBias: k.given("|mlp_bias"), qkNorm: true})
			for _, layer := range s.Layers {
				if a, ok := layer[0].Op.(Attention); ok {
					a.QKNorm.After = true
					layer[0].Op = a
				}
			}
			return s
		},
	}
}
