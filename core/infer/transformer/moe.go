package transformer

import (
	"math"
	"strconv"

	"edged/core/model/arch"
	"edged/quant/kernel"
)

// experts is a mixture of gated experts: a row goes through those that its router chooses (see route.go), and out is the sum of
// their results, weighted, on top of that of the shared expert where there is one.
type experts struct {
	router    linear
	how       arch.Router
	corrected []float32 // (Experts) added to scores for choosing; nil: none
	all       []expert
	used      int
	act       then
	shared    *expert   // nil: none
	norm      norm      // of what the router reads; none: the input that is prepared
	scales    []float32 // (Experts) of the weights; nil: 1
	gate      []float32 // (Width) of the shared expert's weight; nil: 1
}

type expert struct {
	gate, up, down linear
	plain          bool // there is no gate
}

// experts binds a mixture of the layer.
func (b *builder) experts(op *arch.MoE) *experts {
	w := b.spec.Width
	l := &experts{
		router: b.linear("ffn_gate_inp", op.Experts, w), how: op.Router, used: op.Used, act: then{gated: !op.Plain, plain: op.Plain, f: function(op.Act)},
	}
	b.weigh(&l.router, 1, 1)
	if op.Router.Corrected {
		l.corrected = b.required(b.prefix+"exp_probs_b.bias", op.Experts)
	}
	if op.Router.Eps != 0 {
		l.norm = norm{kind: arch.RMSNorm, eps: op.Router.Eps, w: b.required(b.prefix+"ffn_gate_inp.scale.weight", w)}
		scale(l.norm.w, float32(1/math.Sqrt(float64(w))))
	}
	if op.Scaled {
		l.scales = b.required(b.prefix+"ffn_down_exps.scale.weight", op.Experts)
	}
	if op.Shared > 0 {
		x := b.expert(op.Plain, "_shexp", op.Shared, 1, 1)
		l.shared = &x
		if op.SharedGate {
			l.gate = b.required(b.prefix+"ffn_gate_inp_shexp.weight", w)
		}
	}
	for e := range op.Experts {
		l.all = append(l.all, b.expert(op.Plain, "."+strconv.Itoa(e), op.Hidden, op.Used, op.Experts))
	}
	return l
}

// expert binds the matrices of one whose names end so, and of which a token reads part/of.
func (b *builder) expert(plain bool, end string, hidden, part, of int) expert {
	w := b.spec.Width
	x := expert{plain: plain}
	if !plain {
		x.gate = b.linear("ffn_gate"+end, hidden, w)
		b.weigh(&x.gate, part, of)
	}
	x.up, x.down = b.linear("ffn_up"+end, hidden, w), b.linear("ffn_down"+end, w, hidden)
	b.weigh(&x.up, part, of)
	b.weigh(&x.down, part, of)
	return x
}

// pick is an expert that a row was sent to.
type pick struct {
	expert int
	weight float32
}

func (l *experts) forward(s *step) {
	n := len(l.all)
	if !l.norm.none() {
		l.readBare(s)
	}
	s.queue(&l.router, s.router, n)
	s.compute(kernel.Exact, s.groups, nothing) // a rounded logit would send rows to other experts
	for t := range s.t {
		l.choose(s.picked[t*l.used:(t+1)*l.used], s.router[t*n:(t+1)*n], s.scores)
	}
	for i := range s.picked[:s.t*l.used] {
		if p := &s.picked[i]; l.scales != nil {
			p.weight *= l.scales[p.expert]
		}
	}
	if !l.norm.none() && l.shared != nil {
		s.prepare(s.h, s.t, s.m.spec.Width)
	}
	l.together(s)
	// Ascending, so that each row adds up its experts in an order of its own.
	for e := range l.all {
		if n := s.gatherRows(l, e); n > 0 {
			s.prepare(s.gx, n, s.m.spec.Width)
			l.all[e].forward(s, s.gd, n, s.sub, l.act)
			s.scatterRows(l, e)
		}
	}
}

// readBare makes the residual stream, normalised for the router alone, the input of the next product.
func (l *experts) readBare(s *step) {
	w := s.m.spec.Width
	for t := range s.t {
		l.norm.apply(s.k, s.gx[t*w:(t+1)*w], s.x[t*w:(t+1)*w])
	}
	s.prepare(s.gx, s.t, w)
}

// together sets out to what every row gets beside its own experts: the shared expert's result, or nothing. It runs first, while
// the normalised rows are still the input that is prepared.
func (l *experts) together(s *step) {
	w := s.m.spec.Width
	if l.shared == nil {
		clear(s.out[:s.t*w])
		return
	}
	l.shared.forward(s, s.out, s.t, s.groups, l.act)
	if l.gate == nil {
		return
	}
	for t := range s.t {
		scale(s.out[t*w:(t+1)*w], sigmoid(dot(l.gate, s.h[t*w:(t+1)*w])))
	}
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

// forward computes y = down(act(gate(x)) · up(x)), or down(act(up(x))), for n rows of the input that is prepared.
func (x *expert) forward(s *step, y []float32, n int, groups []rowGroup, act then) {
	ffn, w := x.up.w.Rows, x.down.w.Rows
	hidden := s.up
	if !x.plain {
		hidden = s.gate
		s.queue(&x.gate, s.gate, ffn)
	}
	s.queue(&x.up, s.up, ffn)
	s.compute(s.p, groups, act)
	s.prepare(hidden, n, ffn)
	s.queue(&x.down, y, w)
	s.compute(s.p, groups, nothing)
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
