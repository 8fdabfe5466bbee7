package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// helium is Helium (Kyutai 2025): llama whose adjacent pairs are turned. Folders only.
func helium() family.Family {
	return family.Family{
		Names:   []string{"helium"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			return family.Llama(k, family.LlamaOptions{QKVBias: k.RequiredIf("|attention_bias"), MLPBias: k.RequiredIf("|mlp_bias"), Adjacent: true})
		},
	}
}
