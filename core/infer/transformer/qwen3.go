package transformer

// qwen3 is llama with an RMSNorm over each query and key head before it is rotated (Qwen3 technical report, 2025). The
// head size is not Width/Heads in general.
func qwen3(b *builder) {
	b.noWindow()
	b.embedding()
	for i := range b.h.Layers {
		b.add(b.attention(i, attentionKind{headNorm: true}))
		b.add(b.swiglu(i))
	}
	b.output(b.rms("output_norm"))
}
