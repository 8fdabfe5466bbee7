package arch

// olmo2 is OLMo 2 and 3 (OLMo Team 2025): llama with its norms behind attention and network instead of before them, and an RMSNorm
// over all queries and all keys of a row. OLMo 3 has a window in three layers of four, and YaRN in the others only.
func olmo2() Family {
	return Family{
		Names: []string{"olmo2", "olmo3"},
		GGUF:  "olmo2",
		Modules: decoderModules().With(
			".post_attention_layernorm", "post_attention_norm",
			".post_feedforward_layernorm", "post_ffw_norm",
		),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.RMSEps()
			full := k.Rope(RopeOf{HeadDim: d.HeadDim, Kind: "full_attention"})
			near := k.Rope(RopeOf{HeadDim: d.HeadDim, Kind: "sliding_attention", Base: "rope.freq_base_swa|rope_theta", Theta: full.Base, Plain: true})
			a, bias := d.attention(full), k.given("|attention_bias")
			a.QKNorm, a.QKVBias, a.OutBias = QKNorm{Of: WholeRow, Kind: RMSNorm, Eps: eps}, bias, bias
			ffn := GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}
			s := k.decoderSpec(&d, RMS("output_norm", eps), false)
			for _, window := range k.Windows(d.Layers, everyNth(4)) {
				if a.Window, a.Position = window, full; window > 0 {
					a.Position = near
				}
				s.Add(Sub{Op: a, Post: RMS("post_attention_norm", eps)}, Sub{Op: ffn, Post: RMS("post_ffw_norm", eps)})
			}
			return s
		},
	}
}
