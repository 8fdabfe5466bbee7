package schema

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/jsonvalue"
	"edged/core/infer/grammar/regex"
)

// maxAlternatives bounds what anyOf and allOf multiply to.
const maxAlternatives = 256

// Read reads a schema.
func Read(s *expression.Source, raw []byte) (*expression.Expr, error) {
	root, err := jsonvalue.Read(raw)
	if err != nil {
		return nil, expression.Syntaxf("schema: it is not JSON: %v", err)
	}
	r := &schemaReader{
		src:      s,
		root:     root,
		refs:     map[string]int{},
		expanded: map[*jsonvalue.Value][]facts{},
		classes:  map[string]int{},
		machines: map[string]*regex.Machine{},
	}
	return r.read(root, "")
}

type schemaReader struct {
	src   *expression.Source
	root  *jsonvalue.Value
	refs  map[string]int // rules, by pointer
	depth int

	expanded map[*jsonvalue.Value][]facts
	classes  map[string]int            // of equal values, by what they are made of
	machines map[string]*regex.Machine // of patterns, by their text
}

//nolint:gochecknoglobals // tables
var (
	allTypes = []string{"object", "array", "string", "number", "integer", "boolean", "null"}
	// combinations are the keywords that expand takes apart.
	combinations = []string{"$ref", "allOf", "anyOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas", "dependencies"}
	// after those: they are about what all of those leave.
	unevaluated = []string{"unevaluatedProperties", "unevaluatedItems"}
	// keywords say of each keyword which type it speaks of; "": of all.
	keywords = map[string]string{
		"type":                 "",
		"enum":                 "",
		"const":                "",
		"!enum":                "",
		"properties":           "object",
		"required":             "object",
		"additionalProperties": "object",
		"minProperties":        "object",
		"maxProperties":        "object",
		"patternProperties":    "object",
		"propertyNames":        "object",
		"items":                "array",
		"prefixItems":          "array",
		"additionalItems":      "array",
		"minItems":             "array",
		"maxItems":             "array",
		"uniqueItems":          "array",
		"contains":             "array",
		"minContains":          "array",
		"maxContains":          "array",
		"minLength":            "string",
		"maxLength":            "string",
		"pattern":              "string",
		"format":               "string",
		"!pattern":             "string",
		"minimum":              "number",
		"maximum":              "number",
		"exclusiveMinimum":     "number",
		"exclusiveMaximum":     "number",
		"multipleOf":           "number",
	}
	// asserting are keywords of some draft that say what a value must be and are not served.
	asserting = []string{"$dynamicRef", "$recursiveRef", "divisibleBy", "disallow", "extends"}
)

