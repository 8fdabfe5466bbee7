package regex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"edged/core/infer/grammar/expression"
)

// MaxStates bounds one machine.
const MaxStates = 5000

// maxTerms bounds the terms of one language.
const maxTerms = 24_000

type termOp uint8

const (
	termNone   termOp = iota // no text
	termEmpty                // the empty text
	termSet                  // one character of a set
	termCat                  // subs[0], then subs[1]
	termOr                   // any of subs
	termAnd                  // all of subs
	termNot                  // what is no text of subs[0]
	termRepeat               // subs[0], min to max times
	termLoop                 // itself again: subs[0], set later, leads back to it
)

// Term is one demand on a text, or several. Terms of one language that are the same are one pointer.
type Term struct {
	op       termOp
	id       int
	subs     []*Term
	set      int // index of the set
	min, max int
	empty    bool // it has the empty text
}

// Language is the intersection of several demands on one text: patterns that look around themselves, a
// format, lengths, values that are excluded. Each is a term; a term's derivative by a character is what may
// follow that character (J. A. Brzozowski, Derivatives of regular expressions, 1964), and the derivatives of
// one are the states of a machine. Terms that are the same are one, so that the machine is found to close.
type Language struct {
	*expression.Effort
	terms map[string]*Term
	sets  [][]expression.Span
	known map[string]int // sets, by their spans
	last  int

	none, nothing *Term
	All           *Term // all texts
	Any           *Term // one character, any

	classes [][]expression.Span // characters that no set tells apart
	has     [][]bool            // of each set: which classes
	derived map[[2]int]*Term
	full    bool // maxTerms is reached
	most    int  // states of its machine
}

// NewLanguage is a language with the texts All and the characters Any.
func NewLanguage(e *expression.Effort) *Language {
	l := &Language{Effort: e, most: MaxStates, terms: map[string]*Term{}, known: map[string]int{}, derived: map[[2]int]*Term{}}
	l.none = l.make(Term{op: termNone})
	l.nothing = l.make(Term{op: termEmpty, empty: true})
	l.Any = l.set(expression.AnyChar())
	l.All = l.make(Term{op: termRepeat, subs: []*Term{l.Any}, max: -1, empty: true})
	return l
}

// make is the one term that is made so.
func (l *Language) make(t Term) *Term {
	key := []byte{byte(t.op)}
	key = binary.AppendVarint(key, int64(t.set))
	key = binary.AppendVarint(key, int64(t.min))
	key = binary.AppendVarint(key, int64(t.max))
	for _, s := range t.subs {
		key = binary.AppendVarint(key, int64(s.id))
	}
	if old, ok := l.terms[string(key)]; ok {
		return old
	}
	if l.last++; l.last > maxTerms {
		l.full = true
		return l.none
	}
	t.id = l.last
	l.terms[string(key)] = &t
	return &t
}

func (l *Language) set(spans []expression.Span) *Term {
	spans = expression.Normalize(spans)
	if len(spans) == 0 {
		return l.none
	}
	key := fmt.Sprint(spans)
	n, ok := l.known[key]
	if !ok {
		n = len(l.sets)
		l.sets = append(l.sets, spans)
		l.known[key] = n
	}
	return l.make(Term{op: termSet, set: n})
}

// Text is the term of one text.
func (l *Language) Text(s string) *Term {
	out := l.nothing
	all := []rune(s)
	for _, a := range slices.Backward(all) {
		out = l.Cat(l.set([]expression.Span{{Lo: a, Hi: a}}), out)
	}
	return out
}

// Cat is the texts of a and then of b.
func (l *Language) Cat(a, b *Term) *Term {
	switch {
	case a == l.none || b == l.none:
		return l.none
	case a == l.nothing:
		return b
	case b == l.nothing:
		return a
	case a == l.All && (b == l.All || b.op == termCat && b.subs[0] == l.All):
		return b
	case a.op == termCat:
		return l.Cat(a.subs[0], l.Cat(a.subs[1], b))
	}
	return l.make(Term{op: termCat, subs: []*Term{a, b}, empty: a.empty && b.empty})
}

