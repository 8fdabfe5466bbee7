package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// ministral is Ministral 8B of 2024: mistral with a window in the layers that a folder lists. Folders only.
func ministral() family.Family {
	return family.Family{
		Names:   []string{"ministral"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			return family.Llama(k, family.LlamaOptions{QKVBias: bias, OutBias: bias, Window: k.AllWindows(func(int) bool { return true })})
		},
	}
}

// mistral3 is Ministral 3 and Devstral (Mistral AI 2025): llama with YaRN whose amplitude is 1, and queries
// that grow with the position beyond the length of training.
func mistral3() family.Family {
	return family.Family{
		Names:    []string{"ministral3", "mistral3"},
		GGUF:     "mistral3",
		Modules:  family.DecoderModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			s := family.Llama(
				k,
				family.LlamaOptions{
					QKVBias:  bias,
					OutBias:  bias,
					Adjacent: k.IsGGUF(),
					Tuned:    true,
					Window:   k.FolderWindows(func(int) bool { return true }),
				},
			)
			t := arch.Temper{
				Beta: float32(
					k.FloatOr(
						"attention.temperature_scale|rope_parameters.llama_4_scaling_beta|rope_scaling.llama_4_scaling_beta|llama_4_scaling_beta",
						0,
					),
				),
				Original: k.IntOr(
					"rope.scaling.original_context_length|rope_parameters.original_max_position_embeddings|rope_scaling.original_max_position_embeddings",
					s.Context,
				),
			}
			for _, layer := range s.Layers {
				if a, ok := layer[0].Op.(arch.Attention); ok {
					a.Temper = t
					layer[0].Op = a
				}
			}
			return s
		},
	}
}
