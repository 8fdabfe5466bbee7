package encoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// electra is ELECTRA (Clark et al. 2020): BERT whose embedding, positions and token types may be narrower
// than its layers, which read their normalised sum through a matrix. What its discriminator says of tokens is
// passed over. Folders only.
func electra() family.Family {
	return family.Family{
		Names: []string{"electra"},
		Base:  "electra.",
		Modules: append(family.ModulesOf(
			"electra.embeddings_project", arch.EmbedProj,
			"generator_predictions.dense", arch.MaskName,
			"generator_predictions.LayerNorm", arch.MaskNorm,
			"generator_lm_head", arch.HeadModule,
		), bertModules("electra.")...),
		Ignored: append(bertIgnored(),
			"discriminator_predictions.dense.weight", "discriminator_predictions.dense.bias",
			"discriminator_predictions.dense_prediction.weight", "discriminator_predictions.dense_prediction.bias",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			gelu := arch.Act{Kind: arch.GELUErf} // of both heads, whatever the layers have
			s := narrowBert(k, k.Act("|hidden_act", arch.GELUErf))
			setHeads(
				k,
				&s,
				k.ScoreOf(s.Width, arch.PoolCLS, gelu, arch.Norm{}),
				k.MaskOf(s.Width, arch.MaskName, gelu, arch.LN(arch.MaskNorm, k.LNEps(1e-12), arch.Required)),
			)
			if s.Mask != nil {
				s.Mask.Steps[0].Out = s.EmbedWidth()
			}
			return s
		},
	}
}

// albert is ALBERT (Lan et al. 2020): ELECTRA's narrow embedding, and layers that share one set of weights,
// or the layers of each group one. Folders only.
func albert() family.Family {
	layer := "albert.encoder.albert_layer_groups.N.albert_layers.0."
	return family.Family{
		Names: []string{"albert"},
		Base:  "albert.",
		Modules: family.ModulesOf(
			"albert.embeddings.word_embeddings", "token_embd",
			"albert.embeddings.position_embeddings", "position_embd",
			"albert.embeddings.token_type_embeddings", "token_types",
			"albert.embeddings.LayerNorm", "token_embd_norm",
			"albert.encoder.embedding_hidden_mapping_in", arch.EmbedProj,
			layer+"attention.query", "blk.N.attn_q",
			layer+"attention.key", "blk.N.attn_k",
			layer+"attention.value", "blk.N.attn_v",
			layer+"attention.dense", "blk.N.attn_output",
			layer+"attention.LayerNorm", "blk.N.attn_output_norm",
			layer+"ffn", "blk.N.ffn_up",
			layer+"ffn_output", "blk.N.ffn_down",
			layer+"full_layer_layer_norm", "blk.N.layer_output_norm",
			"predictions.dense", arch.MaskName,
			"predictions.LayerNorm", arch.MaskNorm,
			"predictions.decoder.weight", arch.HeadModule,
			"predictions.bias", arch.HeadBias,
			"albert.pooler", arch.ScoreName,
			"classifier", arch.ScoreOut,
		),
		Ignored: append(bertIgnored(), "sop_classifier.classifier.weight", "sop_classifier.classifier.bias"),
		Spec: func(k *keys.Keys) arch.Spec {
			if n := k.IntOr("|inner_group_num", 1); n != 1 {
				k.Unsupported("inner_group_num %d: a group of one layer is served", n)
			}
			act := k.Act("|hidden_act", arch.GELUTanh)
			s := narrowBert(k, act)
			groups := k.IntOr("|num_hidden_groups", 1)
			if groups < 1 || groups > max(len(s.Layers), 1) {
				k.Invalid("num_hidden_groups is %d: want 1 to the %d layers", groups, len(s.Layers))
				return s
			}
			for i := range s.Layers {
				s.TensorsOf = append(s.TensorsOf, i*groups/len(s.Layers))
			}
			setHeads(
				k,
				&s,
				k.ScoreOf(s.Width, arch.PoolCLS, arch.Act{Kind: arch.Tanh}, arch.Norm{}),
				k.MaskOf(s.Width, arch.MaskName, act, arch.LN(arch.MaskNorm, k.LNEps(1e-12), arch.Required)),
			)
			if s.Mask != nil {
				s.Mask.Steps[0].Out = s.EmbedWidth()
			}
			return s
		},
	}
}

// narrowBert is BERT's network behind an embedding that may be narrower.
func narrowBert(k *keys.Keys, act arch.Act) arch.Spec {
	if k.Bool("|is_decoder", false) || k.Bool("|add_cross_attention", false) {
		k.Unsupported("is_decoder or add_cross_attention: this family is served as an encoder")
	}
	d := k.Decoder()
	s := bertStack(k, &d, 0, k.LNEps(1e-12), act, nil)
	if k.HasTensor(arch.EmbedProj + ".weight") {
		s.Embed.Width, s.Embed.Inner = k.IntOr("|embedding_size", 128), true
	}
	return s
}
