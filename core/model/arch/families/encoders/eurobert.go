package encoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// eurobert is EuroBERT (Boizard et al. 2025): llama's layers whose attention sees both ways, without a head.
func eurobert() family.Family {
	return family.Family{
		Names:   []string{"eurobert"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			d := k.Decoder()
			s := family.Llama(
				k,
				family.LlamaOptions{
					QKVBias: k.RequiredIf("|attention_bias"),
					OutBias: k.RequiredIf("|attention_bias"),
					MLPBias: k.RequiredIf("|mlp_bias"),
					Theta:   250000,
				},
			)
			layers, norm := s.Layers, s.Norm
			s = k.EncoderSpec(&d)
			s.Layers, s.Norm = layers, norm
			for _, layer := range s.Layers {
				a, _ := layer[0].Op.(arch.Attention)
				a.Both = true
				layer[0].Op = a
			}
			return s
		},
	}
}
