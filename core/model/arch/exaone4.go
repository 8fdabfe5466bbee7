package arch

// exaone4 is EXAONE 4 (LG AI Research 2025): norms behind both halves only, an RMSNorm over each query and key head; the 32B has
// windows in three layers of four, and turns nothing in the fourth. Of files llama.cpp reads windows in those of 64 layers only.
func exaone4() Family {
	return Family{
		Names: []string{"exaone4"},
		Modules: decoderModules().With(
			".post_attention_layernorm", "post_attention_norm",
			".post_feedforward_layernorm", "post_ffw_norm",
		),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.RMSEps()
			rope := k.Rope(RopeOf{HeadDim: d.HeadDim})
			a := d.attention(rope)
			a.QKNorm = QKNorm{Of: PerHead, Kind: RMSNorm, Eps: eps}
			ffn := GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}
			s := k.decoderSpec(&d, RMS("output_norm", eps), false)
			windows := make([]int, k.layers(d.Layers))
			if !k.IsGGUF() || d.Layers == 64 {
				windows = k.Windows(d.Layers, everyNth(4))
			}
			mixed := k.Has("|sliding_window") || k.IsGGUF() && d.Layers == 64
			for _, window := range windows {
				if a.Window, a.Position = window, rope; mixed && window == 0 {
					a.Position = nil
				}
				s.Add(Sub{Op: a, Post: RMS("post_attention_norm", eps)}, Sub{Op: ffn, Post: RMS("post_ffw_norm", eps)})
			}
			return s
		},
	}
}
