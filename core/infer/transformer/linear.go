package transformer

import (
	"edged/core/infer/sample"
	"edged/quant"
	"edged/quant/kernel"
)

// linear is y = W x + bias, and + scale·B(A x) for each adapter of a row.
type linear struct {
	name     string // GGUF name of the weight
	id       int    // index of its low-rank factors in an Adapter
	w        *quant.Matrix
	bias     []float32 // (out); nil: none
	multiple int       // where ranges over w may start
}

// then is what is computed on a product's result while it is in the cache.
type then struct {
	gated bool // of two products: first = f(first) · second
	plain bool // of each: f
	f     kernel.Func
}

// nothing is done.
var nothing then //nolint:gochecknoglobals // a constant

// product is the job of one or more matrix products with the same input (step.act): queue them, then compute. All rows
// of the batch go through the weights at once; the low-rank parts follow per group of rows with the same adapters.
type product struct {
	s      *step
	p      kernel.Precision
	groups []rowGroup
	parts  [3]part
	n      int
	then   then
	width  int // columns of all parts together, the row length of step.lora

	outs   []row // of the head: whose the rows of logits are; nil: it is another product
	copied bool  // y is not their memory
}

// part is one product of a job.
type part struct {
	l      *linear
	y      []float32 // (t, ld), results in columns [0, out)
	ld     int
	column int // in step.lora
	chunks int
	rows   int // of w in a chunk, a multiple of what the kernels want
}

// queue adds y = l(input) to the next job; rows of y are ld values apart.
func (s *step) queue(l *linear, y []float32, ld int) {
	j := &s.mul
	if j.n == 0 {
		j.width = 0
	}
	j.parts[j.n] = part{l: l, y: y, ld: ld, column: j.width}
	j.width += l.w.Rows
	j.n++
}

// compute runs the queued products for rows in groups.
func (s *step) compute(p kernel.Precision, groups []rowGroup, then then) {
	j := &s.mul
	j.p, j.groups, j.then = p, groups, then
	s.lowRank(j)
	chunks := 0
	if then.gated {
		a := &j.parts[0]
		s.cut(a, lcm(s.multiple(0), s.multiple(1)))
		chunks = a.chunks
	} else {
		for i := range j.n {
			s.cut(&j.parts[i], s.multiple(i))
			chunks += j.parts[i].chunks
		}
	}
	s.run(chunks, j)
	j.n, j.outs, j.copied = 0, nil, false
}

const (
	chunksPerProduct = 32      // enough to even out threads that lose their core for a while
	minChunkWork     = 1 << 15 // multiply-adds, some microseconds: a chunk costs a tenth of one to hand out
)

// cut divides a part into chunks of whole multiples.
func (s *step) cut(p *part, multiple int) {
	out, perRow := p.l.w.Rows, p.l.w.Cols*s.act.Rows
	p.rows = max((out+chunksPerProduct-1)/chunksPerProduct, (minChunkWork+perRow-1)/max(perRow, 1))
	p.rows = (p.rows + multiple - 1) / multiple * multiple
	p.chunks = (out + p.rows - 1) / p.rows
}

// multiple is where ranges over the rows of part i may start: its weights' and its adapters' kernels decide.
func (s *step) multiple(i int) int {
	n := s.mul.parts[i].l.multiple
	for k := range s.low.terms {
		if t := &s.low.terms[k]; t.part == i {
			n = lcm(n, t.l.multiple)
		}
	}
	return n
}

func lcm(a, b int) int {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// Do computes a range of rows of one part, or of both parts of a gate.
func (j *product) Do(_, chunk int) {
	if j.then.gated {
		gate, up := &j.parts[0], &j.parts[1]
		lo := chunk * gate.rows
		hi := min(lo+gate.rows, gate.l.w.Rows)
		j.multiply(0, lo, hi)
		j.multiply(1, lo, hi)
		for t := range j.s.act.Rows {
			j.s.k.Gate(gate.y[t*gate.ld+lo:t*gate.ld+hi], up.y[t*up.ld+lo:t*up.ld+hi], j.then.f)
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
	hi := min(lo+p.rows, p.l.w.Rows)
	j.multiply(i, lo, hi)
	if j.then.plain {
		for t := range j.s.act.Rows {
			j.s.k.Activate(p.y[t*p.ld+lo:t*p.ld+hi], j.then.f)
		}
	}
	for t := range j.outs {
		r := &j.outs[t]
		j.s.m.net.finishLogits(j.s.k, p.y[t*p.ld+lo:t*p.ld+hi])
		if j.copied {
			copy(r.logits[lo:hi], p.y[t*p.ld+lo:t*p.ld+hi])
		}
		if r.peaks != nil {
			sample.Peaks(r.peaks[lo/sample.PeakLen:peaks(hi)], r.logits[lo:hi])
		}
	}
}

// multiply computes rows [lo, hi) of part i: the product, the bias, then each adapter in the order in which the row
// names them.
func (j *product) multiply(i, lo, hi int) {
	s, p := j.s, &j.parts[i]
	s.k.MatMul(p.y, p.ld, p.l.w, &s.act, j.p, lo, hi)
	if p.l.bias != nil {
		for t := range s.act.Rows {
			accumulate(p.y[t*p.ld+lo:t*p.ld+hi], p.l.bias[lo:hi])
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
	if m.l.packed() {
		for t := range m.hi - m.lo {
			y := p.y[(m.lo+t)*p.ld:]
			s.low.k.LoRAUp(y[lo:hi], &m.l.f, m.mid.X[t*m.mid.Cols:(t+1)*m.mid.Cols], m.scale, lo, hi)
		}
	} else {
		z := s.lora[m.lo*j.width+p.column:]
		s.k.MatMul(z, j.width, m.l.b, &m.mid, kernel.Exact, lo, hi)
		for t := range m.hi - m.lo {
			y := p.y[(m.lo+t)*p.ld:]
			accumulateScaled(y[lo:hi], z[t*j.width+lo:t*j.width+hi], m.scale)
		}
	}
	if m.l.bias != nil {
		for t := range m.hi - m.lo {
			y := p.y[(m.lo+t)*p.ld:]
			accumulateScaled(y[lo:hi], m.l.bias[lo:hi], m.use)
		}
	}
	if m.l.dora != nil {
		for t := range m.hi - m.lo {
			y := p.y[(m.lo+t)*p.ld:]
			m.l.dora.apply(y[lo:hi], p.l.bias, m.use, lo)
		}
	}
}

// peaks is the number of peaks of so many logits.
func peaks(vocab int) int { return (vocab + sample.PeakLen - 1) / sample.PeakLen }

// finishLogits scales and caps logits.
func (n *network) finishLogits(k kernel.Kernels, y []float32) {
	scale(y, n.headScale)
	if n.headCap != 0 {
		k.Activate(y, kernel.Func{Kind: kernel.SoftCap, A: n.headCap})
	}
}
