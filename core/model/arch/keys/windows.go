package keys

import (
	"edged/core/model/arch"
)

// Kinds reads which layers are of a kind, from a folder's layer_types; nil where it has none.
func (k *Keys) Kinds(layers int) []string {
	kinds := k.Strings("|layer_types")
	if kinds != nil && len(kinds) < layers {
		k.Invalid("layer_types has %d entries, but there are %d layers", len(kinds), layers)
		return nil
	}
	return kinds
}

// Sliding reads which layers have a window: from a folder's layer_types or a file's sliding_window_pattern,
// else from def. A kind that is neither is refused.
func (k *Keys) Sliding(layers int, def func(layer int) bool) []bool {
	if k.err != nil || layers < 1 || layers > arch.MaxLayers {
		return make([]bool, max(0, min(layers, arch.MaxLayers)))
	}
	out := make([]bool, layers)
	kinds := k.Kinds(layers)
	pattern := k.Pattern("attention.sliding_window_pattern|", layers)
	for i := range out {
		switch {
		case pattern != nil:
			out[i] = pattern[i]
		case kinds == nil:
			out[i] = def(i)
		case kinds[i] == "sliding_attention":
			out[i] = true
		case kinds[i] != "full_attention":
			k.Unsupported("layer_types has %q", kinds[i])
		}
	}
	return out
}

// Pattern reads a truth value for each layer, or a number p: every p-th layer is false. nil for a missing key.
func (k *Keys) Pattern(names string, layers int) []bool {
	v, name, ok := k.Value(names)
	if !ok || k.err != nil {
		return nil
	}
	if list, ok := v.([]bool); ok {
		if !k.Length(name, len(list), layers) {
			return nil
		}
		return list
	}
	if list, ok := v.([]int64); ok && len(list) != 1 { // truth values as numbers
		if !k.Length(name, len(list), layers) {
			return nil
		}
		out := make([]bool, layers)
		for i := range out {
			out[i] = list[i] != 0
		}
		return out
	}
	every, out := EveryNth(k.toInt(name, v)), make([]bool, layers)
	for i := range out {
		out[i] = every(i)
	}
	return out
}

// EveryNth is the usual default of Sliding: every layer has a window but each p-th.
func EveryNth(p int) func(layer int) bool {
	return func(layer int) bool { return p > 0 && (layer+1)%p != 0 }
}

// Windows reads the window of each layer, 0 for one without; def says which have it where the container does not.
func (k *Keys) Windows(layers int, def func(layer int) bool) []int {
	out := make([]int, k.LayerCount(layers))
	window := k.IntOr("attention.sliding_window|sliding_window", 0)
	for i, sliding := range k.Sliding(layers, def) { // which also proves the names of the kinds
		if sliding {
			out[i] = window
		}
	}
	return out
}

// AllWindows is Windows where the number of layers has not been read yet.
func (k *Keys) AllWindows(def func(layer int) bool) []int {
	return k.Windows(k.IntOr("block_count|num_hidden_layers", 0), def)
}

// FolderWindows is AllWindows for a family whose files' windows are not read.
func (k *Keys) FolderWindows(def func(layer int) bool) []int {
	if k.IsGGUF() {
		return nil
	}
	return k.AllWindows(def)
}
