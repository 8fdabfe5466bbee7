package arch

// bitnet is BitNet b1.58 (Ma et al. 2025): llama with an RMSNorm more before the last matrix of each half. Its folders say ReLU²;
// llama.cpp computes files with SiLU.
func bitnet() Family {
	return Family{
		Names: []string{"bitnet"},
		Modules: decoderModules().With(
			".self_attn.attn_sub_norm", "attn_sub_norm",
			".mlp.ffn_sub_norm", "ffn_sub_norm",
		),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.RMSEps()
			s := k.decoderSpec(&d, RMS("output_norm", eps), true)
			a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim, Theta: 500000}))
			a.Sub = RMS("attn_sub_norm", eps)
			act := Act{Kind: SiLU}
			if !k.IsGGUF() {
				act = k.Act("|hidden_act", ReLUSquared)
			}
			for range k.layers(d.Layers) {
				s.Add(Sub{Pre: RMS("attn_norm", eps), Op: a}, Sub{Pre: RMS("ffn_norm", eps), Op: GLU{Hidden: d.FFN, Act: act, Sub: RMS("ffn_sub_norm", eps)}})
			}
			return s
		},
	}
}
