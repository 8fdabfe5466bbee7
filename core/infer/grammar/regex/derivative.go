package regex

import (
	"slices"

	"edged/core/infer/grammar/expression"
)

// looking turns a regular expression into a term from its end to its beginning: an expression stands for
// itself and what follows it, since that is what it may look at.
type looking struct {
	*Language
	text string
}

func (p *looking) unsupported(what string) error {
	return expression.Unsupportedf("regular expression %s: %s", expression.Excerpt(p.text), what)
}

// node is the term of n and then k. first: n stands where the text begins.
func (p *looking) node(n *Pattern, k *Term, first bool) (*Term, error) {
	if err := p.Spend(8 + len(n.set)); err != nil {
		return nil, err
	}
	if p.full {
		return nil, p.unsupported("it is too large")
	}
	switch n.op {
	case rxSet:
		return p.Cat(p.set(n.set), k), nil
	case rxCat:
		return p.row(n.subs, k, first)
	case rxAlt:
		var all []*Term
		for _, s := range n.subs {
			t, err := p.node(s, k, first)
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
		return p.Or(all...), nil
	case rxRepeat:
		return p.loop(n, k, first)
	case rxEnd:
		return p.And(p.nothing, k), nil
	case rxLook:
		if !n.back {
			t, err := p.node(n.subs[0], p.All, false)
			if err != nil {
				return nil, err
			}
			if n.not {
				t = p.Not(t)
			}
			return p.And(t, k), nil
		}
	case rxEmpty:
		return k, nil
	}
	return p.row([]*Pattern{n}, k, first)
}

// loop is the term of a repetition and then k.
func (p *looking) loop(n *Pattern, k *Term, first bool) (*Term, error) {
	body := n.subs[0]
	if body.pure() {
		t, err := p.node(body, p.nothing, false)
		return p.Cat(p.Repeat(t, n.min, n.max), k), err
	}
	const unrolled = 32
	if n.min > unrolled || n.max > unrolled {
		return nil, p.unsupported("it looks around itself within a long repetition")
	}
	out := k
	if n.max < 0 {
		if body.least() == 0 {
			return nil, p.unsupported("it looks around itself within a repetition of nothing")
		}
		p.last++
		again := &Term{op: termLoop, id: p.last, empty: k.empty}
		t, err := p.node(body, again, false)
		if err != nil {
			return nil, err
		}
		again.subs = []*Term{p.Or(t, k)}
		out = again
	}
	for i := max(n.max, n.min); i > 0; i-- {
		t, err := p.node(body, out, first && i == 1)
		if err != nil {
			return nil, err
		}
		if out = t; i > n.min {
			out = p.Or(t, k)
		}
	}
	return out, nil
}

// row is the term of items and then k. What looks behind looks at the items before it, or knows that the text begins.
func (p *looking) row(items []*Pattern, k *Term, first bool) (*Term, error) {
	at := slices.IndexFunc(items, func(n *Pattern) bool {
		return n.op == rxBegin || n.op == rxEdge || n.op == rxLook && n.back
	})
	if at < 0 {
		var err error
		for i, n := range slices.Backward(items) {
			if k, err = p.node(n, k, first && i == 0); err != nil {
				return nil, err
			}
		}
		return k, nil
	}
	before, n := &Pattern{op: rxCat, subs: items[:at]}, items[at]
	if !before.pure() {
		return nil, p.unsupported("it looks behind at what looks around itself")
	}
	head, err := p.node(before, p.nothing, false)
	if err != nil {
		return nil, err
	}
	tail, err := p.row(items[at+1:], k, false)
	if err != nil {
		return nil, err
	}
	reach := 1 // how far it looks back
	var behind *Term
	switch n.op {
	case rxLook:
		if reach = n.subs[0].most(); !n.subs[0].pure() {
			return nil, p.unsupported("it looks around itself in what it looks behind at")
		}
		if behind, err = p.node(n.subs[0], p.nothing, false); err != nil {
			return nil, err
		}
		if behind = p.Cat(p.All, behind); n.not {
			behind = p.Not(behind)
		}
	case rxBegin:
		behind = p.nothing
	}
	if !first && (reach < 0 || before.least() < reach) {
		return nil, p.unsupported("it looks behind beyond the group that it stands in")
	}
	if n.op != rxEdge {
		return p.Cat(p.And(head, behind), tail), nil
	}
	word, other := p.set(words()), p.set(expression.Complement(words()))
	into := [2]*Term{p.Cat(word, p.All), p.Or(p.nothing, p.Cat(other, p.All))}
	from := [2]*Term{p.Cat(p.All, word), p.Or(p.nothing, p.Cat(p.All, other))}
	if n.not {
		from[0], from[1] = from[1], from[0]
	}
	return p.Or(
		p.Cat(p.And(head, from[1]), p.And(into[0], tail)),
		p.Cat(p.And(head, from[0]), p.And(into[1], tail)),
	), nil
}

// alphabet finds the classes of characters that no set tells apart.
func (l *Language) alphabet() error {
	var begins []rune
	for _, s := range l.sets {
		if err := l.Spend(2 * len(s)); err != nil {
			return err
		}
		for _, r := range s {
			begins = append(begins, r.Lo, r.Hi+1)
		}
	}
	slices.Sort(begins)
	begins = slices.Compact(begins)
	at := make([]int, len(l.sets)) // of each set: the span that begins or contains the place
	l.has = make([][]bool, len(l.sets))
	found := map[string]int{}
	key := make([]byte, len(l.sets))
	for i := 0; i+1 < len(begins); i++ {
		if err := l.Spend(1 + len(l.sets)/4); err != nil {
			return err
		}
		some := byte(0)
		for k, s := range l.sets {
			for at[k] < len(s) && s[at[k]].Hi < begins[i] {
				at[k]++
			}
			key[k] = 0
			if at[k] < len(s) && s[at[k]].Lo <= begins[i] {
				key[k], some = 1, 1
			}
		}
		if some == 0 {
			continue
		}
		n, ok := found[string(key)]
		if !ok {
			n = len(l.classes)
			found[string(key)] = n
			l.classes = append(l.classes, nil)
			for k := range l.sets {
				l.has[k] = append(l.has[k], key[k] == 1)
			}
		}
		l.classes[n] = append(l.classes[n], expression.Span{Lo: begins[i], Hi: begins[i+1] - 1})
	}
	return nil
}

// after is the derivative of a term by a class of characters.
func (l *Language) after(t *Term, class int) (*Term, error) {
	switch t.op {
	case termNone, termEmpty:
		return l.none, nil
	case termSet:
		if l.has[t.set][class] {
			return l.nothing, nil
		}
		return l.none, nil
	}
	key := [2]int{t.id, class}
	if d, ok := l.derived[key]; ok {
		return d, nil
	}
	if err := l.Spend(6 + 3*len(t.subs)); err != nil {
		return nil, err
	}
	var subs []*Term
	for i, s := range t.subs {
		if t.op == termCat && i > 0 && !t.subs[0].empty {
			break
		}
		d, err := l.after(s, class)
		if err != nil {
			return nil, err
		}
		subs = append(subs, d)
	}
	var out *Term
	switch t.op {
	case termCat:
		if out = l.Cat(subs[0], t.subs[1]); len(subs) > 1 {
			out = l.Or(out, subs[1])
		}
	case termOr:
		out = l.Or(subs...)
	case termAnd:
		out = l.And(subs...)
	case termNot:
		out = l.Not(subs[0])
	case termRepeat:
		most := t.max
		if most > 0 {
			most--
		}
		out = l.Cat(subs[0], l.Repeat(t.subs[0], max(t.min-1, 0), most))
	default:
		out = subs[0]
	}
	l.derived[key] = out
	return out, nil
}
