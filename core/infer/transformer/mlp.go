package transformer

import (
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// glu is out = down(act(gate(h)) · up(h)) (Shazeer 2020).
type glu struct {
	gate, up, down linear
	act            then
	sub            norm // before down
	sparse         bool
	cut            float32 // see arch.GLU
}

// glu binds a gated network of the layer.
func (b *builder) glu(op *arch.GLU) *glu {
	w := b.spec.Width
	l := &glu{
		gate: b.linear("ffn_gate", op.Hidden, w), up: b.linear("ffn_up", op.Hidden, w), down: b.linear("ffn_down", w, op.Hidden),
		act: then{gated: true, f: function(op.Act)}, sub: b.norm(&op.Sub, op.Hidden),
		sparse: op.Sparse, cut: op.Cut,
	}
	for _, x := range []*linear{&l.gate, &l.up, &l.down} {
		b.weigh(x, 1, 1)
	}
	return l
}

func (l *glu) forward(s *step) {
	ffn := l.gate.w.Rows
	s.queue(&l.gate, s.gate, ffn)
	s.queue(&l.up, s.up, ffn)
	if l.sparse { // the whole row decides what is cut off
		s.compute(s.p, s.groups, nothing)
		s.cutOff.l = l
		s.run(s.rowChunks(s.t), &s.cutOff)
	} else {
		s.compute(s.p, s.groups, l.act)
	}
	s.over(&l.sub, s.gate, s.t, ffn)
	s.queue(&l.down, s.out, l.down.w.Rows)
	s.compute(s.p, s.groups, nothing)
}

// cutJob cuts the gates of rows off and applies them.
type cutJob struct {
	s *step
	l *glu
}

func (j *cutJob) Do(_, chunk int) {
	s, l := j.s, j.l
	n := l.gate.w.Rows
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		gate := s.gate[t*n : (t+1)*n]
		kernel.CutBelow(gate, l.cut)
		s.k.Gate(gate, s.up[t*n:(t+1)*n], l.act.f)
	}
}

// mlp is out = down(act(up(h))).
type mlp struct {
	up, down linear
	act      then
	sub      norm // before down
}

// mlp binds a plain network of the layer.
func (b *builder) mlp(op *arch.MLP) *mlp {
	w := b.spec.Width
	l := &mlp{
		up: b.linear("ffn_up", op.Hidden, w), down: b.linear("ffn_down", w, op.Hidden),
		act: then{plain: true, f: function(op.Act)}, sub: b.norm(&op.Sub, op.Hidden),
	}
	b.weigh(&l.up, 1, 1)
	b.weigh(&l.down, 1, 1)
	return l
}

func (l *mlp) forward(s *step) {
	ffn := l.up.w.Rows
	s.queue(&l.up, s.up, ffn)
	s.compute(s.p, s.groups, l.act)
	s.over(&l.sub, s.up, s.t, ffn)
	s.queue(&l.down, s.out, l.down.w.Rows)
	s.compute(s.p, s.groups, nothing)
}

// function is an activation as the kernels know it.
func function(a arch.Act) kernel.Func {
	kind := map[arch.ActKind]kernel.FuncKind{
		arch.SiLU: kernel.SiLU, arch.GELUTanh: kernel.GELUTanh, arch.GELUErf: kernel.GELUErf, arch.QuickGELU: kernel.QuickGELU,
		arch.ReLU: kernel.ReLU, arch.ReLUSquared: kernel.ReLU2, arch.XIELU: kernel.XIELU, arch.ClampedSiLU: kernel.ClampedSiLU,
		arch.Identity: kernel.Identity, arch.Tanh: kernel.TanhFunc,
	}[a.Kind]
	return kernel.Func{Kind: kind, A: a.A, B: a.B, C: a.C}
}
