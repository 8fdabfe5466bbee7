package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// qwen35moe is qwen35 with experts by a soft-max over all, renormalised, and one that every row goes through,
// weighted by a sigmoid.
func qwen35moe() family.Family {
	return family.Family{
		Names:   []string{"qwen3_5_moe", "qwen3_5_moe_text", "qwen35moe"},
		GGUF:    "qwen35moe",
		Modules: qwenDeltaModules().With(qwenDeltaExperts()...),
		Drafted: "mtp.",
		Tiled:   true,
		Spec: func(k *keys.Keys) arch.Spec {
			s := qwenDeltaSpec(k, k.IsGGUF(), func(d *keys.Dims, layer int) arch.Op { return qwenDeltaMixture(k, d, layer, true) })
			s.Fixes = append(s.Fixes,
				arch.Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v"}},
				arch.Stack{Of: "blk.N.ffn_gate_up_exps", Into: []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"}},
				arch.Stack{Of: "blk.N.ffn_down_exps", Into: []string{"blk.N.ffn_down.E"}},
			)
			return s
		},
	}
}

// qwenDeltaExperts are the names of experts, which may stand one by one or in one tensor.
func qwenDeltaExperts() []string {
	return append(family.ExpertModules(),
		".mlp.experts.gate_up_proj", "ffn_gate_up_exps",
		".mlp.experts.down_proj", "ffn_down_exps",
		".mlp.shared_expert.gate_proj", "ffn_gate_shexp",
		".mlp.shared_expert.up_proj", "ffn_up_shexp",
		".mlp.shared_expert.down_proj", "ffn_down_shexp",
		".mlp.shared_expert_gate", "ffn_gate_inp_shexp",
	)
}

// qwenDeltaMixture is a layer's mixture.
func qwenDeltaMixture(k *keys.Keys, d *keys.Dims, layer int, normalise bool) arch.Op {
	m := k.Mixture(d, arch.Router{Kind: arch.Softmax, Normalise: normalise})
	m.Shared, m.SharedGate = k.SharedHidden(layer), true
	return m
}
