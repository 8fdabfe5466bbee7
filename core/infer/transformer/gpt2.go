package transformer

// gpt2 is GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU, biases everywhere, a tied head.
func gpt2(b *builder) {
	b.noWindow()
	if b.h.RopeDim != 0 {
		b.fail("architecture gpt2 does not rotate positions, the file asks for %d rotated dimensions", b.h.RopeDim)
	}
	b.embedding()
	b.net.positions = b.matrix("position_embd.weight", b.positionRows(), b.h.Width)
	for i := range b.h.Layers {
		b.add(b.attention(i, attentionKind{layerNorm: true, qkvBias: true, outBias: true}))
		b.add(b.gelu(i))
	}
	b.output(b.layerNorm("output_norm"))
}

// positionRows is the number of learned positions, which need not be the context that the file names.
func (b *builder) positionRows() int {
	if m := b.src.Matrix("position_embd.weight"); m != nil {
		return m.Rows
	}
	return b.h.Context
}
