package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gptoss is gpt-oss (OpenAI 2025): biases on every matrix, a learned sink in each head's soft-max, every
// second layer windowed, YaRN, and experts with a clamped SwiGLU by a soft-max over the chosen.
func gptoss() family.Family {
	return family.Family{
		Names: []string{"gpt_oss", "gpt-oss"},
		GGUF:  "gpt-oss",
		Modules: family.DecoderModules().With(
			".self_attn.sinks", "attn_sinks",
			".post_attention_layernorm", "post_attention_norm",
			".mlp.router", "ffn_gate_inp",
			".mlp.experts.gate_up_proj", "ffn_gate_up_exps",
			".mlp.experts.gate_up_proj_bias", "ffn_gate_up_exps.bias",
			".mlp.experts.down_proj", "ffn_down_exps",
			".mlp.experts.down_proj_bias", "ffn_down_exps.bias",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.RMSEps()
			bias := arch.Required
			if !k.Bool("|attention_bias", true) {
				bias = arch.Absent
			}
			a := arch.Attention{
				Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, QKVBias: bias, OutBias: bias, Sinks: true,
				Position: k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Theta: 150000}),
			}
			m := k.Mixture(&d, arch.Router{Bias: arch.Required})
			m.Bias = arch.Required
			m.Act = arch.Act{
				Kind: arch.ClampedSiLU,
				A:    float32(k.FloatOr("|swiglu_alpha", 1.702)),
				B:    float32(k.FloatOr("|swiglu_limit", 7)),
			}
			s := arch.Spec{
				Width:   d.Width,
				Context: d.Context,
				Norm:    arch.RMS("output_norm", eps),
				Head:    arch.Head{Tied: k.Tied(false), Bias: arch.Absent},
			}
			if !k.IsGGUF() {
				s.Fixes = []arch.Fix{
					arch.Stack{
						Of:          "blk.N.ffn_gate_up_exps",
						Into:        []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"},
						Alternating: true,
						Transposed:  true,
					},
					arch.Stack{Of: "blk.N.ffn_down_exps", Into: []string{"blk.N.ffn_down.E"}, Transposed: true},
				}
			}
			windows := k.Windows(d.Layers, func(layer int) bool { return layer%2 == 0 })
			for i := range k.LayerCount(d.Layers) {
				a.Window = windows[i]
				s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a}, arch.Sub{Pre: arch.RMS("post_attention_norm", eps), Op: m})
			}
			return s
		},
	}
}
