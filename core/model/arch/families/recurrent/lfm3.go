package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// lfm3 is LFM3 (Liquid AI 2026): LFM2 with a norm behind each half as well, a gate for each head of its
// attention, and a window in some of those layers, each kind with a rotation of its own. Folders only.
func lfm3() family.Family {
	return family.Family{
		Names: []string{"lfm3"},
		Modules: lfm2Modules().With(
			".post_operator_norm", "post_attention_norm",
			".post_ffn_norm", "post_ffw_norm",
			".self_attn.gate_proj", "attn_gate",
			".self_attn.g_proj", "attn_gate",
			".self_attn.o_proj", "attn_output",
			".self_attn.q_norm", "attn_q_norm",
			".self_attn.k_norm", "attn_k_norm",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d := k.Decoder()
			eps := float32(k.FloatOr("|norm_eps", 1e-5))
			conv := arch.ShortConv{Kernel: k.IntOr("|conv_L_cache", 7), Bias: arch.Absent}
			if k.Bool("|conv_bias", false) {
				conv.Bias = arch.Required
			}
			a, bias := d.Attention(nil), k.RequiredIf("|attention_bias")
			a.QKNorm, a.QKVBias, a.OutBias = arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: eps}, bias, bias
			a.HeadGated = k.Bool("|use_attention_gate", true)
			full := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Kind: "full_attention", Theta: 1e6})
			near := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Kind: "sliding_attention"})
			attn, net := arch.Sub{Pre: arch.RMS("attn_norm", eps)}, arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: arch.GLU{Hidden: d.FFN}}
			if k.Bool("|use_sandwich_norm", true) {
				attn.Post, net.Post = arch.RMS("post_attention_norm", eps), arch.RMS("post_ffw_norm", eps)
			}
			s := k.DecoderSpec(&d, arch.RMS("token_embd_norm", eps), true)
			window := k.IntOr("|sliding_window", 256)
			for _, kind := range lfm3Kinds(k, d.Layers) {
				switch a.Window, a.Position = 0, full; kind {
				case "conv":
					attn.Op = conv
				case "full_attention":
					attn.Op = a
				case "sliding_attention":
					a.Window, a.Position = window, near
					attn.Op = a
				default:
					k.Unsupported("layer_types has %q", kind)
				}
				s.Add(attn, net)
			}
			return s
		},
	}
}

// lfm3Kinds are the kinds of the layers; those of the class where a folder does not list them.
func lfm3Kinds(k *keys.Keys, layers int) []string {
	n := k.LayerCount(layers)
	if kinds := k.Kinds(n); kinds != nil {
		return kinds[:n]
	}
	out := make([]string, n)
	for i := range out {
		switch {
		case i%4 == 2:
			out[i] = "full_attention"
		case i%4 == 0 && i > 0:
			out[i] = "sliding_attention"
		default:
			out[i] = "conv"
		}
	}
	return out
}
