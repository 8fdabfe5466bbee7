package decoders

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gemmaModules are the names of Gemma's four norms a layer, of which Gemma 1 has the first two under the usual names.
func gemmaModules() family.Modules {
	return family.DecoderModules().With(
		".post_attention_layernorm", "post_attention_norm",
		".pre_feedforward_layernorm", "ffn_norm",
		".post_feedforward_layernorm", "post_ffw_norm",
	)
}

// gemmaOnes are the norms that a Gemma folder stores as what is added to 1; a GGUF file holds the sums.
func gemmaOnes() []arch.Fix {
	return []arch.Fix{arch.AddOne{Of: []string{
		"output_norm",
		"blk.N.attn_norm",
		"blk.N.post_attention_norm",
		"blk.N.ffn_norm",
		"blk.N.post_ffw_norm",
		"blk.N.attn_q_norm",
		"blk.N.attn_k_norm",
	}}}
}

// gemma is Gemma (Gemma Team 2024): llama with GeGLU, heads whose size is not width / heads, embeddings
// scaled by √width, a tied head, and norms that folders store as what is added to 1. Folders of the first
// days name their activation "gelu" and mean its tanh formula.
func gemma() family.Family {
	return family.Family{
		Names:   []string{"gemma"},
		Modules: family.DecoderModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.RMSEps()
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), true)
			s.Embed.Scale, s.Fixes = float32(math.Sqrt(float64(d.Width))), gemmaOnes()
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim}))
			for range k.LayerCount(d.Layers) {
				s.Add(
					arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a},
					arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: arch.GLU{Hidden: d.FFN, Act: arch.Act{Kind: arch.GELUTanh}}},
				)
			}
			return s
		},
	}
}
