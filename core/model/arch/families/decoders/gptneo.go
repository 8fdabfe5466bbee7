package decoders

import (
	"fmt"
	"strconv"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gptneo is GPT-Neo (Black et al. 2021): gpt2 whose scores are not divided by anything, with a window in
// every second layer, no biases on queries, keys and values, and matrices stored as other families do.
// Folders only.
func gptneo() family.Family {
	return family.Family{
		Names: []string{"gpt_neo"},
		Base:  "transformer.",
		Modules: family.ModulesOf(
			"transformer.wte", "token_embd",
			"transformer.wpe", "position_embd",
			"transformer.ln_f", "output_norm",
			"lm_head", "output",
			"transformer.h.N.ln_1", "blk.N.attn_norm",
			"transformer.h.N.attn.attention.q_proj", "blk.N.attn_q",
			"transformer.h.N.attn.attention.k_proj", "blk.N.attn_k",
			"transformer.h.N.attn.attention.v_proj", "blk.N.attn_v",
			"transformer.h.N.attn.attention.out_proj", "blk.N.attn_output",
			"transformer.h.N.ln_2", "blk.N.ffn_norm",
			"transformer.h.N.mlp.c_fc", "blk.N.ffn_up",
			"transformer.h.N.mlp.c_proj", "blk.N.ffn_down",
		),
		Ignored: []string{".attn.attention.bias", ".attn.attention.masked_bias"},
		Spec: func(k *keys.Keys) arch.Spec {
			width := k.Int("|hidden_size")
			k.Defaults(map[string]any{"intermediate_size": int64(4 * min(width, arch.MaxWidth)), "num_attention_heads": int64(k.Int("|num_heads"))})
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), true)
			s.Embed.Positions = d.Context
			a := d.Attention(nil)
			a.Scale, a.QKVBias, a.OutBias = 1, arch.Absent, arch.Required
			ffn := arch.MLP{Hidden: d.FFN, Act: k.Act("|activation_function", arch.GELUTanh), Bias: arch.Required}
			for _, window := range neoWindows(k, d.Layers) {
				a.Window = window
				s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: ffn})
			}
			return s
		},
	}
}

// neoWindows are the windows of GPT-Neo's layers: attention_layers names the kind of each; published folders
// of the first days have only attention_types, pairs of kinds that follow one another and of how often they
// do.
func neoWindows(k *keys.Keys, layers int) []int {
	kinds := k.Strings("|attention_layers")
	if kinds == nil {
		v, _, _ := k.Value("|attention_types")
		pairs, _ := v.([]any)
		for _, p := range pairs {
			pair, _ := p.([]any)
			if len(pair) != 2 {
				continue
			}
			names, _ := pair[0].([]any)
			times, err := strconv.Atoi(fmt.Sprint(pair[1]))
			if err != nil {
				continue
			}
			for n := 0; n < times && len(kinds) < arch.MaxLayers && len(names) > 0; n++ {
				for _, name := range names {
					text, _ := name.(string)
					kinds = append(kinds, text)
				}
			}
		}
	}
	out := make([]int, k.LayerCount(layers))
	if k.Err() == nil && len(kinds) != layers {
		k.Invalid("attention_layers or attention_types name the kinds of %d layers, but there are %d", len(kinds), layers)
		return out
	}
	window := k.IntOr("|window_size", 256)
	for i := range out {
		switch kinds[i] {
		case "global":
		case "local":
			out[i] = window
		default:
			k.Unsupported("attention_layers has %q", kinds[i])
		}
	}
	return out
}
