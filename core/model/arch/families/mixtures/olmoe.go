package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// olmoe is llama with an RMSNorm over all queries and all keys of a row, and experts by a soft-max over all,
// which is not renormalised (Muennighoff et al. 2024).
func olmoe() family.Family {
	return family.Family{
		Names:   []string{"olmoe"},
		Modules: family.DecoderModules().With(family.ExpertModules()...),
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			return family.Llama(k, family.LlamaOptions{
				QKVBias: bias, OutBias: bias, WholeNorm: true, Clip: float32(k.FloatOr("attention.clamp_kqv|clip_qkv", 0)),
				FFN: func(d *keys.Dims, _ int) arch.Op {
					return k.Mixture(d, arch.Router{Kind: arch.Softmax, Normalise: k.Bool("|norm_topk_prob", false)})
				},
			})
		},
	}
}
