package transformer

// qwen2 is llama with biases on the query, key and value projections (Yang et al. 2024).
func qwen2(b *builder) {
	b.noWindow()
	b.embedding()
	for i := range b.h.Layers {
		b.add(b.attention(i, attentionKind{qkvBias: true}))
		b.add(b.swiglu(i))
	}
	b.output(b.rms("output_norm"))
}
