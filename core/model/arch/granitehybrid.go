package arch

// granitehybrid is Granite 4-H (IBM 2025): granite with Mamba-2's scan instead of attention in most layers, mostly without positions; the
// feed-forward part is one gated network, or experts beside one that every row goes through.
func granitehybrid() Family {
	return Family{
		Names:    []string{"granitemoehybrid", "granitehybrid"},
		GGUF:     "granitehybrid",
		Modules:  granitemoe().Modules.With(scanParts(".mamba")...),
		Permuted: true,
		read: func(k *Keys) Spec {
			k.Defaults(map[string]any{"mamba_n_heads": int64(128), "mamba_d_state": int64(256), "num_local_experts": int64(8), "num_experts_per_tok": int64(2)})
			d := Dims{
				Layers: k.Int("block_count|num_hidden_layers"), Width: k.Int("embedding_length|hidden_size"),
				Heads: k.Int("attention.head_count|num_attention_heads"), FFN: k.Int("feed_forward_length|intermediate_size"),
				Context: k.Int("context_length|max_position_embeddings"), Eps: k.RMSEps(),
			}
			d.HeadDim = k.headDim(d.Width, d.Heads)
			layers := k.layers(d.Layers)
			heads := k.keyHeadsOf(layers, "|layer_types|layers_block_type", d.Heads)
			a := Attention{Heads: d.Heads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, QKVBias: k.given("|attention_bias"), OutBias: k.given("|attention_bias")}
			if k.IsGGUF() || k.String("|position_embedding_type") == "rope" {
				a.Position = k.Rope(RopeOf{HeadDim: d.HeadDim, Adjacent: k.IsGGUF()})
			}
			scan, s := k.mamba2(d.Width, "|mamba_d_head", d.Eps), k.decoderSpec(&d, RMS("output_norm", d.Eps), false)
			act, experts := k.ActOf("|hidden_act", SiLU), k.IntOr("expert_count|num_local_experts", 0)
			beside := k.IntOr("expert_shared_feed_forward_length|shared_intermediate_size", 0)
			for i := range layers {
				var mixer, ffn Op = scan, GLU{Hidden: k.onlyNetwork(i, d.FFN, beside), Act: act}
				if a.KVHeads = heads[i]; a.KVHeads > 0 {
					mixer = a
				}
				if experts > 0 {
					m := k.mixture(&d, Router{})
					m.Shared = beside
					ffn = m
				}
				s.Add(Sub{Pre: RMS("attn_norm", d.Eps), Op: mixer}, Sub{Pre: RMS("ffn_norm", d.Eps), Op: ffn})
			}
			k.multiply(&s)
			if !k.IsGGUF() {
				s.Fixes = graniteExperts(experts > 0)
			}
			return s
		},
	}
}

// graniteExperts says how folders store Granite's networks: all experts in one, gate and input in one. Where there are no experts, what
// stands beside them is the only network.
func graniteExperts(experts bool) []Fix {
	if !experts {
		return []Fix{
			Split{Of: "blk.N.ffn_gate_up_shexp", Into: []string{"blk.N.ffn_gate", "blk.N.ffn_up"}},
			Split{Of: "blk.N.ffn_down_shexp", Into: []string{"blk.N.ffn_down"}},
		}
	}
	return []Fix{
		Stack{Of: "blk.N.ffn_gate_up_exps", Into: []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"}},
		Stack{Of: "blk.N.ffn_down_exps", Into: []string{"blk.N.ffn_down.E"}},
		Split{Of: "blk.N.ffn_gate_up_shexp", Into: []string{"blk.N.ffn_gate_shexp", "blk.N.ffn_up_shexp"}},
	}
}

// onlyNetwork is the width of a layer's only network: a folder's is that of the network beside the experts, a file's as its tensor has it, since
// converters have written either.
func (k *Keys) onlyNetwork(layer, ffn, beside int) int {
	if !k.IsGGUF() {
		return beside
	}
	if shape := k.Shape(LayerName(layer, "ffn_gate.weight")); len(shape) == 2 {
		return shape[0]
	}
	return ffn
}

// keyHeadsOf is the number of key heads of each layer's attention, 0 for a layer that has a scan instead: a folder names the kinds of the
// layers, in either of two spellings.
func (k *Keys) keyHeadsOf(layers int, kinds string, heads int) []int {
	if k.IsGGUF() {
		if heads := k.IntsOr("attention.head_count_kv|", layers); heads != nil {
			return heads
		}
		k.missing("attention.head_count_kv|")
		return make([]int, layers)
	}
	out := make([]int, layers)
	n := k.IntOr("|num_key_value_heads", heads)
	list := k.Strings(kinds)
	if list != nil && !k.length("layer_types", len(list), layers) {
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
