package decoders

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// minicpm is MiniCPM 1 and 2 (Hu et al. 2024): llama with three factors. Files of the first days do not hold
// them: they are those of the published models.
func minicpm() family.Family {
	return family.Family{
		Names:    []string{"minicpm"},
		Modules:  family.DecoderModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"tie_word_embeddings": true})
			s := family.Llama(k, family.LlamaOptions{QKVBias: k.RequiredIf("|attention_bias"), Adjacent: k.IsGGUF()})
			depth := 1.4
			base := 256.0
			if !k.IsGGUF() {
				depth, base = k.FloatOr("|scale_depth", 1), k.FloatOr("|dim_model_base", 1)
			}
			residual := k.FloatOr("residual_scale|", depth/math.Sqrt(float64(max(len(s.Layers), 1))))
			logits := k.FloatOr("logit_scale|", float64(s.Width)/base)
			if !(logits > 0) {
				k.Invalid("logits are divided by %g: want a positive number", logits)
				return s
			}
			scale := 12.0
			if !k.IsGGUF() {
				scale = 1
			}
			s.Embed.Scale = float32(k.FloatOr("embedding_scale|scale_emb", scale))
			s.Head.Scale = float32(1 / logits)
			for _, layer := range s.Layers {
				for i := range layer {
					layer[i].Scale = float32(residual)
				}
			}
			return s
		},
	}
}
