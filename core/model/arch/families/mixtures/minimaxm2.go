package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/families/decoders"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// minimaxm2 is MiniMax-M2 (MiniMax 2025): llama with an RMSNorm over all queries and all keys of a row, a
// part of each head turned, and experts by a sigmoid with a correction, renormalised.
func minimaxm2() family.Family {
	return family.Family{
		Names: []string{"minimax_m2", "minimax-m2"},
		GGUF:  "minimax-m2",
		Modules: decoders.MixtralModules().With(
			".block_sparse_moe.e_score_correction_bias", "exp_probs_b.bias",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			return family.Llama(k, family.LlamaOptions{WholeNorm: true, Partial: minimaxPartial(k), FFN: func(d *keys.Dims, _ int) arch.Op {
				return k.Mixture(d, arch.Router{Kind: arch.Sigmoid, Corrected: true, Normalise: true})
			}})
		},
	}
}

// minimaxPartial is the share of a head that turns, which older folders give in dimensions.
func minimaxPartial(k *keys.Keys) float64 {
	turned, head := k.IntOr("|rotary_dim", 0), k.IntOr("|head_dim", 0)
	if turned > 0 && head > 0 {
		return float64(turned) / float64(head)
	}
	return 0
}
