package arch

// bert is BERT (Devlin et al. 2019) and the embedders made of it (MiniLM, e5, bge, gte): learned positions and token types, a
// LayerNorm over their sum and one behind each half of a layer. A GGUF file of this name may hold a RoBERTa, whose first two positions the
// converter has left out.
func bert() Family {
	return Family{
		Names:   []string{"bert"},
		Base:    "bert.",
		Modules: bertModules("bert."),
		Ignored: bertIgnored(),
		read:    func(k *Keys) Spec { return k.bert(0) },
	}
}

// roberta is RoBERTa and XLM-RoBERTa (Liu et al. 2019; Conneau et al. 2020: multilingual-e5, bge-m3): BERT whose positions begin
// behind the row of the padding token.
func roberta() Family {
	return Family{
		Names:   []string{"roberta", "xlm-roberta"},
		GGUF:    "bert",
		Base:    "roberta.",
		Modules: bertModules("roberta."),
		Ignored: bertIgnored(),
		read: func(k *Keys) Spec {
			return k.bert(k.IntOr("|pad_token_id", 1) + 1)
		},
	}
}

// bertModules are the names of BERT's modules below a prefix.
func bertModules(prefix string) Modules {
	layer := prefix + "encoder.layer.N."
	return Modules{
		{prefix + "embeddings.word_embeddings", "token_embd"},
		{prefix + "embeddings.position_embeddings", "position_embd"},
		{prefix + "embeddings.token_type_embeddings", "token_types"},
		{prefix + "embeddings.LayerNorm", "token_embd_norm"},
		{layer + "attention.self.query", "blk.N.attn_q"},
		{layer + "attention.self.key", "blk.N.attn_k"},
		{layer + "attention.self.value", "blk.N.attn_v"},
		{layer + "attention.output.dense", "blk.N.attn_output"},
		{layer + "attention.output.LayerNorm", "blk.N.attn_output_norm"},
		{layer + "intermediate.dense", "blk.N.ffn_up"},
		{layer + "output.dense", "blk.N.ffn_down"},
		{layer + "output.LayerNorm", "blk.N.layer_output_norm"},
		{"cls.predictions.transform.dense", maskName},
		{"cls.predictions.transform.LayerNorm", maskNorm},
		{"cls.predictions.decoder.weight", headModule},
		{"cls.predictions.bias", HeadBias},
		{"lm_head.dense", maskName},
		{"lm_head.layer_norm", maskNorm},
		{"lm_head.decoder.weight", headModule},
		{"lm_head.bias", HeadBias},
		{prefix + "pooler.dense", ScoreName},
		{"classifier.dense", ScoreName},
		{"classifier.out_proj", ScoreOut},
		{"classifier", ScoreOut},
	}
}

// bertIgnored are a buffer that older folders hold, the head of a pretraining task that nobody asks for, and the bias of the head that
// guesses words, which older folders hold twice.
func bertIgnored() []string {
	return []string{
		"embeddings.position_ids", "cls.seq_relationship.weight", "cls.seq_relationship.bias", "predictions.decoder.bias", "lm_head.decoder.bias",
	}
}

// bert reads BERT's Spec; offset is the row of position 0 in a folder.
func (k *Keys) bert(offset int) Spec {
	d := k.Decoder()
	eps := k.LNEps(1e-12)
	if kind := k.String("|position_embedding_type"); kind != "" && kind != "absolute" {
		k.Unsupported("position_embedding_type %q: the positions that are served are absolute", kind)
	}
	if k.Bool("|is_decoder", false) || k.Bool("|add_cross_attention", false) {
		k.Unsupported("is_decoder or add_cross_attention: this family is served as an encoder")
	}
	if k.IsGGUF() {
		offset = 0
	}
	// A file does not name its activation; models of this family have the exact GELU.
	act := k.Act("|hidden_act", GELUErf)
	s := k.bertStack(&d, offset, eps, act, nil)
	k.heads(&s, k.scoreOf(d.Width, PoolCLS, Act{Kind: Tanh}, Norm{}), k.maskOf(d.Width, maskName, act, LN(maskNorm, eps, Required)))
	return s
}

// bertStack is BERT's network: its learned positions begin at row offset, and distances are buckets that its scores know beside, by a
// table that all layers share; nil: they do not.
func (k *Keys) bertStack(d *Dims, offset int, eps float32, act Act, distances *Distances) Spec {
	if d.Context <= offset {
		k.Invalid("max_position_embeddings is %d, but positions begin at %d", d.Context, offset)
	}
	s := k.encoderSpec(d)
	s.Context = d.Context - offset
	s.Embed.Positions, s.Embed.Offset = d.Context, offset
	s.Embed.Norm = LN("token_embd_norm", eps, Required)
	a := d.attention(nil)
	a.Both, a.QKVBias, a.OutBias = true, Required, Required
	ffn := MLP{Hidden: d.FFN, Act: act, Bias: Required}
	for i := range k.layers(d.Layers) {
		if distances != nil {
			one := *distances
			one.Own = i == 0
			a.Position = one
		}
		s.Add(
			Sub{Op: a, After: LN("attn_output_norm", eps, Required)},
			Sub{Op: ffn, After: LN("layer_output_norm", eps, Required)},
		)
	}
	return s
}

// heads gives an encoder what its class has behind the network. One with a score has no vector that was trained for anything.
func (k *Keys) heads(s *Spec, score *Score, mask *Mask) {
	s.Score, s.Mask = score, mask
	if score != nil {
		s.Pool = Pool{}
	}
	if mask != nil {
		s.Head = Head{Tied: k.Tied(true)}
	}
}

// encoderSpec is the Spec of an encoder without layers yet.
func (k *Keys) encoderSpec(d *Dims) Spec {
	s := Spec{Kind: Encoder, Width: d.Width, Context: d.Context, Pool: k.pool(), Dense: k.denses()}
	if types := k.Shape(TypesName); len(types) > 0 {
		s.Embed.Types = types[0]
	}
	if k.Has("attention.causal|") && k.Bool("attention.causal|", false) {
		k.Unsupported("%s is true: this family is served as an encoder", k.Say("attention.causal|"))
	}
	return s
}

// pool reads a file's pooling, of which a vector of length 1 is made, as llama.cpp's programs do. What a folder means stands beside
// its config.json, where package weights reads it.
func (k *Keys) pool() Pool {
	p := Pool{Kind: PoolMean, Normalize: k.IsGGUF()}
	switch n := k.IntOr("pooling_type|", 1); n {
	case 0:
		p.Kind = PoolNone
	case 1:
	case 2:
		p.Kind = PoolCLS
	case 3:
		p.Kind = PoolLast
	case 4: // ranks pairs of texts: see scoreOf
		if p.Kind = PoolNone; !k.HasTensor(ScoreOut + ".weight") {
			k.Invalid("%s is 4, a model that ranks pairs of texts, and tensor %s.weight is missing", k.Say("pooling_type|"), ScoreOut)
		}
	default:
		k.Unsupported("%s is %d: the known ones are 0 to 4", k.Say("pooling_type|"), n)
	}
	return p
}

// decoderPool is how a decoder's states become a vector: the mean, unless the file of one that was trained for embeddings says
// otherwise. A reranker's is for another purpose.
func (k *Keys) decoderPool() PoolKind {
	switch k.FloatOr("pooling_type|", 1) {
	case 2:
		return PoolCLS
	case 3:
		return PoolLast
	default:
		return PoolMean
	}
}
