package grammar

import (
	"cmp"
	"slices"
	"unicode/utf8"
)

// ordered sorts spans and joins those that touch.
func ordered(spans []span) []span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, s.hi)
			continue
		}
		out = append(out, s)
	}
	return out
}

// except is every character outside of ordered spans.
func except(spans []span) []span {
	var out []span
	next := rune(0)
	for _, s := range spans {
		if s.lo > next {
			out = append(out, span{next, s.lo - 1})
		}
		next = s.hi + 1
	}
	if next <= utf8.MaxRune {
		out = append(out, span{next, utf8.MaxRune})
	}
	return out
}

// common is what two ordered lists of spans have in common.
func common(a, b []span) []span {
	var out []span
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if lo, hi := max(a[i].lo, b[j].lo), min(a[i].hi, b[j].hi); lo <= hi {
			out = append(out, span{lo, hi})
		}
		if a[i].hi < b[j].hi {
			i++
		} else {
			j++
		}
	}
	return out
}

// literals is an alternative of expressions. Texts among them share their beginnings, so that a state of a thousand
// choices has few places.
func literals(all []*expr) *expr {
	var texts []string
	out := alt()
	for _, e := range all {
		if s, ok := plain(e); ok {
			texts = append(texts, s)
		} else {
			out.subs = append(out.subs, e)
		}
	}
	if len(texts) < 2 {
		return alt(all...)
	}
	slices.Sort(texts)
	tree := prefixTree(slices.Compact(texts), 0)
	if len(out.subs) == 0 {
		return tree
	}
	out.subs = append(out.subs, tree)
	return out
}

// plain is the text of an expression that is nothing else.
func plain(e *expr) (string, bool) {
	switch {
	case e.op == opLit:
		return e.lit, true
	case e.op == opEmpty, e.op == opSeq && len(e.subs) == 0:
		return "", true
	case e.op == opSeq && len(e.subs) == 1:
		return plain(e.subs[0])
	}
	return "", false
}

// prefixTree is an expression of sorted texts without their first skip bytes, which are the same in all.
func prefixTree(texts []string, skip int) *expr {
	if len(texts) == 1 {
		return lit(texts[0][skip:])
	}
	first, last := texts[0], texts[len(texts)-1]
	n := skip
	for n < len(first) && first[n] == last[n] {
		n++
	}
	out := alt()
	rest := texts
	if len(first) == n {
		out.subs = append(out.subs, lit(""))
		rest = texts[1:]
	}
	for len(rest) > 0 {
		k := 1
		for k < len(rest) && rest[k][n] == rest[0][n] {
			k++
		}
		out.subs = append(out.subs, prefixTree(rest[:k], n))
		rest = rest[k:]
	}
	return seq(lit(first[skip:n]), out)
}
