package encoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gte is gte-multilingual and gte-v1.5 as transformers has them (Zhang et al. 2024): BERT with a rotation in
// place of learned positions, and GeGLU. Folders only.
func gte() family.Family {
	return family.Family{
		Names:   []string{"gte"},
		Base:    "gte.",
		Modules: gteModules("gte."),
		Ignored: []string{"embeddings.position_ids"},
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps, act := k.Decoder(), k.LNEps(1e-12), k.Act("|hidden_act", arch.GELUErf)
			if kind := k.String("|position_embedding_type"); kind != "" && kind != "rope" {
				k.Unsupported("position_embedding_type %q with this family: only rope is served", kind)
			}
			s := k.EncoderSpec(&d)
			s.Embed.Norm = arch.LN("token_embd_norm", eps, arch.Required)
			// The rows of up come first, then those of the gate.
			s.Fixes = []arch.Fix{family.SplitQKV(1), arch.Split{Of: "blk.N.ffn_up", Into: []string{"blk.N.ffn_up", "blk.N.ffn_gate"}}}
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Theta: 160000}))
			a.Both = true
			ffn := arch.GLU{Hidden: d.FFN, Act: act}
			for range k.LayerCount(d.Layers) {
				s.Add(
					arch.Sub{Op: a, After: arch.LN("attn_output_norm", eps, arch.Required)},
					arch.Sub{Op: ffn, After: arch.LN("layer_output_norm", eps, arch.Required)},
				)
			}
			tanh, gelu := arch.Act{Kind: arch.Tanh}, arch.Act{Kind: arch.GELUErf}
			setHeads(
				k,
				&s,
				k.ScoreOf(d.Width, arch.PoolCLS, tanh, arch.Norm{}),
				k.MaskOf(d.Width, arch.MaskName, gelu, arch.LN(arch.MaskNorm, eps, arch.Required)),
			)
			return s
		},
	}
}

// gteModules are the names below a prefix.
func gteModules(prefix string) family.Modules {
	layer := prefix + "encoder.layer.N."
	return family.ModulesOf(
		prefix+"embeddings.word_embeddings", "token_embd",
		prefix+"embeddings.token_type_embeddings", "token_types",
		prefix+"embeddings.LayerNorm", "token_embd_norm",
		layer+"attention.qkv_proj", "blk.N.attn_qkv",
		layer+"attention.o_proj", "blk.N.attn_output",
		layer+"attn_ln", "blk.N.attn_output_norm",
		layer+"mlp.up_gate_proj", "blk.N.ffn_up",
		layer+"mlp.down_proj", "blk.N.ffn_down",
		layer+"mlp_ln", "blk.N.layer_output_norm",
		"lm_head.dense", arch.MaskName,
		"lm_head.norm", arch.MaskNorm,
		"lm_head.layer_norm", arch.MaskNorm,
		"lm_head.decoder", arch.HeadModule,
		prefix+"pooler.dense", arch.ScoreName,
		"classifier", arch.ScoreOut,
	)
}

// jinav3 is jina-embeddings-v3 as transformers has it (Sturua et al. 2024): XLM-RoBERTa with a rotation in
// place of learned positions. Its task adapters are adapters like others.
func jinav3() family.Family {
	layer := "roberta.encoder.layers.N."
	return family.Family{
		Names: []string{"jina_embeddings_v3", "jina-bert-v3"},
		GGUF:  "jina-bert-v3",
		Base:  "roberta.",
		Modules: family.ModulesOf(
			"roberta.embeddings.word_embeddings", "token_embd",
			"roberta.embeddings.token_type_embeddings", "token_types",
			"roberta.emb_ln", "token_embd_norm",
			layer+"mixer.Wqkv", "blk.N.attn_qkv",
			layer+"mixer.out_proj", "blk.N.attn_output",
			layer+"norm1", "blk.N.attn_output_norm",
			layer+"mlp.fc1", "blk.N.ffn_up",
			layer+"mlp.fc2", "blk.N.ffn_down",
			layer+"norm2", "blk.N.layer_output_norm",
			"lm_head.dense", arch.MaskName,
			"lm_head.layer_norm", arch.MaskNorm,
			"lm_head.decoder.weight", arch.HeadModule,
			"lm_head.bias", arch.HeadBias,
			"roberta.pooler.dense", arch.ScoreName,
			"classifier.dense", arch.ScoreName,
			"classifier.out_proj", arch.ScoreOut,
		),
		Ignored: bertIgnored(),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps, act := k.Decoder(), k.LNEps(1e-5), k.Act("|hidden_act", arch.GELUErf)
			s := k.EncoderSpec(&d)
			s.Embed.Norm = arch.LN("token_embd_norm", eps, arch.Required)
			s.Fixes = []arch.Fix{family.SplitQKV(1)}
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Theta: 20000}))
			a.Both = true
			ffn := arch.MLP{Hidden: d.FFN, Act: act}
			for range k.LayerCount(d.Layers) {
				s.Add(
					arch.Sub{Op: a, After: arch.LN("attn_output_norm", eps, arch.Required)},
					arch.Sub{Op: ffn, After: arch.LN("layer_output_norm", eps, arch.Required)},
				)
			}
			tanh, gelu := arch.Act{Kind: arch.Tanh}, arch.Act{Kind: arch.GELUErf}
			setHeads(
				k,
				&s,
				k.ScoreOf(d.Width, arch.PoolCLS, tanh, arch.Norm{}),
				k.MaskOf(d.Width, arch.MaskName, gelu, arch.LN(arch.MaskNorm, eps, arch.Required)),
			)
			return s
		},
	}
}
