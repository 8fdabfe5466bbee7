package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// arcee is AFM (Arcee 2025): llama with a network of two matrices and ReLU² between them.
func arcee() family.Family {
	return family.Family{
		Names:    []string{"arcee"},
		Modules:  family.DecoderModules(),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			act := k.ActOf("|hidden_act", arch.ReLUSquared)
			return family.Llama(k, family.LlamaOptions{
				QKVBias: bias, OutBias: bias, Adjacent: k.IsGGUF(),
				FFN: func(d *keys.Dims, _ int) arch.Op {
					return arch.MLP{Hidden: d.FFN, Act: act, Bias: k.RequiredIf("|mlp_bias")}
				},
			})
		},
	}
}
