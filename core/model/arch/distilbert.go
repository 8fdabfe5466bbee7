package arch

// distilbert is DistilBERT (Sanh et al. 2019): BERT with half of its layers and without token types. A GGUF file of one is a bert.
func distilbert() Family {
	layer := "distilbert.transformer.layer.N."
	return Family{
		Names: []string{"distilbert"},
		GGUF:  "bert",
		Base:  "distilbert.",
		Modules: Modules{
			{"distilbert.embeddings.word_embeddings", "token_embd"},
			{"distilbert.embeddings.position_embeddings", "position_embd"},
			{"distilbert.embeddings.LayerNorm", "token_embd_norm"},
			{layer + "attention.q_lin", "blk.N.attn_q"},
			{layer + "attention.k_lin", "blk.N.attn_k"},
			{layer + "attention.v_lin", "blk.N.attn_v"},
			{layer + "attention.out_lin", "blk.N.attn_output"},
			{layer + "sa_layer_norm", "blk.N.attn_output_norm"},
			{layer + "ffn.lin1", "blk.N.ffn_up"},
			{layer + "ffn.lin2", "blk.N.ffn_down"},
			{layer + "output_layer_norm", "blk.N.layer_output_norm"},
			{"vocab_transform", maskName},
			{"vocab_layer_norm", maskNorm},
			{"vocab_projector.weight", headModule},
			{"vocab_projector.bias", HeadBias},
			{"pre_classifier", ScoreName},
			{"classifier", ScoreOut},
		},
		read: func(k *Keys) Spec {
			k.Defaults(map[string]any{"activation": "gelu"})
			d := Dims{
				Layers: k.Int("block_count|n_layers"), Width: k.Int("embedding_length|dim"), Heads: k.Int("attention.head_count|n_heads"),
				FFN: k.Int("feed_forward_length|hidden_dim"), Context: k.Int("context_length|max_position_embeddings"),
			}
			d.KVHeads, d.HeadDim = d.Heads, k.headDim(d.Width, d.Heads)
			const eps = 1e-12 // which no file says
			s := k.bertStack(&d, 0, eps, k.Act("|activation", GELUErf), nil)
			k.heads(&s, k.scoreOf(d.Width, PoolCLS, Act{Kind: ReLU}, Norm{}), k.maskOf(d.Width, maskName, k.Act("|activation", GELUErf), LN(maskNorm, eps, Required)))
			return s
		},
	}
}
