package arch

// granitemoe is granite with experts by a soft-max over the chosen, and in its shared form with a network that every row goes through
// beside them (IBM 2024).
func granitemoe() Family {
	return Family{
		Names: []string{"granitemoe", "granitemoeshared"},
		GGUF:  "granitemoe",
		Modules: decoderModules().With(
			".block_sparse_moe.router.layer", "ffn_gate_inp",
			".block_sparse_moe.input_linear", "ffn_gate_up_exps",
			".block_sparse_moe.output_linear", "ffn_down_exps",
			".shared_mlp.input_linear", "ffn_gate_up_shexp",
			".shared_mlp.output_linear", "ffn_down_shexp",
		),
		Permuted: true,
		read: func(k *Keys) Spec {
			bias := k.given("|attention_bias")
			s := k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, adjacent: k.IsGGUF(), ffn: func(d *Dims, layer int) Op {
				m := k.mixture(d, Router{})
				if m.Shared = k.shared(layer); m.Shared == 0 && !k.IsGGUF() {
					m.Shared = k.IntOr("|shared_intermediate_size", 0)
				}
				return m
			}})
			k.multiply(&s)
			if !k.IsGGUF() {
				s.Fixes = append(s.Fixes, graniteExperts(true)...)
			}
			return s
		},
	}
}
