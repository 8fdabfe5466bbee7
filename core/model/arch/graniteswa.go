package arch

// graniteswa is Granite 4.2 with windows (IBM 2026): granite with a window in some layers, a sink for each head, and in a folder a
// base for each layer, where 0 turns nothing. A file says by layer whether anything is turned, with one base for all.
func graniteswa() Family {
	return Family{
		Names:    []string{"granite_swa"},
		Modules:  decoderModules().With(".self_attn.sinks", "attn_sinks"),
		Permuted: true,
		read: func(k *Keys) Spec {
			k.Defaults(map[string]any{"tie_word_embeddings": true})
			bias := k.given("|attention_bias")
			s := k.llamaLike(likeLlama{
				qkvBias: bias, outBias: bias, mlpBias: k.given("|mlp_bias"), adjacent: k.IsGGUF(), window: k.windows(func(layer int) bool { return layer%4 != 0 }),
			})
			k.multiply(&s)
			bases, turned := k.Floats("|layer_rope_theta"), k.pattern("attention.rope_pattern|", len(s.Layers))
			if bases != nil && len(bases) < len(s.Layers) {
				k.Invalid("layer_rope_theta has %d entries, but there are %d layers", len(bases), len(s.Layers))
				return s
			}
			for i, layer := range s.Layers {
				a, ok := layer[0].Op.(Attention)
				if !ok {
					continue
				}
				a.Sinks = k.HasTensor(LayerName(i, "attn_sinks.weight"))
				rope, _ := a.Position.(Rope)
				switch {
				case bases != nil && bases[i] == 0 || turned != nil && !turned[i]:
					a.Position = nil
				case bases != nil:
					rope.Base = bases[i]
					a.Position = rope
				}
				layer[0].Op = a
			}
			return s
		},
	}
}
