package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// exaone4 is EXAONE 4 (LG AI Research 2025): norms behind both halves only, an RMSNorm over each query and
// key head; the 32B has windows in three layers of four, and turns nothing in the fourth. Of files llama.cpp
// reads windows in those of 64 layers only.
func exaone4() family.Family {
	return family.Family{
		Names: []string{"exaone4"},
		Modules: family.DecoderModules().With(
			".post_attention_layernorm", "post_attention_norm",
			".post_feedforward_layernorm", "post_ffw_norm",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.RMSEps()
			rope := k.Rope(keys.RopeOf{HeadDim: d.HeadDim})
			a := d.Attention(rope)
			a.QKNorm = arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: eps}
			ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
			windows := make([]int, k.LayerCount(d.Layers))
			if !k.IsGGUF() || d.Layers == 64 {
				windows = k.Windows(d.Layers, keys.EveryNth(4))
			}
			mixed := k.Has("|sliding_window") || k.IsGGUF() && d.Layers == 64
			for _, window := range windows {
				if a.Window, a.Position = window, rope; mixed && window == 0 {
					a.Position = nil
				}
				s.Add(arch.Sub{Op: a, Post: arch.RMS("post_attention_norm", eps)}, arch.Sub{Op: ffn, Post: arch.RMS("post_ffw_norm", eps)})
			}
			return s
		},
	}
}
