package bpe

import (
	"cmp"
	"slices"
	"unicode"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// AddedToken is a token that is found in a text before it is cut into words.
type AddedToken struct {
	ID         int32
	Text       string
	Special    bool // a control token: found where special tokens are parsed only
	LStrip     bool // takes the white space before it along
	RStrip     bool // takes the white space after it along
	SingleWord bool // only where no word character adjoins
}

// fragment is a part of a text: a token, or text between tokens.
type fragment struct {
	from, to int
	token    int32 // -1: text
}

// matcher finds added tokens.
type matcher struct {
	tokens  []AddedToken
	root    [256]int32 // node after the first byte; 0: none
	nodes   []node     // nodes[0] is not used
	lengths []int      // that tokens have, longest first
	classes *split.Classes
	rank    []int // place of each token's length in lengths
}

// node is a place in the trie of token texts; its children are a list.
type node struct {
	child, sibling int32
	token          int32 // place in tokens + 1; 0: no token ends here
	b              byte
}

// newMatcher builds a matcher. classes say what a word is, for tokens that stand alone; nil where there are none.
func newMatcher(tokens []AddedToken, classes *split.Classes) *matcher {
	m := &matcher{nodes: make([]node, 1), classes: classes}
	for _, t := range tokens {
		if t.Text != "" {
			m.insert(t)
		}
	}
	m.rank = make([]int, len(m.tokens))
	for _, t := range m.tokens {
		m.lengths = append(m.lengths, len(t.Text))
	}
	slices.SortFunc(m.lengths, func(a, b int) int { return cmp.Compare(b, a) })
	m.lengths = slices.Compact(m.lengths)
	for i, t := range m.tokens {
		m.rank[i], _ = slices.BinarySearchFunc(m.lengths, len(t.Text), func(a, b int) int { return cmp.Compare(b, a) })
	}
	return m
}

func (m *matcher) insert(t AddedToken) {
	at := m.root[t.Text[0]]
	if at == 0 {
		at = m.grow(t.Text[0])
		m.root[t.Text[0]] = at
	}
	for i := 1; i < len(t.Text); i++ {
		next := m.step(at, t.Text[i])
		if next == 0 {
			next = m.grow(t.Text[i])
			m.nodes[next].sibling = m.nodes[at].child
			m.nodes[at].child = next
		}
		at = next
	}
	if m.nodes[at].token == 0 { // of equal texts the first counts
		m.tokens = append(m.tokens, t)
		m.nodes[at].token = int32(len(m.tokens))
	}
}

func (m *matcher) grow(b byte) int32 {
	m.nodes = append(m.nodes, node{b: b})
	return int32(len(m.nodes) - 1)
}

func (m *matcher) step(at int32, b byte) int32 {
	for c := m.nodes[at].child; c != 0; c = m.nodes[c].sibling {
		if m.nodes[c].b == b {
			return c
		}
	}
	return 0
}

// starts reports whether any token starts at s[i].
func (m *matcher) starts(s string, i int, counts func(t *AddedToken) bool) bool {
	at := m.root[s[i]]
	for i++; at != 0; i++ {
		if k := m.nodes[at].token; k != 0 && counts(&m.tokens[k-1]) {
			return true
		}
		if i == len(s) {
			return false
		}
		at = m.step(at, s[i])
	}
	return false
}

// pending reports whether s ends within a token's text: some tail of s is the beginning of one, and not all of it.
func (m *matcher) pending(s string, counts func(t *AddedToken) bool) bool {
	if len(m.lengths) == 0 {
		return false
	}
	for i := max(0, len(s)-m.lengths[0]); i < len(s); i++ {
		at := m.root[s[i]]
		for j := i + 1; at != 0 && j < len(s); j++ {
			at = m.step(at, s[j])
		}
		if at != 0 && m.continues(at, counts) {
			return true
		}
	}
	return false
}

// continues reports whether a token that counts ends below a node.
func (m *matcher) continues(at int32, counts func(t *AddedToken) bool) bool {
	for c := m.nodes[at].child; c != 0; c = m.nodes[c].sibling {
		if k := m.nodes[c].token; k != 0 && counts(&m.tokens[k-1]) || m.continues(c, counts) {
			return true
		}
	}
	return false
}

// leftmost splits as Hugging Face's tokenizers do: the leftmost match, the longest of those that start there.
// What parse rejects stays text as a whole.
func (m *matcher) leftmost(s string, parse func(t *AddedToken) bool) []fragment {
	var out []fragment
	done := 0 // up to here s is in out
	for i := 0; i < len(s); {
		t := m.longest(s, i)
		if t == nil {
			i++
			continue
		}
		from, to := i, i+len(t.Text)
		i = to
		if !parse(t) || t.SingleWord && (m.wordBefore(s[:from]) || m.wordAfter(s[to:])) {
			continue
		}
		if t.LStrip {
			from = max(done, trimRight(s[:from], unicode.IsSpace))
		}
		if t.RStrip {
			to += trimLeft(s[to:], unicode.IsSpace)
		}
		if done < from {
			out = append(out, fragment{from: done, to: from, token: -1})
		}
		if from < to { // else the token before took all of it
			out = append(out, fragment{from: from, to: to, token: t.ID})
		}
		done = to
	}
	if done < len(s) {
		out = append(out, fragment{from: done, to: len(s), token: -1})
	}
	return out
}

// longest returns the longest token at s[i], nil for none.
func (m *matcher) longest(s string, i int) (best *AddedToken) {
	at := m.root[s[i]]
	for i++; at != 0; i++ {
		if k := m.nodes[at].token; k != 0 {
			best = &m.tokens[k-1]
		}
		if i == len(s) {
			break
		}
		at = m.step(at, s[i])
	}
	return best
}

// byLength splits as llama.cpp does: it looks for the longest tokens in the whole text first, then for shorter ones in
// what is left. Of tokens of one length that overlap the leftmost counts (there the order is unspecified).
//
// llama.cpp searches the text once for every token, which takes seconds for a megabyte and the thousands of tokens that
// Gemma adds. Here one pass notes where tokens of which lengths start, and a pass per length places them.
func (m *matcher) byLength(s string, parse func(t *AddedToken) bool) []fragment {
	var placed []fragment
	var taken []uint64 // a bit per byte
	isTaken := func(i int) bool { return taken[i/64]>>(i%64)&1 != 0 }
	type hit struct {
		at      int
		lengths uint64
	}
	var hits []hit
	for first := 0; first < len(m.lengths); first += 64 {
		hits = hits[:0]
		var present uint64
		for i := range len(s) {
			if m.root[s[i]] == 0 {
				continue
			}
			if mask := m.at(s, i, first, parse); mask != 0 {
				hits = append(hits, hit{i, mask})
				present |= mask
			}
		}
		if present != 0 && taken == nil {
			taken = make([]uint64, len(s)/64+1)
		}
		for bit := range 64 {
			if present>>bit&1 == 0 {
				continue
			}
			n := m.lengths[first+bit]
			for _, h := range hits {
				// What is taken comes in runs of at least n bytes: both ends free, all free.
				if h.lengths>>bit&1 == 0 || isTaken(h.at) || isTaken(h.at+n-1) {
					continue
				}
				t := m.tokens[m.exact(s[h.at:h.at+n])-1]
				from, to := h.at, h.at+n
				for t.LStrip && from > 0 && isCSpace(s[from-1]) && !isTaken(from-1) {
					from--
				}
				for t.RStrip && to < len(s) && isCSpace(s[to]) && !isTaken(to) {
					to++
				}
				for i := from; i < to; i++ {
					taken[i/64] |= 1 << (i % 64)
				}
				placed = append(placed, fragment{from: from, to: to, token: t.ID})
			}
		}
	}
	slices.SortFunc(placed, func(a, b fragment) int { return cmp.Compare(a.from, b.from) })
	out := make([]fragment, 0, 2*len(placed)+1)
	done := 0
	for _, p := range placed {
		if done < p.from {
			out = append(out, fragment{from: done, to: p.from, token: -1})
		}
		out = append(out, p)
		done = p.to
	}
	if done < len(s) {
		out = append(out, fragment{from: done, to: len(s), token: -1})
	}
	return out
}

// at returns which of the 64 lengths from lengths[first] on the tokens at s[i] have.
func (m *matcher) at(s string, i, first int, parse func(t *AddedToken) bool) (mask uint64) {
	at := m.root[s[i]]
	for i++; at != 0; i++ {
		if k := m.nodes[at].token; k != 0 {
			if bit := m.rank[k-1] - first; bit >= 0 && bit < 64 && parse(&m.tokens[k-1]) {
				mask |= 1 << bit
			}
		}
		if i == len(s) {
			break
		}
		at = m.step(at, s[i])
	}
	return mask
}

// exact returns the place of the token s, plus 1.
func (m *matcher) exact(s string) int32 {
	at := m.root[s[0]]
	for i := 1; i < len(s); i++ {
		at = m.step(at, s[i])
	}
	return m.nodes[at].token
}

// isCSpace is isspace of the C locale.
func isCSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }

// trimRight returns the length of s without the characters at its end that drop accepts.
func trimRight(s string, drop func(r rune) bool) int {
	for len(s) > 0 {
		r, n := utf8.DecodeLastRuneInString(s)
		if !drop(r) {
			break
		}
		s = s[:len(s)-n]
	}
	return len(s)
}

// trimLeft returns the length of the characters at the start of s that drop accepts.
func trimLeft(s string, drop func(r rune) bool) int {
	for i, r := range s {
		if !drop(r) {
			return i
		}
	}
	return len(s)
}

func (m *matcher) wordBefore(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && m.classes.IsWord(r)
}

func (m *matcher) wordAfter(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && m.classes.IsWord(r)
}
