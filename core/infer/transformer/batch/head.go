package batch

import (
	"edged/core/infer/transformer/parts"
)

// Head computes the logits of the rows that want them by the norm end and the output head out, HeadRows rows
// at a time. Where the head reads rows of another width, narrow makes them; else it is empty.
func (s *Batch) Head(end *Unit, narrow, out *parts.Linear) {
	w, vocab := s.Width, s.vocab
	s.normalize(end)
	summed := s.sum()
	for lo := 0; lo < s.T; lo += HeadRows {
		hi := min(lo+HeadRows, s.T)
		if s.T > HeadRows || summed {
			s.Prepare(s.H[lo*w:], hi-lo, w)
		}
		s.Sub = s.Sub[:0]
		for _, g := range s.Groups {
			if a, b := max(g.Lo, lo), min(g.Hi, hi); a < b {
				s.Sub = append(s.Sub, Group{Lo: a - lo, Hi: b - lo, Uses: g.Uses})
			}
		}
		if narrow.W != nil {
			s.Queue(narrow, s.D, narrow.W.Rows)
			s.Compute(s.P, s.Sub, Nothing)
			s.Prepare(s.D, hi-lo, narrow.W.Rows)
		}
		s.mul.outs = s.Rows[lo:hi]
		if y := together(s.mul.outs, vocab); y != nil {
			s.Queue(out, y, vocab)
		} else {
			s.Queue(out, s.logits, vocab)
			s.mul.copied = true
		}
		s.Compute(s.P, s.Sub, Nothing)
	}
}

// together is the memory of the rows' logits where they lie one behind the other, so that a product can write
// them in place: to copy those of eight rows of a large vocabulary took a fiftieth of a turn. Nil: they do
// not.
func together(rows []Row, vocab int) []float32 {
	first := rows[0].Logits
	if cap(first) < len(rows)*vocab {
		return nil
	}
	all := first[:len(rows)*vocab]
	for t := range rows {
		if &rows[t].Logits[0] != &all[t*vocab] {
			return nil
		}
	}
	return all
}

// sum adds the normalised rows to the sums that want them, and forgets those that want nothing else. It reports whether
// there were any.
func (s *Batch) sum() bool {
	w, n, any := s.Width, 0, false
	for t := range s.Rows {
		if r := &s.Rows[t]; r.Sum != nil {
			parts.Accumulate(r.Sum, s.H[t*w:(t+1)*w])
			any = true
		}
	}
	if !any {
		return false
	}
	s.Sub = s.Sub[:0]
	for _, g := range s.Groups {
		lo := n
		for t := g.Lo; t < g.Hi; t++ {
			if s.Rows[t].Logits == nil {
				continue
			}
			if n != t {
				s.Rows[n] = s.Rows[t]
				copy(s.H[n*w:(n+1)*w], s.H[t*w:(t+1)*w])
			}
			n++
		}
		if n > lo {
			s.Sub = append(s.Sub, Group{Lo: lo, Hi: n, Uses: g.Uses})
		}
	}
	s.T = n
	s.Rows = s.Rows[:n]
	s.Groups, s.Sub = s.Sub, s.Groups
	return true
}