// gather flattens terms of one operation, leaves out what changes nothing, and sorts.
func (l *Language) gather(op termOp, all []*Term, without *Term) []*Term {
	var out []*Term
	for _, t := range all {
		if t.op == op {
			out = append(out, t.subs...)
		} else if t != without {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *Term) int { return a.id - b.id })
	return slices.Compact(out)
}

// Or is the texts of any of the terms.
func (l *Language) Or(all ...*Term) *Term {
	out := l.gather(termOr, all, l.none)
	empty := false
	for _, t := range out {
		if t == l.All || t.op == termNot && slices.Contains(out, t.subs[0]) {
			return l.All
		}
		empty = empty || t.empty
	}
	switch len(out) {
	case 0:
		return l.none
	case 1:
		return out[0]
	}
	return l.make(Term{op: termOr, subs: out, empty: empty})
}

// And is the texts of all of the terms.
func (l *Language) And(all ...*Term) *Term {
	out := l.gather(termAnd, all, l.All)
	empty := true
	for _, t := range out {
		if t == l.none || t.op == termNot && slices.Contains(out, t.subs[0]) {
			return l.none
		}
		empty = empty && t.empty
	}
	switch {
	case len(out) == 0:
		return l.All
	case len(out) == 1:
		return out[0]
	case slices.Contains(out, l.nothing) && empty:
		return l.nothing
	case slices.Contains(out, l.nothing):
		return l.none
	}
	return l.make(Term{op: termAnd, subs: out, empty: empty})
}

// Not is the texts that are none of t.
func (l *Language) Not(t *Term) *Term {
	switch {
	case t.op == termNot:
		return t.subs[0]
	case t == l.none:
		return l.All
	case t == l.All:
		return l.none
	}
	return l.make(Term{op: termNot, subs: []*Term{t}, empty: !t.empty})
}

// Repeat is the texts of t, least to most times; most below 0: without end.
func (l *Language) Repeat(t *Term, least, most int) *Term {
	switch {
	case t == l.none && least > 0:
		return l.none
	case t == l.none, t == l.nothing, most == 0:
		return l.nothing
	case least == 1 && most == 1:
		return t
	case t.op == termRepeat && t.min == 0 && t.max < 0:
		return t
	}
	if t.empty {
		least = 0
	}
	return l.make(Term{op: termRepeat, subs: []*Term{t}, min: least, max: most, empty: least == 0})
}

// Expr is the term of an expression without rules.
func (l *Language) Expr(e *expression.Expr) *Term {
	switch e.Op {
	case expression.OpLiteral:
		return l.Text(e.Literal)
	case expression.OpClass:
		return l.set(e.Class)
	case expression.OpSequence:
		out := l.nothing
		for _, s := range slices.Backward(e.Subs) {
			out = l.Cat(l.Expr(s), out)
		}
		return out
	case expression.OpAlternative:
		var all []*Term
		for _, s := range e.Subs {
			all = append(all, l.Expr(s))
		}
		return l.Or(all...)
	case expression.OpRepeat:
		return l.Repeat(l.Expr(e.Subs[0]), e.Min, e.Max)
	}
	return l.nothing
}

// Pattern is the term of a regular expression.
func (l *Language) Pattern(n *Pattern, a Anchoring, text string) (*Term, error) {
	items := []*Pattern{n}
	if n.op == rxCat {
		items = n.subs
	}
	if a == Part {
		anything := &Pattern{op: rxRepeat, subs: []*Pattern{{op: rxSet, set: expression.AnyChar()}}, max: -1}
		items = append(append([]*Pattern{anything}, items...), anything)
	}
	p := &looking{Language: l, text: text}
	return p.row(items, l.nothing, true)
}

// Why there is no machine of a term.
var (
	// ErrStates means that it would have too many states.
	ErrStates = errors.New("it takes too many states")
	// ErrNoText means that the term has no text.
	ErrNoText = errors.New("no text keeps to it")
)