func in(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// place is a path for messages, its middle left out where it is long.
func nameOf(path string) string {
	const most = 160
	switch {
	case path == "":
		return "it"
	case len(path) > most:
		return path[:most/2] + "…" + path[len(path)-most/2:]
	}
	return path
}

// read is the expression of a schema; path says where it stands.
func (r *schemaReader) read(v *jsonvalue.Value, path string) (*expression.Expr, error) {
	if r.depth++; r.depth > expression.MaxNesting {
		return nil, fmt.Errorf("%w: schema: %s nests deeper than %d", expression.ErrTooLarge, nameOf(path), expression.MaxNesting)
	}
	defer func() { r.depth-- }()
	if err := r.src.Spend(8 + len(v.Keys) + len(path)/16); err != nil {
		return nil, err
	}
	switch key := alone(v); key {
	case "$ref":
		return r.reference(v.Fields[key], in(path, key))
	case "anyOf", "oneOf", "allOf":
		// What is not to be merged stays apart, and a $ref in it a rule: a schema may contain itself this way.
		sub, at := v.Fields[key], in(path, key)
		if key == "allOf" && (sub.Kind != 'a' || len(sub.Items) != 1) {
			break
		}
		_, changed, err := r.combine(key, sub, at, 0)
		if err != nil {
			return nil, err
		}
		if !changed {
			return r.each(sub, at)
		}
	}
	all, err := r.expand(v, path, 0)
	if err != nil {
		return nil, err
	}
	out := expression.Alternative()
	for _, f := range all {
		e, err := r.facts(f, path)
		if err != nil {
			return nil, err
		}
		out.Subs = append(out.Subs, e)
	}
	return oneOf(out.Subs), nil
}

// each is one of a list of schemas.
func (r *schemaReader) each(list *jsonvalue.Value, path string) (*expression.Expr, error) {
	var out []*expression.Expr
	for i, item := range list.Items {
		e, err := r.read(item, path+"["+strconv.Itoa(i)+"]")
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return oneOf(out), nil
}

func oneOf(all []*expression.Expr) *expression.Expr {
	if len(all) == 1 {
		return all[0]
	}
	return expression.Choice(all)
}

// asserts tells whether a keyword says anything about a value.
func asserts(key string) bool {
	_, known := keywords[key]
	return known || slices.Contains(combinations, key) || slices.Contains(unevaluated, key) || slices.Contains(asserting, key)
}

// alone is the one keyword of a schema that asserts something; "" where there is not one.
func alone(v *jsonvalue.Value) string {
	found := ""
	for _, k := range v.Keys {
		if !asserts(k) {
			continue
		}
		if found != "" {
			return ""
		}
		found = k
	}
	return found
}

// target returns the schema that a $ref points to.
func (r *schemaReader) target(ref *jsonvalue.Value, path string) (*jsonvalue.Value, error) {
	if ref.Kind != 's' {
		return nil, expression.Syntaxf("schema: %s is not a text", nameOf(path))
	}
	text := ref.Text
	if id := r.root.Get("$id"); id != nil && id.Kind == 's' && id.Text != "" {
		text = strings.TrimPrefix(text, strings.TrimSuffix(id.Text, "#"))
		if text == "" {
			text = "#"
		}
	}
	pointer, ok := strings.CutPrefix(text, "#")
	if !ok {
		return nil, expression.Unsupportedf("schema: %s: %s points outside of the schema", nameOf(path), expression.Excerpt(ref.Text))
	}
	if pointer != "" && pointer[0] != '/' {
		return r.anchor(pointer, path)
	}
	at := r.root
	for i, key := range strings.Split(pointer, "/") {
		if i == 0 {
			continue
		}
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		key = strings.ReplaceAll(strings.ReplaceAll(key, "~1", "/"), "~0", "~")
		next := at.Get(key)
		if n, err := strconv.Atoi(key); err == nil && at.Kind == 'a' && n >= 0 && n < len(at.Items) {
			next = at.Items[n]
		}
		if next == nil {
			return nil, expression.Syntaxf("schema: %s: %s is not there", nameOf(path), expression.Excerpt(ref.Text))
		}
		at = next
	}
	return at, nil
}

// anchor is the definition with an $anchor of some name.
func (r *schemaReader) anchor(name, path string) (*jsonvalue.Value, error) {
	for _, where := range []string{"$defs", "definitions"} {
		defs := r.root.Get(where)
		if defs == nil {
			continue
		}
		for _, k := range defs.Keys {
			if err := r.src.Spend(1); err != nil {
				return nil, err
			}
			if a := defs.Fields[k].Get("$anchor"); a != nil && a.Kind == 's' && a.Text == name {
				return defs.Fields[k], nil
			}
			if a := defs.Fields[k].Get("$id"); a != nil && a.Kind == 's' && a.Text == "#"+name {
				return defs.Fields[k], nil
			}
		}
	}
	return nil, expression.Syntaxf("schema: %s: %s is not there", nameOf(path), expression.Excerpt("#"+name))
}

// reference is a rule for what a $ref points to, made once, so that a schema may contain itself.
func (r *schemaReader) reference(ref *jsonvalue.Value, path string) (*expression.Expr, error) {
	to, err := r.target(ref, path)
	if err != nil {
		return nil, err
	}
	number, ok := r.refs[ref.Text]
	if !ok {
		if number, err = r.src.Add(ref.Text, expression.Sequence()); err != nil {
			return nil, err
		}
		r.refs[ref.Text] = number
		body, err := r.read(to, ref.Text)
		if err != nil {
			return nil, err
		}
		r.src.Rules[number].Body = body
	}
	return expression.Call(number), nil
}

// expand turns a schema into alternatives without combinations at their top. Each schema is expanded once,
// however many lead to it: a chain of pairs doubles with each link otherwise.
func (r *schemaReader) expand(v *jsonvalue.Value, path string, depth int) ([]facts, error) {
	if known, ok := r.expanded[v]; ok {
		return known, nil
	}
	switch {
	case depth > expression.MaxNesting:
		return nil, expression.Syntaxf("schema: %s: $ref, allOf and anyOf run in a circle", nameOf(path))
	case v.Kind == 't':
		return []facts{{}}, nil
	case v.Kind == 'f':
		return nil, nil
	case v.Kind != 'o':
		return nil, expression.Syntaxf("schema: %s is neither an object nor true or false", nameOf(path))
	}
	if err := r.src.Spend(8 + 4*len(v.Keys) + len(path)/16); err != nil {
		return nil, err
	}
	own := facts{}
	for _, key := range v.Keys {
		if _, known := keywords[key]; known {
			own[key] = v.Fields[key]
		} else if slices.Contains(asserting, key) {
			return nil, expression.Unsupportedf("schema: the keyword %s", nameOf(in(path, key)))
		}
	}
	if err := own.check(path); err != nil {
		return nil, err
	}
	out := []facts{own}
	for _, key := range v.Keys {
		if !slices.Contains(combinations, key) {
			continue
		}
		at := in(path, key)
		lists, err := r.parts(key, v, at, depth)
		if err != nil {
			return nil, err
		}
		for _, alternatives := range lists {
			if out, err = r.product(out, alternatives, at); err != nil {
				return nil, err
			}
		}
	}
	for _, key := range unevaluated {
		if sub := v.Fields[key]; sub != nil {
			out = close1(out, key, sub)
		}
	}
	r.expanded[v] = out
	return out, nil
}

// close1 says of each alternative what may be there beyond what it lists.
func close1(all []facts, key string, sub *jsonvalue.Value) []facts {
	var out []facts
	for _, f := range all {
		f = maps.Clone(f)
		switch {
		case key == "unevaluatedProperties":
			if f["additionalProperties"] == nil {
				f["additionalProperties"] = sub
			}
		case f["prefixItems"] != nil && f["items"] == nil, f["items"] == nil:
			f["items"] = sub
		case f["items"].Kind == 'a' && f["additionalItems"] == nil:
			f["additionalItems"] = sub
		}
		out = append(out, f)
	}
	return out
}

// parts are lists of alternatives, one of each of which holds, that one keyword stands for.
func (r *schemaReader) parts(key string, v *jsonvalue.Value, path string, depth int) ([][]facts, error) {
	sub := v.Fields[key]
	switch key {
	case "$ref":
		to, err := r.target(sub, path)
		if err != nil {
			return nil, err
		}
		all, err := r.expand(to, path, depth+1)
		return [][]facts{all}, err
	case "not":
		all, err := r.negated(sub, path, depth)
		return [][]facts{all}, err
	case "if":
		all, err := r.conditional(v, path, depth)
		return [][]facts{all}, err
	case "dependentRequired", "dependentSchemas", "dependencies":
		return r.dependent(key, sub, path, depth)
	}
	all, _, err := r.combine(key, sub, path, depth)
	return [][]facts{all}, err
}

// conditional is if, then and else: either the condition and what follows from it, or neither.
func (r *schemaReader) conditional(v *jsonvalue.Value, path string, depth int) ([]facts, error) {
	then, other := v.Fields["then"], v.Fields["else"]
	if then == nil && other == nil {
		return []facts{{}}, nil
	}
	branch := func(all []facts, sub *jsonvalue.Value, name string) ([]facts, error) {
		if sub == nil {
			return all, nil
		}
		more, err := r.expand(sub, strings.TrimSuffix(path, "if")+name, depth+1)
		if err != nil {
			return nil, err
		}
		return r.product(all, more, path)
	}
	yes, err := r.expand(v.Fields["if"], path, depth+1)
	if err != nil {
		return nil, err
	}
	if yes, err = branch(yes, then, "then"); err != nil {
		return nil, err
	}
	no, err := r.negated(v.Fields["if"], path, depth)
	if err != nil {
		return nil, err
	}
	if no, err = branch(no, other, "else"); err != nil {
		return nil, err
	}
	return append(slices.Clone(yes), no...), nil
}

// without says that an object has no property of some name.
func without(key string) facts {
	props := jsonvalue.NewObject()
	props.Set(key, &jsonvalue.Value{Kind: 'f'})
	return facts{"properties": props}
}

func needs(keys ...string) facts { return facts{"required": listOf(keys)} }

// dependent returns the demands that the presence of one property makes.
func (r *schemaReader) dependent(key string, v *jsonvalue.Value, path string, depth int) ([][]facts, error) {
	if v.Kind != 'o' {
		return nil, expression.Syntaxf("schema: %s is not an object", nameOf(path))
	}
	var out [][]facts
	for _, name := range v.Keys {
		sub := v.Fields[name]
		alternatives := []facts{without(name)}
		switch {
		case sub.Kind == 'a' && key != "dependentSchemas":
			alternatives = append(alternatives, needs(append([]string{name}, texts(sub)...)...))
		default:
			more, err := r.expand(sub, in(path, name), depth+1)
			if err != nil {
				return nil, err
			}
			if more, err = r.product([]facts{needs(name)}, more, path); err != nil {
				return nil, err
			}
			alternatives = append(alternatives, more...)
		}
		out = append(out, alternatives)
	}
	return out, nil
}

// combine expands the value of allOf, anyOf or oneOf. changed: the alternatives say more than their schemas do.
func (r *schemaReader) combine(key string, v *jsonvalue.Value, path string, depth int) (all []facts, changed bool, err error) {
	if v.Kind != 'a' || len(v.Items) == 0 {
		return nil, false, expression.Syntaxf("schema: %s is not a list of schemas", nameOf(path))
	}
	var groups [][]facts
	for i, item := range v.Items {
		one, err := r.expand(item, path+"["+strconv.Itoa(i)+"]", depth+1)
		if err != nil {
			return nil, false, err
		}
		groups = append(groups, one)
	}
	if key == "oneOf" {
		if groups, changed, err = r.exclusive(groups, v, path, depth); err != nil {
			return nil, false, err
		}
	}
	out := []facts{{}}
	if key != "allOf" {
		out = nil
	}
	for _, g := range groups {
		if key == "allOf" {
			if out, err = r.product(out, g, path); err != nil {
				return nil, false, err
			}
			continue
		}
		if out = append(out, g...); len(out) > maxAlternatives {
			return nil, false, fmt.Errorf(
				"%w: schema: %s has more than %d alternatives",
				expression.ErrTooLarge,
				nameOf(path),
				maxAlternatives,
			)
		}
	}
	return out, changed, nil
}

// exclusive makes groups of alternatives such that no value is in two of them.
func (r *schemaReader) exclusive(groups [][]facts, v *jsonvalue.Value, path string, depth int) (_ [][]facts, changed bool, _ error) {
	if apart, err := r.listsApart(groups); apart || err != nil {
		return groups, false, err
	}
	for i := range groups {
		for j := range i {
			ok, err := r.disjoint(groups[j], groups[i])
			if err != nil {
				return nil, false, err
			}
			if ok {
				continue
			}
			if told, err := r.told(groups); told != nil || err != nil {
				return told, true, err
			}
			return r.excluding(groups, v, path, depth)
		}
	}
	return groups, false, nil
}

// product joins every alternative of a with every one of b.
func (r *schemaReader) product(a, b []facts, path string) ([]facts, error) {
	if len(a)*len(b) > maxAlternatives {
		return nil, fmt.Errorf("%w: schema: %s has more than %d alternatives", expression.ErrTooLarge, nameOf(path), maxAlternatives)
	}
	var out []facts
	for _, x := range a {
		for _, y := range b {
			m, err := r.merge(x, y, path)
			if err != nil {
				return nil, err
			}
			if t := m["type"]; t != nil && t.Kind == 'a' && len(t.Items) == 0 {
				continue // nothing is of no type
			}
			out = append(out, m)
		}
	}
	return out, nil
}
