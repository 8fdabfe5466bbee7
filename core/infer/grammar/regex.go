package grammar

import (
	"strconv"
	"unicode/utf8"
)

// anchoring says what of a text a regular expression has to match.
type anchoring bool

const (
	whole anchoring = true  // all of it
	part  anchoring = false // some of it, as "pattern" of JSON Schema has it
)

// chars makes an expression of one character of some spans: as it is, or as a JSON string writes it.
type chars func(spans []span) *expr

func plainChars(spans []span) *expr { return class(spans...) }

// regex makes an expression of a regular one. Where that looks around itself it becomes a machine; otherwise the network
// follows it part by part, which is smaller.
func regex(e *effort, pattern string, a anchoring, c chars) (*expr, error) {
	n, err := readRx(e, pattern)
	if err != nil {
		return nil, err
	}
	if out := simple(n, a, c); out != nil {
		return out, nil
	}
	m, err := shortened(e, func(l *language) (*term, error) { return l.pattern(n, a, pattern) }, 0)
	if err != nil {
		return nil, tooMany(err, "regular expression "+short(pattern))
	}
	return m.expr(c), nil
}

// simple is the expression of a regular one that looks at its ends only; nil: it is another.
func simple(n *rx, a anchoring, c chars) *expr {
	all := []*rx{n}
	if n.op == rxAlt {
		all = n.subs
	}
	out := alt()
	for _, one := range all {
		items := []*rx{one}
		if one.op == rxCat {
			items = one.subs
		}
		head, tail := a == part, a == part
		for len(items) > 0 && items[0].op == rxBegin {
			items, head = items[1:], false
		}
		for n := len(items); n > 0 && items[n-1].op == rxEnd; n-- {
			items, tail = items[:n-1], false
		}
		body := seq()
		if head {
			body.subs = append(body.subs, repeat(c(every()), 0, -1))
		}
		for _, it := range items {
			if !it.pure() {
				return nil
			}
			body.subs = append(body.subs, it.expr(c))
		}
		if tail {
			body.subs = append(body.subs, repeat(c(every()), 0, -1))
		}
		out.subs = append(out.subs, body)
	}
	if len(out.subs) == 1 {
		return out.subs[0]
	}
	return out // as it is: length counts its characters
}

// expr is the expression of one that is pure.
func (n *rx) expr(c chars) *expr {
	var subs []*expr
	for _, s := range n.subs {
		subs = append(subs, s.expr(c))
	}
	switch n.op {
	case rxSet:
		if len(n.set) == 0 {
			return alt()
		}
		return c(n.set)
	case rxCat:
		return seq(subs...)
	case rxAlt:
		return alt(subs...)
	case rxRepeat:
		return repeat(subs[0], n.min, n.max)
	}
	return seq()
}

func every() []span { return []span{{0, utf8.MaxRune}} }

// short is a text for messages.
func short(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return strconv.Quote(s)
}
