package arch

// qwen2 is llama with biases on the query, key and value projections (Yang et al. 2024). A folder may ask for a window in the
// upper layers; a file cannot.
func qwen2() Family {
	return Family{
		Names:   []string{"qwen2"},
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			k.dense()
			return k.llamaLike(likeLlama{qkvBias: Required, mlpBias: k.given("|mlp_bias"), window: k.qwenWindows()})
		},
	}
}

// dense refuses experts in a file of a family that has none.
func (k *Keys) dense() {
	if n := k.IntOr("expert_count|", 0); n > 0 {
		k.Unsupported("%s with %d experts", k.arch, n)
	}
}

// qwenWindows are the windows of Qwen 2 and 3: from layer max_window_layers on, where use_sliding_window is set.
func (k *Keys) qwenWindows() []int {
	if k.IsGGUF() {
		return nil
	}
	from := k.IntOr("|max_window_layers", maxLayers)
	if !k.Bool("|use_sliding_window", false) {
		from = maxLayers
	}
	return k.windows(func(layer int) bool { return layer >= from })
}
