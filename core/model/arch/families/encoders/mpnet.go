package encoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// mpnet is MPNet (Song et al. 2020; all-mpnet-base-v2): RoBERTa whose scores know distances by learned
// buckets too, with one table for all layers, and without token types.
func mpnet() family.Family {
	layer := "mpnet.encoder.layer.N."
	return family.Family{
		Names: []string{"mpnet"},
		Base:  "mpnet.",
		Modules: family.ModulesOf(
			"mpnet.embeddings.word_embeddings", "token_embd",
			"mpnet.embeddings.position_embeddings", "position_embd",
			"mpnet.embeddings.LayerNorm", "token_embd_norm",
			"mpnet.encoder.relative_attention_bias", "blk.0.attn_rel_b",
			layer+"attention.attn.q", "blk.N.attn_q",
			layer+"attention.attn.k", "blk.N.attn_k",
			layer+"attention.attn.v", "blk.N.attn_v",
			layer+"attention.attn.o", "blk.N.attn_output",
			layer+"attention.LayerNorm", "blk.N.attn_output_norm",
			layer+"intermediate.dense", "blk.N.ffn_up",
			layer+"output.dense", "blk.N.ffn_down",
			layer+"output.LayerNorm", "blk.N.layer_output_norm",
			"lm_head.dense", arch.MaskName,
			"lm_head.layer_norm", arch.MaskNorm,
			"lm_head.decoder.weight", arch.HeadModule,
			"lm_head.bias", arch.HeadBias,
			"classifier.dense", arch.ScoreName,
			"classifier.out_proj", arch.ScoreOut,
		),
		Ignored: append(bertIgnored(), "pooler.dense.weight", "pooler.dense.bias"),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps, act := k.Decoder(), k.LNEps(1e-12), k.Act("|hidden_act", arch.GELUErf)
			buckets := k.IntOr("|relative_attention_num_buckets", 32)
			// Positions begin at row 2, whatever number the padding token has.
			s := bertStack(k, &d, 2, eps, act, &arch.Distances{Buckets: buckets, Far: 128})
			setHeads(
				k,
				&s,
				k.ScoreOf(d.Width, arch.PoolCLS, arch.Act{Kind: arch.Tanh}, arch.Norm{}),
				k.MaskOf(d.Width, arch.MaskName, arch.Act{Kind: arch.GELUErf}, arch.LN(arch.MaskNorm, eps, arch.Required)),
			)
			return s
		},
	}
}
