package arch

// olmo is OLMo (Groeneveld et al. 2024): llama with LayerNorms that have no weights, and where a model says so bounds on q, k and v.
func olmo() Family {
	return Family{
		Names:    []string{"olmo"},
		Modules:  decoderModules(),
		Permuted: true,
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.decoderSpec(&d, LN("", eps, Absent), false)
			a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim, Adjacent: k.IsGGUF()}))
			a.Clip = float32(k.FloatOr("attention.clamp_kqv|clip_qkv", 0))
			a.QKVBias = k.given("|attention_bias")
			a.OutBias = a.QKVBias
			ffn := GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}
			for range k.layers(d.Layers) {
				s.Add(Sub{Pre: LN("", eps, Absent), Op: a}, Sub{Pre: LN("", eps, Absent), Op: ffn})
			}
			return s
		},
	}
}
