package decoders

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gemma2 is Gemma 2 (Gemma Team 2024): gemma with a norm behind each half as well, a window in every second
// layer, and caps on scores and logits. A GGUF file has no query_pre_attn_scalar: there the 27B (46 layers)
// scales by width / heads, every other size by its head size, as llama.cpp does.
func gemma2() family.Family {
	return family.Family{
		Names:   []string{"gemma2"},
		Modules: gemmaModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			return gemma2Spec(k, 46)
		},
	}
}

// gemma2Spec reads Gemma 2, which VaultGemma shares all of but the norms behind; large is the number of
// layers of the size whose files scale by width / heads.
func gemma2Spec(k *keys.Keys, large int) arch.Spec {
	d, eps := k.Decoder(), k.RMSEps()
	s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), true)
	s.Embed.Scale, s.Fixes = float32(math.Sqrt(float64(d.Width))), gemmaOnes()
	s.Head.Cap = softCap(k, "final_logit_softcapping|final_logit_softcapping", 30)
	a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim}))
	a.Cap = softCap(k, "attn_logit_softcapping|attn_logit_softcapping", 50)
	a.Scale = gemmaScale(k, &d, large)
	ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_activation", arch.GELUTanh)}
	for _, window := range k.Windows(d.Layers, keys.EveryNth(2)) {
		a.Window = window
		s.Add(
			arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a, Post: arch.RMS("post_attention_norm", eps)},
			arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: ffn, Post: arch.RMS("post_ffw_norm", eps)},
		)
	}
	return s
}

// softCap reads a soft cap: null in a folder means none, and a file that does not say means def, as llama.cpp takes it.
func softCap(k *keys.Keys, names string, def float64) float32 {
	if !k.IsGGUF() {
		def = 0
	}
	return float32(k.FloatOr(names, def))
}

// gemmaScale is the factor of the scores.
func gemmaScale(k *keys.Keys, d *keys.Dims, large int) float32 {
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
