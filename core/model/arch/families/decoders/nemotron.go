package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// nemotron is Nemotron and Minitron (NVIDIA 2024): LayerNorm whose weights folders store as what is added to
// 1, a part of each head turned, and a network of two matrices with ReLU² between them.
func nemotron() family.Family {
	return family.Family{
		Names:   []string{"nemotron"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), false)
			s.Fixes = []arch.Fix{arch.AddOne{Of: []string{"output_norm", "blk.N.attn_norm", "blk.N.ffn_norm"}}}
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.5}))
			a.QKVBias = k.RequiredIf("|attention_bias")
			a.OutBias = a.QKVBias
			ffn := arch.MLP{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.ReLUSquared), Bias: k.RequiredIf("|mlp_bias")}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: ffn})
			}
			return s
		},
	}
}
