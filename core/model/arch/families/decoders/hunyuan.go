package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// hunyuan is HunYuan's dense models (Tencent 2025): llama with an RMSNorm over each query and key head after
// it is turned. Its "dynamic" scaling with alpha is a base of its own, which files hold already.
func hunyuan() family.Family {
	return family.Family{
		Names: []string{"hunyuan_v1_dense", "hunyuan-dense"},
		GGUF:  "hunyuan-dense",
		Modules: family.DecoderModules().With(
			".self_attn.query_layernorm", "attn_q_norm",
			".self_attn.key_layernorm", "attn_k_norm",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			s := family.Llama(k, family.LlamaOptions{QKVBias: bias, OutBias: bias, MLPBias: k.RequiredIf("|mlp_bias"), QKNorm: true})
			for _, layer := range s.Layers {
				if a, ok := layer[0].Op.(arch.Attention); ok {
					a.QKNorm.After = true
					layer[0].Op = a
				}
			}
			return s
		},
	}
}
