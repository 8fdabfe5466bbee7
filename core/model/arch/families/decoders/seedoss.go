package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// seedoss is Seed-OSS (ByteDance 2025): llama with biases on q, k and v and heads whose size is not width / heads.
func seedoss() family.Family {
	return family.Family{
		Names:   []string{"seed_oss"},
		Modules: family.DecoderModules().With(".post_attention_layernorm", seedNorm),
		Spec: func(k *keys.Keys) arch.Spec {
			s := family.Llama(
				k,
				family.LlamaOptions{
					QKVBias: k.RequiredIf("|attention_bias"),
					OutBias: k.RequiredIf("|attention_out_bias"),
					MLPBias: k.RequiredIf("|mlp_bias"),
				},
			)
			for _, layer := range s.Layers {
				layer[1].Pre.Name = seedNorm
			}
			return s
		},
	}
}

// seedNorm is the name that llama.cpp's files give the norm before the network.
const seedNorm = "post_attention_norm"
