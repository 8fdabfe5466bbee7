package expression

import (
	"cmp"
	"slices"
	"unicode/utf8"
)

// Normalize sorts spans and joins those that touch.
func Normalize(spans []Span) []Span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.Lo, b.Lo) })
	var out []Span
	for _, s := range spans {
		if n := len(out); n > 0 && s.Lo <= out[n-1].Hi+1 {
			out[n-1].Hi = max(out[n-1].Hi, s.Hi)
			continue
		}
		out = append(out, s)
	}
	return out
}

// Complement is every character outside of ordered spans.
func Complement(spans []Span) []Span {
	var out []Span
	next := rune(0)
	for _, s := range spans {
		if s.Lo > next {
			out = append(out, Span{next, s.Lo - 1})
		}
		next = s.Hi + 1
	}
	if next <= utf8.MaxRune {
		out = append(out, Span{next, utf8.MaxRune})
	}
	return out
}

// Intersect returns the characters that are in both of two ordered lists of spans.
func Intersect(a, b []Span) []Span {
	var out []Span
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if lo, hi := max(a[i].Lo, b[j].Lo), min(a[i].Hi, b[j].Hi); lo <= hi {
			out = append(out, Span{lo, hi})
		}
		if a[i].Hi < b[j].Hi {
			i++
		} else {
			j++
		}
	}
	return out
}

// Choice is an alternative of expressions. Texts among them share their beginnings, so that a state of a thousand
// choices has few places.
func Choice(all []*Expr) *Expr {
	var texts []string
	out := Alternative()
	for _, e := range all {
		if s, ok := plain(e); ok {
			texts = append(texts, s)
		} else {
			out.Subs = append(out.Subs, e)
		}
	}
	if len(texts) < 2 {
		return Alternative(all...)
	}
	slices.Sort(texts)
	tree := prefixTree(slices.Compact(texts), 0)
	if len(out.Subs) == 0 {
		return tree
	}
	out.Subs = append(out.Subs, tree)
	return out
}

// plain is the text of an expression that is nothing else.
func plain(e *Expr) (string, bool) {
	switch {
	case e.Op == OpLiteral:
		return e.Literal, true
	case e.Op == OpEmpty, e.Op == OpSequence && len(e.Subs) == 0:
		return "", true
	case e.Op == OpSequence && len(e.Subs) == 1:
		return plain(e.Subs[0])
	}
	return "", false
}

// prefixTree is an expression of sorted texts without their first skip bytes, which are the same in all.
func prefixTree(texts []string, skip int) *Expr {
	if len(texts) == 1 {
		return Literal(texts[0][skip:])
	}
	first, last := texts[0], texts[len(texts)-1]
	n := skip
	for n < len(first) && first[n] == last[n] {
		n++
	}
	out := Alternative()
	rest := texts
	if len(first) == n {
		out.Subs = append(out.Subs, Literal(""))
		rest = texts[1:]
	}
	for len(rest) > 0 {
		k := 1
		for k < len(rest) && rest[k][n] == rest[0][n] {
			k++
		}
		out.Subs = append(out.Subs, prefixTree(rest[:k], n))
		rest = rest[k:]
	}
	return Sequence(Literal(first[skip:n]), out)
}

// AnyChar is the set of all characters.
func AnyChar() []Span { return []Span{{0, utf8.MaxRune}} }
