package transformer

import (
	"slices"

	"edged/core/infer/transformer/adapter"
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/parts"
	"edged/quant"
	"edged/quant/kernel"
)

// embedJob embeds the tokens of some rows and computes the angles of their positions.
type embedJob struct{ m *Model }

func (j *embedJob) Do(worker, chunk int) {
	m, s, w := j.m, j.m.step, j.m.spec.Width
	net := &m.net
	lo, hi := s.RowRange(s.T, chunk)
	for g := range s.Groups {
		group := &s.Groups[g]
		for t := max(lo, group.Lo); t < min(hi, group.Hi); t++ {
			r := &s.Rows[t]
			x := s.X[t*w : (t+1)*w]
			if r.Token < 0 {
				if a, i := adapter.Virtual(group.Uses, r.Token); a.SoftPrompt() != nil {
					quant.Row(x, a.SoftPrompt(), i)
				} else {
					clear(x) // of a prefix, whose keys and values stand in the place of what is computed
				}
			} else if net.widen.W == nil {
				m.embedding(&s.Workers[worker], x, r.Token, group.Uses)
			}
			if !net.inner {
				net.place(x, s.D[t*w:(t+1)*w], r)
			}
			for i := range net.ropes {
				cos, sin := s.Angles(i, t)
				net.ropes[i].Fill(cos, sin, r.Pos, r.Seq.Stretched())
			}
		}
	}
}

// place adds the rows of a token's position and of its type, read into d, to its own.
func (n *network) place(x, d []float32, r *batch.Row) {
	if n.positions != nil {
		quant.Row(d, n.positions, r.Pos+n.offset)
		parts.Accumulate(x, d)
	}
	if n.types != nil {
		quant.Row(d, n.types, int(r.Kind))
		parts.Accumulate(x, d)
	}
}

// embedding reads the row of a token.
func (m *Model) embedding(w *batch.Worker, x []float32, token int32, uses []Use) {
	quant.Row(x, m.net.embed, int(token))
	adaptEmbedding(m.step, w, x, token, uses)
	parts.Scale(x, m.net.scale)
}

// narrowJob reads the rows of an embedding that is narrower than the layers. What stands for a virtual token
// is as wide as they are.
type narrowJob struct{ m *Model }

func (j *narrowJob) Do(worker, chunk int) {
	m, s, w := j.m, j.m.step, j.m.net.widen.W.Cols
	lo, hi := s.RowRange(s.T, chunk)
	for g := range s.Groups {
		group := &s.Groups[g]
		for t := max(lo, group.Lo); t < min(hi, group.Hi); t++ {
			if x := s.H[t*w : (t+1)*w]; s.Rows[t].Token < 0 {
				clear(x)
			} else {
				m.embedding(&s.Workers[worker], x, s.Rows[t].Token, group.Uses)
				if m.net.inner {
					m.net.place(x, s.D[t*w:(t+1)*w], &s.Rows[t])
					m.net.innerNorm.Apply(s.K, x, x)
				}
			}
		}
	}
}

// adaptEmbedding adds the low-rank part of the embedding of a token: scale·B·A[token].
func adaptEmbedding(s *batch.Batch, w *batch.Worker, x []float32, token int32, uses []Use) {
	for _, u := range uses {
		e, lengths := u.Adapter.Embedding()
		if e == nil || u.Scale == 0 && lengths == nil {
			continue
		}
		rank := e.A.Cols
		w.Code, w.Changed = slices.Grow(w.Code[:0], rank)[:rank], slices.Grow(w.Changed[:0], len(x))[:len(x)]
		quant.Row(w.Code, e.A, int(token))
		w.Act.Rows, w.Act.Cols, w.Act.X = 1, rank, w.Code
		s.K.MatMul(w.Changed, len(x), e.B, &w.Act, kernel.Exact, 0, len(x))
		parts.AccumulateScaled(x, w.Changed, u.Scale*e.Scale)
		if lengths != nil {
			lengths.Apply(x, nil, u.Scale, 0)
		}
	}
}
