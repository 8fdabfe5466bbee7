package arch

// modernbert is ModernBERT (Warner et al. 2024): a LayerNorm before each half but the first, GeGLU, and rotations in place of learned
// positions: every third layer sees the whole text, the others a window to both sides, with a base of their own.
func modernbert() Family {
	return Family{
		Names: []string{"modernbert", "modern-bert"},
		GGUF:  "modern-bert",
		Modules: Modules{
			{"model.embeddings.tok_embeddings", "token_embd"},
			{"model.embeddings.norm", "token_embd_norm"},
			{"model.final_norm", "output_norm"},
			{"model.layers.N.attn_norm", "blk.N.attn_norm"},
			{"model.layers.N.attn.Wqkv", "blk.N.attn_qkv"},
			{"model.layers.N.attn.Wo", "blk.N.attn_output"},
			{"model.layers.N.mlp_norm", "blk.N.ffn_norm"},
			{"model.layers.N.mlp.Wi", "blk.N.ffn_up"},
			{"model.layers.N.mlp.Wo", "blk.N.ffn_down"},
			{"head.dense", ScoreName},
			{"head.norm", scoreNorm},
			{"classifier", ScoreOut},
			{"decoder", headModule},
		},
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.encoderSpec(&d)
			s.Embed.Norm, s.Norm = LN("token_embd_norm", eps, Optional), LN("output_norm", eps, Optional)
			s.Fixes = []Fix{splitQKV(1), splitGateUp()}
			full := k.Rope(RopeOf{HeadDim: d.HeadDim, Kind: "full_attention", Base: "rope.freq_base|global_rope_theta", Theta: 160000})
			near := k.Rope(RopeOf{HeadDim: d.HeadDim, Kind: "sliding_attention", Base: "rope.freq_base_swa|local_rope_theta", Theta: 10000, Plain: true})
			window := k.IntOr("attention.sliding_window|local_attention", 128)
			a := d.attention(full)
			a.Both = true
			ffn := GLU{Hidden: d.FFN, Act: k.Act("hidden_activation|hidden_activation", GELUErf)}
			for i, sliding := range k.besides(d.Layers, "attention.sliding_window_pattern|global_attn_every_n_layers", 3) {
				if a.Window, a.Position = 0, full; sliding {
					a.Window, a.Position = window/2, near
				}
				attn := Sub{Pre: LN("attn_norm", eps, Optional), Op: a}
				if i == 0 { // the embedding's norm has just been applied
					attn.Pre = Norm{}
				}
				s.Add(attn, Sub{Pre: LN("ffn_norm", eps, Optional), Op: ffn})
			}
			act := k.Act("classifier_activation|classifier_activation", GELUErf)
			norm := LN(scoreNorm, eps, Optional)
			k.heads(&s, k.scoreOf(d.Width, k.classified(), act, norm), k.maskOf(d.Width, ScoreName, act, norm))
			return s
		},
	}
}

// classified is which states a ModernBERT's classifier reads.
func (k *Keys) classified() PoolKind {
	const names = "|classifier_pooling"
	if k.IsGGUF() {
		if k.IntOr("classifier.pooling_type|", 2) == 1 {
			return PoolMean
		}
		return PoolCLS
	}
	switch p := k.String(names); p {
	case "", "cls":
		return PoolCLS
	case "mean":
		return PoolMean
	default:
		k.Unsupported("classifier_pooling %q: the known ones are cls and mean", p)
		return PoolCLS
	}
}

// besides tells which layers have a window: a folder's layer_types say it, else all but every n-th, the first being one that has none.
func (k *Keys) besides(layers int, names string, n int) []bool {
	n = k.IntOr(names, n)
	if n < 1 {
		k.Invalid("%s is %d: want 1 or more", k.Say(names), n)
		return nil
	}
	if k.IsGGUF() {
		out := make([]bool, k.layers(layers))
		for i := range out {
			out[i] = i%n != 0
		}
		return out
	}
	return k.Sliding(layers, func(i int) bool { return i%n != 0 })
}
