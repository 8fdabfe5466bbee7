package arch

// cwm is the Code World Model (Meta 2025): llama with a window in the layers that a folder lists. Folders only.
func cwm() Family {
	return Family{
		Names:   []string{"cwm"},
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			return k.llamaLike(likeLlama{mlpBias: k.given("|mlp_bias"), theta: 1e6, window: k.windows(func(layer int) bool { return layer%4 != 0 })})
		},
	}
}
