package arch

// deepseek is DeepSeekMoE, the first version (Dai et al. 2024): llama with experts by a soft-max over all, not renormalised, beside
// shared ones, behind dense layers.
func deepseek() Family {
	return Family{
		Names:    []string{"deepseek"},
		Modules:  decoderModules().With(deepseekExperts()...),
		Permuted: true,
		read: func(k *Keys) Spec {
			bias := k.given("|attention_bias")
			every := max(k.IntOr("|moe_layer_freq", 1), 1)
			return k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, adjacent: k.IsGGUF(), ffn: func(d *Dims, layer int) Op {
				if layer < k.leadingDense() || layer%every != 0 {
					return GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}
				}
				m := k.mixture(d, Router{Kind: Softmax, Normalise: k.Bool("|norm_topk_prob", false), Add: 1e-20})
				m.Shared = k.shared(layer)
				return m
			}})
		},
	}
}
