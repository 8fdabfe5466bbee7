package arch

// qwen3next is Qwen3-Next (Qwen team 2025): qwen35moe before it, whose delta nets have their matrices fused by key head, and whose
// value heads stand side by side in files too. A layer may have a plain network, and the experts' weights need not sum up to 1.
func qwen3next() Family {
	return Family{
		Names: []string{"qwen3_next", "qwen3next"},
		GGUF:  "qwen3next",
		Modules: qwenDelta().With(qwenDeltaExperts()...).With(
			".linear_attn.in_proj_qkvz", "ssm_in",
			".linear_attn.in_proj_ba", "ssm_ba",
		),
		Drafted: "mtp.",
		read: func(k *Keys) Spec {
			sparse := k.sparse()
			s := k.qwenDelta(false, func(d *Dims, layer int) Op {
				if !sparse(layer) {
					return GLU{Hidden: k.Int("feed_forward_length|intermediate_size"), Act: k.ActOf("|hidden_act", SiLU)}
				}
				return k.qwenDeltaMixture(d, layer, k.IsGGUF() || k.Bool("|norm_topk_prob", true))
			})
			groups := k.Int("ssm.group_count|linear_num_key_heads")
			s.Fixes = append(s.Fixes,
				Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v"}},
				Split{Of: "blk.N.ssm_in", Into: []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v", "blk.N.attn_gate"}, Groups: groups, Stored: true},
				Split{Of: "blk.N.ssm_ba", Into: []string{"blk.N.ssm_beta", "blk.N.ssm_alpha"}, Groups: groups, Stored: true},
				Stack{Of: "blk.N.ffn_gate_up_exps", Into: []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"}},
				Stack{Of: "blk.N.ffn_down_exps", Into: []string{"blk.N.ffn_down.E"}},
			)
			return s
		},
	}
}
