package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/families/decoders"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// granitemoe is granite with experts by a soft-max over the chosen, and in its shared form with a network
// that every row goes through beside them (IBM 2024).
func granitemoe() family.Family {
	return family.Family{
		Names:    []string{"granitemoe", "granitemoeshared"},
		GGUF:     "granitemoe",
		Modules:  GraniteModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			s := family.Llama(k, family.LlamaOptions{QKVBias: bias, OutBias: bias, Adjacent: k.IsGGUF(), FFN: func(d *keys.Dims, layer int) arch.Op {
				m := k.Mixture(d, arch.Router{})
				if m.Shared = k.SharedHidden(layer); m.Shared == 0 && !k.IsGGUF() {
					m.Shared = k.IntOr("|shared_intermediate_size", 0)
				}
				return m
			}})
			decoders.GraniteFactors(k, &s)
			if !k.IsGGUF() {
				s.Fixes = append(s.Fixes, GraniteExperts(true)...)
			}
			return s
		},
	}
}

// GraniteExperts says how folders store Granite's networks: all experts in one, gate and input in one. Where
// there are no experts, what stands beside them is the only network.
func GraniteExperts(experts bool) []arch.Fix {
	if !experts {
		return []arch.Fix{
			arch.Split{Of: "blk.N.ffn_gate_up_shexp", Into: []string{"blk.N.ffn_gate", "blk.N.ffn_up"}},
			arch.Split{Of: "blk.N.ffn_down_shexp", Into: []string{"blk.N.ffn_down"}},
		}
	}
	return []arch.Fix{
		arch.Stack{Of: "blk.N.ffn_gate_up_exps", Into: []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"}},
		arch.Stack{Of: "blk.N.ffn_down_exps", Into: []string{"blk.N.ffn_down.E"}},
		arch.Split{Of: "blk.N.ffn_gate_up_shexp", Into: []string{"blk.N.ffn_gate_shexp", "blk.N.ffn_up_shexp"}},
	}
}

// GraniteModules are the names of Granite's modules with experts.
func GraniteModules() family.Modules {
	return family.DecoderModules().With(
		".block_sparse_moe.router.layer", "ffn_gate_inp",
		".block_sparse_moe.input_linear", "ffn_gate_up_exps",
		".block_sparse_moe.output_linear", "ffn_down_exps",
		".shared_mlp.input_linear", "ffn_gate_up_shexp",
		".shared_mlp.output_linear", "ffn_down_shexp",
	)
}
