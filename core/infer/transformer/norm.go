package transformer

import (
	"strings"

	"edged/core/model/arch"
	"edged/quant/kernel"
)

// norm is an arch.Norm with its weights.
type norm struct {
	kind arch.NormKind
	w, b []float32 // (n); nil: 1 and 0
	eps  float32
	id   int // 1 and more, of those that an adapter can change; 0: it can't
}

// none reports whether the norm changes nothing.
func (n *norm) none() bool { return n.kind == arch.NoNorm }

// apply sets y = norm(x); y may be x.
func (n *norm) apply(k kernel.Kernels, y, x []float32) {
	switch n.kind {
	case arch.LayerNorm:
		k.LayerNorm(y, x, n.w, n.b, n.eps)
	case arch.RMSNorm:
		k.RMSNorm(y, x, n.w, n.eps)
	case arch.Factor:
		copy(y, x)
		scale(y, n.w[0])
	default:
		copy(y, x)
	}
}

// over applies the norm in place to n rows of x, and makes them the input of the next products.
func (s *step) over(n *norm, x []float32, rows, cols int) {
	if !n.none() {
		s.inPlace = inPlaceJob{s: s, n: n, x: x, rows: rows, cols: cols}
		s.run(s.rowChunks(rows), &s.inPlace)
	}
	s.prepare(x, rows, cols)
}

type inPlaceJob struct {
	s          *step
	n          *norm
	x          []float32
	rows, cols int
}

func (j *inPlaceJob) Do(worker, chunk int) {
	lo, hi := j.s.rowRange(j.rows, chunk)
	for t := lo; t < hi; t++ {
		x := j.x[t*j.cols : (t+1)*j.cols]
		j.s.normOf(j.n, worker, t).apply(j.s.k, x, x)
	}
}

// accumulate adds d to x.
func accumulate(x, d []float32) {
	d = d[:len(x)]
	for i := range x {
		x[i] += d[i]
	}
}

// accumulateScaled adds f·d to x; the product is rounded first, so that no architecture fuses it.
func accumulateScaled(x, d []float32, f float32) {
	d = d[:len(x)]
	for i := range x {
		x[i] += float32(f * d[i])
	}
}

// prepare makes n rows of cols values the input of the next products.
func (s *step) prepare(x []float32, n, cols int) {
	s.act.Rows, s.act.Cols, s.act.X = n, cols, x[:n*cols]
	s.run(s.rowChunks(n), &s.prep)
}

type prepareJob struct{ s *step }

func (j *prepareJob) Do(_, chunk int) {
	s := j.s
	lo, hi := s.rowRange(s.act.Rows, chunk)
	s.k.Prepare(&s.act, s.p, lo, hi)
}

// normOf is the norm n as the adapters of row t have it.
func (s *step) normOf(n *norm, worker, t int) *norm {
	if n.id == 0 || len(s.rows[t].uses) == 0 {
		return n
	}
	return s.workers[worker].blend(n, s.rows[t].uses)
}

// blend is the norm n with what uses change of it.
func (w *worker) blend(n *norm, uses []Use) *norm {
	var only *norm
	several := false
	for i := range uses {
		c := uses[i].Adapter.change
		if c == nil || c.norms == nil || c.norms[n.id-1] == nil || uses[i].Scale == 0 {
			continue
		}
		several = several || only != nil || uses[i].Scale != 1
		only = c.norms[n.id-1]
	}
	switch {
	case only == nil:
		return n
	case !several:
		return only
	}
	w.mixed = *n
	w.mixW, w.mixB = append(w.mixW[:0], n.w...), append(w.mixB[:0], n.b...)
	w.mixed.w, w.mixed.b = w.mixW, nil
	if n.b != nil {
		w.mixed.b = w.mixB
	}
	for i := range uses {
		c := uses[i].Adapter.change
		if c == nil || c.norms == nil || c.norms[n.id-1] == nil {
			continue
		}
		accumulateDifference(w.mixed.w, c.norms[n.id-1].w, n.w, uses[i].Scale)
		accumulateDifference(w.mixed.b, c.norms[n.id-1].b, n.b, uses[i].Scale)
	}
	return &w.mixed
}

// normName is the name under which adapters know the norm of a tensor.
func normName(tensor string) string { return strings.TrimSuffix(tensor, ".weight") }
