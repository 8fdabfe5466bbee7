package streams

import (
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
)

// Laurel is the low-rank branch beside attention, see arch.Laurel.
type Laurel struct {
	left, right parts.Linear
	norm        parts.Norm
}

// NewLaurel binds it.
func NewLaurel(b *bind.Builder, op *arch.Laurel) *Laurel {
	w, name := b.Spec.Width, arch.RMS("laurel_post_norm", op.Eps)
	l := &Laurel{left: b.Linear("laurel_l", op.Rank, w), right: b.Linear("laurel_r", w, op.Rank), norm: b.Norm(&name, w)}
	b.Weigh(&l.left, 1, 1)
	b.Weigh(&l.right, 1, 1)
	return l
}

// Forward computes it, see batch.Op.
func (l *Laurel) Forward(s *batch.Batch) {
	rank, w := l.left.W.Rows, s.Width
	s.Queue(&l.left, s.Up, rank)
	s.Compute(s.P, s.Groups, batch.Nothing)
	s.Prepare(s.Up, s.T, rank)
	s.Queue(&l.right, s.Out, w)
	s.Compute(s.P, s.Groups, batch.Nothing)
	s.NormRows(&l.norm, s.Out, s.T, w)
	parts.Accumulate(s.Out[:s.T*w], s.H[:s.T*w])
}
