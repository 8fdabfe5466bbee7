package batch

import (
	"edged/core/infer/sample"
	"edged/core/infer/transformer/parts"
	"edged/quant/kernel"
)

// Then is the epilogue of a product, computed on its result while it is in the cache.
type Then struct {
	Gated bool // of two products: first = f(first) · second
	Plain bool // of each: f
	F     kernel.Func
}

// Nothing is done on a result.
var Nothing Then //nolint:gochecknoglobals // a constant

// product is the job of one or more matrix products with the same input (Batch.act): queue them, then compute. All rows
// of the batch go through the weights at once; the low-rank parts follow per group of rows with the same adapters.
type product struct {
	s      *Batch
	p      kernel.Precision
	groups []Group
	parts  [3]part
	n      int
	then   Then
	width  int // columns of all parts together, the row length of Batch.lora

	outs   []Row // of the head: whose the rows of logits are; nil: it is another product
	copied bool  // y is not their memory
}

// part is one product of a job.
type part struct {
	l      *parts.Linear
	y      []float32 // (t, ld), results in columns [0, out)
	ld     int
	column int // in Batch.lora
	chunks int
	rows   int // of w in a chunk, a multiple of what the kernels want
}

// Queue adds y = l(input) to the next job; rows of y are ld values apart.
func (s *Batch) Queue(l *parts.Linear, y []float32, ld int) {
	j := &s.mul
	if j.n == 0 {
		j.width = 0
	}
	j.parts[j.n] = part{l: l, y: y, ld: ld, column: j.width}
	j.width += l.W.Rows
	j.n++
}

// Compute runs the queued products for rows in groups.
func (s *Batch) Compute(p kernel.Precision, groups []Group, then Then) {
	j := &s.mul
	j.p, j.groups, j.then = p, groups, then
	if s.Observe != nil {
		for i := range j.n {
			s.Observe(j.parts[i].l, s.act.X, s.act.Rows, s.act.Cols)
		}
	}
	s.lowRank(j)
	chunks := 0
	if then.Gated {
		a := &j.parts[0]
		s.cut(a, LCM(s.multiple(0), s.multiple(1)))
		chunks = a.chunks
	} else {
		for i := range j.n {
			s.cut(&j.parts[i], s.multiple(i))
			chunks += j.parts[i].chunks
		}
	}
	s.Run(chunks, j)
	j.n, j.outs, j.copied = 0, nil, false
}

const (
	chunksPerProduct = 32      // enough to even out threads that lose their core for a while
	minChunkWork     = 1 << 15 // multiply-adds, some microseconds: a chunk costs a tenth of one to hand out
)

// ChunkRows is the number of outputs that one chunk of a product computes, a whole number of multiples: of a
// matrix with out outputs, each of which takes work multiply-adds.
func ChunkRows(out, work, multiple int) int {
	rows := max((out+chunksPerProduct-1)/chunksPerProduct, (minChunkWork+work-1)/max(work, 1))
	return (rows + multiple - 1) / multiple * multiple
}

// cut divides a part into chunks of whole multiples.
func (s *Batch) cut(p *part, multiple int) {
	out := p.l.W.Rows
	p.rows = ChunkRows(out, p.l.W.Cols*s.act.Rows, multiple)
	p.chunks = (out + p.rows - 1) / p.rows
}

// multiple returns the number whose multiples a range over the rows of part i may start at: its weights' and
// its adapters' kernels decide.
func (s *Batch) multiple(i int) int {
	n := s.mul.parts[i].l.Multiple
	for k := range s.low.terms {
		if t := &s.low.terms[k]; t.part == i {
			n = LCM(n, t.l.Multiple)
		}
	}
	return n
}

