package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gptneox is GPT-NeoX and Pythia (Black et al. 2022): attention and a GELU network beside each other, each
// behind a LayerNorm of its own, or one after the other; a quarter of each head is turned. A folder holds q,
// k and v of one head after the other.
func gptneox() family.Family {
	return family.Family{
		Names: []string{"gpt_neox", "gptneox"},
		GGUF:  "gptneox",
		Base:  "gpt_neox.",
		Modules: family.ModulesOf(
			"gpt_neox.embed_in", "token_embd",
			"gpt_neox.final_layer_norm", "output_norm",
			"embed_out", "output",
			"lm_head", "output",
			"gpt_neox.layers.N.input_layernorm", "blk.N.attn_norm",
			"gpt_neox.layers.N.attention.query_key_value", "blk.N.attn_qkv",
			"gpt_neox.layers.N.attention.dense", "blk.N.attn_output",
			"gpt_neox.layers.N.post_attention_layernorm", "blk.N.ffn_norm",
			"gpt_neox.layers.N.mlp.dense_h_to_4h", "blk.N.ffn_up",
			"gpt_neox.layers.N.mlp.dense_4h_to_h", "blk.N.ffn_down",
		),
		Ignored: []string{".attention.bias", ".attention.masked_bias"},
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), false)
			s.Fixes = []arch.Fix{family.SplitQKV(d.Heads)}
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.25}))
			net := arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: arch.MLP{Hidden: d.FFN, Act: k.Act("|hidden_act", arch.GELUErf)}}
			if k.Bool("use_parallel_residual|use_parallel_residual", true) {
				net.Wire = arch.Parallel
			}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, net)
			}
			return s
		},
	}
}
