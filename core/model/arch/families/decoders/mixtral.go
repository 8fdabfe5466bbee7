package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// mixtral is mistral with a mixture of experts in place of each SwiGLU network (Jiang et al. 2024): a row
// goes through the experts with the largest router logits, weighted by the soft-max over the chosen.
func mixtral() family.Family {
	return family.Family{
		Names:    []string{"mixtral"},
		GGUF:     "llama",
		Modules:  MixtralModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			s := family.Llama(k, family.LlamaOptions{
				QKVBias: k.RequiredIf("|attention_bias"), OutBias: k.RequiredIf("|attention_bias"), Adjacent: k.IsGGUF(), Theta: mixtralTheta(k),
				Window: k.AllWindows(func(int) bool { return true }),
				FFN: func(d *keys.Dims, _ int) arch.Op {
					k.ActOf("|hidden_act", arch.SiLU)
					return arch.MoE{
						Experts: k.IntOr("expert_count|num_local_experts", 8), Used: k.IntOr("expert_used_count|num_experts_per_tok", 2),
						Hidden: k.IntOr("expert_feed_forward_length|", d.FFN),
					}
				},
			})
			s.Family = "mixtral"
			return s
		},
	}
}

// MixtralModules are also those of llama and mistral, since a GGUF file of these names may be a mixture.
func MixtralModules() family.Modules {
	return family.DecoderModules().With(
		".block_sparse_moe.gate", "ffn_gate_inp",
		".block_sparse_moe.experts.E.w1", "ffn_gate.E",
		".block_sparse_moe.experts.E.w2", "ffn_down.E",
		".block_sparse_moe.experts.E.w3", "ffn_up.E",
		".mlp.gate", "ffn_gate_inp", // as transformers 5 calls it, and adapters that were trained with it
	)
}

// mixtralTheta is the base that transformers takes for a missing one.
func mixtralTheta(k *keys.Keys) float64 {
	if k.IsGGUF() {
		return 1e4
	}
	return 1e6
}
