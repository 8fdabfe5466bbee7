package grammar

import (
	"math/big"
	"slices"
	"strconv"
)

// array is the expression of a list.
func (r *schemaReader) array(f facts, path string) (*expr, error) {
	if err := r.noneOf(f, 'a', path); err != nil {
		return nil, err
	}
	least, most, err := f.counts("minItems", "maxItems", path)
	if err != nil {
		return nil, err
	}
	var first []*value
	items := f["items"]
	if p := f["prefixItems"]; p != nil {
		first = p.items
	} else if items != nil && items.kind == 'a' { // as before draft 2020-12
		first, items = items.items, f["additionalItems"]
	}
	if items != nil && items.kind == 'a' {
		return nil, wrong("schema: %s is a list beside prefixItems", nameOf(in(path, "items")))
	}
	if first, least, err = r.containing(f, first, items, least, path); err != nil {
		return nil, err
	}
	if items != nil && items.kind == 'f' && (most < 0 || most > len(first)) {
		most = len(first)
	}
	if most >= 0 && most < least {
		return nil, wrong("schema: %s: no array has %d to %d items", nameOf(path), least, most)
	}
	if u := f["uniqueItems"]; u != nil && u.kind == 't' && (most < 0 || most > 1) {
		return r.unique(first, items, least, most, path)
	}
	n := len(first)
	rest := seq()
	if most < 0 || most > n {
		item, err := r.shared(items, in(path, "items"))
		if err != nil {
			return nil, err
		}
		bound := -1
		if most >= 0 {
			bound = most - max(n, 1)
		}
		if rest, err = r.many(seq(lit(", "), item), max(least-max(n, 1), 0), bound); err != nil {
			return nil, err
		}
		if n == 0 {
			rest = seq(item, rest)
			if least == 0 {
				rest = repeat(rest, 0, 1)
			}
		}
	}
	if most >= 0 {
		n = min(n, most)
	}
	for i := n - 1; i >= 0; i-- {
		item, err := r.read(first[i], in(path, "prefixItems")+"["+strconv.Itoa(i)+"]")
		if err != nil {
			return nil, err
		}
		rest = seq(item, rest)
		if i > 0 {
			rest = seq(lit(", "), rest)
		}
		if i >= least {
			rest = repeat(rest, 0, 1)
		}
	}
	return seq(lit("["), rest, lit("]")), nil
}

// containing puts what contains demands at the beginning: of the lists that contain it, those are written that begin with it.
func (r *schemaReader) containing(f facts, first []*value, items *value, least int, path string) ([]*value, int, error) {
	want := f["contains"]
	if want == nil {
		return first, least, nil
	}
	if f["maxContains"] != nil {
		return nil, 0, unsupported("schema: the keyword %s", nameOf(in(path, "maxContains")))
	}
	n, err := f.count("minContains", path, 1)
	if err != nil {
		return nil, 0, err
	}
	if n > 64 {
		return nil, 0, unsupported("schema: %s above 64", nameOf(in(path, "minContains")))
	}
	first = slices.Clone(first)
	for i := range n {
		switch {
		case i < len(first):
			first[i] = both(first[i], want)
		case items != nil:
			first = append(first, both(items, want))
		default:
			first = append(first, want)
		}
	}
	return first, max(least, n), nil
}

// many is an expression least to most times (most below 0: or more). Large numbers are written as blocks of blocks, so that
// the places are some of the root of their number.
func (r *schemaReader) many(e *expr, least, most int) (*expr, error) {
	const plain = 300
	if max(least, most) <= plain {
		return repeat(e, least, most), nil
	}
	if e.op != opClass && e.op != opRule {
		var err error
		if e, err = r.rule("an item", e); err != nil {
			return nil, err
		}
	}
	size := 64
	for size*size < max(least, most) {
		size *= 2
	}
	block, err := r.rule("a block of items", repeat(e, size, size))
	if err != nil {
		return nil, err
	}
	exactly := func(n int) *expr { return seq(repeat(block, n/size, n/size), repeat(e, n%size, n%size)) }
	switch {
	case most < 0:
		return seq(exactly(least), repeat(e, 0, -1)), nil
	case most-least <= plain:
		return seq(exactly(least), repeat(e, 0, most-least)), nil
	}
	n := most - least // whole blocks and less than one more, or all
	upTo := alt(seq(repeat(block, 0, n/size-1), repeat(e, 0, size-1)), seq(repeat(block, n/size, n/size), repeat(e, 0, n%size)))
	return seq(exactly(least), upTo), nil
}

