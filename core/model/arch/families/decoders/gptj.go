package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gptj is GPT-J (Wang and Komatsuzaki 2021): attention and a GELU network beside each other, both reading one
// LayerNorm; adjacent pairs of the first rotary_dim values of a head are turned; no biases in the attention,
// one on the head. Folders only.
func gptj() family.Family {
	return family.Family{
		Names:   []string{"gptj"},
		Base:    "transformer.",
		Modules: gptjModules(),
		Ignored: []string{".attn.bias", ".attn.masked_bias"},
		Spec:    gptjSpec,
	}
}

// codegen is CodeGen (Nijkamp et al. 2022): gptj whose q, v and k stand in one matrix of four groups, in this order.
func codegen() family.Family {
	return family.Family{
		Names:   []string{"codegen"},
		Base:    "transformer.",
		Modules: gptjModules(),
		Ignored: []string{".attn.causal_mask", ".attn.bias", ".attn.masked_bias"},
		Spec: func(k *keys.Keys) arch.Spec {
			s := gptjSpec(k)
			s.Fixes = []arch.Fix{arch.Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_v", "blk.N.attn_k"}, Groups: 4}}
			return s
		},
	}
}

func gptjModules() family.Modules {
	return family.ModulesOf(
		"transformer.wte", "token_embd",
		"transformer.ln_f", "output_norm",
		"lm_head", "output",
		"transformer.h.N.ln_1", "blk.N.attn_norm",
		"transformer.h.N.attn.qkv_proj", "blk.N.attn_qkv",
		"transformer.h.N.attn.q_proj", "blk.N.attn_q",
		"transformer.h.N.attn.k_proj", "blk.N.attn_k",
		"transformer.h.N.attn.v_proj", "blk.N.attn_v",
		"transformer.h.N.attn.out_proj", "blk.N.attn_output",
		"transformer.h.N.mlp.fc_in", "blk.N.ffn_up",
		"transformer.h.N.mlp.fc_out", "blk.N.ffn_down",
	)
}

func gptjSpec(k *keys.Keys) arch.Spec {
	width := k.Int("|n_embd")
	if !k.Has("|n_inner") {
		k.Defaults(map[string]any{"n_inner": int64(4 * min(width, arch.MaxWidth))})
	}
	d, eps := k.Decoder(), k.LNEps(1e-5)
	s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), false)
	s.Head.Bias = arch.Required
	a := d.Attention(arch.Rope{Dim: k.IntOr("|rotary_dim", d.HeadDim), Base: 10000, Adjacent: true})
	ffn := arch.MLP{Hidden: d.FFN, Act: k.ActOf("|activation_function", arch.GELUTanh), Bias: arch.Required}
	for range k.LayerCount(d.Layers) {
		s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, arch.Sub{Op: ffn, Wire: arch.Shared})
	}
	return s
}