// LCM is the least common multiple of two positive numbers.
func LCM(a, b int) int {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// Do computes a range of rows of one part, or of both parts of a gate.
func (j *product) Do(_, chunk int) {
	if j.then.Gated {
		gate, up := &j.parts[0], &j.parts[1]
		lo := chunk * gate.rows
		hi := min(lo+gate.rows, gate.l.W.Rows)
		j.multiply(0, lo, hi)
		j.multiply(1, lo, hi)
		for t := range j.s.act.Rows {
			j.s.K.Gate(gate.y[t*gate.ld+lo:t*gate.ld+hi], up.y[t*up.ld+lo:t*up.ld+hi], j.then.F)
		}
		return
	}
	i := 0
	for chunk >= j.parts[i].chunks {
		chunk -= j.parts[i].chunks
		i++
	}
	p := &j.parts[i]
	lo := chunk * p.rows
	hi := min(lo+p.rows, p.l.W.Rows)
	j.multiply(i, lo, hi)
	if j.then.Plain {
		for t := range j.s.act.Rows {
			j.s.K.Activate(p.y[t*p.ld+lo:t*p.ld+hi], j.then.F)
		}
	}
	for t := range j.outs {
		r := &j.outs[t]
		j.s.finishLogits(p.y[t*p.ld+lo : t*p.ld+hi])
		if j.copied {
			copy(r.Logits[lo:hi], p.y[t*p.ld+lo:t*p.ld+hi])
		}
		if r.Peaks != nil {
			sample.Peaks(r.Peaks[lo/sample.PeakLen:Peaks(hi)], r.Logits[lo:hi])
		}
	}
}

// multiply computes rows [lo, hi) of part i: the product, the bias, then each adapter in the order in which the row
// names them.
func (j *product) multiply(i, lo, hi int) {
	s, p := j.s, &j.parts[i]
	s.K.MatMul(p.y, p.ld, p.l.W, &s.act, j.p, lo, hi)
	if p.l.Bias != nil {
		for t := range s.act.Rows {
			parts.Accumulate(p.y[t*p.ld+lo:t*p.ld+hi], p.l.Bias[lo:hi])
		}
	}
	for k := range s.low.terms {
		if m := &s.low.terms[k]; m.part == i {
			j.adapt(m, p, lo, hi)
		}
	}
}

// adapt adds an adapter's part to rows [lo, hi) of the product.
func (j *product) adapt(m *term, p *part, lo, hi int) {
	s := j.s
	if m.l.Packed() {
		for t := range m.hi - m.lo {
			y := p.y[(m.lo+t)*p.ld:]
			s.low.k.LoRAUp(y[lo:hi], &m.l.F, m.mid.X[t*m.mid.Cols:(t+1)*m.mid.Cols], m.scale, lo, hi)
		}
	} else {
		z := s.lora[m.lo*j.width+p.column:]
		s.K.MatMul(z, j.width, m.l.B, &m.mid, kernel.Exact, lo, hi)
		for t := range m.hi - m.lo {
			y := p.y[(m.lo+t)*p.ld:]
			parts.AccumulateScaled(y[lo:hi], z[t*j.width+lo:t*j.width+hi], m.scale)
		}
	}
	if m.l.Bias != nil {
		for t := range m.hi - m.lo {
			y := p.y[(m.lo+t)*p.ld:]
			parts.AccumulateScaled(y[lo:hi], m.l.Bias[lo:hi], m.use)
		}
	}
	if m.l.Dora != nil {
		for t := range m.hi - m.lo {
			y := p.y[(m.lo+t)*p.ld:]
			m.l.Dora.Apply(y[lo:hi], p.l.Bias, m.use, lo)
		}
	}
}

// Peaks is the number of peaks of so many logits.
func Peaks(vocab int) int { return (vocab + sample.PeakLen - 1) / sample.PeakLen }

// finishLogits scales and caps logits.
func (s *Batch) finishLogits(y []float32) {
	parts.Scale(y, s.headScale)
	if s.headCap != 0 {
		s.K.Activate(y, kernel.Func{Kind: kernel.SoftCap, A: s.headCap})
	}
}
