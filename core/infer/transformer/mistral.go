package transformer

// mistral is llama with attention to the last Window positions only, where the model sets one (Jiang et al. 2023).
func mistral(b *builder) {
	b.embedding()
	for i := range b.h.Layers {
		b.add(b.attention(i, attentionKind{window: b.h.Window}))
		b.add(b.swiglu(i))
	}
	b.output(b.rms("output_norm"))
}
