package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// mistral is llama with attention to the last positions only, where the model sets a window (Jiang et al. 2023).
func mistral() family.Family {
	return family.Family{
		Names:    []string{"mistral"},
		GGUF:     "llama",
		Modules:  MixtralModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			if k.IntOr("expert_count|", 0) > 0 {
				return mixtral().Spec(k)
			}
			bias := k.RequiredIf("|attention_bias")
			return family.Llama(k, family.LlamaOptions{
				QKVBias: bias, OutBias: bias, MLPBias: k.RequiredIf("|mlp_bias"), Adjacent: k.IsGGUF(),
				Window: k.AllWindows(func(int) bool { return true }),
			})
		},
	}
}
