package batch

import (
	"edged/core/infer/transformer/adapter"
	"edged/core/infer/transformer/parts"
)

// Over applies the norm in place to n rows of x, and makes them the input of the next products.
func (s *Batch) Over(n *parts.Norm, x []float32, rows, cols int) {
	if !n.None() {
		s.NormRows(n, x, rows, cols)
	}
	s.Prepare(x, rows, cols)
}

// NormRows applies the norm in place to rows of cols values of x.
func (s *Batch) NormRows(n *parts.Norm, x []float32, rows, cols int) {
	s.inPlace = inPlaceJob{s: s, n: n, x: x, rows: rows, cols: cols}
	s.Run(s.RowChunks(rows), &s.inPlace)
}

type inPlaceJob struct {
	s          *Batch
	n          *parts.Norm
	x          []float32
	rows, cols int
}

// Do normalises some rows.
func (j *inPlaceJob) Do(worker, chunk int) {
	lo, hi := j.s.RowRange(j.rows, chunk)
	for t := lo; t < hi; t++ {
		x := j.x[t*j.cols : (t+1)*j.cols]
		j.s.NormOf(j.n, worker, t).Apply(j.s.K, x, x)
	}
}

// Prepare makes n rows of cols values the input of the next products.
func (s *Batch) Prepare(x []float32, n, cols int) {
	s.act.Rows, s.act.Cols, s.act.X = n, cols, x[:n*cols]
	s.Run(s.RowChunks(n), &s.prep)
}

type prepareJob struct{ s *Batch }

func (j *prepareJob) Do(_, chunk int) {
	s := j.s
	lo, hi := s.RowRange(s.act.Rows, chunk)
	s.K.Prepare(&s.act, s.P, lo, hi)
}

// NormOf is the norm n as the adapters of row t have it.
func (s *Batch) NormOf(n *parts.Norm, worker, t int) *parts.Norm {
	if n.ID == 0 || len(s.Rows[t].Uses) == 0 {
		return n
	}
	return s.Workers[worker].blend(n, s.Rows[t].Uses)
}

// blend is the norm n with what uses change of it.
func (w *Worker) blend(n *parts.Norm, uses []adapter.Use) *parts.Norm {
	var only *parts.Norm
	several := false
	for i := range uses {
		own := uses[i].Adapter.Norm(n.ID)
		if own == nil || uses[i].Scale == 0 {
			continue
		}
		several = several || only != nil || uses[i].Scale != 1
		only = own
	}
	switch {
	case only == nil:
		return n
	case !several:
		return only
	}
	w.mixed = *n
	w.mixW, w.mixB = append(w.mixW[:0], n.W...), append(w.mixB[:0], n.B...)
	w.mixed.W, w.mixed.B = w.mixW, nil
	if n.B != nil {
		w.mixed.B = w.mixB
	}
	for i := range uses {
		own := uses[i].Adapter.Norm(n.ID)
		if own == nil {
			continue
		}
		parts.AccumulateDifference(w.mixed.W, own.W, n.W, uses[i].Scale)
		parts.AccumulateDifference(w.mixed.B, own.B, n.B, uses[i].Scale)
	}
	return &w.mixed
}
