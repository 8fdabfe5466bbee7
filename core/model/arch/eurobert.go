package arch

// eurobert is EuroBERT (Boizard et al. 2025): llama's layers whose attention sees both ways, without a head.
func eurobert() Family {
	return Family{
		Names:   []string{"eurobert"},
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			d := k.Decoder()
			s := k.llamaLike(likeLlama{qkvBias: k.given("|attention_bias"), outBias: k.given("|attention_bias"), mlpBias: k.given("|mlp_bias"), theta: 250000})
			layers, norm := s.Layers, s.Norm
			s = k.encoderSpec(&d)
			s.Layers, s.Norm = layers, norm
			for _, layer := range s.Layers {
				a, _ := layer[0].Op.(Attention)
				a.Both = true
				layer[0].Op = a
			}
			return s
		},
	}
}
