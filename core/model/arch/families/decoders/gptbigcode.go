package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gptbigcode is StarCoder 1 and SantaCoder (Li et al. 2023): gpt2 whose heads share one key and value, and
// whose matrices a folder stores as other families do. A GGUF file of one is a starcoder.
func gptbigcode() family.Family {
	return family.Family{
		Names: []string{"gpt_bigcode", "starcoder"},
		GGUF:  "starcoder",
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
			width := k.Int("embedding_length|n_embd|hidden_size")
			k.Defaults(map[string]any{"n_inner": int64(4 * min(width, arch.MaxWidth))})
			d, eps := k.Decoder(), k.LNEps(1e-5)
			groups := 1
			if !k.IsGGUF() {
				if d.KVHeads = 1; !k.Bool("|multi_query", true) { // then a head's query, key and value follow one another
					d.KVHeads, groups = d.Heads, d.Heads
				}
			}
			if k.Bool("|add_cross_attention", false) {
				k.Unsupported("add_cross_attention")
			}
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), true)
			s.Embed.Positions = d.Context
			s.Fixes = []arch.Fix{family.SplitQKV(groups)}
			a := d.Attention(nil)
			a.QKVBias, a.OutBias = arch.Required, arch.Required
			if !k.Bool("|scale_attn_weights", true) {
				a.Scale = 1
			}
			ffn := arch.MLP{Hidden: d.FFN, Act: k.Act("|activation_function", arch.GELUTanh), Bias: arch.Required}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: ffn})
			}
			return s
		},
	}
}
