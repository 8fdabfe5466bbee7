package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// graniteswa is Granite 4.2 with windows (IBM 2026): granite with a window in some layers, a sink for each
// head, and in a folder a base for each layer, where 0 turns nothing. A file says by layer whether anything
// is turned, with one base for all.
func graniteswa() family.Family {
	return family.Family{
		Names:    []string{"granite_swa"},
		Modules:  family.DecoderModules().With(".self_attn.sinks", "attn_sinks"),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"tie_word_embeddings": true})
			bias := k.RequiredIf("|attention_bias")
			s := family.Llama(k, family.LlamaOptions{
				QKVBias:  bias,
				OutBias:  bias,
				MLPBias:  k.RequiredIf("|mlp_bias"),
				Adjacent: k.IsGGUF(),
				Window:   k.AllWindows(func(layer int) bool { return layer%4 != 0 }),
			})
			GraniteFactors(k, &s)
			bases, turned := k.Floats("|layer_rope_theta"), k.Pattern("attention.rope_pattern|", len(s.Layers))
			if bases != nil && len(bases) < len(s.Layers) {
				k.Invalid("layer_rope_theta has %d entries, but there are %d layers", len(bases), len(s.Layers))
				return s
			}
			for i, layer := range s.Layers {
				a, ok := layer[0].Op.(arch.Attention)
				if !ok {
					continue
				}
				a.Sinks = k.HasTensor(arch.LayerName(i, "attn_sinks.weight"))
				rope, _ := a.Position.(arch.Rope)
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
