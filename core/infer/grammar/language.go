package grammar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A language is what several demands on one text have in common: patterns that look around themselves, a format, lengths,
// values that are excluded. Each is a term; a term's derivative by a character is what may follow that character
// (J. A. Brzozowski, Derivatives of regular expressions, 1964), and the derivatives of one are the states of a machine. Terms that are the
// same are one, so that the machine is found to close.

// maxStates bounds one machine.
const maxStates = 5000

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

type term struct {
	op       termOp
	id       int
	subs     []*term
	set      int // index of the set
	min, max int
	empty    bool // it has the empty text
}

type language struct {
	*effort
	terms map[string]*term
	sets  [][]span
	known map[string]int // sets, by their spans
	last  int

	none, nothing, all, any *term

	classes [][]span // characters that no set tells apart
	has     [][]bool // of each set: which classes
	derived map[[2]int]*term
	full    bool // maxTerms is reached
	most    int  // states of its machine
}

func newLanguage(e *effort) *language {
	l := &language{effort: e, most: maxStates, terms: map[string]*term{}, known: map[string]int{}, derived: map[[2]int]*term{}}
	l.none = l.make(term{op: termNone})
	l.nothing = l.make(term{op: termEmpty, empty: true})
	l.any = l.set(every())
	l.all = l.make(term{op: termRepeat, subs: []*term{l.any}, max: -1, empty: true})
	return l
}

// make is the one term that is made so.
func (l *language) make(t term) *term {
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

func (l *language) set(spans []span) *term {
	spans = ordered(spans)
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
	return l.make(term{op: termSet, set: n})
}

func (l *language) text(s string) *term {
	out := l.nothing
	all := []rune(s)
	for _, a := range slices.Backward(all) {
		out = l.cat(l.set([]span{{a, a}}), out)
	}
	return out
}

func (l *language) cat(a, b *term) *term {
	switch {
	case a == l.none || b == l.none:
		return l.none
	case a == l.nothing:
		return b
	case b == l.nothing:
		return a
	case a == l.all && (b == l.all || b.op == termCat && b.subs[0] == l.all):
		return b
	case a.op == termCat:
		return l.cat(a.subs[0], l.cat(a.subs[1], b))
	}
	return l.make(term{op: termCat, subs: []*term{a, b}, empty: a.empty && b.empty})
}

// gather flattens terms of one operation, leaves out what changes nothing, and sorts.
func (l *language) gather(op termOp, all []*term, without *term) []*term {
	var out []*term
	for _, t := range all {
		if t.op == op {
			out = append(out, t.subs...)
		} else if t != without {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *term) int { return a.id - b.id })
	return slices.Compact(out)
}

func (l *language) or(all ...*term) *term {
	out := l.gather(termOr, all, l.none)
	empty := false
	for _, t := range out {
		if t == l.all || t.op == termNot && slices.Contains(out, t.subs[0]) {
			return l.all
		}
		empty = empty || t.empty
	}
	switch len(out) {
	case 0:
		return l.none
	case 1:
		return out[0]
	}
	return l.make(term{op: termOr, subs: out, empty: empty})
}

func (l *language) and(all ...*term) *term {
	out := l.gather(termAnd, all, l.all)
	empty := true
	for _, t := range out {
		if t == l.none || t.op == termNot && slices.Contains(out, t.subs[0]) {
			return l.none
		}
		empty = empty && t.empty
	}
	switch {
	case len(out) == 0:
		return l.all
	case len(out) == 1:
		return out[0]
	case slices.Contains(out, l.nothing) && empty:
		return l.nothing
	case slices.Contains(out, l.nothing):
		return l.none
	}
	return l.make(term{op: termAnd, subs: out, empty: empty})
}

func (l *language) not(t *term) *term {
	switch {
	case t.op == termNot:
		return t.subs[0]
	case t == l.none:
		return l.all
	case t == l.all:
		return l.none
	}
	return l.make(term{op: termNot, subs: []*term{t}, empty: !t.empty})
}

func (l *language) repeat(t *term, least, most int) *term {
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
	return l.make(term{op: termRepeat, subs: []*term{t}, min: least, max: most, empty: least == 0})
}

// expr is the term of an expression without rules.
func (l *language) expr(e *expr) *term {
	switch e.op {
	case opLit:
		return l.text(e.lit)
	case opClass:
		return l.set(e.class)
	case opSeq:
		out := l.nothing
		for _, s := range slices.Backward(e.subs) {
			out = l.cat(l.expr(s), out)
		}
		return out
	case opAlt:
		var all []*term
		for _, s := range e.subs {
			all = append(all, l.expr(s))
		}
		return l.or(all...)
	case opRepeat:
		return l.repeat(l.expr(e.subs[0]), e.min, e.max)
	}
	return l.nothing
}

// pattern is the term of a regular expression.
func (l *language) pattern(n *rx, a anchoring, text string) (*term, error) {
	items := []*rx{n}
	if n.op == rxCat {
		items = n.subs
	}
	if a == part {
		anything := &rx{op: rxRepeat, subs: []*rx{{op: rxSet, set: every()}}, max: -1}
		items = append(append([]*rx{anything}, items...), anything)
	}
	p := &looking{language: l, text: text}
	return p.row(items, l.nothing, true)
}

var (
	errStates = errors.New("it takes too many states")
	errNoText = errors.New("no text keeps to it")
)
