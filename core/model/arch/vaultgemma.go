package arch

// vaultgemma is VaultGemma (Google 2025): Gemma 2 without the norms behind its halves. Folders only.
func vaultgemma() Family {
	return Family{
		Names:   []string{"vaultgemma"},
		Modules: gemmaModules(),
		read: func(k *Keys) Spec {
			s := k.gemma2(0)
			for _, layer := range s.Layers {
				for i := range layer {
					layer[i].Post = Norm{}
				}
			}
			return s
		},
	}
}
