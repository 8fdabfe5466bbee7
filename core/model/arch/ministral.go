package arch

// ministral is Ministral 8B of 2024: mistral with a window in the layers that a folder lists. Folders only.
func ministral() Family {
	return Family{
		Names:   []string{"ministral"},
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			bias := k.given("|attention_bias")
			return k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, window: k.windows(func(int) bool { return true })})
		},
	}
}

// mistral3 is Ministral 3 and Devstral (Mistral AI 2025): llama with YaRN whose amplitude is 1, and queries that grow with the
// position beyond the length of training.
func mistral3() Family {
	return Family{
		Names:    []string{"ministral3", "mistral3"},
		GGUF:     "mistral3",
		Modules:  decoderModules(),
		Permuted: true,
		read: func(k *Keys) Spec {
			bias := k.given("|attention_bias")
			s := k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, adjacent: k.IsGGUF(), tuned: true, window: k.folderWindows(func(int) bool { return true })})
			t := Temper{
				Beta:     float32(k.FloatOr("attention.temperature_scale|rope_parameters.llama_4_scaling_beta|rope_scaling.llama_4_scaling_beta|llama_4_scaling_beta", 0)),
				Original: k.IntOr("rope.scaling.original_context_length|rope_parameters.original_max_position_embeddings|rope_scaling.original_max_position_embeddings", s.Context),
			}
			for _, layer := range s.Layers {
				if a, ok := layer[0].Op.(Attention); ok {
					a.Temper = t
					layer[0].Op = a
				}
			}
			return s
		},
	}
}
