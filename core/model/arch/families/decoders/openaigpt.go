package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// openaigpt is GPT-1 (Radford et al. 2018): gpt2 with its norms behind the sums and none before the head. Its
// "gelu" is the tanh formula. Folders only.
func openaigpt() family.Family {
	return family.Family{
		Names: []string{"openai-gpt"},
		Base:  "transformer.",
		Modules: family.ModulesOf(
			"transformer.tokens_embed", "token_embd",
			"transformer.positions_embed", "position_embd",
			"lm_head", "output",
			"transformer.h.N.attn.c_attn", "blk.N.attn_qkv",
			"transformer.h.N.attn.c_proj", "blk.N.attn_output",
			"transformer.h.N.ln_1", "blk.N.attn_norm",
			"transformer.h.N.mlp.c_fc", "blk.N.ffn_up",
			"transformer.h.N.mlp.c_proj", "blk.N.ffn_down",
			"transformer.h.N.ln_2", "blk.N.ffn_norm",
		),
		Ignored: []string{".attn.bias", ".position_ids"},
		Spec: func(k *keys.Keys) arch.Spec {
			width := k.Int("|n_embd")
			k.Defaults(map[string]any{"n_inner": int64(4 * min(width, arch.MaxWidth))})
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.Norm{}, true)
			s.Embed.Positions = d.Context
			s.Fixes = []arch.Fix{
				family.SplitQKV(1),
				arch.Transpose{Of: []string{"blk.N.attn_qkv", "blk.N.attn_output", "blk.N.ffn_up", "blk.N.ffn_down"}},
			}
			act := arch.Act{Kind: arch.GELUTanh}
			if k.String("|afn") != "gelu" {
				act = k.Act("|afn", arch.GELUTanh)
			}
			a := d.Attention(nil)
			a.QKVBias, a.OutBias = arch.Required, arch.Required
			for range k.LayerCount(d.Layers) {
				s.Add(
					arch.Sub{Op: a, After: arch.LN("attn_norm", eps, arch.Required)},
					arch.Sub{Op: arch.MLP{Hidden: d.FFN, Act: act, Bias: arch.Required}, After: arch.LN("ffn_norm", eps, arch.Required)},
				)
			}
			return s
		},
	}
}
