package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// jais2 is Jais 2 (Inception and MBZUAI 2025): llama with LayerNorm, biases everywhere, and a network of two
// matrices with ReLU² between them.
func jais2() family.Family {
	return family.Family{
		Names:   []string{"jais2"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), false)
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim}))
			ffn := arch.MLP{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.ReLUSquared)}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: ffn})
			}
			return s
		},
	}
}
