package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// falcon is Falcon (Almazrouei et al. 2023): rotated heads, a GELU network beside the attention, LayerNorm.
// The 7B has one norm for both and one key head, the 40B a norm for each and groups of key heads, [q k v]
// group by group in a folder; the oldest (RefinedWeb) run one after the other, and know distances by ALiBi,
// in folders only.
func falcon() family.Family {
	return family.Family{
		Names: []string{"falcon"},
		Base:  "transformer.",
		Modules: family.ModulesOf(
			"transformer.word_embeddings", "token_embd",
			"transformer.ln_f", "output_norm",
			"lm_head", "output",
			"transformer.h.N.input_layernorm", "blk.N.attn_norm",
			"transformer.h.N.ln_attn", "blk.N.attn_norm_2",
			"transformer.h.N.ln_mlp", "blk.N.attn_norm",
			"transformer.h.N.post_attention_layernorm", "blk.N.ffn_norm",
			"transformer.h.N.self_attention.query_key_value", "blk.N.attn_qkv",
			"transformer.h.N.self_attention.dense", "blk.N.attn_output",
			"transformer.h.N.mlp.dense_h_to_4h", "blk.N.ffn_up",
			"transformer.h.N.mlp.dense_4h_to_h", "blk.N.ffn_down",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			width := k.Int("embedding_length|hidden_size|n_embed")
			k.Defaults(map[string]any{"ffn_hidden_size": int64(4 * min(width, arch.MaxWidth)), "max_position_embeddings": int64(2048)})
			d := keys.Dims{
				Layers: k.Int("block_count|num_hidden_layers|n_layer"), Width: width, Heads: k.Int("attention.head_count|num_attention_heads|n_head"),
				FFN: k.Int("feed_forward_length|ffn_hidden_size"), Context: k.Int("context_length|max_position_embeddings"),
			}
			d.HeadDim = k.HeadDim(d.Width, d.Heads)
			d.KVHeads = falconHeads(k, &d)
			eps := k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), true)
			s.Fixes = []arch.Fix{family.SplitQKV(d.KVHeads)}
			var position arch.Position = arch.ALiBi{Max: 8, Rounded: true}
			if !k.Bool("|alibi", false) {
				position = k.Rope(keys.RopeOf{HeadDim: d.HeadDim})
			}
			attn := arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: d.Attention(position)}
			net := arch.Sub{Op: arch.MLP{Hidden: d.FFN, Act: k.Act("|activation", arch.GELUErf)}, Wire: arch.Shared}
			switch {
			case k.HasTensor("blk.0.attn_norm_2.weight"):
				attn.Pre = arch.LN("attn_norm_2", eps, arch.Required)
				net.Pre, net.Wire = arch.LN("attn_norm", eps, arch.Required), arch.Parallel
			case k.HasTensor("blk.0.ffn_norm.weight"):
				net.Pre, net.Wire = arch.LN("ffn_norm", eps, arch.Required), arch.Serial
			}
			for range k.LayerCount(d.Layers) {
				s.Add(attn, net)
			}
			return s
		},
	}
}

// falconHeads is the number of key heads: num_kv_heads counts in the new architecture only.
func falconHeads(k *keys.Keys, d *keys.Dims) int {
	switch {
	case k.IsGGUF():
		return k.IntOr("attention.head_count_kv|", d.Heads)
	case k.Bool("|new_decoder_architecture", false):
		return k.IntOr("|num_kv_heads|n_head_kv", d.Heads)
	case k.Bool("|multi_query", true):
		return 1
	default:
		return d.Heads
	}
}