// maxUnique bounds the values of a list whose items must differ.
const maxUnique = 256

// unique is a list of different values, where those that there are can be listed: in any order, where they are few, and
// otherwise in the order of the schema.
func (r *schemaReader) unique(first []*value, items *value, least, most int, path string) (*expr, error) {
	refuse := func() error {
		return unsupported("schema: %s of items that are not a short list of values: maxItems 1, or enum in the items, is served", nameOf(in(path, "uniqueItems")))
	}
	if len(first) > 0 || items == nil || items.kind == 't' {
		return nil, refuse()
	}
	all, err := r.expand(items, in(path, "items"), 0)
	if err != nil {
		return nil, err
	}
	var vs []*value
	seen := map[int]bool{}
	for _, f := range all {
		some, ok, err := r.finite(f)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, refuse()
		}
		for _, v := range some {
			c, err := r.class(v)
			if err != nil {
				return nil, err
			}
			ok, err := r.holds(f, v)
			if err != nil {
				return nil, err
			}
			if ok && !seen[c] {
				seen[c] = true
				vs = append(vs, v)
			}
		}
	}
	if most < 0 || most > len(vs) {
		most = len(vs)
	}
	if most < least {
		return nil, wrong("schema: %s: there are %d values for %d different items", nameOf(path), len(vs), least)
	}
	if len(vs) > maxUnique {
		return nil, refuse()
	}
	if const1 := 6; len(vs) <= const1 {
		body, err := r.anyOrder(vs, least, most, path)
		return seq(lit("["), body, lit("]")), err
	}
	m := &expr{op: opMember, min: least, max: most, parts: &parts{counted: true}}
	for _, v := range vs {
		m.subs, m.must = append(m.subs, lit(v.String())), append(m.must, false)
	}
	return seq(lit("["), m, lit("]")), nil
}

// finite are the values of an alternative that has few.
func (r *schemaReader) finite(f facts) ([]*value, bool, error) {
	vs, err := r.values(f)
	if vs != nil || err != nil {
		return vs, err == nil, err
	}
	types, err := r.possible(f)
	if err != nil {
		return nil, false, err
	}
	for _, t := range types {
		switch t {
		case "boolean":
			vs = append(vs, &value{kind: 't'}, &value{kind: 'f'})
		case "null":
			vs = append(vs, &value{kind: '0'})
		case "integer":
			lo, hi, err := bounds(f, "")
			if err != nil {
				return nil, false, err
			}
			if new(big.Rat).Sub(hi.at, lo.at).Cmp(new(big.Rat).SetInt64(maxUnique)) > 0 {
				return nil, false, nil
			}
			n := new(big.Int).Quo(lo.at.Num(), lo.at.Denom())
			n.Sub(n, big.NewInt(1))
			for range maxUnique + 3 {
				vs = append(vs, &value{kind: 'n', text: n.String()})
				n = new(big.Int).Add(n, big.NewInt(1))
			}
		default:
			return nil, false, nil
		}
	}
	return vs, true, nil
}

// anyOrder is least to most of some values, none of them twice: a rule for each set of those that were written.
func (r *schemaReader) anyOrder(vs []*value, least, most int, path string) (*expr, error) {
	rules := make([]*expr, 1<<len(vs))
	var from func(used uint, n int) (*expr, error)
	from = func(used uint, n int) (*expr, error) { // what may follow n values
		out := alt()
		if n >= least {
			out.subs = append(out.subs, seq())
		}
		for i, v := range vs {
			if used>>i&1 != 0 || n == most {
				continue
			}
			next := used | 1<<i
			if rules[next] == nil {
				rest, err := from(next, n+1)
				if err != nil {
					return nil, err
				}
				if rules[next], err = r.rule(path, rest); err != nil {
					return nil, err
				}
			}
			text := v.String()
			if n > 0 {
				text = ", " + text
			}
			out.subs = append(out.subs, seq(lit(text), rules[next]))
		}
		return out, nil
	}
	return from(0, 0)
}
