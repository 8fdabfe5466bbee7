package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// ernie is ERNIE 4.5's dense models (Baidu 2025): llama whose adjacent pairs are turned in both containers.
func ernie() family.Family {
	return family.Family{
		Names:   []string{"ernie4_5"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"tie_word_embeddings": true, "rope_theta": int64(500000)})
			bias := k.RequiredIf("|use_bias")
			return family.Llama(k, family.LlamaOptions{QKVBias: bias, OutBias: bias, MLPBias: bias, Adjacent: true})
		},
	}
}
