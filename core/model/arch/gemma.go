package arch

import "math"

// gemmaModules are the names of Gemma's four norms a layer, of which Gemma 1 has the first two under the usual names.
func gemmaModules() Modules {
	return decoderModules().With(
		".post_attention_layernorm", "post_attention_norm",
		".pre_feedforward_layernorm", "ffn_norm",
		".post_feedforward_layernorm", "post_ffw_norm",
	)
}

// gemmaOnes are the norms that a Gemma folder stores as what is added to 1; a GGUF file holds the sums.
func gemmaOnes() []Fix {
	return []Fix{AddOne{Of: []string{
		"output_norm", "blk.N.attn_norm", "blk.N.post_attention_norm", "blk.N.ffn_norm", "blk.N.post_ffw_norm", "blk.N.attn_q_norm", "blk.N.attn_k_norm",
	}}}
}

// gemma is Gemma (Gemma Team 2024): llama with GeGLU, heads whose size is not width / heads, embeddings scaled by √width, a tied
// head, and norms that folders store as what is added to 1. Folders of the first days name their activation "gelu" and mean its
// tanh formula.
func gemma() Family {
	return Family{
		Names:   []string{"gemma"},
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.RMSEps()
			s := k.decoderSpec(&d, RMS("output_norm", eps), true)
			s.Embed.Scale, s.Fixes = float32(math.Sqrt(float64(d.Width))), gemmaOnes()
			a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim}))
			for range k.layers(d.Layers) {
				s.Add(Sub{Pre: RMS("attn_norm", eps), Op: a}, Sub{Pre: RMS("ffn_norm", eps), Op: GLU{Hidden: d.FFN, Act: Act{Kind: GELUTanh}}})
			}
			return s
		},
	}
}
