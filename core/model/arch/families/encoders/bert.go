package encoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// bert is BERT (Devlin et al. 2019) and the embedders made of it (MiniLM, e5, bge, gte): learned positions
// and token types, a LayerNorm over their sum and one behind each half of a layer. A GGUF file of this name
// may hold a RoBERTa, whose first two positions the converter has left out.
func bert() family.Family {
	return family.Family{
		Names:   []string{"bert"},
		Base:    "bert.",
		Modules: bertModules("bert."),
		Ignored: bertIgnored(),
		Spec:    func(k *keys.Keys) arch.Spec { return bertSpec(k, 0) },
	}
}

// roberta is RoBERTa, CamemBERT and XLM-RoBERTa (Liu et al. 2019; Martin et al. 2020; Conneau et al. 2020:
// multilingual-e5, bge-m3): BERT whose positions begin behind the row of the padding token.
func roberta() family.Family {
	return family.Family{
		Names:   []string{"roberta", "xlm-roberta", "camembert"},
		GGUF:    "bert",
		Base:    "roberta.",
		Modules: bertModules("roberta."),
		Ignored: bertIgnored(),
		Spec: func(k *keys.Keys) arch.Spec {
			return bertSpec(k, k.IntOr("|pad_token_id", 1)+1)
		},
	}
}

// bertModules are the names of BERT's modules below a prefix.
func bertModules(prefix string) family.Modules {
	layer := prefix + "encoder.layer.N."
	return family.ModulesOf(
		prefix+"embeddings.word_embeddings", "token_embd",
		prefix+"embeddings.position_embeddings", "position_embd",
		prefix+"embeddings.token_type_embeddings", "token_types",
		prefix+"embeddings.LayerNorm", "token_embd_norm",
		layer+"attention.self.query", "blk.N.attn_q",
		layer+"attention.self.key", "blk.N.attn_k",
		layer+"attention.self.value", "blk.N.attn_v",
		layer+"attention.output.dense", "blk.N.attn_output",
		layer+"attention.output.LayerNorm", "blk.N.attn_output_norm",
		layer+"intermediate.dense", "blk.N.ffn_up",
		layer+"output.dense", "blk.N.ffn_down",
		layer+"output.LayerNorm", "blk.N.layer_output_norm",
		"cls.predictions.transform.dense", arch.MaskName,
		"cls.predictions.transform.LayerNorm", arch.MaskNorm,
		"cls.predictions.decoder.weight", arch.HeadModule,
		"cls.predictions.bias", arch.HeadBias,
		"lm_head.dense", arch.MaskName,
		"lm_head.layer_norm", arch.MaskNorm,
		"lm_head.decoder.weight", arch.HeadModule,
		"lm_head.bias", arch.HeadBias,
		prefix+"pooler.dense", arch.ScoreName,
		"classifier.dense", arch.ScoreName,
		"classifier.out_proj", arch.ScoreOut,
		"classifier", arch.ScoreOut,
	)
}

// bertIgnored are a buffer that older folders hold, the head of a pretraining task that nobody asks for, and
// the bias of the head that guesses words, which older folders hold twice.
func bertIgnored() []string {
	return []string{
		"embeddings.position_ids",
		"cls.seq_relationship.weight",
		"cls.seq_relationship.bias",
		"predictions.decoder.bias",
		"lm_head.decoder.bias",
	}
}

// bertSpec reads BERT's Spec; offset is the row of position 0 in a folder.
func bertSpec(k *keys.Keys, offset int) arch.Spec {
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
	act := k.Act("|hidden_act", arch.GELUErf)
	s := bertStack(k, &d, offset, eps, act, nil)
	setHeads(
		k,
		&s,
		k.ScoreOf(d.Width, arch.PoolCLS, arch.Act{Kind: arch.Tanh}, arch.Norm{}),
		k.MaskOf(d.Width, arch.MaskName, act, arch.LN(arch.MaskNorm, eps, arch.Required)),
	)
	return s
}

// bertStack is BERT's network: its learned positions begin at row offset, and distances are buckets that its
// scores know beside, by a table that all layers share; nil: they do not.
func bertStack(k *keys.Keys, d *keys.Dims, offset int, eps float32, act arch.Act, distances *arch.Distances) arch.Spec {
	if d.Context <= offset {
		k.Invalid("max_position_embeddings is %d, but positions begin at %d", d.Context, offset)
	}
	s := k.EncoderSpec(d)
	s.Context = d.Context - offset
	s.Embed.Positions, s.Embed.Offset = d.Context, offset
	s.Embed.Norm = arch.LN("token_embd_norm", eps, arch.Required)
	a := d.Attention(nil)
	a.Both, a.QKVBias, a.OutBias = true, arch.Required, arch.Required
	ffn := arch.MLP{Hidden: d.FFN, Act: act, Bias: arch.Required}
	for i := range k.LayerCount(d.Layers) {
		if distances != nil {
			one := *distances
			one.Own = i == 0
			a.Position = one
		}
		s.Add(
			arch.Sub{Op: a, After: arch.LN("attn_output_norm", eps, arch.Required)},
			arch.Sub{Op: ffn, After: arch.LN("layer_output_norm", eps, arch.Required)},
		)
	}
	return s
}

// setHeads gives an encoder what its class has behind the network. One with a score has no vector that was
// trained for anything.
func setHeads(k *keys.Keys, s *arch.Spec, score *arch.Score, mask *arch.Mask) {
	s.Score, s.Mask = score, mask
	if score != nil {
		s.Pool = arch.Pool{}
	}
	if mask != nil {
		s.Head = arch.Head{Tied: k.Tied(true)}
	}
}
