package arch

// ernie is ERNIE 4.5's dense models (Baidu 2025): llama whose adjacent pairs are turned in both containers.
func ernie() Family {
	return Family{
		Names:   []string{"ernie4_5"},
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			k.Defaults(map[string]any{"tie_word_embeddings": true, "rope_theta": int64(500000)})
			bias := k.given("|use_bias")
			return k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, mlpBias: bias, adjacent: true})
		},
	}
}
