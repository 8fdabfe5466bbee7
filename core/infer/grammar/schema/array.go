package schema

import (
	"math/big"
	"slices"
	"strconv"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/jsonvalue"
)

// array is the expression of a list.
func (r *schemaReader) array(f facts, path string) (*expression.Expr, error) {
	if err := r.noneOf(f, 'a', path); err != nil {
		return nil, err
	}
	least, most, err := f.counts("minItems", "maxItems", path)
	if err != nil {
		return nil, err
	}
	var first []*jsonvalue.Value
	items := f["items"]
	if p := f["prefixItems"]; p != nil {
		first = p.Items
	} else if items != nil && items.Kind == 'a' { // as before draft 2020-12
		first, items = items.Items, f["additionalItems"]
	}
	if items != nil && items.Kind == 'a' {
		return nil, expression.Syntaxf("schema: %s is a list beside prefixItems", nameOf(in(path, "items")))
	}
	if first, least, err = r.containing(f, first, items, least, path); err != nil {
		return nil, err
	}
	if items != nil && items.Kind == 'f' && (most < 0 || most > len(first)) {
		most = len(first)
	}
	if most >= 0 && most < least {
		return nil, expression.Syntaxf("schema: %s: no array has %d to %d items", nameOf(path), least, most)
	}
	if u := f["uniqueItems"]; u != nil && u.Kind == 't' && (most < 0 || most > 1) {
		return r.unique(first, items, least, most, path)
	}
	n := len(first)
	rest := expression.Sequence()
	if most < 0 || most > n {
		item, err := r.shared(items, in(path, "items"))
		if err != nil {
			return nil, err
		}
		bound := -1
		if most >= 0 {
			bound = most - max(n, 1)
		}
		if rest, err = r.many(expression.Sequence(expression.Literal(", "), item), max(least-max(n, 1), 0), bound); err != nil {
			return nil, err
		}
		if n == 0 {
			rest = expression.Sequence(item, rest)
			if least == 0 {
				rest = expression.Repeat(rest, 0, 1)
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
		rest = expression.Sequence(item, rest)
		if i > 0 {
			rest = expression.Sequence(expression.Literal(", "), rest)
		}
		if i >= least {
			rest = expression.Repeat(rest, 0, 1)
		}
	}
	return expression.Sequence(expression.Literal("["), rest, expression.Literal("]")), nil
}

// containing puts what contains demands at the beginning: of the lists that contain it, those are written
// that begin with it.
func (r *schemaReader) containing(
	f facts,
	first []*jsonvalue.Value,
	items *jsonvalue.Value,
	least int,
	path string,
) ([]*jsonvalue.Value, int, error) {
	want := f["contains"]
	if want == nil {
		return first, least, nil
	}
	if f["maxContains"] != nil {
		return nil, 0, expression.Unsupportedf("schema: the keyword %s", nameOf(in(path, "maxContains")))
	}
	n, err := f.count("minContains", path, 1)
	if err != nil {
		return nil, 0, err
	}
	if n > 64 {
		return nil, 0, expression.Unsupportedf("schema: %s above 64", nameOf(in(path, "minContains")))
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

// many is an expression least to most times (most below 0: or more). Large numbers are written as blocks of
// blocks, so that the places are some of the root of their number.
func (r *schemaReader) many(e *expression.Expr, least, most int) (*expression.Expr, error) {
	const plain = 300
	if max(least, most) <= plain {
		return expression.Repeat(e, least, most), nil
	}
	if e.Op != expression.OpClass && e.Op != expression.OpRule {
		var err error
		if e, err = r.rule("an item", e); err != nil {
			return nil, err
		}
	}
	size := 64
	for size*size < max(least, most) {
		size *= 2
	}
	block, err := r.rule("a block of items", expression.Repeat(e, size, size))
	if err != nil {
		return nil, err
	}
	exactly := func(n int) *expression.Expr {
		return expression.Sequence(expression.Repeat(block, n/size, n/size), expression.Repeat(e, n%size, n%size))
	}
	switch {
	case most < 0:
		return expression.Sequence(exactly(least), expression.Repeat(e, 0, -1)), nil
	case most-least <= plain:
		return expression.Sequence(exactly(least), expression.Repeat(e, 0, most-least)), nil
	}
	n := most - least // whole blocks and less than one more, or all
	upTo := expression.Alternative(
		expression.Sequence(expression.Repeat(block, 0, n/size-1), expression.Repeat(e, 0, size-1)),
		expression.Sequence(expression.Repeat(block, n/size, n/size), expression.Repeat(e, 0, n%size)),
	)
	return expression.Sequence(exactly(least), upTo), nil
}

// maxUnique bounds the values of a list whose items must differ.
const maxUnique = 256

// unique is a list of different values, where those that there are can be listed: in any order, where they are few, and
// otherwise in the order of the schema.
func (r *schemaReader) unique(first []*jsonvalue.Value, items *jsonvalue.Value, least, most int, path string) (*expression.Expr, error) {
	refuse := func() error {
		return expression.Unsupportedf(
			"schema: %s of items that are not a short list of values: maxItems 1, or enum in the items, is served",
			nameOf(in(path, "uniqueItems")),
		)
	}
	if len(first) > 0 || items == nil || items.Kind == 't' {
		return nil, refuse()
	}
	all, err := r.expand(items, in(path, "items"), 0)
	if err != nil {
		return nil, err
	}
	var vs []*jsonvalue.Value
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
		return nil, expression.Syntaxf("schema: %s: there are %d values for %d different items", nameOf(path), len(vs), least)
	}
	if len(vs) > maxUnique {
		return nil, refuse()
	}
	if const1 := 6; len(vs) <= const1 {
		body, err := r.anyOrder(vs, least, most, path)
		return expression.Sequence(expression.Literal("["), body, expression.Literal("]")), err
	}
	m := &expression.Expr{Op: expression.OpMembers, Min: least, Max: most, Parts: &expression.Parts{Counted: true}}
	for _, v := range vs {
		m.Subs, m.Must = append(m.Subs, expression.Literal(v.String())), append(m.Must, false)
	}
	return expression.Sequence(expression.Literal("["), m, expression.Literal("]")), nil
}

// finite are the values of an alternative that has few.
func (r *schemaReader) finite(f facts) ([]*jsonvalue.Value, bool, error) {
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
			vs = append(vs, &jsonvalue.Value{Kind: 't'}, &jsonvalue.Value{Kind: 'f'})
		case "null":
			vs = append(vs, &jsonvalue.Value{Kind: '0'})
		case "integer":
			lo, hi, err := bounds(f, "")
			if err != nil {
				return nil, false, err
			}
			if new(big.Rat).Sub(hi.At, lo.At).Cmp(new(big.Rat).SetInt64(maxUnique)) > 0 {
				return nil, false, nil
			}
			n := new(big.Int).Quo(lo.At.Num(), lo.At.Denom())
			n.Sub(n, big.NewInt(1))
			for range maxUnique + 3 {
				vs = append(vs, &jsonvalue.Value{Kind: 'n', Text: n.String()})
				n = new(big.Int).Add(n, big.NewInt(1))
			}
		default:
			return nil, false, nil
		}
	}
	return vs, true, nil
}

// anyOrder is least to most of some values, none of them twice: a rule for each set of those that were written.
func (r *schemaReader) anyOrder(vs []*jsonvalue.Value, least, most int, path string) (*expression.Expr, error) {
	rules := make([]*expression.Expr, 1<<len(vs))
	var from func(used uint, n int) (*expression.Expr, error)
	from = func(used uint, n int) (*expression.Expr, error) { // what may follow n values
		out := expression.Alternative()
		if n >= least {
			out.Subs = append(out.Subs, expression.Sequence())
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
			out.Subs = append(out.Subs, expression.Sequence(expression.Literal(text), rules[next]))
		}
		return out, nil
	}
	return from(0, 0)
}
