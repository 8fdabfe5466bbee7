package transformer

import (
	"math"

	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// perLayer is what tokens have for every layer, see arch.PerLayerRows: one part is read from a table, the other computed of the
// embedded token.
type perLayer struct {
	table *quant.Matrix // (Rows, all)
	proj  linear        // (all, Width)
	norm  norm          // of each layer's part, on what proj gives
	width int           // of a part
	all   int           // of all layers
}

// perLayer binds it; nil: the model has none.
func (b *builder) perLayer() *perLayer {
	of := &b.spec.Embed.PerLayer
	if of.Width == 0 {
		return nil
	}
	p := &perLayer{width: of.Width, all: len(b.spec.Layers) * of.Width}
	p.table = b.matrix(b.prefix+arch.PerLayerName, of.Rows, p.all)
	p.proj = b.linear(arch.PerLayerProj, p.all, b.spec.Width)
	// norm(c·y) with c = 1/√Width is y/√(mean(y²) + eps/c²).
	n := arch.RMS("per_layer_proj_norm", of.Eps)
	p.norm = b.norm(&n, of.Width)
	p.norm.eps *= float32(b.spec.Width)
	if id := p.norm.id; id > 0 {
		b.net.norms[id-1].eps = p.norm.eps
	}
	b.weigh(&p.proj, 1, 1)
	return p
}

// read computes them for all rows of the batch, of which x are the embedded tokens.
func (p *perLayer) read(s *step) {
	s.prepare(s.x, s.t, s.m.spec.Width)
	s.queue(&p.proj, s.token, p.all)
	s.compute(s.p, s.groups, nothing)
	s.rowsOf.p = p
	s.run(s.rowChunks(s.t), &s.rowsOf)
}

// rowsJob joins the two parts of what a row's token has.
type rowsJob struct {
	s *step
	p *perLayer
}

func (j *rowsJob) Do(worker, chunk int) {
	s, p := j.s, j.p
	lo, hi := s.rowRange(s.t, chunk)
	w := &s.workers[worker]
	if cap(w.row) < p.all {
		w.row = make([]float32, p.all)
	}
	row := w.row[:p.all]
	for t := lo; t < hi; t++ {
		token := int(s.rows[t].token)
		if token < 0 || token >= p.table.Rows { // as transformers reads the tokens of other senses, which have none
			token = 0
		}
		quant.Row(row, p.table, token)
		p.join(s, s.token[t*p.all:(t+1)*p.all], row, worker, t)
	}
}

// join sets x to (norm(x) + √width·row)/√2, part by part.
func (p *perLayer) join(s *step, x, row []float32, worker, t int) {
	root, half := float32(math.Sqrt(float64(p.width))), float32(1/math.Sqrt2)
	n := s.normOf(&p.norm, worker, t)
	for at := 0; at < p.all; at += p.width {
		part := x[at : at+p.width]
		n.apply(s.k, part, part)
		accumulateScaled(part, row[at:at+p.width], root)
		scale(part, half)
	}
}

// beside adds to a row what its token has for the layer, see arch.PerLayer.
type beside struct {
	gate, proj linear
	act        kernel.Func
	at         int // of the layer's part in step.token
}

// beside binds it.
func (b *builder) beside(act arch.Act) *beside {
	w, n := b.spec.Width, b.spec.Embed.PerLayer.Width
	l := &beside{gate: b.linear("inp_gate", n, w), proj: b.linear("proj", w, n), act: function(act), at: b.layer * n}
	b.weigh(&l.gate, 1, 1)
	b.weigh(&l.proj, 1, 1)
	return l
}

func (l *beside) forward(s *step) { l.through(s, s.out) }

// through sets y (t, Width) to what the input that is prepared makes of the rows of the tokens.
func (l *beside) through(s *step, y []float32) {
	n := l.gate.w.Rows
	s.queue(&l.gate, s.up, n)
	s.compute(s.p, s.groups, nothing)
	s.reads.l = l
	s.run(s.rowChunks(s.t), &s.reads)
	s.prepare(s.up, s.t, n)
	s.queue(&l.proj, y, l.proj.w.Rows)
	s.compute(s.p, s.groups, nothing)
}

// readJob multiplies what the gate gives by the rows of the tokens.
type readJob struct {
	s *step
	l *beside
}

func (j *readJob) Do(_, chunk int) {
	s, l := j.s, j.l
	n, all := l.gate.w.Rows, s.m.net.perLayer.all
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		s.k.Gate(s.up[t*n:(t+1)*n], s.token[t*all+l.at:t*all+l.at+n], l.act)
	}
}
