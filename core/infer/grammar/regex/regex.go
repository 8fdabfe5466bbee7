package regex

import (
	"edged/core/infer/grammar/expression"
)

// Anchoring says what of a text a regular expression has to match.
type Anchoring bool

// The two kinds.
const (
	Whole Anchoring = true  // all of it
	Part  Anchoring = false // some of it, as "pattern" of JSON Schema has it
)

// Chars makes an expression of one character of some spans: as it is, or as a JSON string writes it.
type Chars func(spans []expression.Span) *expression.Expr

// PlainChars are characters as they are.
func PlainChars(spans []expression.Span) *expression.Expr { return expression.Class(spans...) }

// Expression makes an expression of a regular one. Where that looks around itself it becomes a machine;
// otherwise the network follows it part by part, which is smaller.
func Expression(e *expression.Effort, pattern string, a Anchoring, c Chars) (*expression.Expr, error) {
	n, err := Parse(e, pattern)
	if err != nil {
		return nil, err
	}
	if out := Simple(n, a, c); out != nil {
		return out, nil
	}
	m, err := Shortened(e, func(l *Language) (*Term, error) { return l.Pattern(n, a, pattern) }, 0)
	if err != nil {
		return nil, TooMany(err, "regular expression "+expression.Excerpt(pattern))
	}
	return m.Expr(c), nil
}

// Simple is the expression of a regular one that looks at its ends only; nil: it is another.
func Simple(n *Pattern, a Anchoring, c Chars) *expression.Expr {
	all := []*Pattern{n}
	if n.op == rxAlt {
		all = n.subs
	}
	out := expression.Alternative()
	for _, one := range all {
		items := []*Pattern{one}
		if one.op == rxCat {
			items = one.subs
		}
		head, tail := a == Part, a == Part
		for len(items) > 0 && items[0].op == rxBegin {
			items, head = items[1:], false
		}
		for n := len(items); n > 0 && items[n-1].op == rxEnd; n-- {
			items, tail = items[:n-1], false
		}
		body := expression.Sequence()
		if head {
			body.Subs = append(body.Subs, expression.Repeat(c(expression.AnyChar()), 0, -1))
		}
		for _, it := range items {
			if !it.pure() {
				return nil
			}
			body.Subs = append(body.Subs, it.expr(c))
		}
		if tail {
			body.Subs = append(body.Subs, expression.Repeat(c(expression.AnyChar()), 0, -1))
		}
		out.Subs = append(out.Subs, body)
	}
	if len(out.Subs) == 1 {
		return out.Subs[0]
	}
	return out // as it is: length counts its characters
}

// expr is the expression of one that is pure.
func (n *Pattern) expr(c Chars) *expression.Expr {
	var subs []*expression.Expr
	for _, s := range n.subs {
		subs = append(subs, s.expr(c))
	}
	switch n.op {
	case rxSet:
		if len(n.set) == 0 {
			return expression.Alternative()
		}
		return c(n.set)
	case rxCat:
		return expression.Sequence(subs...)
	case rxAlt:
		return expression.Alternative(subs...)
	case rxRepeat:
		return expression.Repeat(subs[0], n.min, n.max)
	}
	return expression.Sequence()
}
