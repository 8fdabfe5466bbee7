package schema

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/jsonvalue"
)

// disjoint proves that no value matches an alternative of both.
func (r *schemaReader) disjoint(a, b []facts) (bool, error) {
	for _, x := range a {
		for _, y := range b {
			if ok, err := r.apart(x, y); !ok || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// listsApart proves of groups that each hold lists of values that no value is in two groups.
func (r *schemaReader) listsApart(groups [][]facts) (bool, error) {
	owner := map[int]int{} // group, by class of value
	for i, g := range groups {
		for _, f := range g {
			vs, err := r.values(f)
			if vs == nil || err != nil {
				return false, err
			}
			for _, v := range vs {
				n, err := r.class(v)
				if err != nil {
					return false, err
				}
				if j, there := owner[n]; there && j != i {
					return false, nil
				}
				owner[n] = i
			}
		}
	}
	return true, nil
}

// apart proves that no value matches both.
func (r *schemaReader) apart(a, b facts) (bool, error) {
	if err := r.src.Spend(8 * (1 + len(a) + len(b))); err != nil {
		return false, err
	}
	if va, vb := a["enum"], b["enum"]; va != nil && vb != nil && a["const"] == nil && b["const"] == nil {
		return r.noneIn(va.Items, vb.Items)
	}
	ta, err := r.possible(a)
	if err != nil {
		return false, err
	}
	tb, err := r.possible(b)
	if err != nil {
		return false, err
	}
	var shared []string
	for _, t := range ta {
		if slices.Contains(tb, t) || t == "integer" && slices.Contains(tb, "number") || t == "number" && slices.Contains(tb, "integer") {
			shared = append(shared, t)
		}
	}
	if len(shared) == 0 {
		return true, nil
	}
	va, err := r.values(a)
	if err != nil {
		return false, err
	}
	vb, err := r.values(b)
	if err != nil {
		return false, err
	}
	switch {
	case va != nil && vb != nil:
		return r.noneIn(va, vb)
	case va != nil:
		return r.allowsNone(b, va)
	case vb != nil:
		return r.allowsNone(a, vb)
	}
	for _, t := range shared {
		var ok bool
		var err error
		switch t {
		case "object":
			ok, err = r.objectsApart(a, b)
		case "number", "integer":
			ok = beyond(a, b) || beyond(b, a)
		case "string":
			ok = above(a, b, "minLength", "maxLength") || above(b, a, "minLength", "maxLength")
		case "array":
			ok = above(a, b, "minItems", "maxItems") || above(b, a, "minItems", "maxItems")
		}
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// possible are the types that a value may have, where types are those that are written.
func (r *schemaReader) possible(f facts) ([]string, error) {
	vs, err := r.values(f)
	if err != nil {
		return nil, err
	}
	if f["type"] == nil && vs == nil {
		return allTypes, nil
	}
	return r.types(f)
}

// allowsNone proves that none of some values matches.
func (r *schemaReader) allowsNone(f facts, vs []*jsonvalue.Value) (bool, error) {
	for _, v := range vs {
		ok, err := r.holds(f, v)
		if errors.Is(err, expression.ErrUnsupported) {
			return false, nil
		}
		if ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// above proves that a counts more than b may.
func above(a, b facts, least, most string) bool {
	x, ok1 := number(a[least])
	y, ok2 := number(b[most])
	return ok1 && ok2 && x.Cmp(y) > 0
}

// beyond proves that the numbers of a are greater than those of b.
func beyond(a, b facts) bool {
	for _, lo := range []string{"minimum", "exclusiveMinimum"} {
		for _, hi := range []string{"maximum", "exclusiveMaximum"} {
			x, ok1 := number(a[lo])
			y, ok2 := number(b[hi])
			if !ok1 || !ok2 {
				continue
			}
			if c := x.Cmp(y); c > 0 || c == 0 && (lo != "minimum" || hi != "maximum") {
				return true
			}
		}
	}
	return false
}

// objectsApart proves it of objects: by a property that both need and that cannot be of both, or one that one
// side needs and the other does not allow.
func (r *schemaReader) objectsApart(a, b facts) (bool, error) {
	for _, key := range texts(a["required"]) {
		if err := r.src.Spend(8); err != nil {
			return false, err
		}
		if r.forbids(b, key) {
			return true, nil
		}
		x, y := a["properties"].Get(key), b["properties"].Get(key)
		if x == nil || y == nil {
			continue
		}
		if x.Kind == 'o' && y.Kind == 'o' && (slices.ContainsFunc(x.Keys, recursive) || slices.ContainsFunc(y.Keys, recursive)) {
			if deep := r.depth > expression.MaxNesting/4; deep {
				continue
			}
		}
		fx, err := r.expand(x, key, 0)
		if err != nil {
			return false, err
		}
		fy, err := r.expand(y, key, 0)
		if err != nil {
			return false, err
		}
		r.depth++
		ok := r.depth < expression.MaxNesting
		if ok {
			ok, err = r.disjoint(fx, fy)
		}
		r.depth--
		if ok || err != nil {
			return ok, err
		}
	}
	for _, key := range texts(b["required"]) {
		if r.forbids(a, key) {
			return true, nil
		}
	}
	return false, nil
}

func recursive(key string) bool { return key == "$ref" }

// forbids proves that an object has no property of some name.
func (r *schemaReader) forbids(f facts, key string) bool {
	if p := f["properties"].Get(key); p != nil {
		return p.Kind == 'f'
	}
	more := f["additionalProperties"]
	return more != nil && more.Kind == 'f' && f["patternProperties"] == nil
}

// common are those of a that are in b.
func (r *schemaReader) common(a, b []*jsonvalue.Value) ([]*jsonvalue.Value, error) {
	there := make(map[int]bool, len(b))
	for _, v := range b {
		n, err := r.class(v)
		if err != nil {
			return nil, err
		}
		there[n] = true
	}
	out := []*jsonvalue.Value{}
	for _, v := range a {
		n, err := r.class(v)
		if err != nil {
			return nil, err
		}
		if there[n] {
			out = append(out, v)
		}
	}
	return out, nil
}

func (r *schemaReader) noneIn(a, b []*jsonvalue.Value) (bool, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	both, err := r.common(a, b)
	return len(both) == 0, err
}

// equal compares values; numbers by what they are.
func (r *schemaReader) equal(a, b *jsonvalue.Value) (bool, error) {
	x, err := r.class(a)
	if err != nil || a == b {
		return true, err
	}
	y, err := r.class(b)
	return x == y, err
}

// class is a number that equal values have in common and others have not. It is found once for each value,
// from those of its parts, so that comparing large lists is not a matter of the square of their length.
func (r *schemaReader) class(v *jsonvalue.Value) (int, error) {
	if v.Class > 0 {
		return v.Class, nil
	}
	if err := r.src.Spend(4 + len(v.Text)/8 + 2*len(v.Keys) + len(v.Items)); err != nil {
		return 0, err
	}
	key := []byte{v.Kind}
	switch v.Kind {
	case 's':
		key = append(key, v.Text...)
	case 'n':
		key = append(key, sameNumber(v.Text)...)
	case 'o':
		for _, k := range slices.Sorted(slices.Values(v.Keys)) {
			n, err := r.class(v.Fields[k])
			if err != nil {
				return 0, err
			}
			key = strconv.AppendQuote(key, k)
			key = append(strconv.AppendInt(key, int64(n), 10), ',')
		}
	case 'a':
		for _, it := range v.Items {
			n, err := r.class(it)
			if err != nil {
				return 0, err
			}
			key = append(strconv.AppendInt(key, int64(n), 10), ',')
		}
	}
	n, ok := r.classes[string(key)]
	if !ok {
		n = len(r.classes) + 1
		r.classes[string(key)] = n
	}
	v.Class = n
	return n, nil
}

// values are those of enum and const; nil: not bound to some.
func (r *schemaReader) values(f facts) ([]*jsonvalue.Value, error) {
	var out []*jsonvalue.Value
	if e := f["enum"]; e != nil {
		if out = e.Items; out == nil {
			out = []*jsonvalue.Value{}
		}
	}
	if c := f["const"]; c != nil {
		if c.Kind == 'x' {
			return []*jsonvalue.Value{}, nil
		}
		if out != nil {
			return r.common([]*jsonvalue.Value{c}, out)
		}
		out = []*jsonvalue.Value{c}
	}
	return out, nil
}

// types are those that a value may have: what type says; without it, those that other keywords speak of;
// without those, all.
func (r *schemaReader) types(f facts) ([]string, error) {
	if v := f["type"]; v != nil {
		return texts(v), nil
	}
	vs, err := r.values(f)
	if err != nil {
		return nil, err
	}
	var out []string
	if vs != nil {
		if err := r.src.Spend(len(vs)); err != nil {
			return nil, err
		}
		for _, v := range vs {
			if t := typeOf(v); !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
		return out, nil
	}
	for _, t := range allTypes {
		for k := range f {
			if keywords[k] == t {
				out = append(out, t)
				break
			}
		}
	}
	if out == nil {
		return []string{"object", "array", "string", "number", "boolean", "null"}, nil
	}
	return out, nil
}

func typeOf(v *jsonvalue.Value) string {
	switch v.Kind {
	case 'o':
		return "object"
	case 'a':
		return "array"
	case 's':
		return "string"
	case 'n':
		return "number"
	case '0':
		return "null"
	}
	return "boolean"
}

// texts are the texts of a list, or the one text.
func texts(v *jsonvalue.Value) []string {
	switch {
	case v == nil:
		return nil
	case v.Kind == 's':
		return []string{v.Text}
	}
	out := []string{}
	for _, it := range v.Items {
		if it.Kind == 's' {
			out = append(out, it.Text)
		}
	}
	return out
}

func setOf(all []string) map[string]bool {
	out := make(map[string]bool, len(all))
	for _, s := range all {
		out[s] = true
	}
	return out
}

func listOf(all []string) *jsonvalue.Value {
	v := &jsonvalue.Value{Kind: 'a'}
	for _, t := range all {
		v.Items = append(v.Items, &jsonvalue.Value{Kind: 's', Text: t})
	}
	return v
}

// merge returns the facts that hold where both a and b do.
func (r *schemaReader) merge(a, b facts, path string) (facts, error) {
	switch {
	case len(a) == 0:
		return b, nil
	case len(b) == 0:
		return a, nil
	}
	if err := r.src.Spend(8 * (1 + len(a) + len(b))); err != nil {
		return nil, err
	}
	out := facts{}
	maps.Copy(out, a)
	for k, y := range b {
		x, both := out[k]
		if !both {
			out[k] = y
			continue
		}
		m, err := r.mergeKeyword(k, x, y)
		switch {
		case errors.Is(err, expression.ErrTooLarge):
			return nil, err
		case err != nil:
			return nil, expression.Unsupportedf("schema: %s: %v", nameOf(path), err)
		}
		out[k] = m
	}
	return out, r.closeObject(a, b, out)
}

// closeObject gives each side's additionalProperties its meaning: it is about what that side does not list.
func (r *schemaReader) closeObject(a, b, out facts) error {
	for _, side := range [2][2]facts{{a, b}, {b, a}} {
		if more, theirs := side[0]["additionalProperties"], side[1]["patternProperties"]; more != nil && more.Kind != 't' &&
			theirs != nil &&
			theirs.Kind == 'o' {
			kept := jsonvalue.NewObject()
			for _, k := range out["patternProperties"].Keys {
				v := out["patternProperties"].Fields[k]
				if theirs.Fields[k] != nil && side[0]["patternProperties"].Get(k) == nil {
					v = both(v, more)
				}
				kept.Set(k, v)
			}
			out["patternProperties"] = kept
		}
		more, theirs := side[0]["additionalProperties"], side[1]["properties"]
		if more == nil || more.Kind == 't' || theirs == nil || theirs.Kind != 'o' {
			continue
		}
		var kept *jsonvalue.Value
		for _, k := range theirs.Keys {
			if err := r.src.Spend(2); err != nil {
				return err
			}
			if side[0]["properties"].Get(k) != nil {
				continue
			}
			matched, err := r.matching(side[0], k)
			if err != nil {
				return err
			}
			if len(matched) > 0 {
				continue
			}
			if kept == nil {
				kept = jsonvalue.NewObject()
				for _, k := range out["properties"].Keys {
					kept.Set(k, out["properties"].Fields[k])
				}
			}
			kept.Set(k, both(out["properties"].Fields[k], more))
		}
		if kept != nil {
			out["properties"] = kept
		}
	}
	return nil
}

// both is a schema of what is valid under two.
func both(a, b *jsonvalue.Value) *jsonvalue.Value {
	switch {
	case a.Kind == 'f' || b.Kind == 't':
		return a
	case b.Kind == 'f' || a.Kind == 't':
		return b
	}
	v := jsonvalue.NewObject()
	v.Set("allOf", &jsonvalue.Value{Kind: 'a', Items: []*jsonvalue.Value{a, b}})
	return v
}

// together is a list of what two keywords say, each of which is a text or a list.
func together(x, y *jsonvalue.Value) *jsonvalue.Value {
	out := &jsonvalue.Value{Kind: 'a'}
	for _, v := range []*jsonvalue.Value{x, y} {
		if v.Kind == 'a' {
			out.Items = append(out.Items, v.Items...)
		} else {
			out.Items = append(out.Items, v)
		}
	}
	return out
}

func (r *schemaReader) mergeKeyword(key string, x, y *jsonvalue.Value) (*jsonvalue.Value, error) {
	switch same, err := r.equal(x, y); {
	case err != nil:
		return nil, err
	case same:
		return x, nil
	}
	switch key {
	case "type":
		var kept []string
		for _, t := range texts(x) {
			switch {
			case slices.Contains(texts(y), t):
				kept = append(kept, t)
			case t == "integer" && slices.Contains(texts(y), "number"), t == "number" && slices.Contains(texts(y), "integer"):
				kept = append(kept, "integer")
			}
		}
		return listOf(kept), nil
	case "required":
		all := slices.Clip(texts(x))
		there := setOf(all)
		for _, t := range texts(y) {
			if !there[t] {
				all = append(all, t)
			}
		}
		return listOf(all), r.src.Spend(2 * len(all))
	case "properties", "patternProperties":
		if err := r.src.Spend(4 * (len(x.Keys) + len(y.Keys))); err != nil {
			return nil, err
		}
		out := jsonvalue.NewObject()
		for _, v := range []*jsonvalue.Value{x, y} {
			for _, k := range v.Keys {
				old := out.Fields[k]
				if old == nil {
					out.Set(k, v.Fields[k])
					continue
				}
				same, err := r.equal(old, v.Fields[k])
				if err != nil {
					return nil, err
				}
				if !same {
					out.Set(k, both(old, v.Fields[k]))
				}
			}
		}
		return out, nil
	case "enum":
		kept, err := r.common(x.Items, y.Items)
		return &jsonvalue.Value{Kind: 'a', Items: kept}, err
	case "!enum", "!pattern", "pattern", "format":
		return together(x, y), r.src.Spend(len(x.Items) + len(y.Items))
	case "const":
		return &jsonvalue.Value{Kind: 'x'}, nil // of no value, see values
	case "items", "contains":
		if x.Kind == 'a' || y.Kind == 'a' || key == "contains" {
			break
		}
		return both(x, y), nil
	case "additionalProperties", "propertyNames":
		return both(x, y), nil
	case "uniqueItems":
		if x.Kind == 't' {
			return x, nil
		}
		return y, nil
	case "multipleOf":
		return commonMultiple(x, y)
	case "minimum",
		"exclusiveMinimum",
		"minLength",
		"minItems",
		"minProperties",
		"maximum",
		"exclusiveMaximum",
		"maxLength",
		"maxItems",
		"maxProperties":
		a, ok1 := number(x)
		b, ok2 := number(y)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("%s is not a number", key)
		}
		least := strings.HasPrefix(strings.ToLower(key), "min") || key == "exclusiveMinimum"
		if (a.Cmp(b) > 0) == least {
			return x, nil
		}
		return y, nil
	}
	return nil, fmt.Errorf("two different values of %s", key)
}

// commonMultiple is the smallest number that is a multiple of both.
func commonMultiple(x, y *jsonvalue.Value) (*jsonvalue.Value, error) {
	a, ok1 := number(x)
	b, ok2 := number(y)
	if !ok1 || !ok2 || a.Sign() <= 0 || b.Sign() <= 0 {
		return nil, errors.New("multipleOf is not a number above 0")
	}
	d := new(big.Int).Mul(a.Denom(), b.Denom())
	n := new(big.Int).Mul(a.Num(), b.Denom())
	m := new(big.Int).Mul(b.Num(), a.Denom())
	l := new(big.Int).Div(new(big.Int).Mul(n, m), new(big.Int).GCD(nil, nil, n, m))
	return &jsonvalue.Value{Kind: 'n', Text: decimalText(new(big.Rat).SetFrac(l, d))}, nil
}
