package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// bloom is BLOOM (Workshop, BigScience 2022): ALiBi, LayerNorm, also over the embedding, a GELU network and
// biases everywhere. A folder holds q, k and v of one head after the other, and may take residuals from
// behind the norms; a file does not say that.
func bloom() family.Family {
	return family.Family{
		Names: []string{"bloom"},
		Base:  "transformer.",
		Modules: family.ModulesOf(
			"transformer.word_embeddings", "token_embd",
			"transformer.word_embeddings_layernorm", "token_embd_norm",
			"transformer.ln_f", "output_norm",
			"lm_head", "output",
			"transformer.h.N.input_layernorm", "blk.N.attn_norm",
			"transformer.h.N.self_attention.query_key_value", "blk.N.attn_qkv",
			"transformer.h.N.self_attention.dense", "blk.N.attn_output",
			"transformer.h.N.post_attention_layernorm", "blk.N.ffn_norm",
			"transformer.h.N.mlp.dense_h_to_4h", "blk.N.ffn_up",
			"transformer.h.N.mlp.dense_4h_to_h", "blk.N.ffn_down",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			width := k.Int("embedding_length|hidden_size|n_embed")
			k.Defaults(
				map[string]any{
					"intermediate_size":       int64(4 * min(width, arch.MaxWidth)),
					"max_position_embeddings": int64(k.IntOr("|seq_length", 2048)),
				},
			)
			d := keys.Dims{
				Layers: k.Int(
					"block_count|n_layer|num_hidden_layers",
				),
				Width:   width,
				Heads:   k.Int("attention.head_count|n_head|num_attention_heads"),
				FFN:     k.Int("feed_forward_length|intermediate_size"),
				Context: k.Int("context_length|max_position_embeddings"),
			}
			if k.IsGGUF() && d.Context == width {
				// ALiBi has no limit. Of a folder that names none, which transformers 5 writes, llama.cpp's
				// converter takes the width for it; every BLOOM was trained on 2,048 tokens.
				d.Context = max(d.Context, 2048)
			}
			d.KVHeads, d.HeadDim = d.Heads, k.HeadDim(d.Width, d.Heads)
			eps := k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), true)
			s.Embed.Norm = arch.LN("token_embd_norm", eps, arch.Required)
			s.Fixes = []arch.Fix{family.SplitQKV(d.Heads)}
			a := d.Attention(arch.ALiBi{Max: 8})
			a.QKVBias, a.OutBias = arch.Required, arch.Required
			behind := k.Bool("|apply_residual_connection_post_layernorm", false)
			for range k.LayerCount(d.Layers) {
				s.Add(
					arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a, FromNorm: behind},
					arch.Sub{
						Pre:      arch.LN("ffn_norm", eps, arch.Required),
						Op:       arch.MLP{Hidden: d.FFN, Act: arch.Act{Kind: arch.GELUTanh}, Bias: arch.Required},
						FromNorm: behind,
					},
				)
			}
			return s
		},
	}
}
