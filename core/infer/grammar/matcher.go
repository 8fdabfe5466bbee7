package grammar

import (
	"fmt"
	"math/bits"

	"edged/core/infer/grammar/gbnf"
	"edged/core/infer/grammar/network"
)

// Matcher follows one text, token by token. It belongs to one goroutine.
//
// Where the grammar leaves one text, however it is cut into tokens, the cut is not left to chance: it is the
// one of Vocabulary.split, and Next names its tokens one by one. The last token of such a run is drawn all
// the same, unless the text ends there: it may reach into what follows. All of it depends on the tokens so
// far and nothing else.
type Matcher struct {
	a    *Automaton
	at   *state
	left int     // tokens that may still come
	run  []int32 // tokens that are decided
	mask []uint64

	credit int // places that may still be looked at
}

// A text is held to its share of the time of those that are written beside it: it begins with burst places
// that may be looked at, and gets refill for each token that came. Schemas look at 170 a token on average,
// and at 35,000 at most (in a state that is new, with Qwen 2's vocabulary); a place takes some 50 ns.
const (
	burst  = 1 << 20
	refill = 1 << 15
)

// begin begins a call; settle charges it.
func (m *Matcher) begin() *Automaton {
	m.a.mu.Lock()
	m.a.work, m.a.most = 0, m.credit
	return m.a
}

func (m *Matcher) settle() {
	m.credit -= m.a.work
	m.a.mu.Unlock()
}

// Start begins a text of at most limit tokens. The error is ErrTooShort where that is not enough.
func (a *Automaton) Start(limit int) (*Matcher, error) {
	m := &Matcher{a: a, at: a.start, left: limit, credit: burst}
	m.begin()
	defer m.settle()
	if n := a.atLeast(a.start); n > limit { // without a look at a text that may have a hundred thousand bytes
		return nil, fmt.Errorf("%w: the shortest text takes %d tokens or more, and %d may be written", ErrTooShort, n, limit)
	}
	switch n := a.need(a.start); {
	case a.over():
		return nil, errAmbiguous
	case int(n) > limit:
		return nil, fmt.Errorf("%w: the shortest text takes %d tokens, and %d may be written", ErrTooShort, n, limit)
	}
	m.decide()
	return m, nil
}

// Step holds the tokens that the grammar allows next.
type Step struct {
	Mask []uint64 // the allowed ids, 64 to a word; the matcher's own, true until the next call
	Only int32    // the one token that may come; -1: there are several, or none
	Ends bool     // the text is complete: it may end here
	None bool     // nothing can follow; Ends is set then
}

// Next returns the tokens that may come next. The error is ErrTooLarge, with ErrEffort where the text has
// used up its share of work.
func (m *Matcher) Next() (Step, error) {
	a := m.begin()
	defer m.settle()
	if m.mask == nil {
		m.mask = make([]uint64, (a.v.limit+63)/64)
	}
	clear(m.mask)
	if len(m.run) > 0 {
		m.mask[m.run[0]>>6] |= 1 << (m.run[0] & 63)
		return Step{Mask: m.mask, Only: m.run[0]}, nil
	}
	if m.left <= 0 {
		return Step{Mask: m.mask, Only: -1, Ends: m.at.ends, None: true}, nil
	}
	s, err := a.tokens(m.at)
	if err != nil {
		return Step{}, err
	}
	n, some := s.count, int32(-1)
	switch limit := m.left - 1; {
	case int(s.worst) > limit:
		worst, err := a.fill(m.at, m.mask, int32(min(limit, network.Never-1)))
		if err != nil {
			return Step{}, err
		}
		n = 0
		for i, w := range m.mask {
			if w != 0 {
				n += bits.OnesCount64(w)
				some = int32(i<<6 + bits.TrailingZeros64(w))
			}
		}
		if n == s.count { // all of them: the bound was loose
			s.worst = worst
		}
	case s.mask == nil:
		for _, some = range s.ids {
			m.mask[some>>6] |= 1 << (some & 63)
		}
	default:
		copy(m.mask, s.mask)
	}
	a.bound()
	st := Step{Mask: m.mask, Only: -1, Ends: m.at.ends, None: n == 0}
	if n == 1 && !st.Ends {
		st.Only = some
	}
	if st.None && !st.Ends {
		return Step{}, fmt.Errorf("%w: no token can follow: it is too ambiguous, or calls deeper than %d", ErrTooLarge, maxFrames)
	}
	return st, nil
}

