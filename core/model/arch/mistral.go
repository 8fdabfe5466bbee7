package arch

// mistral is llama with attention to the last positions only, where the model sets a window (Jiang et al. 2023).
func mistral() Family {
	return Family{
		Names:    []string{"mistral"},
		GGUF:     "llama",
		Modules:  mixtralModules(),
		Permuted: true,
		read: func(k *Keys) Spec {
			if k.IntOr("expert_count|", 0) > 0 {
				return mixtral().read(k)
			}
			bias := k.given("|attention_bias")
			return k.llamaLike(likeLlama{
				qkvBias: bias, outBias: bias, mlpBias: k.given("|mlp_bias"), adjacent: k.IsGGUF(),
				window: k.windows(func(int) bool { return true }),
			})
		},
	}
}

// windows is Windows where the number of layers has not been read yet.
func (k *Keys) windows(def func(layer int) bool) []int {
	return k.Windows(k.IntOr("block_count|num_hidden_layers", 0), def)
}
