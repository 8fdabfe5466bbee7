package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// olmo2 is OLMo 2 and 3 (OLMo Team 2025): llama with its norms behind attention and network instead of before
// them, and an RMSNorm over all queries and all keys of a row. OLMo 3 has a window in three layers of four,
// and YaRN in the others only.
func olmo2() family.Family {
	return family.Family{
		Names: []string{"olmo2", "olmo3"},
		GGUF:  "olmo2",
		Modules: family.DecoderModules().With(
			".post_attention_layernorm", "post_attention_norm",
			".post_feedforward_layernorm", "post_ffw_norm",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.RMSEps()
			full := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Kind: "full_attention"})
			near := k.Rope(
				keys.RopeOf{
					HeadDim: d.HeadDim,
					Kind:    "sliding_attention",
					Base:    "rope.freq_base_swa|rope_theta",
					Theta:   full.Base,
					Plain:   true,
				},
			)
			a, bias := d.Attention(full), k.RequiredIf("|attention_bias")
			a.QKNorm, a.QKVBias, a.OutBias = arch.QKNorm{Of: arch.WholeRow, Kind: arch.RMSNorm, Eps: eps}, bias, bias
			ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
			for _, window := range k.Windows(d.Layers, keys.EveryNth(4)) {
				if a.Window, a.Position = window, full; window > 0 {
					a.Position = near
				}
				s.Add(arch.Sub{Op: a, Post: arch.RMS("post_attention_norm", eps)}, arch.Sub{Op: ffn, Post: arch.RMS("post_ffw_norm", eps)})
			}
			return s
		},
	}
}
