package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// qwen3next is Qwen3-Next (Qwen team 2025): qwen35moe before it, whose delta nets have their matrices fused
// by key head, and whose value heads stand side by side in files too. A layer may have a plain network, and
// the experts' weights need not sum up to 1.
func qwen3next() family.Family {
	return family.Family{
		Names: []string{"qwen3_next", "qwen3next"},
		GGUF:  "qwen3next",
		Modules: qwenDeltaModules().With(qwenDeltaExperts()...).With(
			".linear_attn.in_proj_qkvz", "ssm_in",
			".linear_attn.in_proj_ba", "ssm_ba",
		),
		Drafted: "mtp.",
		Spec: func(k *keys.Keys) arch.Spec {
			sparse := k.Sparse()
			s := qwenDeltaSpec(k, false, func(d *keys.Dims, layer int) arch.Op {
				if !sparse(layer) {
					return arch.GLU{Hidden: k.Int("feed_forward_length|intermediate_size"), Act: k.ActOf("|hidden_act", arch.SiLU)}
				}
				return qwenDeltaMixture(k, d, layer, k.IsGGUF() || k.Bool("|norm_topk_prob", true))
			})
			groups := k.Int("ssm.group_count|linear_num_key_heads")
			s.Fixes = append(
				s.Fixes,
				arch.Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v"}},
				arch.Split{
					Of:     "blk.N.ssm_in",
					Into:   []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v", "blk.N.attn_gate"},
					Groups: groups,
					Stored: true,
				},
				arch.Split{Of: "blk.N.ssm_ba", Into: []string{"blk.N.ssm_beta", "blk.N.ssm_alpha"}, Groups: groups, Stored: true},
				arch.Stack{Of: "blk.N.ffn_gate_up_exps", Into: []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"}},
				arch.Stack{Of: "blk.N.ffn_down_exps", Into: []string{"blk.N.ffn_down.E"}},
			)
			return s
		},
	}
}
