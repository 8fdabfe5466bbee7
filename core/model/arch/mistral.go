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

// windows reads the window of each layer, 0 for one without; def says which have it where a folder's layer_types do not.
func (k *Keys) windows(def func(layer int) bool) []int {
	layers := k.layers(k.IntOr("block_count|num_hidden_layers", 0))
	window := k.IntOr("attention.sliding_window|sliding_window", 0)
	if window == 0 {
		def = func(int) bool { return false }
	}
	out := make([]int, layers)
	for i, sliding := range k.Sliding(layers, def) {
		if sliding {
			out[i] = window
		}
	}
	return out
}
