package transformer

import (
	"strconv"

	"edged/core/model/arch"
	"edged/quant/kernel"
)

// experts is a mixture of gated experts: a row goes through those with the largest router logits, and out is the sum of their
// results, weighted by the soft-max over the chosen logits (which equals Hugging Face's soft-max over all, normalised over the
// chosen).
type experts struct {
	router linear
	all    []expert
	used   int
	act    then
}

type expert struct{ gate, up, down linear }

// experts binds a mixture of the layer.
func (b *builder) experts(op *arch.MoE) *experts {
	w := b.spec.Width
	l := &experts{router: b.linear("ffn_gate_inp", op.Experts, w), used: op.Used, act: then{gated: true, f: function(op.Act)}}
	b.weigh(&l.router, 1, 1)
	for e := range op.Experts {
		name := func(part string) string { return part + "." + strconv.Itoa(e) }
		x := expert{
			gate: b.linear(name("ffn_gate"), op.Hidden, w), up: b.linear(name("ffn_up"), op.Hidden, w), down: b.linear(name("ffn_down"), w, op.Hidden),
		}
		for _, l := range []*linear{&x.gate, &x.up, &x.down} {
			b.weigh(l, op.Used, op.Experts)
		}
		l.all = append(l.all, x)
	}
	return l
}

// pick is an expert that a row was sent to.
type pick struct {
	expert int
	weight float32
}

func (l *experts) forward(s *step) {
	n, w := len(l.all), s.m.spec.Width
	s.queue(&l.router, s.router, n)
	s.compute(kernel.Exact, s.groups, nothing) // a rounded logit would send rows to other experts
	for t := range s.t {
		choose(s.picked[t*l.used:(t+1)*l.used], s.router[t*n:(t+1)*n])
	}
	clear(s.out[:s.t*w])
	// Ascending, so that each row adds up its experts in an order of its own.
	for e := range l.all {
		if n := s.gatherRows(l, e); n > 0 {
			l.all[e].forward(s, n, l.act)
			s.scatterRows(l, e)
		}
	}
}

// choose fills picked with the experts of the largest logits, the lower number first where they are equal.
func choose(picked []pick, logits []float32) {
	for i := range picked {
		best := -1
		for e, v := range logits {
			if taken(picked[:i], e) {
				continue
			}
			if best < 0 || v > logits[best] {
				best = e
			}
		}
		picked[i] = pick{expert: best, weight: logits[best]}
	}
	top, sum := picked[0].weight, float32(0)
	for i := range picked {
		picked[i].weight = kernel.Exp(picked[i].weight - top)
		sum += picked[i].weight
	}
	for i := range picked {
		picked[i].weight /= sum
	}
}

func taken(picked []pick, e int) bool {
	for _, p := range picked {
		if p.expert == e {
			return true
		}
	}
	return false
}

// gatherRows copies the normalised rows of expert e together and returns their number. They keep their order, and with
// it their grouping by adapters.
func (s *step) gatherRows(l *experts, e int) int {
	w := s.m.spec.Width
	s.gt, s.sub = s.gt[:0], s.sub[:0]
	for _, g := range s.groups {
		lo := len(s.gt)
		for t := g.lo; t < g.hi; t++ {
			if taken(s.picked[t*l.used:(t+1)*l.used], e) {
				copy(s.gx[len(s.gt)*w:], s.h[t*w:(t+1)*w])
				s.gt = append(s.gt, int32(t))
			}
		}
		if len(s.gt) > lo {
			s.sub = append(s.sub, rowGroup{lo: lo, hi: len(s.gt), uses: g.uses})
		}
	}
	return len(s.gt)
}

// forward computes gd = down(act(gate(gx)) · up(gx)) for n rows.
func (x *expert) forward(s *step, n int, act then) {
	ffn, w := x.gate.w.Rows, x.down.w.Rows
	s.prepare(s.gx, n, w)
	s.queue(&x.gate, s.gate, ffn)
	s.queue(&x.up, s.up, ffn)
	s.compute(s.p, s.sub, act)
	s.prepare(s.gate, n, ffn)
	s.queue(&x.down, s.gd, w)
	s.compute(s.p, s.sub, nothing)
}

// scatterRows adds the weighted results of expert e to the rows that asked for it.
func (s *step) scatterRows(l *experts, e int) {
	w := s.m.spec.Width
	for i, t := range s.gt {
		for _, p := range s.picked[int(t)*l.used : (int(t)+1)*l.used] {
			if p.expert == e {
				accumulateScaled(s.out[int(t)*w:(int(t)+1)*w], s.gd[i*w:(i+1)*w], p.weight)
			}
		}
	}
}
