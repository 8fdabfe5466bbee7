package arch

// seedoss is Seed-OSS (ByteDance 2025): llama with biases on q, k and v and heads whose size is not width / heads.
func seedoss() Family {
	return Family{
		Names:   []string{"seed_oss"},
		Modules: decoderModules().With(".post_attention_layernorm", seedNorm),
		read: func(k *Keys) Spec {
			s := k.llamaLike(likeLlama{qkvBias: k.given("|attention_bias"), outBias: k.given("|attention_out_bias"), mlpBias: k.given("|mlp_bias")})
			for _, layer := range s.Layers {
				layer[1].Pre.Name = seedNorm
			}
			return s
		},
	}
}

// seedNorm is the name that llama.cpp's files give the norm before the network.
const seedNorm = "post_attention_norm"
