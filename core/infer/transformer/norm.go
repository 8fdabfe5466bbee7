package transformer

import "edged/quant/kernel"

// norm is RMSNorm, or LayerNorm where centred is set.
type norm struct {
	w       []float32 // (Width)
	b       []float32 // (Width), LayerNorm only; nil: none
	eps     float32
	centred bool
}

func (n *norm) apply(k kernel.Kernels, y, x []float32) {
	if n.centred {
		k.LayerNorm(y, x, n.w, n.b, n.eps)
		return
	}
	k.RMSNorm(y, x, n.w, n.eps)
}

// normalize adds what the last block left to the residual stream and makes the normalised rows the input of the next
// products: x += d; h = norm(x).
func (s *step) normalize(n *norm) {
	w := s.m.hyper.Width
	s.act.Rows, s.act.Cols, s.act.X = s.t, w, s.h[:s.t*w]
	s.norms.n = n
	s.run(s.rowChunks(s.t), &s.norms)
	s.add = false
}

type normJob struct {
	s *step
	n *norm
}

func (j *normJob) Do(_, chunk int) {
	s, w := j.s, j.s.m.hyper.Width
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		x := s.x[t*w : (t+1)*w]
		if s.add {
			accumulate(x, s.d[t*w:(t+1)*w])
		}
		j.n.apply(s.k, s.h[t*w:(t+1)*w], x)
	}
	s.k.Prepare(&s.act, s.p, lo, hi)
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
