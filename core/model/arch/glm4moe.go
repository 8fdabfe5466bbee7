package arch

// glm4moe is GLM-4.5 to 4.7 (GLM-4.5 team 2025): half of each head turns, keys and queries may be normalised, and experts are chosen
// as DeepSeek-V3 does.
func glm4moe() Family {
	return Family{
		Names:   []string{"glm4_moe", "glm4moe"},
		GGUF:    "glm4moe",
		Modules: decoderModules().With(deepseekExperts()...).With(".post_attention_layernorm", "post_attention_norm"),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.RMSEps()
			d.Layers -= k.draftsInside()
			bias := k.given("|attention_bias")
			a := Attention{
				Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, QKVBias: bias,
				Position: k.Rope(RopeOf{HeadDim: d.HeadDim, Partial: 0.5}),
			}
			if k.HasTensor("blk.0.attn_q_norm.weight") {
				a.QKNorm = QKNorm{Of: PerHead, Kind: RMSNorm, Eps: eps}
			}
			s := Spec{Width: d.Width, Context: d.Context, Drafts: k.drafts(), Norm: RMS("output_norm", eps), Head: Head{Tied: k.Tied(false), Bias: Absent}}
			for i := range k.layers(d.Layers) {
				s.Add(Sub{Pre: RMS("attn_norm", eps), Op: a}, Sub{Pre: RMS("post_attention_norm", eps), Op: k.deepseekNetwork(&d, i)})
			}
			return s
		},
	}
}

// drafts are the layers behind the last that guess further tokens, where the container has them.
func (k *Keys) drafts() int { return k.IntOr("nextn_predict_layers|num_nextn_predict_layers", 0) }

// draftsInside are those that the number of layers counts: a file's does, a folder's does not.
func (k *Keys) draftsInside() int {
	if k.IsGGUF() {
		return k.drafts()
	}
	return 0
}

// deepseekNetwork is the feed-forward network of a layer in DeepSeek's line from V3 on.
func (k *Keys) deepseekNetwork(d *Dims, layer int) Op {
	if layer < k.leadingDense() || k.denseByKind(layer) {
		return GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}
	}
	m := k.mixture(d, Router{
		Kind: Sigmoid, Corrected: true, Normalise: k.Bool("|norm_topk_prob", true), Add: 1e-20,
		Groups: k.IntOr("expert_group_count|n_group", 1), UsedGroups: k.IntOr("expert_group_used_count|topk_group", 1), BestOfGroup: 2,
		Scale: float32(k.FloatOr("|routed_scaling_factor", 1)),
	})
	m.Shared = k.shared(layer)
	return m
}

// denseByKind reports whether a folder's mlp_layer_types says that a layer has no experts.
func (k *Keys) denseByKind(layer int) bool {
	kinds := k.Strings("|mlp_layer_types")
	return layer < len(kinds) && kinds[layer] == "dense"
}
