package feedforward

import (
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// GLU is out = down(act(gate(h)) · up(h)) (Shazeer 2020).
type GLU struct {
	gate, up, down parts.Linear
	act            batch.Then
	sub            parts.Norm // before down
	sparse         bool
	cut            float32 // see arch.GLU
	cutOff         cutJob
}

// NewGLU binds a gated network of the layer.
func NewGLU(b *bind.Builder, op *arch.GLU) *GLU {
	w := b.Spec.Width
	l := &GLU{
		gate: b.Linear("ffn_gate", op.Hidden, w), up: b.Linear("ffn_up", op.Hidden, w), down: b.Linear("ffn_down", w, op.Hidden),
		act: batch.Then{Gated: true, F: parts.Function(op.Act)}, sub: b.Norm(&op.Sub, op.Hidden),
		sparse: op.Sparse, cut: op.Cut,
	}
	for _, x := range []*parts.Linear{&l.gate, &l.up, &l.down} {
		b.Weigh(x, 1, 1)
	}
	return l
}

// Forward computes it, see batch.Op.
func (l *GLU) Forward(s *batch.Batch) {
	ffn := l.gate.W.Rows
	s.Queue(&l.gate, s.Gate, ffn)
	s.Queue(&l.up, s.Up, ffn)
	if l.sparse { // the whole row decides what is cut off
		s.Compute(s.P, s.Groups, batch.Nothing)
		l.cutOff = cutJob{s: s, l: l}
		s.Run(s.RowChunks(s.T), &l.cutOff)
	} else {
		s.Compute(s.P, s.Groups, l.act)
	}
	s.Over(&l.sub, s.Gate, s.T, ffn)
	s.Queue(&l.down, s.Out, l.down.W.Rows)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// cutJob cuts the gates of rows off and applies them.
type cutJob struct {
	s *batch.Batch
	l *GLU
}

func (j *cutJob) Do(_, chunk int) {
	s, l := j.s, j.l
	n := l.gate.W.Rows
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		gate := s.Gate[t*n : (t+1)*n]
		kernel.CutBelow(gate, l.cut)
		s.K.Gate(gate, s.Up[t*n:(t+1)*n], l.act.F)
	}
}

// MLP is out = down(act(up(h))).
type MLP struct {
	up, down parts.Linear
	act      batch.Then
	sub      parts.Norm // before down
}

// NewMLP binds a plain network of the layer.
func NewMLP(b *bind.Builder, op *arch.MLP) *MLP {
	w := b.Spec.Width
	l := &MLP{
		up: b.Linear("ffn_up", op.Hidden, w), down: b.Linear("ffn_down", w, op.Hidden),
		act: batch.Then{Plain: true, F: parts.Function(op.Act)}, sub: b.Norm(&op.Sub, op.Hidden),
	}
	b.Weigh(&l.up, 1, 1)
	b.Weigh(&l.down, 1, 1)
	return l
}

// Forward computes it, see batch.Op.
func (l *MLP) Forward(s *batch.Batch) {
	ffn := l.up.W.Rows
	s.Queue(&l.up, s.Up, ffn)
	s.Compute(s.P, s.Groups, l.act)
	s.Over(&l.sub, s.Up, s.T, ffn)
	s.Queue(&l.down, s.Out, l.down.W.Rows)
	s.Compute(s.P, s.Groups, batch.Nothing)
}
