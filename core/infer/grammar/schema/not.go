package schema

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"edged/core/infer/grammar/decimal"
	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/jsonvalue"
	"edged/core/infer/grammar/regex"
)

// negated are alternatives of what is not valid under a schema. The error is ErrUnsupported where that cannot be said.
func (r *schemaReader) negated(v *jsonvalue.Value, path string, depth int) ([]facts, error) {
	all, err := r.expand(v, path, depth+1)
	if err != nil {
		return nil, err
	}
	out := []facts{{}}
	for _, f := range all {
		not, err := r.opposite(f, path)
		if err != nil {
			return nil, err
		}
		if out, err = r.product(out, not, path); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// opposite are alternatives of what one alternative does not allow: each breaks one of its keywords.
func (r *schemaReader) opposite(f facts, path string) ([]facts, error) {
	keys := make([]string, 0, len(f))
	for k := range f {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var out []facts
	for _, k := range keys {
		some, err := r.breaking(k, f[k], path)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

func typed(t string, key string, v *jsonvalue.Value) facts {
	return facts{"type": listOf([]string{t}), key: v}
}

// breaking are alternatives of what a keyword does not allow.
func (r *schemaReader) breaking(key string, v *jsonvalue.Value, path string) ([]facts, error) {
	if err := r.src.Spend(8 + len(v.Items) + len(v.Keys)); err != nil {
		return nil, err
	}
	next := func(t, other string, by int64) ([]facts, error) {
		n, ok := number(v)
		if !ok {
			return nil, expression.Syntaxf("schema: %s is not a number", nameOf(in(path, key)))
		}
		if n = new(big.Rat).Add(n, new(big.Rat).SetInt64(by)); n.Sign() < 0 {
			return nil, nil
		}
		return []facts{typed(t, other, &jsonvalue.Value{Kind: 'n', Text: decimalText(n)})}, nil
	}
	switch key {
	case "type":
		there := texts(v)
		var rest []string
		for _, t := range allTypes {
			if !slices.Contains(there, t) && (t != "integer" || !slices.Contains(there, "number")) &&
				(t != "number" || !slices.Contains(there, "integer")) {
				rest = append(rest, t)
			}
		}
		return []facts{{"type": listOf(rest)}}, nil
	case "const":
		if v.Kind == 'x' {
			return []facts{{}}, nil
		}
		return []facts{{"!enum": &jsonvalue.Value{Kind: 'a', Items: []*jsonvalue.Value{v}}}}, nil
	case "enum":
		return []facts{{"!enum": v}}, nil
	case "!enum":
		return []facts{{"enum": v}}, nil
	case "minimum":
		return []facts{typed("number", "exclusiveMaximum", v)}, nil
	case "exclusiveMinimum":
		return []facts{typed("number", "maximum", v)}, nil
	case "maximum":
		return []facts{typed("number", "exclusiveMinimum", v)}, nil
	case "exclusiveMaximum":
		return []facts{typed("number", "minimum", v)}, nil
	case "minLength":
		return next("string", "maxLength", -1)
	case "maxLength":
		return next("string", "minLength", 1)
	case "minItems":
		return next("array", "maxItems", -1)
	case "maxItems":
		return next("array", "minItems", 1)
	case "minProperties":
		return next("object", "maxProperties", -1)
	case "maxProperties":
		return next("object", "minProperties", 1)
	case "pattern":
		var out []facts
		for _, p := range texts(v) {
			out = append(out, typed("string", "!pattern", listOf([]string{p})))
		}
		return out, nil
	case "!pattern":
		var out []facts
		for _, p := range texts(v) {
			out = append(out, typed("string", "pattern", listOf([]string{p})))
		}
		return out, nil
	case "required":
		var out []facts
		for _, k := range texts(v) {
			f := without(k)
			f["type"] = listOf([]string{"object"})
			out = append(out, f)
		}
		return out, nil
	case "properties":
		var out []facts
		for _, k := range v.Keys {
			not := jsonvalue.NewObject()
			not.Set("not", v.Fields[k])
			props := jsonvalue.NewObject()
			props.Set(k, not)
			out = append(out, facts{"type": listOf([]string{"object"}), "properties": props, "required": listOf([]string{k})})
		}
		return out, nil
	case "additionalProperties":
		if v.Kind == 't' {
			return nil, nil
		}
	}
	return nil, expression.Unsupportedf("schema: %s: what %s does not allow", nameOf(path), key)
}

// listed is one of some values, as far as the other keywords allow them.
func (r *schemaReader) listed(f facts, vs []*jsonvalue.Value, path string) (*expression.Expr, error) {
	rest := facts{}
	for k, v := range f {
		if k != "enum" && k != "const" && v != nil {
			rest[k] = v
		}
	}
	var out []*expression.Expr
	for _, v := range vs {
		ok, err := r.holds(rest, v)
		if errors.Is(err, expression.ErrUnsupported) {
			err = fmt.Errorf("%w (beside %s)", err, nameOf(in(path, "enum")))
		}
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, expression.Literal(v.String()))
		}
	}
	return oneOf(out), nil
}

// valid tells whether a value is valid under a schema.
func (r *schemaReader) valid(schema, v *jsonvalue.Value) (bool, error) {
	if r.depth++; r.depth > expression.MaxNesting {
		return false, fmt.Errorf("%w: schema: it nests deeper than %d", expression.ErrTooLarge, expression.MaxNesting)
	}
	defer func() { r.depth-- }()
	all, err := r.expand(schema, "", 0)
	if err != nil {
		return false, err
	}
	for _, f := range all {
		if ok, err := r.holds(f, v); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// holds tells whether a value keeps to one alternative.
func (r *schemaReader) holds(f facts, v *jsonvalue.Value) (bool, error) {
	for key, want := range f {
		if err := r.src.Spend(4 + len(v.Text)/4); err != nil {
			return false, err
		}
		ok, err := r.keeps(f, key, want, v)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *schemaReader) keeps(f facts, key string, want, v *jsonvalue.Value) (bool, error) {
	t := typeOf(v)
	compare := func(n *big.Rat, signs ...int) (bool, error) {
		bound, ok := number(want)
		return !ok || slices.Contains(signs, n.Cmp(bound)), nil
	}
	if of := keywords[key]; of != "" && of != t {
		return true, nil
	}
	length := new(big.Rat)
	switch t {
	case "string":
		length.SetInt64(int64(len([]rune(v.Text))))
	case "array":
		length.SetInt64(int64(len(v.Items)))
	case "object":
		length.SetInt64(int64(len(v.Keys)))
	}
	n, isNumber := number(v)
	if t == "number" && !isNumber {
		return false, nil
	}
	switch key {
	case "type":
		types := texts(want)
		return slices.Contains(types, t) || t == "number" && n.IsInt() && slices.Contains(types, "integer"), nil
	case "enum", "!enum":
		none, err := r.noneIn(want.Items, []*jsonvalue.Value{v})
		return none == (key == "!enum"), err
	case "const":
		return r.equal(want, v)
	case "minimum":
		return compare(n, 0, 1)
	case "maximum":
		return compare(n, 0, -1)
	case "exclusiveMinimum":
		return compare(n, 1)
	case "exclusiveMaximum":
		return compare(n, -1)
	case "multipleOf":
		m, ok := number(want)
		return !ok || m.Sign() <= 0 || new(big.Rat).Quo(n, m).IsInt(), nil
	case "minLength", "minItems", "minProperties":
		return compare(length, 0, 1)
	case "maxLength", "maxItems", "maxProperties":
		return compare(length, 0, -1)
	case "pattern", "!pattern":
		for _, p := range texts(want) {
			m, err := r.matcher(p)
			if err != nil || m.Accepts(v.Text) != (key == "pattern") {
				return false, err
			}
		}
		return true, nil
	case "format": // values that are written down are the author's
		return true, nil
	case "required":
		for _, k := range texts(want) {
			if v.Fields[k] == nil {
				return false, nil
			}
		}
		return true, nil
	case "properties":
		for _, k := range v.Keys {
			if sub := want.Fields[k]; sub != nil {
				if ok, err := r.valid(sub, v.Fields[k]); !ok || err != nil {
					return false, err
				}
			}
		}
		return true, nil
	case "additionalProperties", "patternProperties":
		for _, k := range v.Keys {
			matched, err := r.matching(f, k)
			if err != nil {
				return false, err
			}
			if key == "additionalProperties" {
				if len(matched) > 0 || f["properties"].Get(k) != nil {
					continue
				}
				matched = []*jsonvalue.Value{want}
			}
			for _, sub := range matched {
				if ok, err := r.valid(sub, v.Fields[k]); !ok || err != nil {
					return false, err
				}
			}
		}
		return true, nil
	case "propertyNames":
		for _, k := range v.Keys {
			if ok, err := r.valid(want, &jsonvalue.Value{Kind: 's', Text: k}); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	case "prefixItems", "items":
		first := 0
		if p := f["prefixItems"]; p != nil && key == "items" {
			first = len(p.Items)
		}
		for i, it := range v.Items {
			sub := want
			if want.Kind == 'a' {
				if i >= len(want.Items) {
					break
				}
				sub = want.Items[i]
			} else if i < first {
				continue
			}
			if ok, err := r.valid(sub, it); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	case "uniqueItems":
		seen := map[int]bool{}
		for _, it := range v.Items {
			c, err := r.class(it)
			if err != nil || seen[c] && want.Kind == 't' {
				return false, err
			}
			seen[c] = true
		}
		return true, nil
	}
	return false, expression.Unsupportedf("schema: %s", key)
}

// matching are the schemas of the patterns that the name of a property matches.
func (r *schemaReader) matching(f facts, name string) ([]*jsonvalue.Value, error) {
	p := f["patternProperties"]
	if p == nil {
		return nil, nil
	}
	var out []*jsonvalue.Value
	for _, pattern := range p.Keys {
		m, err := r.matcher(pattern)
		if err != nil {
			return nil, err
		}
		if err := r.src.Spend(2 + len(name)); err != nil {
			return nil, err
		}
		if m.Accepts(name) {
			out = append(out, p.Fields[pattern])
		}
	}
	return out, nil
}

// matcher is the machine of the texts in which a pattern matches.
func (r *schemaReader) matcher(pattern string) (*regex.Machine, error) {
	if m := r.machines[pattern]; m != nil {
		return m, nil
	}
	l := regex.NewLanguage(r.src.Effort)
	t, err := r.patternTerm(l, pattern, regex.Part)
	if err != nil {
		return nil, err
	}
	m, err := l.Machine(t)
	if errors.Is(err, regex.ErrNoText) {
		m, err = &regex.Machine{Next: [][]int32{nil}, Ends: []bool{false}}, nil
	}
	if err != nil {
		return nil, regex.TooMany(err, "regular expression "+expression.Excerpt(pattern))
	}
	r.machines[pattern] = m
	return m, nil
}

func (r *schemaReader) patternTerm(l *regex.Language, pattern string, a regex.Anchoring) (*regex.Term, error) {
	n, err := regex.Parse(r.src.Effort, pattern)
	if err != nil {
		return nil, err
	}
	return l.Pattern(n, a, pattern)
}

// decimal writes a number that has an end.
func decimalText(n *big.Rat) string {
	for places := range decimal.MaxFraction + 1 {
		if s := n.FloatString(places); places == decimal.MaxFraction || same(s, n) {
			if strings.Contains(s, ".") {
				s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
			}
			return s
		}
	}
	return strconv.Itoa(0)
}

func same(text string, n *big.Rat) bool {
	m, ok := new(big.Rat).SetString(text)
	return ok && m.Cmp(n) == 0
}
