package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// vaultgemma is VaultGemma (Google 2025): Gemma 2 without the norms behind its halves. Folders only.
func vaultgemma() family.Family {
	return family.Family{
		Names:   []string{"vaultgemma"},
		Modules: gemmaModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			s := gemma2Spec(k, 0)
			for _, layer := range s.Layers {
				for i := range layer {
					layer[i].Post = arch.Norm{}
				}
			}
			return s
		},
	}
}
