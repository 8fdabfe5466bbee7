package transformer

import (
	"errors"
	"fmt"
	"slices"

	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// Row is one token of a sequence.
type Row struct {
	Seq      *Seq
	Token    int32     // below 0: a virtual token of the adapters' soft prompts, see Adapter.Virtual
	Type     int32     // of the token, where the model has token types: see arch.Embed
	Adapters []Use     // applied in this order; the order is part of what makes two rows' bits equal
	Logits   []float32 // (VocabRows), filled with the logits of the next token; nil: not wanted. Owned by the caller
	// Sum (Width) is added the row's hidden state behind the last norm, in the order of the sequence's rows, so that its bits
	// depend on the sequence only; nil: not wanted. Owned by the caller.
	Sum []float32
	// Peaks (⌈VocabRows/sample.PeakLen⌉) is filled with those of Logits: see sample.Peaks; nil: not wanted. Owned by the caller.
	Peaks []float32
}

// Forward runs a batch: rows of any number of sequences, decoded tokens and pieces of prompts mixed. The rows of one
// sequence are consecutive and are appended at positions Len, Len+1, …
//
// An error leaves every sequence as it was: ErrNoPages, ErrContext, or one that names the row that is wrong. In steady
// state nothing is allocated.
func (m *Model) Forward(rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	if err := m.check(rows); err != nil {
		return err
	}
	for i := 0; i < len(rows); i += rows[i].Seq.rows {
		rows[i].Seq.Extend(rows[i].Seq.rows)
	}
	s := m.step
	s.begin(rows)
	for i := range m.net.units {
		if m.net.units[i].forward(s); s.t == 0 {
			break
		}
	}
	if s.t > 0 {
		s.head()
	}
	s.end()
	for i := 0; i < len(rows); {
		seq := rows[i].Seq
		i += seq.rows
		seq.Advance(seq.rows)
	}
	return nil
}

// check refuses a batch that cannot be run. It counts the rows of each sequence, which is all that it writes: the next check counts anew.
func (m *Model) check(rows []Row) error {
	if m.closed {
		return errors.New("transformer: the model is closed")
	}
	if len(rows) > m.opt.MaxRows {
		return fmt.Errorf("transformer: a batch of %d rows: at most %d are reserved for", len(rows), m.opt.MaxRows)
	}
	m.turn++
	var last *Seq
	for i := range rows {
		r := &rows[i]
		if r.Seq == nil || r.Seq.Of() != m.kv {
			return fmt.Errorf("transformer: row %d: its sequence was freed or is of another model", i)
		}
		if r.Seq != last {
			if r.Seq.turn == m.turn {
				return fmt.Errorf("transformer: row %d: the rows of its sequence are not consecutive", i)
			}
			r.Seq.turn, r.Seq.rows = m.turn, 0
			last = r.Seq
		}
		r.Seq.rows++
		if int(r.Token) >= m.spec.Vocab {
			return fmt.Errorf("transformer: row %d: token %d: the model has %d", i, r.Token, m.spec.Vocab)
		}
		if n := r.Seq.Len() + r.Seq.rows; n > m.opt.Context {
			return fmt.Errorf("%w: row %d makes %d positions of at most %d", ErrContext, i, n, m.opt.Context)
		}
		if n := r.Seq.Len() + r.Seq.rows; m.border > 0 && n > m.border && r.Seq.Stretched() == 0 {
			return fmt.Errorf("transformer: row %d: its sequence grows beyond %d positions and is not stretched", i, m.border)
		}
		if r.Logits != nil && len(r.Logits) != m.spec.Vocab {
			return fmt.Errorf("transformer: row %d: room for %d logits: the model has %d", i, len(r.Logits), m.spec.Vocab)
		}
		if n := peaks(m.spec.Vocab); r.Peaks != nil && (len(r.Peaks) != n || r.Logits == nil) {
			return fmt.Errorf("transformer: row %d: room for %d peaks of %d logits: the model has %d", i, len(r.Peaks), len(r.Logits), n)
		}
		if r.Sum != nil && len(r.Sum) != m.spec.Width {
			return fmt.Errorf("transformer: row %d: room for %d hidden values: the model has %d", i, len(r.Sum), m.spec.Width)
		}
		if r.Type < 0 || int(r.Type) >= max(m.spec.Embed.Types, 1) {
			return fmt.Errorf("transformer: row %d: token type %d: the model has %d", i, r.Type, m.spec.Embed.Types)
		}
		if m.spec.Kind == arch.Encoder && (r.Logits != nil || r.Seq.Len() > 0) {
			return fmt.Errorf("transformer: row %d: an encoder reads whole texts and has no logits", i)
		}
		if m.spec.Encoder != nil && (r.Seq.text == nil || r.Seq.text.Of() != m.kv) {
			return fmt.Errorf("transformer: row %d: its sequence has no text to answer", i)
		}
		if err := m.checkUses(r.Adapters); err != nil {
			return fmt.Errorf("transformer: row %d: %w", i, err)
		}
		if r.Token < 0 {
			if a, _ := virtual(r.Adapters, r.Token); a == nil {
				return fmt.Errorf("transformer: row %d: token %d: its adapters have no virtual token of that number", i, r.Token)
			}
		}
	}
	need := 0
	for i := 0; i < len(rows); i += rows[i].Seq.rows {
		need += rows[i].Seq.Need(rows[i].Seq.rows)
	}
	if need > m.kv.FreePages() {
		return fmt.Errorf("%w: %d wanted, %d free", ErrNoPages, need, m.kv.FreePages())
	}
	if m.kv.Fixed() {
		return m.checkStates(rows)
	}
	return nil
}

// begin lays out the rows, those with the same adapters together, and embeds their tokens.
func (s *step) begin(rows []Row) {
	s.threads = s.m.info.ThreadsPrefill
	if len(rows) < DecodeRows {
		s.threads = s.m.info.ThreadsDecode
	}
	s.t, s.pending, s.first = len(rows), [2]*unit{}, nil
	if n := &s.m.net.embedNorm; !n.none() {
		s.first = n
	}
	s.rows, s.groups = s.rows[:len(rows)], s.groups[:0]
	// Groups in order of their first row; within a group rows keep their order.
	for i := range rows {
		if g := s.group(rows[i].Adapters); g < 0 {
			s.groups = append(s.groups, rowGroup{hi: 1, uses: rows[i].Adapters})
		} else {
			s.groups[g].hi++
		}
	}
	at := 0
	for g := range s.groups {
		s.groups[g].lo, at = at, at+s.groups[g].hi
		s.groups[g].hi = s.groups[g].lo
	}
	var seq *Seq
	pos := 0
	for i := range rows {
		if r := &rows[i]; r.Seq != seq {
			seq, pos = r.Seq, r.Seq.Len()
			for i := range s.m.net.ropes {
				s.m.net.ropes[i].prepare(seq.Stretched())
			}
		}
		g := &s.groups[s.group(rows[i].Adapters)]
		s.rows[g.hi] = row{seq: seq, pos: pos, token: rows[i].Token, kind: rows[i].Type, uses: rows[i].Adapters, logits: rows[i].Logits, peaks: rows[i].Peaks, sum: rows[i].Sum}
		g.hi++
		pos++
	}
	if widen := &s.m.net.widen; widen.w != nil {
		s.run(s.rowChunks(s.t), &s.narrow)
		s.prepare(s.h, s.t, widen.w.Cols)
		s.queue(widen, s.x, s.m.spec.Width)
		s.compute(s.p, s.groups, nothing)
	}
	s.run(s.rowChunks(s.t), &s.embed)
	if p := s.m.net.perLayer; p != nil {
		p.read(s)
	}
}

// group finds the group of a set of adapters, or returns -1.
func (s *step) group(uses []Use) int {
	for i := range s.groups {
		if slices.Equal(s.groups[i].uses, uses) {
			return i
		}
	}
	return -1
}

// end lets go of what belongs to the caller.
func (s *step) end() {
	clear(s.rows[:cap(s.rows)])
	clear(s.groups[:cap(s.groups)])
	clear(s.sub[:cap(s.sub)])
	clear(s.runs[:cap(s.runs)])
}

type embedJob struct{ s *step }

func (j *embedJob) Do(worker, chunk int) {
	s, w := j.s, j.s.m.spec.Width
	net := &s.m.net
	lo, hi := s.rowRange(s.t, chunk)
	for g := range s.groups {
		group := &s.groups[g]
		for t := max(lo, group.lo); t < min(hi, group.hi); t++ {
			r := &s.rows[t]
			x := s.x[t*w : (t+1)*w]
			if r.token < 0 {
				if a, i := virtual(group.uses, r.token); a.prompt != nil {
					quant.Row(x, a.prompt, i)
				} else {
					clear(x) // of a prefix, whose keys and values stand in the place of what is computed
				}
			} else if net.widen.w == nil {
				s.embedding(worker, x, r.token, group.uses)
			}
			if net.positions != nil {
				d := s.d[t*w : (t+1)*w]
				quant.Row(d, net.positions, r.pos+net.offset)
				accumulate(x, d)
			}
			if net.types != nil {
				d := s.d[t*w : (t+1)*w]
				quant.Row(d, net.types, int(r.kind))
				accumulate(x, d)
			}
			for i := range net.ropes {
				cos, sin := s.angles(i, t)
				net.ropes[i].fill(cos, sin, r.pos, r.seq.Stretched())
			}
		}
	}
}

// embedding reads the row of a token.
func (s *step) embedding(worker int, x []float32, token int32, uses []Use) {
	quant.Row(x, s.m.net.embed, int(token))
	s.adaptEmbedding(&s.workers[worker], x, token, uses)
	scale(x, s.m.net.scale)
}

// narrowJob reads the rows of an embedding that is narrower than the layers. What stands for a virtual token is as wide as they are.
type narrowJob struct{ s *step }

func (j *narrowJob) Do(worker, chunk int) {
	s := j.s
	w := s.m.net.widen.w.Cols
	lo, hi := s.rowRange(s.t, chunk)
	for g := range s.groups {
		group := &s.groups[g]
		for t := max(lo, group.lo); t < min(hi, group.hi); t++ {
			if x := s.h[t*w : (t+1)*w]; s.rows[t].token < 0 {
				clear(x)
			} else {
				s.embedding(worker, x, s.rows[t].token, group.uses)
			}
		}
	}
}

// angles are the cosines and sines of rotation i at row t.
func (s *step) angles(i, t int) (cos, sin []float32) {
	r := &s.m.net.ropes[i]
	n := len(r.freq)
	at := r.at*cap(s.rows) + t*n
	return s.cos[at : at+n], s.sin[at : at+n]
}

// adaptEmbedding adds the low-rank part of the embedding of a token: scale·B·A[token].
func (s *step) adaptEmbedding(w *worker, x []float32, token int32, uses []Use) {
	for _, u := range uses {
		e := u.Adapter.embed
		if e == nil || u.Scale == 0 && u.Adapter.embedDora == nil {
			continue
		}
		rank := e.A.Cols
		w.code, w.changed = slices.Grow(w.code[:0], rank)[:rank], slices.Grow(w.changed[:0], len(x))[:len(x)]
		quant.Row(w.code, e.A, int(token))
		w.act.Rows, w.act.Cols, w.act.X = 1, rank, w.code
		s.k.MatMul(w.changed, len(x), e.B, &w.act, kernel.Exact, 0, len(x))
		accumulateScaled(x, w.changed, u.Scale*e.Scale)
		if d := u.Adapter.embedDora; d != nil {
			d.apply(x, nil, u.Scale, 0)
		}
	}
}

// head computes the logits of the rows that want them, headRows rows at a time.
func (s *step) head() {
	w, vocab := s.m.spec.Width, s.m.spec.Vocab
	net := &s.m.net
	s.normalize(&net.end)
	summed := s.sum()
	for lo := 0; lo < s.t; lo += headRows {
		hi := min(lo+headRows, s.t)
		if s.t > headRows || summed {
			s.prepare(s.h[lo*w:], hi-lo, w)
		}
		s.sub = s.sub[:0]
		for _, g := range s.groups {
			if a, b := max(g.lo, lo), min(g.hi, hi); a < b {
				s.sub = append(s.sub, rowGroup{lo: a - lo, hi: b - lo, uses: g.uses})
			}
		}
		if narrow := &net.narrow; narrow.w != nil {
			s.queue(narrow, s.d, narrow.w.Rows)
			s.compute(s.p, s.sub, nothing)
			s.prepare(s.d, hi-lo, narrow.w.Rows)
		}
		s.mul.outs = s.rows[lo:hi]
		if y := together(s.mul.outs, vocab); y != nil {
			s.queue(&net.head, y, vocab)
		} else {
			s.queue(&net.head, s.logits, vocab)
			s.mul.copied = true
		}
		s.compute(s.p, s.sub, nothing)
	}
}

// together is the memory of the rows' logits where they lie one behind the other, so that a product can write them in place:
// to copy those of eight rows of a large vocabulary took a fiftieth of a turn. Nil: they do not.
func together(rows []row, vocab int) []float32 {
	first := rows[0].logits
	if cap(first) < len(rows)*vocab {
		return nil
	}
	all := first[:len(rows)*vocab]
	for t := range rows {
		if &rows[t].logits[0] != &all[t*vocab] {
			return nil
		}
	}
	return all
}

// sum adds the normalised rows to the sums that want them, and forgets those that want nothing else. It reports whether
// there were any.
func (s *step) sum() bool {
	w, n, any := s.m.spec.Width, 0, false
	for t := range s.rows {
		if r := &s.rows[t]; r.sum != nil {
			accumulate(r.sum, s.h[t*w:(t+1)*w])
			any = true
		}
	}
	if !any {
		return false
	}
	s.sub = s.sub[:0]
	for _, g := range s.groups {
		lo := n
		for t := g.lo; t < g.hi; t++ {
			if s.rows[t].logits == nil {
				continue
			}
			if n != t {
				s.rows[n] = s.rows[t]
				copy(s.h[n*w:(n+1)*w], s.h[t*w:(t+1)*w])
			}
			n++
		}
		if n > lo {
			s.sub = append(s.sub, rowGroup{lo: lo, hi: n, uses: g.uses})
		}
	}
	s.t = n
	s.rows = s.rows[:n]
	s.groups, s.sub = s.sub, s.groups
	return true
}
