package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// glm4 is GLM-4-0414 (Zhipu 2025): llama with norms behind both halves as well as before, adjacent pairs over
// half of each head, biases on q, k and v, and gate and up in one matrix.
func glm4() family.Family {
	return family.Family{
		Names: []string{"glm4"},
		Modules: glmModules().With(
			".post_self_attn_layernorm", "post_attention_norm",
			".post_mlp_layernorm", "post_ffw_norm",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			s := glmSpec(k)
			eps := s.Norm.Eps
			for _, layer := range s.Layers {
				layer[0].Post, layer[1].Post = arch.RMS("post_attention_norm", eps), arch.RMS("post_ffw_norm", eps)
			}
			return s
		},
	}
}

// glm is GLM-4-9B of 2024, which its files call chatglm: glm4 without the norms behind.
func glm() family.Family {
	return family.Family{
		Names:   []string{"glm", "chatglm"},
		GGUF:    "chatglm",
		Modules: glmModules(),
		Spec:    glmSpec,
	}
}

func glmModules() family.Modules { return family.DecoderModules().With(".mlp.gate_up_proj", "ffn_up") }

func glmSpec(k *keys.Keys) arch.Spec {
	d, eps := k.Decoder(), k.RMSEps()
	s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
	s.Fixes = []arch.Fix{family.SplitQKV(1), family.SplitGateUp()}
	a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.5, Adjacent: true}))
	a.QKVBias = k.RequiredIf("|attention_bias")
	ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
	for range k.LayerCount(d.Layers) {
		s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a}, arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: ffn})
	}
	return s
}
