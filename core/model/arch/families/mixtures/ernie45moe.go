package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// ernie45moe is ERNIE 4.5 with experts (Baidu 2025): llama with rotation in adjacent pairs, a soft-max over
// all experts with a correction for the choice, weights renormalised, and shared experts.
func ernie45moe() family.Family {
	return family.Family{
		Names: []string{"ernie4_5_moe", "ernie4_5-moe"},
		GGUF:  "ernie4_5-moe",
		Modules: family.DecoderModules().With(family.SharedExpertModules()...).With(
			".mlp.moe_statics.e_score_correction_bias", "exp_probs_b.bias",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|use_bias")
			layers := k.IntOr("block_count|num_hidden_layers", 0)
			first, last := k.IntOr("leading_dense_block_count|moe_layer_start_index", 0), k.IntOr("|moe_layer_end_index", -1)
			step := max(k.IntOr("interleave_moe_layer_step|moe_layer_interval", 1), 1)
			if last < 0 {
				last = layers - 1
			}
			return family.Llama(
				k,
				family.LlamaOptions{
					QKVBias:  bias,
					OutBias:  bias,
					MLPBias:  bias,
					Adjacent: true,
					FFN: func(d *keys.Dims, layer int) arch.Op {
						if layer < first || layer > last || (layer+1)%step != 0 {
							return arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU), Bias: bias}
						}
						m := k.Mixture(
							d,
							arch.Router{
								Kind:      arch.Softmax,
								Corrected: true,
								Normalise: true,
								Least:     float32(k.FloatOr("|moe_norm_min", 1e-12)),
							},
						)
						m.Shared = k.SharedHidden(layer)
						return m
					},
				},
			)
		},
	}
}
