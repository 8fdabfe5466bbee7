package arch

// mpnet is MPNet (Song et al. 2020; all-mpnet-base-v2): RoBERTa whose scores know distances by learned buckets too, with one table for all
// layers, and without token types.
func mpnet() Family {
	layer := "mpnet.encoder.layer.N."
	return Family{
		Names: []string{"mpnet"},
		Base:  "mpnet.",
		Modules: Modules{
			{"mpnet.embeddings.word_embeddings", "token_embd"},
			{"mpnet.embeddings.position_embeddings", "position_embd"},
			{"mpnet.embeddings.LayerNorm", "token_embd_norm"},
			{"mpnet.encoder.relative_attention_bias", "blk.0.attn_rel_b"},
			{layer + "attention.attn.q", "blk.N.attn_q"},
			{layer + "attention.attn.k", "blk.N.attn_k"},
			{layer + "attention.attn.v", "blk.N.attn_v"},
			{layer + "attention.attn.o", "blk.N.attn_output"},
			{layer + "attention.LayerNorm", "blk.N.attn_output_norm"},
			{layer + "intermediate.dense", "blk.N.ffn_up"},
			{layer + "output.dense", "blk.N.ffn_down"},
			{layer + "output.LayerNorm", "blk.N.layer_output_norm"},
			{"lm_head.dense", maskName},
			{"lm_head.layer_norm", maskNorm},
			{"lm_head.decoder.weight", headModule},
			{"lm_head.bias", HeadBias},
			{"classifier.dense", ScoreName},
			{"classifier.out_proj", ScoreOut},
		},
		Ignored: append(bertIgnored(), "pooler.dense.weight", "pooler.dense.bias"),
		read: func(k *Keys) Spec {
			d, eps, act := k.Decoder(), k.LNEps(1e-12), k.Act("|hidden_act", GELUErf)
			buckets := k.IntOr("|relative_attention_num_buckets", 32)
			s := k.bertStack(&d, k.IntOr("|pad_token_id", 1)+1, eps, act, &Distances{Buckets: buckets, Far: 128})
			k.heads(&s, k.scoreOf(d.Width, PoolCLS, Act{Kind: Tanh}, Norm{}), k.maskOf(d.Width, maskName, Act{Kind: GELUErf}, LN(maskNorm, eps, Required)))
			return s
		},
	}
}
