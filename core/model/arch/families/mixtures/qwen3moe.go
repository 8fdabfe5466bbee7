package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/families/decoders"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// qwen3moe is qwen3 with experts by a soft-max over all (Qwen3 technical report, 2025). llama.cpp
// renormalises the weights of the chosen whatever a file says; a folder says it in norm_topk_prob, which the
// published ones set.
func qwen3moe() family.Family {
	return family.Family{
		Names:   []string{"qwen3_moe", "qwen3moe"},
		GGUF:    "qwen3moe",
		Modules: family.DecoderModules().With(family.ExpertModules()...),
		Spec: func(k *keys.Keys) arch.Spec {
			bias := k.RequiredIf("|attention_bias")
			sparse := k.Sparse()
			return family.Llama(
				k,
				family.LlamaOptions{
					QKVBias: bias,
					OutBias: bias,
					QKNorm:  true,
					Window:  decoders.QwenWindows(k),
					FFN: func(d *keys.Dims, layer int) arch.Op {
						if !sparse(layer) {
							return arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
						}
						return k.Mixture(d, arch.Router{Kind: arch.Softmax, Normalise: k.IsGGUF() || k.Bool("|norm_topk_prob", false)})
					},
				},
			)
		},
	}
}
