package encoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// distilbert is DistilBERT (Sanh et al. 2019): BERT with half of its layers and without token types. A GGUF
// file of one is a bert.
func distilbert() family.Family {
	layer := "distilbert.transformer.layer.N."
	return family.Family{
		Names: []string{"distilbert"},
		GGUF:  "bert",
		Base:  "distilbert.",
		Modules: family.ModulesOf(
			"distilbert.embeddings.word_embeddings", "token_embd",
			"distilbert.embeddings.position_embeddings", "position_embd",
			"distilbert.embeddings.LayerNorm", "token_embd_norm",
			layer+"attention.q_lin", "blk.N.attn_q",
			layer+"attention.k_lin", "blk.N.attn_k",
			layer+"attention.v_lin", "blk.N.attn_v",
			layer+"attention.out_lin", "blk.N.attn_output",
			layer+"sa_layer_norm", "blk.N.attn_output_norm",
			layer+"ffn.lin1", "blk.N.ffn_up",
			layer+"ffn.lin2", "blk.N.ffn_down",
			layer+"output_layer_norm", "blk.N.layer_output_norm",
			"vocab_transform", arch.MaskName,
			"vocab_layer_norm", arch.MaskNorm,
			"vocab_projector.weight", arch.HeadModule,
			"vocab_projector.bias", arch.HeadBias,
			"pre_classifier", arch.ScoreName,
			"classifier", arch.ScoreOut,
		),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"activation": "gelu"})
			d := keys.Dims{
				Layers: k.Int("block_count|n_layers"), Width: k.Int("embedding_length|dim"), Heads: k.Int("attention.head_count|n_heads"),
				FFN: k.Int("feed_forward_length|hidden_dim"), Context: k.Int("context_length|max_position_embeddings"),
			}
			d.KVHeads, d.HeadDim = d.Heads, k.HeadDim(d.Width, d.Heads)
			const eps = 1e-12 // which no file says
			s := bertStack(k, &d, 0, eps, k.Act("|activation", arch.GELUErf), nil)
			setHeads(
				k,
				&s,
				k.ScoreOf(d.Width, arch.PoolCLS, arch.Act{Kind: arch.ReLU}, arch.Norm{}),
				k.MaskOf(d.Width, arch.MaskName, k.Act("|activation", arch.GELUErf), arch.LN(arch.MaskNorm, eps, arch.Required)),
			)
			return s
		},
	}
}