// bound keeps the automaton small. It runs when no state is in use but those that matchers hold.
func (a *Automaton) bound() {
	if a.kept > maxKept {
		a.forget()
	}
}

// Advance takes the token that came, by its bytes. The error is ErrRefused, after which the matcher is of no use.
func (m *Matcher) Advance(id int32, piece []byte) error {
	a := m.begin()
	defer m.settle()
	if len(m.run) > 0 && m.run[0] == id {
		m.run = m.run[1:]
	} else {
		m.run = nil
	}
	m.left--
	m.credit = min(m.credit+refill, burst)
	a.most = m.credit
	s := m.at
	for _, b := range piece {
		if s = a.step(s, b); a.over() {
			return errAmbiguous
		}
	}
	if s == dead || len(piece) == 0 {
		return fmt.Errorf("%w: token %d cannot come here", ErrRefused, id)
	}
	m.at = s
	m.decide()
	return nil
}

// Skip takes bytes that came with a token from before the text. The errors are ErrRefused and ErrTooShort,
// after which the matcher is of no use.
func (m *Matcher) Skip(text []byte) error {
	a := m.begin()
	defer m.settle()
	for _, b := range text {
		if m.at = a.step(m.at, b); a.over() {
			return errAmbiguous
		}
	}
	if m.at == dead {
		return fmt.Errorf("%w: %q cannot come here", ErrRefused, text)
	}
	if n := a.need(m.at); int(n) > m.left {
		return fmt.Errorf("%w: the shortest text takes %d tokens more, and %d may be written", ErrTooShort, n, m.left)
	}
	m.run = nil
	m.decide()
	return nil
}

// Follow is how many of a row of tokens, from the first on, the text could go on with, as far as their bytes
// say: the limit is not looked at.
func (m *Matcher) Follow(ids []int32, piece func(id int32) []byte) int {
	a := m.begin()
	defer m.settle()
	s := m.at
	for i, id := range ids {
		text := piece(id)
		for _, b := range text {
			s = a.step(s, b)
		}
		if a.over() {
			return i
		}
		if s == dead || len(text) == 0 {
			return i
		}
	}
	return len(ids)
}

// Shorten lets at most left tokens come. The error is ErrTooShort where they do not complete the text.
func (m *Matcher) Shorten(left int) error {
	if left >= m.left {
		return nil
	}
	a := m.begin()
	defer m.settle()
	if n := a.need(m.at); int(n) > left {
		return fmt.Errorf("%w: the shortest text takes %d tokens more, and %d may be written", ErrTooShort, n, left)
	}
	m.left, m.run = left, nil
	m.decide()
	return nil
}

// Least is how many tokens the shortest text takes from here on, as far as is known.
func (m *Matcher) Least() int {
	a := m.begin()
	defer m.settle()
	return int(a.need(m.at))
}

// Ended says that the text is complete and nothing can follow.
func (m *Matcher) Ended() bool { return m.at.ends && len(m.at.places) == 0 }

// maxDecided bounds one run, bytes.
const maxDecided = 256

// decide looks for a run of bytes that are the only ones.
func (m *Matcher) decide() {
	a := m.a
	if len(m.run) > 0 {
		return
	}
	var text []byte
	s := m.at
	for len(text) < maxDecided {
		b, ok := a.single(s)
		if !ok || b == gbnf.TokenBegin || a.over() { // a control token is no text that could be cut otherwise
			break
		}
		to := a.step(s, b)
		if to == dead {
			break
		}
		text, s = append(text, b), to
	}
	if len(text) < 2 {
		return
	}
	ids, ends := a.v.split(text)
	if n := len(ids) - 1; n >= 0 && (!s.ends || len(s.places) > 0) {
		ids = ids[:n] // the last one may reach into what follows
		s = m.at
		for _, b := range text[:append([]int{0}, ends...)[n]] {
			s = a.step(s, b)
		}
	}
	if len(ids)+int(a.need(s)) > m.left {
		return // only the shortest cut fits
	}
	m.run = ids
}

// single is the one byte that may follow a state, if it is one.
func (a *Automaton) single(s *state) (byte, bool) {
	if s.ends || len(s.places) == 0 {
		return 0, false
	}
	first := true
	var b byte
	for _, p := range s.places {
		for _, e := range a.net.Nodes[p.node].Edges {
			a.work++
			if !a.net.Alive[e.To] {
				continue
			}
			if e.Lo != e.Hi || !first && e.Lo != b {
				return 0, false
			}
			b, first = e.Lo, false
		}
	}
	return b, !first
}
