package arch

// starcoder2 is StarCoder 2 (Lozhkov et al. 2024): LayerNorm, a GELU network, biases everywhere, rotated heads. A folder may have a
// window; a GGUF file does not carry it.
func starcoder2() Family {
	return Family{
		Names: []string{"starcoder2"},
		Modules: decoderModules().With(
			".mlp.c_fc", "ffn_up",
			".mlp.c_proj", "ffn_down",
		),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.decoderSpec(&d, LN("output_norm", eps, Required), true)
			bias := Required
			if !k.Bool("|use_bias", true) {
				bias = Optional
			}
			a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim}))
			a.QKVBias, a.OutBias = bias, bias
			ffn := MLP{Hidden: d.FFN, Act: k.ActOf("|hidden_act", GELUTanh), Bias: bias}
			windows := k.folderWindows(func(int) bool { return true })
			for i := range k.layers(d.Layers) {
				if windows != nil {
					a.Window = windows[i]
				}
				s.Add(Sub{Pre: LN("attn_norm", eps, Required), Op: a}, Sub{Pre: LN("ffn_norm", eps, Required), Op: ffn})
			}
			return s
		},
	}
}
