package arch

// gptoss is gpt-oss (OpenAI 2025): biases on every matrix, a learned sink in each head's soft-max, every second layer windowed, YaRN,
// and experts with a clamped SwiGLU by a soft-max over the chosen.
func gptoss() Family {
	return Family{
		Names: []string{"gpt_oss", "gpt-oss"},
		GGUF:  "gpt-oss",
		Modules: decoderModules().With(
			".self_attn.sinks", "attn_sinks",
			".post_attention_layernorm", "post_attention_norm",
			".mlp.router", "ffn_gate_inp",
			".mlp.experts.gate_up_proj", "ffn_gate_up_exps",
			".mlp.experts.gate_up_proj_bias", "ffn_gate_up_exps.bias",
			".mlp.experts.down_proj", "ffn_down_exps",
			".mlp.experts.down_proj_bias", "ffn_down_exps.bias",
		),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.RMSEps()
			bias := Required
			if !k.Bool("|attention_bias", true) {
				bias = Absent
			}
			a := Attention{
				Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, QKVBias: bias, OutBias: bias, Sinks: true,
				Position: k.Rope(RopeOf{HeadDim: d.HeadDim, Theta: 150000}),
			}
			m := k.mixture(&d, Router{Bias: Required})
			m.Bias = Required
			m.Act = Act{Kind: ClampedSiLU, A: float32(k.FloatOr("|swiglu_alpha", 1.702)), B: float32(k.FloatOr("|swiglu_limit", 7))}
			s := Spec{Width: d.Width, Context: d.Context, Norm: RMS("output_norm", eps), Head: Head{Tied: k.Tied(false), Bias: Absent}}
			if !k.IsGGUF() {
				s.Fixes = []Fix{
					Stack{Of: "blk.N.ffn_gate_up_exps", Into: []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"}, Alternating: true, Transposed: true},
					Stack{Of: "blk.N.ffn_down_exps", Into: []string{"blk.N.ffn_down.E"}, Transposed: true},
				}
			}
			windows := k.Windows(d.Layers, func(layer int) bool { return layer%2 == 0 })
			for i := range k.layers(d.Layers) {
				a.Window = windows[i]
				s.Add(Sub{Pre: RMS("attn_norm", eps), Op: a}, Sub{Pre: RMS("post_attention_norm", eps), Op: m})
			}
			return s
		},
	}
}
