package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// starcoder2 is StarCoder 2 (Lozhkov et al. 2024): LayerNorm, a GELU network, biases everywhere, rotated
// heads. A folder may have a window; a GGUF file does not carry it.
func starcoder2() family.Family {
	return family.Family{
		Names: []string{"starcoder2"},
		Modules: family.DecoderModules().With(
			".mlp.c_fc", "ffn_up",
			".mlp.c_proj", "ffn_down",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), true)
			bias := arch.Required
			if !k.Bool("|use_bias", true) {
				bias = arch.Optional
			}
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim}))
			a.QKVBias, a.OutBias = bias, bias
			ffn := arch.MLP{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.GELUTanh), Bias: bias}
			windows := k.FolderWindows(func(int) bool { return true })
			for i := range k.LayerCount(d.Layers) {
				if windows != nil {
					a.Window = windows[i]
				}
				s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: ffn})
			}
			return s
		},
	}
}
