package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// granite is Granite 3 and 4 without state (IBM 2024): llama with four factors, of the embedding, of the
// scores in the place of 1/√head, of what each half adds, and of the logits, which are divided by it. A file
// may say that it has no positions.
func granite() family.Family {
	return family.Family{
		Names:    []string{"granite"},
		Modules:  family.DecoderModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			s := family.Llama(k, family.LlamaOptions{QKVBias: bias, OutBias: bias, MLPBias: k.RequiredIf("|mlp_bias"), Adjacent: k.IsGGUF()})
			GraniteFactors(k, &s)
			return s
		},
	}
}

// GraniteFactors puts Granite's factors into a Spec.
func GraniteFactors(k *keys.Keys, s *arch.Spec) {
	scores := 0.0
	if !k.IsGGUF() {
		scores = 1
	}
	scores = k.FloatOr("attention.scale|attention_multiplier", scores)
	residual := k.FloatOr("residual_scale|residual_multiplier", 1)
	logits := k.FloatOr("logit_scale|logits_scaling", 1)
	if logits == 0 {
		k.Invalid("%s is 0: logits are divided by it", k.Say("logit_scale|logits_scaling"))
		return
	}
	s.Embed.Scale, s.Head.Scale = float32(k.FloatOr("embedding_scale|embedding_multiplier", 1)), float32(1/logits)
	turned := k.Bool("rope.scaling.finetuned|", true)
	for _, layer := range s.Layers {
		for i := range layer {
			layer[i].Scale = float32(residual)
			if a, ok := layer[i].Op.(arch.Attention); ok {
				if a.Scale = float32(scores); !turned {
					a.Position = nil
				}
				layer[i].Op = a
			}
		}
	}
}
