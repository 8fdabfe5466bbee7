package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// lfm2moe is LFM2-8B-A1B and its kin (Liquid AI 2025): LFM2 whose layers behind the first ones choose experts
// by sigmoids, with a bias for the choice only.
func lfm2moe() family.Family {
	return family.Family{
		Names: []string{"lfm2_moe", "lfm2moe"},
		GGUF:  "lfm2moe",
		Modules: lfm2().Modules.With(
			".feed_forward.gate", "ffn_gate_inp",
			".feed_forward.expert_bias", "exp_probs_b.bias",
			".feed_forward.experts.E.w1", "ffn_gate.E",
			".feed_forward.experts.E.w2", "ffn_down.E",
			".feed_forward.experts.E.w3", "ffn_up.E",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"block_auto_adjust_ff_dim": false})
			dense := k.IntOr("leading_dense_block_count|num_dense_layers", 2)
			return lfm2Spec(k, func(d *keys.Dims, layer int) arch.Op {
				if layer < dense {
					return arch.GLU{Hidden: d.FFN}
				}
				return k.Mixture(d, arch.Router{
					Kind:      arch.Sigmoid,
					Corrected: k.HasTensor(arch.LayerName(layer, "exp_probs_b.bias")),
					Normalise: k.Bool("|norm_topk_prob", true),
					Add:       1e-6,
					Scale:     float32(k.FloatOr("|routed_scaling_factor", 1)),
				})
			})
		},
	}
}
