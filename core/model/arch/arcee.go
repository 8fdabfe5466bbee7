package arch

// arcee is AFM (Arcee 2025): llama with a network of two matrices and ReLU² between them.
func arcee() Family {
	return Family{
		Names:    []string{"arcee"},
		Modules:  decoderModules(),
		Permuted: true,
		read: func(k *Keys) Spec {
			bias := k.given("|attention_bias")
			act := k.ActOf("|hidden_act", ReLUSquared)
			return k.llamaLike(likeLlama{
				qkvBias: bias, outBias: bias, adjacent: k.IsGGUF(),
				ffn: func(d *Dims, _ int) Op { return MLP{Hidden: d.FFN, Act: act, Bias: k.given("|mlp_bias")} },
			})
		},
	}
}
