package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// cohere is Command R (Cohere 2024): attention and SwiGLU beside each other, both reading one LayerNorm
// without bias; pairs turned are adjacent in both containers; logits are multiplied by a factor. Command R+
// has a LayerNorm over each query and key head, each head with a weight of its own.
func cohere() family.Family {
	return family.Family{
		Names:   []string{"cohere", "command-r"},
		GGUF:    "command-r",
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			return cohereSpec(k, func(a *arch.Attention, d *keys.Dims) {
				if k.Bool("|use_qk_norm", k.HasTensor("blk.0.attn_q_norm.weight")) {
					a.QKNorm = arch.QKNorm{Of: arch.EachHead, Kind: arch.LayerNorm, Eps: k.LNEps(1e-5)}
				}
			}, false)
		},
	}
}

// cohere2 is Command R7B and Aya (Cohere 2024): cohere with a window in three layers of four, the only ones
// that turn anything.
func cohere2() family.Family {
	return family.Family{
		Names:   []string{"cohere2"},
		Modules: family.DecoderModules(),
		Spec:    func(k *keys.Keys) arch.Spec { return cohereSpec(k, func(*arch.Attention, *keys.Dims) {}, true) },
	}
}

func cohereSpec(k *keys.Keys, change func(a *arch.Attention, d *keys.Dims), windowed bool) arch.Spec {
	d, eps := k.Decoder(), k.LNEps(1e-5)
	s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Optional), true)
	s.Head.Scale = float32(k.FloatOr("logit_scale|logit_scale", 0.0625))
	rope := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Adjacent: true})
	a := d.Attention(rope)
	a.QKVBias = k.RequiredIf("|attention_bias")
	a.OutBias = a.QKVBias
	change(&a, &d)
	ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
	windows := make([]int, k.LayerCount(d.Layers))
	if windowed {
		windows = k.Windows(d.Layers, keys.EveryNth(k.IntOr("|sliding_window_pattern|_sliding_window_pattern", 4)))
	}
	for _, window := range windows {
		if a.Window, a.Position = window, rope; windowed && window == 0 {
			a.Position = nil
		}
		s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Optional), Op: a}, arch.Sub{Op: ffn, Wire: arch.Shared})
	}
	return s
}
