package arch

// cohere is Command R (Cohere 2024): attention and SwiGLU beside each other, both reading one LayerNorm without bias; pairs turned
// are adjacent in both containers; logits are multiplied by a factor. Command R+ has a LayerNorm over each query and key head, each
// head with a weight of its own.
func cohere() Family {
	return Family{
		Names:   []string{"cohere", "command-r"},
		GGUF:    "command-r",
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			return k.cohere(func(a *Attention, d *Dims) {
				if k.Bool("|use_qk_norm", k.HasTensor("blk.0.attn_q_norm.weight")) {
					a.QKNorm = QKNorm{Of: EachHead, Kind: LayerNorm, Eps: k.LNEps(1e-5)}
				}
			}, false)
		},
	}
}

// cohere2 is Command R7B and Aya (Cohere 2024): cohere with a window in three layers of four, the only ones that turn anything.
func cohere2() Family {
	return Family{
		Names:   []string{"cohere2"},
		Modules: decoderModules(),
		read:    func(k *Keys) Spec { return k.cohere(func(*Attention, *Dims) {}, true) },
	}
}

func (k *Keys) cohere(change func(a *Attention, d *Dims), windowed bool) Spec {
	d, eps := k.Decoder(), k.LNEps(1e-5)
	s := k.decoderSpec(&d, LN("output_norm", eps, Optional), true)
	s.Head.Scale = float32(k.FloatOr("logit_scale|logit_scale", 0.0625))
	rope := k.Rope(RopeOf{HeadDim: d.HeadDim, Adjacent: true})
	a := d.attention(rope)
	a.QKVBias = k.given("|attention_bias")
	a.OutBias = a.QKVBias
	change(&a, &d)
	ffn := GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}
	windows := make([]int, k.layers(d.Layers))
	if windowed {
		windows = k.Windows(d.Layers, everyNth(k.IntOr("|sliding_window_pattern|_sliding_window_pattern", 4)))
	}
	for _, window := range windows {
		if a.Window, a.Position = window, rope; windowed && window == 0 {
			a.Position = nil
		}
		s.Add(Sub{Pre: LN("attn_norm", eps, Optional), Op: a}, Sub{Op: ffn, Wire: Shared})
	}
	return s
}
