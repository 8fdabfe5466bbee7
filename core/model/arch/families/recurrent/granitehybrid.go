package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/families/decoders"
	"edged/core/model/arch/families/mixtures"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// granitehybrid is Granite 4-H (IBM 2025): granite with Mamba-2's scan instead of attention in most layers,
// mostly without positions; the feed-forward part is one gated network, or experts beside one that every row
// goes through.
func granitehybrid() family.Family {
	return family.Family{
		Names:    []string{"granitemoehybrid", "granitehybrid"},
		GGUF:     "granitehybrid",
		Modules:  mixtures.GraniteModules().With(scanParts(".mamba")...),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(
				map[string]any{
					"mamba_n_heads":       int64(128),
					"mamba_d_state":       int64(256),
					"num_local_experts":   int64(8),
					"num_experts_per_tok": int64(2),
				},
			)
			d := keys.Dims{
				Layers: k.Int("block_count|num_hidden_layers"), Width: k.Int("embedding_length|hidden_size"),
				Heads: k.Int("attention.head_count|num_attention_heads"), FFN: k.Int("feed_forward_length|intermediate_size"),
				Context: k.Int("context_length|max_position_embeddings"), Eps: k.RMSEps(),
			}
			d.HeadDim = k.HeadDim(d.Width, d.Heads)
			layers := k.LayerCount(d.Layers)
			heads := keyHeadsOf(k, layers, "|layer_types|layers_block_type", d.Heads)
			a := arch.Attention{
				Heads:    d.Heads,
				KeyDim:   d.HeadDim,
				ValueDim: d.HeadDim,
				QKVBias:  k.RequiredIf("|attention_bias"),
				OutBias:  k.RequiredIf("|attention_bias"),
			}
			if k.IsGGUF() || k.String("|position_embedding_type") == "rope" {
				a.Position = k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Adjacent: k.IsGGUF()})
			}
			scan, s := mamba2Op(k, d.Width, "|mamba_d_head", d.Eps), k.DecoderSpec(&d, arch.RMS("output_norm", d.Eps), false)
			act, experts := k.ActOf("|hidden_act", arch.SiLU), k.IntOr("expert_count|num_local_experts", 0)
			beside := k.IntOr("expert_shared_feed_forward_length|shared_intermediate_size", 0)
			for i := range layers {
				var mixer, ffn arch.Op = scan, arch.GLU{Hidden: onlyNetwork(k, i, d.FFN, beside), Act: act}
				if a.KVHeads = heads[i]; a.KVHeads > 0 {
					mixer = a
				}
				if experts > 0 {
					m := k.Mixture(&d, arch.Router{})
					m.Shared = beside
					ffn = m
				}
				s.Add(arch.Sub{Pre: arch.RMS("attn_norm", d.Eps), Op: mixer}, arch.Sub{Pre: arch.RMS("ffn_norm", d.Eps), Op: ffn})
			}
			decoders.GraniteFactors(k, &s)
			if !k.IsGGUF() {
				s.Fixes = mixtures.GraniteExperts(experts > 0)
			}
			return s
		},
	}
}

// onlyNetwork is the width of a layer's only network: a folder's is that of the network beside the experts, a
// file's as its tensor has it, since converters have written either.
func onlyNetwork(k *keys.Keys, layer, ffn, beside int) int {
	if !k.IsGGUF() {
		return beside
	}
	if shape := k.Shape(arch.LayerName(layer, "ffn_gate.weight")); len(shape) == 2 {
		return shape[0]
	}
	return ffn
}

// keyHeadsOf is the number of key heads of each layer's attention, 0 for a layer that has a scan instead: a
// folder names the kinds of the layers, in either of two spellings.
func keyHeadsOf(k *keys.Keys, layers int, kinds string, heads int) []int {
	if k.IsGGUF() {
		if heads := k.IntsOr("attention.head_count_kv|", layers); heads != nil {
			return heads
		}
		k.Missing("attention.head_count_kv|")
		return make([]int, layers)
	}
	out := make([]int, layers)
	n := k.IntOr("|num_key_value_heads", heads)
	list := k.Strings(kinds)
	if list != nil && !k.Length("layer_types", len(list), layers) {
		return out
	}
	for i := range list[:min(len(list), layers)] {
		switch list[i] {
		case "mamba", "linear_attention":
		case "attention", "full_attention":
			out[i] = n
		default:
			k.Unsupported("layer_types has %q", list[i])
		}
	}
	return out
}
