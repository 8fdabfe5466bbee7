package arch

// gptneox is GPT-NeoX and Pythia (Black et al. 2022): attention and a GELU network beside each other, each behind a LayerNorm of
// its own, or one after the other; a quarter of each head is turned. A folder holds q, k and v of one head after the other.
func gptneox() Family {
	return Family{
		Names: []string{"gpt_neox", "gptneox"},
		GGUF:  "gptneox",
		Base:  "gpt_neox.",
		Modules: Modules{
			{"gpt_neox.embed_in", "token_embd"},
			{"gpt_neox.final_layer_norm", "output_norm"},
			{"embed_out", "output"},
			{"lm_head", "output"},
			{"gpt_neox.layers.N.input_layernorm", "blk.N.attn_norm"},
			{"gpt_neox.layers.N.attention.query_key_value", "blk.N.attn_qkv"},
			{"gpt_neox.layers.N.attention.dense", "blk.N.attn_output"},
			{"gpt_neox.layers.N.post_attention_layernorm", "blk.N.ffn_norm"},
			{"gpt_neox.layers.N.mlp.dense_h_to_4h", "blk.N.ffn_up"},
			{"gpt_neox.layers.N.mlp.dense_4h_to_h", "blk.N.ffn_down"},
		},
		Ignored: []string{".attention.bias", ".attention.masked_bias"},
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.decoderSpec(&d, LN("output_norm", eps, Required), false)
			s.Fixes = []Fix{splitQKV(d.Heads)}
			a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim, Partial: 0.25}))
			net := Sub{Pre: LN("ffn_norm", eps, Required), Op: MLP{Hidden: d.FFN, Act: k.Act("|hidden_act", GELUErf)}}
			if k.Bool("use_parallel_residual|use_parallel_residual", true) {
				net.Wire = Parallel
			}
			for range k.layers(d.Layers) {
				s.Add(Sub{Pre: LN("attn_norm", eps, Required), Op: a}, net)
			}
			return s
		},
	}
}
