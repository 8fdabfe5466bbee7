package transformer

import (
	"math"
	"slices"
)

// adaptJob adds to attention's result what the queries find in adaption prompts: scale · gate · softmax(q Kᵀ) V.
type adaptJob struct {
	s *step
	a *attention
}

func (j *adaptJob) Do(worker, chunk int) {
	s, a := j.s, j.a
	lo, hi := s.rowRange(s.t, chunk)
	w := &s.workers[worker]
	for t := lo; t < hi; t++ {
		for _, u := range s.rows[t].uses {
			c := u.Adapter.change
			if c == nil || c.adaption == nil || c.adaption[a.index] == nil || u.Scale == 0 {
				continue
			}
			p := c.adaption[a.index]
			w.code = slices.Grow(w.code[:0], p.tokens)[:p.tokens]
			for h := range a.Heads {
				q := s.qkv[t*a.ld()+h*a.KeyDim:][:a.KeyDim] // scaled already
				o := s.o[(t*a.Heads+h)*a.ValueDim:][:a.ValueDim]
				p.attend(o, q, w.code, h/a.group(), a, float32(u.Scale*p.gate))
			}
		}
	}
}

// attend adds f · softmax(q Kᵀ) V of one query head to o.
func (p *adaption) attend(o, q, scores []float32, head int, a *attention, f float32) {
	most := float32(math.Inf(-1))
	for i := range scores {
		k := p.k[i*a.KVHeads*a.KeyDim+head*a.KeyDim:][:a.KeyDim]
		sum := float32(0)
		for d, v := range q {
			sum += float32(v * k[d])
		}
		scores[i] = sum
		most = max(most, sum)
	}
	total := float32(0)
	for i, v := range scores {
		scores[i] = float32(exp(float64(v - most)))
		total += scores[i]
	}
	for i, v := range scores {
		accumulateScaled(o, p.v[i*a.KVHeads*a.ValueDim+head*a.ValueDim:][:a.ValueDim], float32(f*float32(v/total)))
	}
}
