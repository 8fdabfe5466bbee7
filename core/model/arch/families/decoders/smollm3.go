package decoders

import (
	"encoding/json"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// smollm3 is SmolLM3 (Hugging Face 2025): llama whose every fourth layer knows no positions; a folder may
// list others. A GGUF file cannot.
func smollm3() family.Family {
	return family.Family{
		Names:    []string{"smollm3"},
		Modules:  family.DecoderModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"tie_word_embeddings": true, "rope_theta": json.Number("2000000")})
			bias := k.RequiredIf("|attention_bias")
			var windows []int
			if k.Bool("|use_sliding_window", false) {
				windows = k.AllWindows(func(int) bool { return false })
			}
			s := family.Llama(
				k,
				family.LlamaOptions{
					QKVBias:  bias,
					OutBias:  bias,
					MLPBias:  k.RequiredIf("|mlp_bias"),
					Adjacent: k.IsGGUF(),
					Window:   windows,
				},
			)
			turned := k.Pattern("|no_rope_layer_interval", len(s.Layers))
			if turned == nil {
				turned = make([]bool, len(s.Layers))
				for i := range turned {
					turned[i] = keys.EveryNth(4)(i)
				}
			}
			list := k.IntsOr("|no_rope_layers", len(s.Layers))
			for i, layer := range s.Layers {
				if list != nil {
					turned[i] = list[i] != 0
				}
				if a, ok := layer[0].Op.(arch.Attention); ok && !turned[i] {
					a.Position = nil
					layer[0].Op = a
				}
			}
			return s
		},
	}
}
