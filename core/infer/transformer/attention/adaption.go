package attention

import (
	"slices"

	"edged/core/infer/transformer/batch"
)

// adaptJob adds to attention's result what the queries find in adaption prompts: scale · gate · softmax(q Kᵀ) V.
type adaptJob struct {
	s *batch.Batch
	a *Grouped
}

func (j *adaptJob) Do(worker, chunk int) {
	s, a := j.s, j.a
	lo, hi := s.RowRange(s.T, chunk)
	w := &s.Workers[worker]
	for t := lo; t < hi; t++ {
		for _, u := range s.Rows[t].Uses {
			p := u.Adapter.Beside(a.index)
			if p == nil || u.Scale == 0 {
				continue
			}
			w.Code = slices.Grow(w.Code[:0], p.Tokens)[:p.Tokens]
			for h := range a.Heads {
				q := s.QKV[t*a.ld()+h*a.KeyDim:][:a.KeyDim] // scaled already
				o := s.O[(t*a.Heads+h)*a.ValueDim:][:a.ValueDim]
				p.Attend(o, q, w.Code, h/a.group(), float32(u.Scale*p.Gate))
			}
		}
	}
}

// adapted reports whether a row of the batch has an adaption prompt here.
func (a *Grouped) adapted(s *batch.Batch) bool {
	for _, g := range s.Groups {
		for _, u := range g.Uses {
			if u.Adapter.Beside(a.index) != nil && u.Scale != 0 {
				return true
			}
		}
	}
	return false
}
