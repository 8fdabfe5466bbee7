package transformer

// llama is Llama 1 to 3 and what is built like it (TinyLlama, SmolLM2, Yi; Touvron et al. 2023): RMSNorm before each
// half of a layer, rotated positions, grouped-query attention, SwiGLU, no biases unless the file brings them.
func llama(b *builder) {
	b.noWindow()
	b.embedding()
	for i := range b.h.Layers {
		b.add(b.attention(i, attentionKind{}))
		b.add(b.swiglu(i))
	}
	b.output(b.rms("output_norm"))
}
