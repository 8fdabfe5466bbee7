package arch

// openaigpt is GPT-1 (Radford et al. 2018): gpt2 with its norms behind the sums and none before the head. Its "gelu" is the tanh
// formula. Folders only.
func openaigpt() Family {
	return Family{
		Names: []string{"openai-gpt"},
		Base:  "transformer.",
		Modules: Modules{
			{"transformer.tokens_embed", "token_embd"},
			{"transformer.positions_embed", "position_embd"},
			{"lm_head", "output"},
			{"transformer.h.N.attn.c_attn", "blk.N.attn_qkv"},
			{"transformer.h.N.attn.c_proj", "blk.N.attn_output"},
			{"transformer.h.N.ln_1", "blk.N.attn_norm"},
			{"transformer.h.N.mlp.c_fc", "blk.N.ffn_up"},
			{"transformer.h.N.mlp.c_proj", "blk.N.ffn_down"},
			{"transformer.h.N.ln_2", "blk.N.ffn_norm"},
		},
		Ignored: []string{".attn.bias", ".position_ids"},
		read: func(k *Keys) Spec {
			width := k.Int("|n_embd")
			k.Defaults(map[string]any{"n_inner": int64(4 * min(width, maxWidth))})
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.decoderSpec(&d, Norm{}, true)
			s.Embed.Positions = d.Context
			s.Fixes = []Fix{splitQKV(1), Transpose{Of: []string{"blk.N.attn_qkv", "blk.N.attn_output", "blk.N.ffn_up", "blk.N.ffn_down"}}}
			act := Act{Kind: GELUTanh}
			if k.String("|afn") != "gelu" {
				act = k.Act("|afn", GELUTanh)
			}
			a := d.attention(nil)
			a.QKVBias, a.OutBias = Required, Required
			for range k.layers(d.Layers) {
				s.Add(
					Sub{Op: a, After: LN("attn_norm", eps, Required)},
					Sub{Op: MLP{Hidden: d.FFN, Act: act, Bias: Required}, After: LN("ffn_norm", eps, Required)},
				)
			}
			return s
		},
	}
}
