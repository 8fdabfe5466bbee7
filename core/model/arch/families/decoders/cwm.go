package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// cwm is the Code World Model (Meta 2025): llama with a window in the layers that a folder lists. Folders only.
func cwm() family.Family {
	return family.Family{
		Names:   []string{"cwm"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			return family.Llama(
				k,
				family.LlamaOptions{
					MLPBias: k.RequiredIf("|mlp_bias"),
					Theta:   1e6,
					Window:  k.AllWindows(func(layer int) bool { return layer%4 != 0 }),
				},
			)
		},
	}
}
