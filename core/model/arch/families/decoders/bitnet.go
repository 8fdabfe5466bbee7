package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// bitnet is BitNet b1.58 (Ma et al. 2025): llama with an RMSNorm more before the last matrix of each half.
// Its folders say ReLU²; llama.cpp computes files with SiLU.
func bitnet() family.Family {
	return family.Family{
		Names: []string{"bitnet"},
		Modules: family.DecoderModules().With(
			".self_attn.attn_sub_norm", "attn_sub_norm",
			".mlp.ffn_sub_norm", "ffn_sub_norm",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.RMSEps()
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), true)
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Theta: 500000}))
			a.Sub = arch.RMS("attn_sub_norm", eps)
			act := arch.Act{Kind: arch.SiLU}
			if !k.IsGGUF() {
				act = k.Act("|hidden_act", arch.ReLUSquared)
			}
			for range k.LayerCount(d.Layers) {
				s.Add(
					arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a},
					arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: arch.GLU{Hidden: d.FFN, Act: act, Sub: arch.RMS("ffn_sub_norm", eps)}},
				)
			}
			return s
		},
	}
}
