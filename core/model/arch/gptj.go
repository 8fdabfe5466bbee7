package arch

// gptj is GPT-J (Wang and Komatsuzaki 2021): attention and a GELU network beside each other, both reading one LayerNorm; adjacent
// pairs of the first rotary_dim values of a head are turned; no biases in the attention, one on the head. Folders only.
func gptj() Family {
	return Family{
		Names:   []string{"gptj"},
		Base:    "transformer.",
		Modules: gptjModules(),
		Ignored: []string{".attn.bias", ".attn.masked_bias"},
		read:    func(k *Keys) Spec { return k.gptj() },
	}
}

// codegen is CodeGen (Nijkamp et al. 2022): gptj whose q, v and k stand in one matrix of four groups, in this order.
func codegen() Family {
	return Family{
		Names:   []string{"codegen"},
		Base:    "transformer.",
		Modules: gptjModules(),
		Ignored: []string{".attn.causal_mask", ".attn.bias", ".attn.masked_bias"},
		read: func(k *Keys) Spec {
			s := k.gptj()
			s.Fixes = []Fix{Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_v", "blk.N.attn_k"}, Groups: 4}}
			return s
		},
	}
}

func gptjModules() Modules {
	return Modules{
		{"transformer.wte", "token_embd"},
		{"transformer.ln_f", "output_norm"},
		{"lm_head", "output"},
		{"transformer.h.N.ln_1", "blk.N.attn_norm"},
		{"transformer.h.N.attn.qkv_proj", "blk.N.attn_qkv"},
		{"transformer.h.N.attn.q_proj", "blk.N.attn_q"},
		{"transformer.h.N.attn.k_proj", "blk.N.attn_k"},
		{"transformer.h.N.attn.v_proj", "blk.N.attn_v"},
		{"transformer.h.N.attn.out_proj", "blk.N.attn_output"},
		{"transformer.h.N.mlp.fc_in", "blk.N.ffn_up"},
		{"transformer.h.N.mlp.fc_out", "blk.N.ffn_down"},
	}
}

func (k *Keys) gptj() Spec {
	width := k.Int("|n_embd")
	if !k.Has("|n_inner") {
		k.Defaults(map[string]any{"n_inner": int64(4 * min(width, maxWidth))})
	}
	d, eps := k.Decoder(), k.LNEps(1e-5)
	s := k.decoderSpec(&d, LN("output_norm", eps, Required), false)
	s.Head.Bias = Required
	a := d.attention(Rope{Dim: k.IntOr("|rotary_dim", d.HeadDim), Base: 10000, Adjacent: true})
	ffn := MLP{Hidden: d.FFN, Act: k.ActOf("|activation_function", GELUTanh), Bias: Required}
	for range k.layers(d.Layers) {
		s.Add(Sub{Pre: LN("attn_norm", eps, Required), Op: a}, Sub{Op: ffn, Wire: Shared})
	}
	return s
}
