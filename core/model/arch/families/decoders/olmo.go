package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// olmo is OLMo (Groeneveld et al. 2024): llama with LayerNorms that have no weights, and where a model says
// so bounds on q, k and v.
func olmo() family.Family {
	return family.Family{
		Names:    []string{"olmo"},
		Modules:  family.DecoderModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("", eps, arch.Absent), false)
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Adjacent: k.IsGGUF()}))
			a.Clip = float32(k.FloatOr("attention.clamp_kqv|clip_qkv", 0))
			a.QKVBias = k.RequiredIf("|attention_bias")
			a.OutBias = a.QKVBias
			ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.LN("", eps, arch.Absent), Op: a}, arch.Sub{Pre: arch.LN("", eps, arch.Absent), Op: ffn})
			}
			return s
		},
	}
}
