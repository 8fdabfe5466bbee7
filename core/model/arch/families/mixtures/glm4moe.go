package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// glm4moe is GLM-4.5 to 4.7 (GLM-4.5 team 2025): half of each head turns, keys and queries may be normalised,
// and experts are chosen as DeepSeek-V3 does.
func glm4moe() family.Family {
	return family.Family{
		Names:   []string{"glm4_moe", "glm4moe"},
		GGUF:    "glm4moe",
		Modules: family.DecoderModules().With(family.SharedExpertModules()...).With(".post_attention_layernorm", "post_attention_norm"),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.RMSEps()
			d.Layers -= k.DraftsCounted()
			bias := k.RequiredIf("|attention_bias")
			a := arch.Attention{
				Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, QKVBias: bias,
				Position: k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.5}),
			}
			if k.HasTensor("blk.0.attn_q_norm.weight") {
				a.QKNorm = arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: eps}
			}
			s := arch.Spec{
				Width:   d.Width,
				Context: d.Context,
				Drafts:  k.Drafts(),
				Norm:    arch.RMS("output_norm", eps),
				Head:    arch.Head{Tied: k.Tied(false), Bias: arch.Absent},
			}
			for i := range k.LayerCount(d.Layers) {
				s.Add(
					arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a},
					arch.Sub{Pre: arch.RMS("post_attention_norm", eps), Op: DeepseekNetwork(k, &d, i)},
				)
			}
			return s
		},
	}
}

// DeepseekNetwork is the feed-forward network of a layer in DeepSeek's line from V3 on.
func DeepseekNetwork(k *keys.Keys, d *keys.Dims, layer int) arch.Op {
	if layer < k.LeadingDense() || denseByKind(k, layer) {
		return arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
	}
	m := k.Mixture(d, arch.Router{
		Kind: arch.Sigmoid, Corrected: true, Normalise: k.Bool("|norm_topk_prob", true), Add: 1e-20,
		Groups: k.IntOr("expert_group_count|n_group", 1), UsedGroups: k.IntOr("expert_group_used_count|topk_group", 1), BestOfGroup: 2,
		Scale: float32(k.FloatOr("|routed_scaling_factor", 1)),
	})
	m.Shared = k.SharedHidden(layer)
	return m
}

// denseByKind reports whether a folder's mlp_layer_types says that a layer has no experts.
func denseByKind(k *keys.Keys, layer int) bool {
	kinds := k.Strings("|mlp_layer_types")
	return layer < len(kinds) && kinds[layer] == "dense"
}
