package arch

// minimaxm2 is MiniMax-M2 (MiniMax 2025): llama with an RMSNorm over all queries and all keys of a row, a part of each head turned,
// and experts by a sigmoid with a correction, renormalised.
func minimaxm2() Family {
	return Family{
		Names: []string{"minimax_m2", "minimax-m2"},
		GGUF:  "minimax-m2",
		Modules: mixtralModules().With(
			".block_sparse_moe.e_score_correction_bias", "exp_probs_b.bias",
		),
		read: func(k *Keys) Spec {
			return k.llamaLike(likeLlama{wholeNorm: true, partial: k.minimaxPartial(), ffn: func(d *Dims, _ int) Op {
				return k.mixture(d, Router{Kind: Sigmoid, Corrected: true, Normalise: true})
			}})
		},
	}
}

// minimaxPartial is the share of a head that turns, which older folders give in dimensions.
func (k *Keys) minimaxPartial() float64 {
	turned, head := k.IntOr("|rotary_dim", 0), k.IntOr("|head_dim", 0)
	if turned > 0 && head > 0 {
		return float64(turned) / float64(head)
	}
	return 0
}
