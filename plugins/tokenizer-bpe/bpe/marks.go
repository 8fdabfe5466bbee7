package bpe

import (
	"edged/plugins/tokenizer-bpe/bpe/model"
	"edged/plugins/tokenizer-bpe/bpe/split"
)

// marks are places of a text that is encoded, and how many ids there are before each that no text behind it changes.
type marks struct {
	at       []int // ascending
	counts   []int // of the first ones of at
	measured int   // places within texts that were looked at
}

// maxMeasured is how many places within texts are counted exactly, which takes encoding a part of the text
// again. Others count as the beginning of the text between two control tokens that they are in.
const maxMeasured = 4

// next is the first place that was not counted yet.
func (m *marks) next() (int, bool) {
	if m == nil || len(m.counts) == len(m.at) {
		return 0, false
	}
	return m.at[len(m.counts)], true
}

// count counts n ids, and not less than before the place before.
func (m *marks) count(n int) {
	if k := len(m.counts); k > 0 {
		n = max(n, m.counts[k-1])
	}
	m.counts = append(m.counts, n)
}

// upTo counts n ids for all places up to a byte.
func (m *marks) upTo(end, n int) {
	for at, ok := m.next(); ok && at <= end; at, ok = m.next() {
		m.count(n)
	}
}

// before is upTo for places before a byte.
func (m *marks) before(end, n int) { m.upTo(end-1, n) }

// within is the next place, where it is before a byte.
func (m *marks) within(end int) (int, bool) {
	at, ok := m.next()
	return at, ok && at < end
}

// unchangedIDs is how many of the ids that w got from began on the beginning of their text has too: s, as it
// was written. What is not found out within the bounds of a text counts as none.
func (t *Tokenizer) unchangedIDs(w *model.Scratch, began int, s string, first, afterToken, parse, guarded bool) int {
	end, budget := len(w.Out), w.Patterns
	if guarded {
		s = t.guard.remove(s)
	}
	w.Patterns = split.NewBudget(len(s))
	err := t.encodeText(w, s, first, afterToken, parse)
	whole, part := w.Out[began:end], w.Out[end:]
	w.Out, w.Patterns = w.Out[:end], budget
	if err != nil {
		return 0
	}
	n := 0
	for n < min(len(whole), len(part)) && whole[n] == part[n] {
		n++
	}
	// What follows may join the last one: its text would be there as a part of a longer one.
	return min(n, max(0, len(part)-1))
}
