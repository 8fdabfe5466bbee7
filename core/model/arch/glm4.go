package arch

// glm4 is GLM-4-0414 (Zhipu 2025): llama with norms behind both halves as well as before, adjacent pairs over half of each head,
// biases on q, k and v, and gate and up in one matrix.
func glm4() Family {
	return Family{
		Names: []string{"glm4"},
		Modules: glmModules().With(
			".post_self_attn_layernorm", "post_attention_norm",
			".post_mlp_layernorm", "post_ffw_norm",
		),
		read: func(k *Keys) Spec {
			s := k.glm()
			eps := s.Norm.Eps
			for _, layer := range s.Layers {
				layer[0].Post, layer[1].Post = RMS("post_attention_norm", eps), RMS("post_ffw_norm", eps)
			}
			return s
		},
	}
}

// glm is GLM-4-9B of 2024, which its files call chatglm: glm4 without the norms behind.
func glm() Family {
	return Family{
		Names:   []string{"glm", "chatglm"},
		GGUF:    "chatglm",
		Modules: glmModules(),
		read:    func(k *Keys) Spec { return k.glm() },
	}
}

func glmModules() Modules { return decoderModules().With(".mlp.gate_up_proj", "ffn_up") }

func (k *Keys) glm() Spec {
	d, eps := k.Decoder(), k.RMSEps()
	s := k.decoderSpec(&d, RMS("output_norm", eps), false)
	s.Fixes = []Fix{splitQKV(1), splitGateUp()}
	a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim, Partial: 0.5, Adjacent: true}))
	a.QKVBias = k.given("|attention_bias")
	ffn := GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}
	for range k.layers(d.Layers) {
		s.Add(Sub{Pre: RMS("attn_norm", eps), Op: a}, Sub{Pre: RMS("ffn_norm", eps), Op: ffn})
	}
	return s
}
