package arch

import "encoding/json"

// smollm3 is SmolLM3 (Hugging Face 2025): llama whose every fourth layer knows no positions; a folder may list others. A GGUF file
// cannot.
func smollm3() Family {
	return Family{
		Names:    []string{"smollm3"},
		Modules:  decoderModules(),
		Permuted: true,
		read: func(k *Keys) Spec {
			k.Defaults(map[string]any{"tie_word_embeddings": true, "rope_theta": json.Number("2000000")})
			bias := k.given("|attention_bias")
			var windows []int
			if k.Bool("|use_sliding_window", false) {
				windows = k.windows(func(int) bool { return false })
			}
			s := k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, mlpBias: k.given("|mlp_bias"), adjacent: k.IsGGUF(), window: windows})
			turned := k.pattern("|no_rope_layer_interval", len(s.Layers))
			if turned == nil {
				turned = make([]bool, len(s.Layers))
				for i := range turned {
					turned[i] = everyNth(4)(i)
				}
			}
			list := k.IntsOr("|no_rope_layers", len(s.Layers))
			for i, layer := range s.Layers {
				if list != nil {
					turned[i] = list[i] != 0
				}
				if a, ok := layer[0].Op.(Attention); ok && !turned[i] {
					a.Position = nil
					layer[0].Op = a
				}
			}
			return s
		},
	}
}
