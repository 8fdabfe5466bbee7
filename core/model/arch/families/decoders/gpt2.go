package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gpt2 is GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU, biases everywhere, a tied head.
// The folder stores matrices (inputs, outputs); both containers fuse q, k and v.
func gpt2() family.Family {
	return family.Family{
		Names: []string{"gpt2"},
		Base:  "transformer.",
		Modules: family.ModulesOf(
			"transformer.wte", "token_embd",
			"transformer.wpe", "position_embd",
			"transformer.ln_f", "output_norm",
			"lm_head", "output",
			"transformer.h.N.ln_1", "blk.N.attn_norm",
			"transformer.h.N.attn.c_attn", "blk.N.attn_qkv",
			"transformer.h.N.attn.c_proj", "blk.N.attn_output",
			"transformer.h.N.ln_2", "blk.N.ffn_norm",
			"transformer.h.N.mlp.c_fc", "blk.N.ffn_up",
			"transformer.h.N.mlp.c_proj", "blk.N.ffn_down",
		),
		Ignored: []string{".attn.masked_bias", ".attn.bias"},
		Spec: func(k *keys.Keys) arch.Spec {
			k.NoExperts()
			width := k.Int("embedding_length|n_embd")
			heads := k.Int("attention.head_count|n_head")
			context := k.Int("context_length|n_positions")
			layers := k.Int("block_count|n_layer")
			head := k.HeadDim(width, heads)
			hidden := k.IntOr("feed_forward_length|n_inner", 4*min(width, arch.MaxWidth))
			eps := k.LNEps(1e-5)
			act := k.ActOf("|activation_function", arch.GELUTanh)
			if !k.Bool("|scale_attn_weights", true) || k.Bool("|scale_attn_by_inverse_layer_idx", false) ||
				k.Bool("|add_cross_attention", false) {
				k.Unsupported("scale_attn_weights false, scale_attn_by_inverse_layer_idx or add_cross_attention")
			}
			s := arch.Spec{
				Width:   width,
				Context: context,
				Embed:   arch.Embed{Positions: context},
				Norm:    arch.LN("output_norm", eps, arch.Required),
				Head:    arch.Head{Tied: k.Tied(true), Bias: arch.Absent},
				Fixes: []arch.Fix{
					family.SplitQKV(1),
					arch.Transpose{Of: []string{"blk.N.attn_qkv", "blk.N.attn_output", "blk.N.ffn_up", "blk.N.ffn_down"}},
				},
			}
			for range k.LayerCount(layers) {
				s.Add(
					arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: arch.Attention{
						Heads: heads, KVHeads: heads, KeyDim: head, ValueDim: head, QKVBias: arch.Required, OutBias: arch.Required,
					}},
					arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: arch.MLP{Hidden: hidden, Act: act, Bias: arch.Required}},
				)
			}
			return s
		},
	}
}
