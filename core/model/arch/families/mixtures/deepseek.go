package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// deepseek is DeepSeekMoE, the first version (Dai et al. 2024): llama with experts by a soft-max over all,
// not renormalised, beside shared ones, behind dense layers.
func deepseek() family.Family {
	return family.Family{
		Names:    []string{"deepseek"},
		Modules:  family.DecoderModules().With(family.SharedExpertModules()...),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			every := max(k.IntOr("|moe_layer_freq", 1), 1)
			return family.Llama(
				k,
				family.LlamaOptions{QKVBias: bias, OutBias: bias, Adjacent: k.IsGGUF(), FFN: func(d *keys.Dims, layer int) arch.Op {
					if layer < k.LeadingDense() || layer%every != 0 {
						return arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
					}
					m := k.Mixture(d, arch.Router{Kind: arch.Softmax, Normalise: k.Bool("|norm_topk_prob", false), Add: 1e-20})
					m.Shared = k.SharedHidden(layer)
					return m
				}},
			)
		},
	}
}
