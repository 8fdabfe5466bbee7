package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// qwen3 is llama with an RMSNorm over each query and key head before it is rotated (Qwen3 technical report,
// 2025). The head size is not width / heads in general.
func qwen3() family.Family {
	return family.Family{
		Names:   []string{"qwen3"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			k.NoExperts()
			bias := k.RequiredIf("|attention_bias")
			return family.Llama(
				k,
				family.LlamaOptions{QKVBias: bias, OutBias: bias, MLPBias: k.RequiredIf("|mlp_bias"), QKNorm: true, Window: QwenWindows(k)},
			)
		},
	}
}
