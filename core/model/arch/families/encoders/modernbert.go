package encoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// modernbert is ModernBERT (Warner et al. 2024): a LayerNorm before each half but the first, GeGLU, and
// rotations in place of learned positions: every third layer sees the whole text, the others a window to both
// sides, with a base of their own.
func modernbert() family.Family {
	return family.Family{
		Names: []string{"modernbert", "modern-bert"},
		GGUF:  "modern-bert",
		Modules: family.ModulesOf(
			"model.embeddings.tok_embeddings", "token_embd",
			"model.embeddings.norm", "token_embd_norm",
			"model.final_norm", "output_norm",
			"model.layers.N.attn_norm", "blk.N.attn_norm",
			"model.layers.N.attn.Wqkv", "blk.N.attn_qkv",
			"model.layers.N.attn.Wo", "blk.N.attn_output",
			"model.layers.N.mlp_norm", "blk.N.ffn_norm",
			"model.layers.N.mlp.Wi", "blk.N.ffn_up",
			"model.layers.N.mlp.Wo", "blk.N.ffn_down",
			"head.dense", arch.ScoreName,
			"head.norm", arch.ScoreNorm,
			"classifier", arch.ScoreOut,
			"decoder", arch.HeadModule,
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.EncoderSpec(&d)
			s.Embed.Norm, s.Norm = arch.LN("token_embd_norm", eps, arch.Optional), arch.LN("output_norm", eps, arch.Optional)
			s.Fixes = []arch.Fix{family.SplitQKV(1), family.SplitGateUp()}
			full := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Kind: "full_attention", Base: "rope.freq_base|global_rope_theta", Theta: 160000})
			near := k.Rope(
				keys.RopeOf{
					HeadDim: d.HeadDim,
					Kind:    "sliding_attention",
					Base:    "rope.freq_base_swa|local_rope_theta",
					Theta:   10000,
					Plain:   true,
				},
			)
			window := k.IntOr("attention.sliding_window|local_attention", 128)
			a := d.Attention(full)
			a.Both = true
			ffn := arch.GLU{Hidden: d.FFN, Act: k.Act("hidden_activation|hidden_activation", arch.GELUErf)}
			for i, sliding := range windowedLayers(k, d.Layers, "attention.sliding_window_pattern|global_attn_every_n_layers", 3) {
				if a.Window, a.Position = 0, full; sliding {
					a.Window, a.Position = window/2, near
				}
				attn := arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Optional), Op: a}
				if i == 0 { // the embedding's norm has just been applied
					attn.Pre = arch.Norm{}
				}
				s.Add(attn, arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Optional), Op: ffn})
			}
			act := k.Act("classifier_activation|classifier_activation", arch.GELUErf)
			norm := arch.LN(arch.ScoreNorm, eps, arch.Optional)
			setHeads(k, &s, k.ScoreOf(d.Width, classifierPool(k), act, norm), k.MaskOf(d.Width, arch.ScoreName, act, norm))
			return s
		},
	}
}

// classifierPool is which states a ModernBERT's classifier reads.
func classifierPool(k *keys.Keys) arch.PoolKind {
	const names = "|classifier_pooling"
	if k.IsGGUF() {
		if k.IntOr("classifier.pooling_type|", 2) == 1 {
			return arch.PoolMean
		}
		return arch.PoolCLS
	}
	switch p := k.String(names); p {
	case "", "cls":
		return arch.PoolCLS
	case "mean":
		return arch.PoolMean
	default:
		k.Unsupported("classifier_pooling %q: the known ones are cls and mean", p)
		return arch.PoolCLS
	}
}

// windowedLayers tells which layers have a window: a folder's layer_types say it, else all but every n-th,
// the first being one that has none.
func windowedLayers(k *keys.Keys, layers int, names string, n int) []bool {
	n = k.IntOr(names, n)
	if n < 1 {
		k.Invalid("%s is %d: want 1 or more", k.Say(names), n)
		return nil
	}
	if k.IsGGUF() {
		out := make([]bool, k.LayerCount(layers))
		for i := range out {
			out[i] = i%n != 0
		}
		return out
	}
	return k.Sliding(layers, func(i int) bool { return i%n != 0 })
}
