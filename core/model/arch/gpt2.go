package arch

// gpt2 is GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU, biases everywhere, a tied head. The folder stores
// matrices (inputs, outputs); both containers fuse q, k and v.
func gpt2() Family {
	return Family{
		Names: []string{"gpt2"},
		Base:  "transformer.",
		Modules: Modules{
			{"transformer.wte", "token_embd"},
			{"transformer.wpe", "position_embd"},
			{"transformer.ln_f", "output_norm"},
			{"lm_head", "output"},
			{"transformer.h.N.ln_1", "blk.N.attn_norm"},
			{"transformer.h.N.attn.c_attn", "blk.N.attn_qkv"},
			{"transformer.h.N.attn.c_proj", "blk.N.attn_output"},
			{"transformer.h.N.ln_2", "blk.N.ffn_norm"},
			{"transformer.h.N.mlp.c_fc", "blk.N.ffn_up"},
			{"transformer.h.N.mlp.c_proj", "blk.N.ffn_down"},
		},
		Ignored: []string{".attn.masked_bias", ".attn.bias"},
		read: func(k *Keys) Spec {
			k.dense()
			width := k.Int("embedding_length|n_embd")
			heads := k.Int("attention.head_count|n_head")
			context := k.Int("context_length|n_positions")
			layers := k.Int("block_count|n_layer")
			head := k.headDim(width, heads)
			hidden := k.IntOr("feed_forward_length|n_inner", 4*min(width, maxWidth))
			eps := k.LNEps(1e-5)
			act := k.ActOf("|activation_function", GELUTanh)
			if !k.Bool("|scale_attn_weights", true) || k.Bool("|scale_attn_by_inverse_layer_idx", false) || k.Bool("|add_cross_attention", false) {
				k.Unsupported("scale_attn_weights false, scale_attn_by_inverse_layer_idx or add_cross_attention")
			}
			s := Spec{
				Width: width, Context: context, Embed: Embed{Positions: context},
				Norm: LN("output_norm", eps, Required), Head: Head{Tied: k.Tied(true), Bias: Absent},
				Fixes: []Fix{splitQKV(1), Transpose{Of: []string{"blk.N.attn_qkv", "blk.N.attn_output", "blk.N.ffn_up", "blk.N.ffn_down"}}},
			}
			for range k.layers(layers) {
				s.Add(
					Sub{Pre: LN("attn_norm", eps, Required), Op: Attention{
						Heads: heads, KVHeads: heads, KeyDim: head, ValueDim: head, QKVBias: Required, OutBias: Required,
					}},
					Sub{Pre: LN("ffn_norm", eps, Required), Op: MLP{Hidden: hidden, Act: act, Bias: Required}},
				)
			}
			return s
		},
	}
}
