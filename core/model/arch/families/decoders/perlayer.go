package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// What Gemma 3n and Gemma 4 have in common: rows for every layer, and last layers that read the keys and
// values of others.

// perLayerModules are Gemma's with the names of what reads the rows for every layer.
func perLayerModules() family.Modules {
	return append(family.ModulesOf(
		"model.embed_tokens_per_layer", "per_layer_token_embd",
		"model.per_layer_model_projection", arch.PerLayerProj,
		"model.per_layer_projection_norm", arch.PerLayerNorm,
	), gemmaModules().With(
		".per_layer_input_gate", "inp_gate",
		".per_layer_projection", "proj",
		".post_per_layer_input_norm", "post_norm",
	)...)
}

// gemmaDims are the sizes that all layers have in common.
func gemmaDims(k *keys.Keys) keys.Dims {
	return keys.Dims{
		Layers:  k.Int("block_count|num_hidden_layers"),
		Width:   k.Int("embedding_length|hidden_size"),
		Heads:   k.Int("attention.head_count|num_attention_heads"),
		Context: k.Int("context_length|max_position_embeddings"),
		Eps:     k.RMSEps(),
	}
}

// perLayerRows reads the size of the rows for every layer; the table tells how many there are.
func perLayerRows(k *keys.Keys, layers int, eps float32) arch.PerLayerRows {
	p := arch.PerLayerRows{Width: k.IntOr("embedding_length_per_layer_input|hidden_size_per_layer_input", 0), Eps: eps}
	if p.Width == 0 {
		return arch.PerLayerRows{}
	}
	if shape := k.Shape(arch.PerLayerName); len(shape) == 2 && shape[1] == layers*p.Width {
		p.Rows = shape[0]
	} else if k.Err() == nil {
		k.Invalid(
			"the rows for each of %d layers have %d values, but tensor %s is missing or has shape %v",
			layers,
			p.Width,
			arch.PerLayerName,
			shape,
		)
	}
	return p
}

// sharers says of which layer each of the last ones reads the keys and values: 1 + the last one of its own
// kind before them, 0 where a layer has its own. llama.cpp counts back one layer or two instead, which are
// the same in every published model.
func sharers(k *keys.Keys, sliding []bool) []int {
	n := k.IntOr("attention.shared_kv_layers|num_kv_shared_layers", 0)
	if k.Err() == nil && (n < 0 || n >= len(sliding)) {
		k.Invalid("%s is %d of %d layers", k.Say("attention.shared_kv_layers|num_kv_shared_layers"), n, len(sliding))
	}
	return sharersFrom(k, sliding, len(sliding)-n)
}

// sharersFrom is sharers where the first layer that has no keys and values of its own is known.
func sharersFrom(k *keys.Keys, sliding []bool, first int) []int {
	out := make([]int, len(sliding))
	if k.Err() != nil {
		return out
	}
	for i := first; i < len(sliding); i++ {
		for at := first - 1; at >= 0 && out[i] == 0; at-- {
			if sliding[at] == sliding[i] {
				out[i] = at + 1
			}
		}
		if out[i] == 0 {
			k.Invalid("layer %d reads the keys and values of a layer of its kind before layer %d, and there is none", i, first)
			return out
		}
	}
	return out
}
