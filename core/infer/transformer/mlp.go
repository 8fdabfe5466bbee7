package transformer

// swiglu is d = down(silu(gate(h)) · up(h)), h = norm(x) (Shazeer 2020).
type swiglu struct {
	norm           norm
	gate, up, down linear
}

// swiglu binds the SwiGLU block of a layer.
func (b *builder) swiglu(layer int) *swiglu {
	h := b.h
	l := &swiglu{
		norm: b.rms(layerName(layer, "ffn_norm")),
		gate: b.linear(layerName(layer, "ffn_gate"), h.FFN, h.Width),
		up:   b.linear(layerName(layer, "ffn_up"), h.FFN, h.Width),
		down: b.linear(layerName(layer, "ffn_down"), h.Width, h.FFN),
	}
	for _, x := range []*linear{&l.gate, &l.up, &l.down} {
		b.weigh(x, 1, 1)
	}
	return l
}

func (l *swiglu) forward(s *step) {
	ffn := l.gate.w.Rows
	s.normalize(&l.norm)
	s.queue(&l.gate, s.gate, ffn)
	s.queue(&l.up, s.up, ffn)
	s.compute(s.p, s.groups, swiGLU)
	s.prepare(s.gate, s.t, ffn)
	s.queue(&l.down, s.d, l.down.w.Rows)
	s.compute(s.p, s.groups, nothing)
	s.add = true
}

// geluMLP is d = down(gelu(up(h))), h = LayerNorm(x).
type geluMLP struct {
	norm     norm
	up, down linear
}

// gelu binds the GELU block of a layer.
func (b *builder) gelu(layer int) *geluMLP {
	h := b.h
	l := &geluMLP{
		norm: b.layerNorm(layerName(layer, "ffn_norm")),
		up:   b.biased(layerName(layer, "ffn_up"), h.FFN, h.Width),
		down: b.biased(layerName(layer, "ffn_down"), h.Width, h.FFN),
	}
	b.weigh(&l.up, 1, 1)
	b.weigh(&l.down, 1, 1)
	return l
}

func (l *geluMLP) forward(s *step) {
	ffn := l.up.w.Rows
	s.normalize(&l.norm)
	s.queue(&l.up, s.up, ffn)
	s.compute(s.p, s.groups, gelu)
	s.prepare(s.up, s.t, ffn)
	s.queue(&l.down, s.d, l.down.w.Rows)
	s.compute(s.p, s.groups, nothing)
	s.add = true
}
