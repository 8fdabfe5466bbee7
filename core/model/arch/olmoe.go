package arch

// olmoe is llama with an RMSNorm over all queries and all keys of a row, and experts by a soft-max over all, which is not
// renormalised (Muennighoff et al. 2024).
func olmoe() Family {
	return Family{
		Names:   []string{"olmoe"},
		Modules: decoderModules().With(qwenExperts()...),
		read: func(k *Keys) Spec {
			bias := k.given("|attention_bias")
			return k.llamaLike(likeLlama{
				qkvBias: bias, outBias: bias, wholeNorm: true, clip: float32(k.FloatOr("attention.clamp_kqv|clip_qkv", 0)),
				ffn: func(d *Dims, _ int) Op {
					return k.mixture(d, Router{Kind: Softmax, Normalise: k.Bool("|norm_topk_prob", false)})
				},
			})
		},
	}
}
