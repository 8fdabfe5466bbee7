package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// qwen2 is llama with biases on the query, key and value projections (Yang et al. 2024). A folder may ask for
// a window in the upper layers; a file cannot.
func qwen2() family.Family {
	return family.Family{
		Names:   []string{"qwen2"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			k.NoExperts()
			return family.Llama(k, family.LlamaOptions{QKVBias: arch.Required, MLPBias: k.RequiredIf("|mlp_bias"), Window: QwenWindows(k)})
		},
	}
}

// QwenWindows are the windows of Qwen 2 and 3: from layer max_window_layers on, where use_sliding_window is set.
func QwenWindows(k *keys.Keys) []int {
	if k.IsGGUF() {
		return nil
	}
	from := k.IntOr("|max_window_layers", arch.MaxLayers)
	if !k.Bool("|use_sliding_window", false) {
		from = arch.MaxLayers
	}
	return k.AllWindows(func(layer int) bool { return layer >= from })
}
