package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// mpt is MPT (MosaicML 2023): ALiBi whatever the folder's alibi says, LayerNorm without bias, a GELU network,
// no biases, and where a model says so bounds on q, k and v. A file does not carry softmax_scale.
func mpt() family.Family {
	return family.Family{
		Names: []string{"mpt"},
		Base:  "transformer.",
		Modules: family.ModulesOf(
			"transformer.wte", "token_embd",
			"transformer.norm_f", "output_norm",
			"lm_head", "output",
			"transformer.blocks.N.norm_1", "blk.N.attn_norm",
			"transformer.blocks.N.attn.Wqkv", "blk.N.attn_qkv",
			"transformer.blocks.N.attn.out_proj", "blk.N.attn_output",
			"transformer.blocks.N.norm_2", "blk.N.ffn_norm",
			"transformer.blocks.N.ffn.up_proj", "blk.N.ffn_up",
			"transformer.blocks.N.ffn.down_proj", "blk.N.ffn_down",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			width := k.Int("embedding_length|d_model")
			hidden := 4 * min(width, arch.MaxWidth)
			if up := k.Shape(arch.LayerName(0, "ffn_up.weight")); len(up) == 2 {
				hidden = up[0] // transformers' networks are four times as wide whatever expansion_ratio says, the original's are not
			}
			k.Defaults(map[string]any{"intermediate_size": int64(hidden)})
			d, eps := k.Decoder(), k.LNEps(1e-5)
			kv := k.IntOr("|attn_config.kv_n_heads", d.Heads)
			if k.Bool("|attn_config.qk_ln", false) || k.Bool("|attn_config.prefix_lm", false) || kv != d.Heads && !k.IsGGUF() {
				k.Unsupported("attn_config with qk_ln, prefix_lm or kv_n_heads")
			}
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Optional), true)
			s.Fixes = []arch.Fix{family.SplitQKV(1)}
			a := d.Attention(arch.ALiBi{Max: float32(k.FloatOr("attention.max_alibi_bias|", 8))})
			a.Clip = float32(k.FloatOr("attention.clamp_kqv|attn_config.clip_qkv", 0))
			a.Scale = float32(k.FloatOr("|attn_config.softmax_scale", 0))
			for range k.LayerCount(d.Layers) {
				s.Add(
					arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Optional), Op: a},
					arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Optional), Op: arch.MLP{Hidden: d.FFN, Act: arch.Act{Kind: arch.GELUErf}}},
				)
			}
			return s
		},
	}
}
