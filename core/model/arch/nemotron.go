package arch

// nemotron is Nemotron and Minitron (NVIDIA 2024): LayerNorm whose weights folders store as what is added to 1, a part of each head
// turned, and a network of two matrices with ReLU² between them.
func nemotron() Family {
	return Family{
		Names:   []string{"nemotron"},
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.decoderSpec(&d, LN("output_norm", eps, Required), false)
			s.Fixes = []Fix{AddOne{Of: []string{"output_norm", "blk.N.attn_norm", "blk.N.ffn_norm"}}}
			a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim, Partial: 0.5}))
			a.QKVBias = k.given("|attention_bias")
			a.OutBias = a.QKVBias
			ffn := MLP{Hidden: d.FFN, Act: k.ActOf("|hidden_act", ReLUSquared), Bias: k.given("|mlp_bias")}
			for range k.layers(d.Layers) {
				s.Add(Sub{Pre: LN("attn_norm", eps, Required), Op: a}, Sub{Pre: LN("ffn_norm", eps, Required), Op: ffn})
			}
			return s
		},
	}
}
