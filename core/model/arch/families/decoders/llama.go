package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// llama is Llama 1 to 3 and what is built like it (TinyLlama, SmolLM2, Yi; Touvron et al. 2023): RMSNorm
// before each half of a layer, rotated positions, grouped-query attention, SwiGLU, no biases unless the file
// brings them. A GGUF file of this name with experts is Mixtral.
func llama() family.Family {
	return family.Family{
		Names:    []string{"llama"},
		Modules:  MixtralModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			if k.IntOr("expert_count|", 0) > 0 {
				return mixtral().Spec(k)
			}
			bias := k.RequiredIf("|attention_bias")
			return family.Llama(k, family.LlamaOptions{QKVBias: bias, OutBias: bias, MLPBias: k.RequiredIf("|mlp_bias"), Adjacent: k.IsGGUF()})
		},
	}
}
