package transformer

// mixtral is mistral with a mixture of experts in place of each SwiGLU layer (Jiang et al. 2024).
func mixtral(b *builder) {
	b.embedding()
	for i := range b.h.Layers {
		b.add(b.attention(i, attentionKind{window: b.h.Window}))
		b.add(b.experts(i))
	}
	b.output(b.rms("output_norm"))
}
