package arch

// phi is Phi-1.5 and Phi-2 (Microsoft 2023): attention and a GELU network beside each other, both reading one LayerNorm; a part of
// each head is turned; biases everywhere, the head's included.
func phi() Family {
	return Family{
		Names: []string{"phi", "phi2"},
		GGUF:  "phi2",
		Modules: decoderModules().With(
			"model.final_layernorm", "output_norm",
			".self_attn.dense", "attn_output",
			".mlp.fc1", "ffn_up",
			".mlp.fc2", "ffn_down",
		),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			if k.Bool("|qk_layernorm", false) {
				k.Unsupported("qk_layernorm")
			}
			s := k.decoderSpec(&d, LN("output_norm", eps, Required), false)
			s.Head.Bias, s.Fixes = Required, []Fix{splitQKV(1)}
			a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim, Partial: 0.5}))
			a.QKVBias, a.OutBias = Required, Required
			ffn := MLP{Hidden: d.FFN, Act: k.ActOf("|hidden_act", GELUTanh), Bias: Required}
			for range k.layers(d.Layers) {
				s.Add(Sub{Pre: LN("attn_norm", eps, Required), Op: a}, Sub{Op: ffn, Wire: Shared})
			}
			return s
		},
	}
}
