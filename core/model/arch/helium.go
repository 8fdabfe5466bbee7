package arch

// helium is Helium (Kyutai 2025): llama whose adjacent pairs are turned. Folders only.
func helium() Family {
	return Family{
		Names:   []string{"helium"},
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			return k.llamaLike(likeLlama{qkvBias: k.given("|attention_bias"), mlpBias: k.given("|mlp_bias"), adjacent: true})
		},
	}
}
