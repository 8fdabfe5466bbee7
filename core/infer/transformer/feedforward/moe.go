package feedforward

import (
	"math"
	"strconv"

	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// Experts is a mixture of gated experts: a row goes through those that its router chooses (see route.go), and
// out is the sum of their results, weighted, on top of that of the shared expert where there is one.
type Experts struct {
	router    parts.Linear
	how       arch.Router
	corrected []float32 // (Experts) added to scores for choosing; nil: none
	all       []expert
	used      int
	act       batch.Then
	shared    *expert    // nil: none
	norm      parts.Norm // of what the router reads; none: the input that is prepared
	scales    []float32  // (Experts) of the weights; nil: 1
	gate      []float32  // (Width) of the shared expert's weight; nil: 1
}

type expert struct {
	gate, up, down parts.Linear
	plain          bool // there is no gate
}

// NewExperts binds a mixture of the layer.
func NewExperts(b *bind.Builder, op *arch.MoE) *Experts {
	w := b.Spec.Width
	l := &Experts{
		router: b.Linear(
			"ffn_gate_inp",
			op.Experts,
			w,
		),
		how:  op.Router,
		used: op.Used,
		act:  batch.Then{Gated: !op.Plain, Plain: op.Plain, F: parts.Function(op.Act)},
	}
	b.Weigh(&l.router, 1, 1)
	if op.Router.Corrected {
		l.corrected = b.Required(b.Prefix+"exp_probs_b.bias", op.Experts)
	}
	if op.Router.Eps != 0 {
		l.norm = parts.Norm{Kind: arch.RMSNorm, Eps: op.Router.Eps, W: b.Required(b.Prefix+"ffn_gate_inp.scale.weight", w)}
		parts.Scale(l.norm.W, float32(1/math.Sqrt(float64(w))))
	}
	if op.Scaled {
		l.scales = b.Required(b.Prefix+"ffn_down_exps.scale.weight", op.Experts)
	}
	if op.Shared > 0 {
		x := newExpert(b, op.Plain, "_shexp", op.Shared, 1, 1)
		l.shared = &x
		if op.SharedGate {
			l.gate = b.Required(b.Prefix+"ffn_gate_inp_shexp.weight", w)
		}
	}
	for e := range op.Experts {
		l.all = append(l.all, newExpert(b, op.Plain, "."+strconv.Itoa(e), op.Hidden, op.Used, op.Experts))
	}
	return l
}

// newExpert binds the matrices of one whose names end so, and of which a token reads part/of.
func newExpert(b *bind.Builder, plain bool, end string, hidden, part, of int) expert {
	w := b.Spec.Width
	x := expert{plain: plain}
	if !plain {
		x.gate = b.Linear("ffn_gate"+end, hidden, w)
		b.Weigh(&x.gate, part, of)
	}
	x.up, x.down = b.Linear("ffn_up"+end, hidden, w), b.Linear("ffn_down"+end, w, hidden)
	b.Weigh(&x.up, part, of)
	b.Weigh(&x.down, part, of)
	return x
}

// Forward computes it, see batch.Op.
func (l *Experts) Forward(s *batch.Batch) {
	n := len(l.all)
	if !l.norm.None() {
		l.readBare(s)
	}
	s.Queue(&l.router, s.Router, n)
	s.Compute(kernel.Exact, s.Groups, batch.Nothing) // a rounded logit would send rows to other experts
	for t := range s.T {
		l.choose(s.Picked[t*l.used:(t+1)*l.used], s.Router[t*n:(t+1)*n], s.Scores)
	}
	for i := range s.Picked[:s.T*l.used] {
		if p := &s.Picked[i]; l.scales != nil {
			p.Weight *= l.scales[p.Expert]
		}
	}
	if !l.norm.None() && l.shared != nil {
		s.Prepare(s.H, s.T, s.Width)
	}
	l.together(s)
	// Ascending, so that each row adds up its experts in an order of its own.
	for e := range l.all {
		if n := gatherRows(s, l, e); n > 0 {
			s.Prepare(s.GX, n, s.Width)
			l.all[e].Forward(s, s.GD, n, s.Sub, l.act)
			scatterRows(s, l, e)
		}
	}
}

// readBare makes the residual stream, normalised for the router alone, the input of the next product.
func (l *Experts) readBare(s *batch.Batch) {
	w := s.Width
	for t := range s.T {
		l.norm.Apply(s.K, s.GX[t*w:(t+1)*w], s.X[t*w:(t+1)*w])
	}
	s.Prepare(s.GX, s.T, w)
}

// together sets out to what every row gets beside its own experts: the shared expert's result, or nothing. It
// runs first, while the normalised rows are still the input that is prepared.
func (l *Experts) together(s *batch.Batch) {
	w := s.Width
	if l.shared == nil {
		clear(s.Out[:s.T*w])
		return
	}
	l.shared.Forward(s, s.Out, s.T, s.Groups, l.act)
	if l.gate == nil {
		return
	}
	for t := range s.T {
		parts.Scale(s.Out[t*w:(t+1)*w], sigmoid(dot(l.gate, s.H[t*w:(t+1)*w])))
	}
}

// gatherRows copies the normalised rows of expert e together and returns their number. They keep their order, and with
// it their grouping by adapters.
func gatherRows(s *batch.Batch, l *Experts, e int) int {
	w := s.Width
	s.GT, s.Sub = s.GT[:0], s.Sub[:0]
	for _, g := range s.Groups {
		lo := len(s.GT)
		for t := g.Lo; t < g.Hi; t++ {
			if taken(s.Picked[t*l.used:(t+1)*l.used], e) {
				copy(s.GX[len(s.GT)*w:], s.H[t*w:(t+1)*w])
				s.GT = append(s.GT, int32(t))
			}
		}
		if len(s.GT) > lo {
			s.Sub = append(s.Sub, batch.Group{Lo: lo, Hi: len(s.GT), Uses: g.Uses})
		}
	}
	return len(s.GT)
}

// Forward computes y = down(act(gate(x)) · up(x)), or down(act(up(x))), for n rows of the input that is prepared.
func (x *expert) Forward(s *batch.Batch, y []float32, n int, groups []batch.Group, act batch.Then) {
	ffn, w := x.up.W.Rows, x.down.W.Rows
	hidden := s.Up
	if !x.plain {
		hidden = s.Gate
		s.Queue(&x.gate, s.Gate, ffn)
	}
	s.Queue(&x.up, s.Up, ffn)
	s.Compute(s.P, groups, act)
	s.Prepare(hidden, n, ffn)
	s.Queue(&x.down, y, w)
	s.Compute(s.P, groups, batch.Nothing)
}

// scatterRows adds the weighted results of expert e to the rows that asked for it.
func scatterRows(s *batch.Batch, l *Experts, e int) {
	w := s.Width
	for i, t := range s.GT {
		for _, p := range s.Picked[int(t)*l.used : (int(t)+1)*l.used] {
			if p.Expert == e {
				parts.AccumulateScaled(s.Out[int(t)*w:(int(t)+1)*w], s.GD[i*w:(i+1)*w], p.Weight)
			}
		}
	}
}

// ExpertsRoom makes room for the rows of a mixture.
func ExpertsRoom(z *batch.Sizes, op *arch.MoE) {
	z.Hidden(op.Hidden, 2)
	if op.Shared > 0 {
		z.Hidden(op.Shared, 2)
	}
	z.Chooses(op.Used, op.Experts)
	z.Need(batch.BufRouter, op.Experts)
	z.Need(batch.BufLora, op.Experts)
	z.Need(batch.BufGX, z.Width)
	z.Need(batch.BufGD, z.Width)
}
