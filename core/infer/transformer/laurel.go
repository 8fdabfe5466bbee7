package transformer

import "edged/core/model/arch"

// laurel is the low-rank branch beside attention, see arch.Laurel.
type laurel struct {
	left, right linear
	norm        norm
}

// laurel binds it.
func (b *builder) laurel(op *arch.Laurel) *laurel {
	w, name := b.spec.Width, arch.RMS("laurel_post_norm", op.Eps)
	l := &laurel{left: b.linear("laurel_l", op.Rank, w), right: b.linear("laurel_r", w, op.Rank), norm: b.norm(&name, w)}
	b.weigh(&l.left, 1, 1)
	b.weigh(&l.right, 1, 1)
	return l
}

func (l *laurel) forward(s *step) {
	rank, w := l.left.w.Rows, s.m.spec.Width
	s.queue(&l.left, s.up, rank)
	s.compute(s.p, s.groups, nothing)
	s.prepare(s.up, s.t, rank)
	s.queue(&l.right, s.out, w)
	s.compute(s.p, s.groups, nothing)
	s.inPlace = inPlaceJob{s: s, n: &l.norm, x: s.out, rows: s.t, cols: w}
	s.run(s.rowChunks(s.t), &s.inPlace)
	accumulate(s.out[:s.t*w], s.h[:s.t*w])
}
