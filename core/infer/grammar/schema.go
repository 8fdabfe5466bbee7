package grammar

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A schema is turned into an expression of texts that are valid under it: of those that are written on one line, with one
// space after each comma and colon, and with the properties in the order of the schema. Not every valid text is among
// them, and none that is not valid.
//
// What is served stands in docs/constrained.md, which the tests write. A keyword that says nothing about the type that it
// stands beside is passed over, as are those that only describe and those that no draft knows: they assert nothing. What
// asserts something that is not served is ErrUnsupported, with its name and where it stands.
//
// An object has properties beyond those that are listed where additionalProperties is true or a schema, and where no
// properties are listed at all.

// maxAlternatives bounds what anyOf and allOf multiply to.
const maxAlternatives = 256

// schema reads a schema.
func (s *source) schema(raw []byte) (*expr, error) {
	root, err := readValue(raw)
	if err != nil {
		return nil, wrong("schema: it is not JSON: %v", err)
	}
	r := &schemaReader{src: s, root: root, refs: map[string]int{}, expanded: map[*value][]facts{}, classes: map[string]int{}, machines: map[string]*machine{}}
	return r.read(root, "")
}

type schemaReader struct {
	src   *source
	root  *value
	refs  map[string]int // rules, by pointer
	depth int

	expanded map[*value][]facts
	classes  map[string]int      // of equal values, by what they are made of
	machines map[string]*machine // of patterns, by their text
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
		"type": "", "enum": "", "const": "", "!enum": "",
		"properties": "object", "required": "object", "additionalProperties": "object", "minProperties": "object", "maxProperties": "object",
		"patternProperties": "object", "propertyNames": "object",
		"items": "array", "prefixItems": "array", "additionalItems": "array", "minItems": "array", "maxItems": "array", "uniqueItems": "array",
		"contains": "array", "minContains": "array", "maxContains": "array",
		"minLength": "string", "maxLength": "string", "pattern": "string", "format": "string", "!pattern": "string",
		"minimum": "number", "maximum": "number", "exclusiveMinimum": "number", "exclusiveMaximum": "number", "multipleOf": "number",
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
func (r *schemaReader) read(v *value, path string) (*expr, error) {
	if r.depth++; r.depth > maxNesting {
		return nil, fmt.Errorf("%w: schema: %s nests deeper than %d", ErrTooLarge, nameOf(path), maxNesting)
	}
	defer func() { r.depth-- }()
	if err := r.src.spend(8 + len(v.keys) + len(path)/16); err != nil {
		return nil, err
	}
	switch key := alone(v); key {
	case "$ref":
		return r.reference(v.fields[key], in(path, key))
	case "anyOf", "oneOf", "allOf":
		// What is not to be merged stays apart, and a $ref in it a rule: a schema may contain itself this way.
		sub, at := v.fields[key], in(path, key)
		if key == "allOf" && (sub.kind != 'a' || len(sub.items) != 1) {
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
	out := alt()
	for _, f := range all {
		e, err := r.facts(f, path)
		if err != nil {
			return nil, err
		}
		out.subs = append(out.subs, e)
	}
	return oneOf(out.subs), nil
}

// each is one of a list of schemas.
func (r *schemaReader) each(list *value, path string) (*expr, error) {
	var out []*expr
	for i, item := range list.items {
		e, err := r.read(item, path+"["+strconv.Itoa(i)+"]")
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return oneOf(out), nil
}

func oneOf(all []*expr) *expr {
	if len(all) == 1 {
		return all[0]
	}
	return literals(all)
}

// asserts tells whether a keyword says anything about a value.
func asserts(key string) bool {
	_, known := keywords[key]
	return known || slices.Contains(combinations, key) || slices.Contains(unevaluated, key) || slices.Contains(asserting, key)
}

// alone is the one keyword of a schema that asserts something; "" where there is not one.
func alone(v *value) string {
	found := ""
	for _, k := range v.keys {
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

// target is what a $ref points to.
func (r *schemaReader) target(ref *value, path string) (*value, error) {
	if ref.kind != 's' {
		return nil, wrong("schema: %s is not a text", nameOf(path))
	}
	text := ref.text
	if id := r.root.get("$id"); id != nil && id.kind == 's' && id.text != "" {
		text = strings.TrimPrefix(text, strings.TrimSuffix(id.text, "#"))
		if text == "" {
			text = "#"
		}
	}
	pointer, ok := strings.CutPrefix(text, "#")
	if !ok {
		return nil, unsupported("schema: %s: %s points outside of the schema", nameOf(path), short(ref.text))
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
		next := at.get(key)
		if n, err := strconv.Atoi(key); err == nil && at.kind == 'a' && n >= 0 && n < len(at.items) {
			next = at.items[n]
		}
		if next == nil {
			return nil, wrong("schema: %s: %s is not there", nameOf(path), short(ref.text))
		}
		at = next
	}
	return at, nil
}

// anchor is the definition with an $anchor of some name.
func (r *schemaReader) anchor(name, path string) (*value, error) {
	for _, where := range []string{"$defs", "definitions"} {
		defs := r.root.get(where)
		if defs == nil {
			continue
		}
		for _, k := range defs.keys {
			if err := r.src.spend(1); err != nil {
				return nil, err
			}
			if a := defs.fields[k].get("$anchor"); a != nil && a.kind == 's' && a.text == name {
				return defs.fields[k], nil
			}
			if a := defs.fields[k].get("$id"); a != nil && a.kind == 's' && a.text == "#"+name {
				return defs.fields[k], nil
			}
		}
	}
	return nil, wrong("schema: %s: %s is not there", nameOf(path), short("#"+name))
}

// reference is a rule for what a $ref points to, made once, so that a schema may contain itself.
func (r *schemaReader) reference(ref *value, path string) (*expr, error) {
	to, err := r.target(ref, path)
	if err != nil {
		return nil, err
	}
	number, ok := r.refs[ref.text]
	if !ok {
		if number, err = r.src.add(ref.text, seq()); err != nil {
			return nil, err
		}
		r.refs[ref.text] = number
		body, err := r.read(to, ref.text)
		if err != nil {
			return nil, err
		}
		r.src.rules[number].body = body
	}
	return call1(number), nil
}

// expand turns a schema into alternatives without combinations at their top. Each schema is expanded once, however many lead to
// it: a chain of pairs doubles with each link otherwise.
func (r *schemaReader) expand(v *value, path string, depth int) ([]facts, error) {
	if known, ok := r.expanded[v]; ok {
		return known, nil
	}
	switch {
	case depth > maxNesting:
		return nil, wrong("schema: %s: $ref, allOf and anyOf run in a circle", nameOf(path))
	case v.kind == 't':
		return []facts{{}}, nil
	case v.kind == 'f':
		return nil, nil
	case v.kind != 'o':
		return nil, wrong("schema: %s is neither an object nor true or false", nameOf(path))
	}
	if err := r.src.spend(8 + 4*len(v.keys) + len(path)/16); err != nil {
		return nil, err
	}
	own := facts{}
	for _, key := range v.keys {
		if _, known := keywords[key]; known {
			own[key] = v.fields[key]
		} else if slices.Contains(asserting, key) {
			return nil, unsupported("schema: the keyword %s", nameOf(in(path, key)))
		}
	}
	if err := own.check(path); err != nil {
		return nil, err
	}
	out := []facts{own}
	for _, key := range v.keys {
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
		if sub := v.fields[key]; sub != nil {
			out = close1(out, key, sub)
		}
	}
	r.expanded[v] = out
	return out, nil
}

// close1 says of each alternative what may be there beyond what it lists.
func close1(all []facts, key string, sub *value) []facts {
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
		case f["items"].kind == 'a' && f["additionalItems"] == nil:
			f["additionalItems"] = sub
		}
		out = append(out, f)
	}
	return out
}

// parts are lists of alternatives, one of each of which holds, that one keyword stands for.
func (r *schemaReader) parts(key string, v *value, path string, depth int) ([][]facts, error) {
	sub := v.fields[key]
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
func (r *schemaReader) conditional(v *value, path string, depth int) ([]facts, error) {
	then, other := v.fields["then"], v.fields["else"]
	if then == nil && other == nil {
		return []facts{{}}, nil
	}
	branch := func(all []facts, sub *value, name string) ([]facts, error) {
		if sub == nil {
			return all, nil
		}
		more, err := r.expand(sub, strings.TrimSuffix(path, "if")+name, depth+1)
		if err != nil {
			return nil, err
		}
		return r.product(all, more, path)
	}
	yes, err := r.expand(v.fields["if"], path, depth+1)
	if err != nil {
		return nil, err
	}
	if yes, err = branch(yes, then, "then"); err != nil {
		return nil, err
	}
	no, err := r.negated(v.fields["if"], path, depth)
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
	props := object()
	props.set(key, &value{kind: 'f'})
	return facts{"properties": props}
}

func needs(keys ...string) facts { return facts{"required": listOf(keys)} }

// dependent is what the presence of one property demands.
func (r *schemaReader) dependent(key string, v *value, path string, depth int) ([][]facts, error) {
	if v.kind != 'o' {
		return nil, wrong("schema: %s is not an object", nameOf(path))
	}
	var out [][]facts
	for _, name := range v.keys {
		sub := v.fields[name]
		alternatives := []facts{without(name)}
		switch {
		case sub.kind == 'a' && key != "dependentSchemas":
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
func (r *schemaReader) combine(key string, v *value, path string, depth int) (all []facts, changed bool, err error) {
	if v.kind != 'a' || len(v.items) == 0 {
		return nil, false, wrong("schema: %s is not a list of schemas", nameOf(path))
	}
	var groups [][]facts
	for i, item := range v.items {
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
			return nil, false, fmt.Errorf("%w: schema: %s has more than %d alternatives", ErrTooLarge, nameOf(path), maxAlternatives)
		}
	}
	return out, changed, nil
}

// exclusive makes groups of alternatives such that no value is in two of them.
func (r *schemaReader) exclusive(groups [][]facts, v *value, path string, depth int) (_ [][]facts, changed bool, _ error) {
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
		return nil, fmt.Errorf("%w: schema: %s has more than %d alternatives", ErrTooLarge, nameOf(path), maxAlternatives)
	}
	var out []facts
	for _, x := range a {
		for _, y := range b {
			m, err := r.merge(x, y, path)
			if err != nil {
				return nil, err
			}
			if t := m["type"]; t != nil && t.kind == 'a' && len(t.items) == 0 {
				continue // nothing is of no type
			}
			out = append(out, m)
		}
	}
	return out, nil
}
