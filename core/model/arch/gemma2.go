package arch

import "math"

// gemma2 is Gemma 2 (Gemma Team 2024): gemma with a norm behind each half as well, a window in every second layer, and caps on
// scores and logits. A GGUF file has no query_pre_attn_scalar: there the 27B (46 layers) scales by width / heads, every other size
// by its head size, as llama.cpp does.
func gemma2() Family {
	return Family{
		Names:   []string{"gemma2"},
		Modules: gemmaModules(),
		read: func(k *Keys) Spec {
			return k.gemma2(46)
		},
	}
}

// gemma2 reads Gemma 2, which VaultGemma shares all of but the norms behind; large is the number of layers of the size whose
// files scale by width / heads.
func (k *Keys) gemma2(large int) Spec {
	d, eps := k.Decoder(), k.RMSEps()
	s := k.decoderSpec(&d, RMS("output_norm", eps), true)
	s.Embed.Scale, s.Fixes = float32(math.Sqrt(float64(d.Width))), gemmaOnes()
	s.Head.Cap = k.cap("final_logit_softcapping|final_logit_softcapping", 30)
	a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim}))
	a.Cap = k.cap("attn_logit_softcapping|attn_logit_softcapping", 50)
	a.Scale = k.gemmaScale(&d, large)
	ffn := GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_activation", GELUTanh)}
	for _, window := range k.Windows(d.Layers, everyNth(2)) {
		a.Window = window
		s.Add(
			Sub{Pre: RMS("attn_norm", eps), Op: a, Post: RMS("post_attention_norm", eps)},
			Sub{Pre: RMS("ffn_norm", eps), Op: ffn, Post: RMS("post_ffw_norm", eps)},
		)
	}
	return s
}

// cap reads a soft cap: null in a folder means none, and a file that does not say means def, as llama.cpp takes it.
func (k *Keys) cap(names string, def float64) float32 {
	if !k.IsGGUF() {
		def = 0
	}
	return float32(k.FloatOr(names, def))
}

// gemmaScale is the factor of the scores.
func (k *Keys) gemmaScale(d *Dims, large int) float32 {
	scalar := float64(d.HeadDim)
	if k.IsGGUF() && d.Layers == large && d.Heads > 0 {
		scalar = float64(d.Width / d.Heads)
	}
	scalar = k.FloatOr("|query_pre_attn_scalar", scalar)
	if !(scalar > 0) {
		k.Invalid("query_pre_attn_scalar is %g: want a positive number", scalar)
	}
	return float32(1 / math.Sqrt(scalar))
}
