package split

import (
	"strings"
	"unicode/utf8"
)

// span is a closed range of characters.
type span struct{ lo, hi rune }

// Runs isolates runs of characters of one kind, as the pattern [kind]{least,most} or \s?[kind]{least,most} does; what
// lies between two runs is a word of its own.
type Runs struct {
	c     *Classes
	ascii [utf8.RuneSelf]bool // the kind below U+0080
	kind  kind
}

// kind says which characters make a run.
type kind struct {
	in    class  // by category
	ascii string // these too
	spans []span // these too, above ASCII, sorted
	lead  bool   // one white-space character before a run belongs to it
	least int    // shortest run; 0 means 1
	most  int    // longest run; 0: any
	// dull keeps white space above ASCII out of the spans: llama.cpp replaces it by a vertical tab before it matches a
	// pattern that names no category.
	dull bool
}

func newRuns(c *Classes, k kind) *Runs {
	r := &Runs{c: c, kind: k}
	k.least = max(k.least, 1)
	r.kind = k
	for b := range r.ascii {
		r.ascii[b] = c.ascii[b]&k.in != 0 || strings.IndexByte(k.ascii, byte(b)) >= 0
	}
	return r
}

// Split implements Splitter.
func (r *Runs) Split(s string, to Sink, _ *Budget) error {
	start, i := 0, 0
	for i < len(s) {
		end, next := r.match(s, i)
		if end == 0 {
			i = next
			continue
		}
		if start < i {
			to.Word(s[start:i])
		}
		to.Word(s[i:end])
		start, i = end, end
	}
	if start < len(s) {
		to.Word(s[start:])
	}
	return nil
}

// match returns the end of the match at s[i], or 0 and where to look next.
func (r *Runs) match(s string, i int) (end, next int) {
	n, in := r.has(s, i)
	if r.kind.lead {
		if c, _ := r.c.at(s, i); c&space != 0 && i+n < len(s) {
			if n2, in2 := r.has(s, i+n); in2 {
				if end := r.run(s, i+n, n2); end > 0 {
					return end, 0
				}
			}
		}
	}
	if in {
		end = r.run(s, i, n)
	}
	return end, i + n
}

// run returns the end of the run at s[i], whose first character has n bytes; 0 where it is too short.
func (r *Runs) run(s string, i, n int) int {
	i += n
	count := 1
	for i < len(s) && (r.kind.most == 0 || count < r.kind.most) {
		n, in := r.has(s, i)
		if !in {
			break
		}
		i += n
		count++
	}
	if count < r.kind.least {
		return 0
	}
	return i
}

// has returns the length of the character at s[i] and whether it is of the kind.
func (r *Runs) has(s string, i int) (int, bool) {
	if b := s[i]; b < utf8.RuneSelf {
		return 1, r.ascii[b]
	}
	return r.wide(s[i:])
}

func (r *Runs) wide(s string) (int, bool) {
	c, n := utf8.DecodeRuneInString(s)
	k := r.c.of(c)
	return n, k&r.kind.in != 0 || (k&space == 0 || !r.kind.dull) && within(r.kind.spans, c)
}

func within(spans []span, c rune) bool {
	lo, hi := 0, len(spans)
	for lo < hi {
		mid := (lo + hi) / 2
		if spans[mid].hi < c {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(spans) && spans[lo].lo <= c
}

// Tail isolates the white space at the end of a text: \s+$.
type Tail struct{ C *Classes }

// Split implements Splitter.
func (t Tail) Split(s string, to Sink, _ *Budget) error {
	i := len(s)
	for i > 0 {
		r, n := utf8.DecodeLastRuneInString(s[:i])
		if !t.C.IsSpace(r) {
			break
		}
		i -= n
	}
	if i > 0 {
		to.Word(s[:i])
	}
	if i < len(s) {
		to.Word(s[i:])
	}
	return nil
}
