package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// hyperclovax is HyperCLOVA X SEED (NAVER 2025): granite whose logits are multiplied by their factor, with a
// norm behind each half as well where the model says so. Folders only.
func hyperclovax() family.Family {
	return family.Family{
		Names: []string{"hyperclovax"},
		Modules: family.DecoderModules().With(
			".post_norm1", "post_attention_norm",
			".post_norm2", "post_ffw_norm",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			s := family.Llama(k, family.LlamaOptions{QKVBias: bias, OutBias: bias, MLPBias: k.RequiredIf("|mlp_bias")})
			eps := s.Norm.Eps
			s.Embed.Scale = float32(k.FloatOr("|embedding_multiplier", 1))
			s.Head.Scale = float32(k.FloatOr("|logits_scaling", 1))
			scores, residual := k.FloatOr("|attention_multiplier", 0), float32(k.FloatOr("|residual_multiplier", 1))
			behind := k.Bool("|use_post_norm", true)
			for _, layer := range s.Layers {
				for i, name := range []string{"post_attention_norm", "post_ffw_norm"} {
					if layer[i].Scale = residual; behind {
						layer[i].Post = arch.RMS(name, eps)
					}
				}
				if a, ok := layer[0].Op.(arch.Attention); ok {
					a.Scale = float32(scores)
					layer[0].Op = a
				}
			}
			return s
		},
	}
}
