package transformer

import (
	"errors"
	"fmt"
	"slices"

	"edged/core/infer/transformer/adapter"
	"edged/core/infer/transformer/batch"
	"edged/core/model/arch"
)

// Row is one token of a sequence.
type Row struct {
	Seq      *Seq
	Token    int32     // below 0: a virtual token of the adapters' soft prompts, see Adapter.Virtual
	Type     int32     // of the token, where the model has token types: see arch.Embed
	Adapters []Use     // applied in this order; the order is part of what makes two rows' bits equal
	Logits   []float32 // (VocabRows), filled with the logits of the next token; nil: not wanted. Owned by the caller
	// Sum (Width) is added the row's hidden state behind the last norm, in the order of the sequence's rows,
	// so that its bits depend on the sequence only; nil: not wanted. Owned by the caller.
	Sum []float32
	// Peaks (⌈VocabRows/sample.PeakLen⌉) is filled with those of Logits: see sample.Peaks; nil: not wanted.
	// Owned by the caller.
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
	m.begin(rows)
	for i := range m.net.units {
		if m.net.units[i].Forward(s); s.T == 0 {
			break
		}
	}
	if s.T > 0 {
		s.Head(&m.net.end, &m.net.narrow, &m.net.head)
	}
	s.End()
	for i := 0; i < len(rows); {
		seq := rows[i].Seq
		i += seq.rows
		seq.Advance(seq.rows)
	}
	return nil
}

// check refuses a batch that cannot be run. It counts the rows of each sequence, which is all that it writes:
// the next check counts anew.
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
		if n := batch.Peaks(m.spec.Vocab); r.Peaks != nil && (len(r.Peaks) != n || r.Logits == nil) {
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
			if a, _ := adapter.Virtual(r.Adapters, r.Token); a == nil {
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
func (m *Model) begin(rows []Row) {
	s := m.step
	s.Threads = m.info.ThreadsPrefill
	if len(rows) < DecodeRows {
		s.Threads = m.info.ThreadsDecode
	}
	s.T, s.Pending, s.First = len(rows), [2]*batch.Unit{}, nil
	if n := &m.net.embedNorm; !n.None() {
		s.First = n
	}
	s.Rows, s.Groups = s.Rows[:len(rows)], s.Groups[:0]
	// Groups in order of their first row; within a group rows keep their order.
	for i := range rows {
		if g := s.Group(rows[i].Adapters); g < 0 {
			s.Groups = append(s.Groups, batch.Group{Hi: 1, Uses: rows[i].Adapters})
		} else {
			s.Groups[g].Hi++
		}
	}
	at := 0
	for g := range s.Groups {
		s.Groups[g].Lo, at = at, at+s.Groups[g].Hi
		s.Groups[g].Hi = s.Groups[g].Lo
	}
	var seq *Seq
	pos := 0
	for i := range rows {
		if r := &rows[i]; r.Seq != seq {
			seq, pos = r.Seq, r.Seq.Len()
			for i := range m.net.ropes {
				m.net.ropes[i].Prepare(seq.Stretched())
			}
		}
		g := &s.Groups[s.Group(rows[i].Adapters)]
		s.Rows[g.Hi] = batch.Row{
			Seq: seq.Seq, Of: seq.rows, Pos: pos, Token: rows[i].Token, Kind: rows[i].Type, Uses: rows[i].Adapters,
			Logits: rows[i].Logits, Peaks: rows[i].Peaks, Sum: rows[i].Sum,
		}
		if seq.text != nil {
			s.Rows[g.Hi].Text = seq.text.Seq
		}
		g.Hi++
		pos++
	}
	if widen := &m.net.widen; widen.W != nil {
		s.Run(s.RowChunks(s.T), &m.narrow)
		s.Prepare(s.H, s.T, widen.W.Cols)
		s.Queue(widen, s.X, s.Width)
		s.Compute(s.P, s.Groups, batch.Nothing)
	}
	s.Run(s.RowChunks(s.T), &m.embed)
	if p := m.net.perLayer; p != nil {
		p.Read(s)
	}
}

// checkStates refuses a batch whose sequences need more fixed states than are free, or whose rows would not
// be computed in their order.
func (m *Model) checkStates(rows []Row) error {
	need := 0
	for i := 0; i < len(rows); {
		n := rows[i].Seq.rows
		others := 0 // of the same state, before this one
		for k := 0; k < i; k += rows[k].Seq.rows {
			if slot := rows[k].Seq.StateSlot(); slot >= 0 && slot == rows[i].Seq.StateSlot() {
				others++
			}
		}
		if rows[i].Seq.NeedStateAfter(others) {
			need++
		}
		for k := i + 1; k < i+n; k++ {
			if !slices.Equal(rows[k].Adapters, rows[i].Adapters) {
				return fmt.Errorf("transformer: row %d: other adapters than the row before, whose state it goes on with", k)
			}
		}
		i += n
	}
	if free := m.kv.FreeStates(); need > free {
		return fmt.Errorf("%w: %d states wanted, %d free", ErrNoPages, need, free)
	}
	return nil
}
