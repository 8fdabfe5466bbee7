package schema

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/jsonvalue"
)

// facts holds one alternative of a schema: keywords and their values, merged. Some are this package's own:
// "!enum" are values and "!pattern" patterns that are excluded, and several texts of pattern or format hold together.
type facts map[string]*jsonvalue.Value

// told demands the property that tells groups of objects apart: where it may be left out, a value without it
// could be of two of them.
func (r *schemaReader) told(groups [][]facts) ([][]facts, error) {
	var keys []string
	if len(groups[0]) > 0 {
		if p := groups[0][0]["properties"]; p != nil && p.Kind == 'o' {
			keys = p.Keys
		}
	}
	for _, key := range keys {
		var lists [][]facts
		for _, g := range groups {
			var values []facts
			for _, f := range g {
				p := f["properties"].Get(key)
				if p == nil {
					values = nil
					break
				}
				some, err := r.expand(p, key, 0)
				if err != nil {
					return nil, err
				}
				values = append(values, some...)
			}
			if values == nil {
				break
			}
			lists = append(lists, values)
		}
		if len(lists) < len(groups) {
			continue
		}
		if apart, err := r.listsApart(lists); err != nil {
			return nil, err
		} else if !apart {
			continue
		}
		var out [][]facts
		for _, g := range groups {
			sure, err := r.product([]facts{{"type": listOf([]string{"object"}), "required": listOf([]string{key})}}, g, key)
			if err != nil {
				return nil, err
			}
			out = append(out, sure)
		}
		return out, nil
	}
	return nil, nil
}

// excluding takes from each group what is in another.
func (r *schemaReader) excluding(groups [][]facts, v *jsonvalue.Value, path string, depth int) ([][]facts, bool, error) {
	var out [][]facts
	for i, g := range groups {
		for j := range groups {
			if i == j {
				continue
			}
			ok, err := r.disjoint(groups[j], g)
			if err != nil {
				return nil, false, err
			}
			if ok {
				continue
			}
			not, err := r.negated(v.Items[j], path, depth)
			if errors.Is(err, expression.ErrUnsupported) {
				return nil, false, expression.Unsupportedf(
					"schema: %s: a value could match both [%d] and [%d]; anyOf is served",
					nameOf(path),
					min(i, j),
					max(i, j),
				)
			}
			if err != nil {
				return nil, false, err
			}
			if g, err = r.product(g, not, path); err != nil {
				return nil, false, err
			}
		}
		out = append(out, g)
	}
	return out, true, nil
}

// check refuses keywords whose values have the wrong form.
func (f facts) check(path string) error {
	for key, v := range f {
		ok, want := true, ""
		switch key {
		case "type":
			ok, want = v.Kind == 's' || v.Kind == 'a', "list"
		case "required", "enum", "prefixItems":
			ok, want = v.Kind == 'a', "list"
		case "properties", "patternProperties":
			ok, want = v.Kind == 'o', "object"
		case "pattern", "format":
			ok, want = v.Kind == 's', "text"
		}
		if !ok {
			return expression.Syntaxf(
				"schema: %s is not %s %s",
				nameOf(in(path, key)),
				map[string]string{"object": "an"}[want]+map[bool]string{true: "a"}[want != "object"],
				want,
			)
		}
	}
	for _, t := range texts(f["type"]) {
		if !slices.Contains(allTypes, t) {
			return expression.Syntaxf("schema: %s: %s is not a type", nameOf(in(path, "type")), expression.Excerpt(t))
		}
	}
	return nil
}

// facts is the expression of one alternative.
func (r *schemaReader) facts(f facts, path string) (*expression.Expr, error) {
	types, err := r.types(f)
	if err != nil {
		return nil, err
	}
	vs, err := r.values(f)
	if err != nil {
		return nil, err
	}
	if vs != nil {
		return r.listed(f, vs, path)
	}
	out := expression.Alternative()
	for _, t := range types {
		if t == "integer" && slices.Contains(types, "number") {
			continue
		}
		var e *expression.Expr
		var err error
		switch t {
		case "object":
			e, err = r.object(f, path)
		case "array":
			e, err = r.array(f, path)
		case "string":
			e, err = r.text(f, path)
		case "number", "integer":
			e, err = r.number(f, path, t == "integer")
		case "boolean":
			e, err = r.listed(facts{"!enum": f["!enum"]}, []*jsonvalue.Value{{Kind: 't'}, {Kind: 'f'}}, path)
		default:
			e, err = r.listed(facts{"!enum": f["!enum"]}, []*jsonvalue.Value{{Kind: '0'}}, path)
		}
		if err != nil {
			return nil, err
		}
		out.Subs = append(out.Subs, e)
	}
	if len(out.Subs) == 1 {
		return out.Subs[0], nil
	}
	return out, nil
}

// anything is the rule of any JSON value.
func (r *schemaReader) anything() (*expression.Expr, error) {
	const name = "any JSON value"
	if number, ok := r.refs[name]; ok {
		return expression.Call(number), nil
	}
	number, err := r.src.Add(name, expression.Sequence())
	if err != nil {
		return nil, err
	}
	r.refs[name] = number
	e, err := r.facts(facts{}, "")
	if err != nil {
		return nil, err
	}
	r.src.Rules[number].Body = e
	return expression.Call(number), nil
}

// shared is the expression of a schema as a rule, for one that is repeated: its places are then there once.
func (r *schemaReader) shared(v *jsonvalue.Value, path string) (*expression.Expr, error) {
	if v == nil || v.Kind == 't' || v.Kind == 'o' && !slices.ContainsFunc(v.Keys, asserts) {
		return r.anything()
	}
	e, err := r.read(v, path)
	if err != nil || e.Op == expression.OpRule || e.Op == expression.OpLiteral {
		return e, err
	}
	return r.rule(path, e)
}

// rule is a call of a new rule of an expression.
func (r *schemaReader) rule(path string, e *expression.Expr) (*expression.Expr, error) {
	number, err := r.src.Add(path, e)
	return expression.Call(number), err
}

// count reads a keyword that is a whole number from 0. A greater one than any text comes to is as good as the greatest.
func (f facts) count(key, path string, missing int) (int, error) {
	v := f[key]
	if v == nil {
		return missing, nil
	}
	n, ok := number(v)
	if !ok || !n.IsInt() || n.Sign() < 0 {
		return 0, expression.Syntaxf("schema: %s is %s: want a whole number from 0", nameOf(in(path, key)), expression.Excerpt(v.String()))
	}
	if !n.Num().IsInt64() || n.Num().Int64() > expression.MaxCount {
		if strings.HasPrefix(key, "min") {
			return 0, fmt.Errorf(
				"%w: schema: %s is %s, and at most %d is served",
				expression.ErrTooLarge,
				nameOf(in(path, key)),
				expression.Excerpt(v.String()),
				expression.MaxCount,
			)
		}
		return expression.MaxCount, nil
	}
	return int(n.Num().Int64()), nil
}

func (f facts) counts(least, most, path string) (int, int, error) {
	lo, err := f.count(least, path, 0)
	if err != nil {
		return 0, 0, err
	}
	hi, err := f.count(most, path, -1)
	if err == nil && hi >= 0 && hi < lo {
		err = expression.Syntaxf("schema: %s is below %s", nameOf(in(path, most)), least)
	}
	return lo, hi, err
}
