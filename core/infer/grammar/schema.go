package grammar

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A schema is turned into an expression of texts that are valid under it: of those that are written on one line, with one
// space after each comma and colon, and with the properties in the order of the schema. Not every valid text is among
// them, and none that is not valid.
//
// Served: true, false, type (also a list), enum, const, properties, required, additionalProperties, minProperties and
// maxProperties as far as the properties decide them, items, prefixItems, minItems, maxItems, minLength, maxLength, pattern,
// format (see formats), minimum, maximum, exclusiveMinimum, exclusiveMaximum, anyOf, oneOf where no text can match two of
// its schemas, allOf where its schemas can be merged, and $ref within the schema, recursion included. A keyword that says
// nothing about the type that it stands beside is passed over, as are those that only describe. Every other one is
// ErrUnsupported, with its name and where it stands.
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
	r := &schemaReader{src: s, root: root, refs: map[string]int{}, expanded: map[*value][]facts{}, classes: map[string]int{}}
	return r.read(root, "")
}

type schemaReader struct {
	src   *source
	root  *value
	refs  map[string]int // rules, by pointer
	depth int

	expanded map[*value][]facts
	classes  map[string]int // of equal values, by what they are made of
}

// facts are what one alternative of a schema says: keywords and their values, merged.
type facts map[string]*value

//nolint:gochecknoglobals // tables
var (
	allTypes    = []string{"object", "array", "string", "number", "integer", "boolean", "null"}
	annotations = []string{
		"title", "description", "default", "examples", "example", "$schema", "$id", "id", "$comment", "$anchor", "deprecated", "readOnly",
		"writeOnly", "$defs", "definitions", "contentMediaType", "contentEncoding",
	}
	combinations = []string{"$ref", "allOf", "anyOf", "oneOf"}
	// keywords say of each keyword which type it speaks of; "": of all.
	keywords = map[string]string{
		"type": "", "enum": "", "const": "",
		"properties": "object", "required": "object", "additionalProperties": "object", "minProperties": "object", "maxProperties": "object",
		"items": "array", "prefixItems": "array", "minItems": "array", "maxItems": "array", "uniqueItems": "array",
		"minLength": "string", "maxLength": "string", "pattern": "string", "format": "string",
		"minimum": "number", "maximum": "number", "exclusiveMinimum": "number", "exclusiveMaximum": "number",
	}
)

func in(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// read is the expression of a schema; path says where it stands.
func (r *schemaReader) read(v *value, path string) (*expr, error) {
	if r.depth++; r.depth > maxNesting {
		return nil, fmt.Errorf("%w: schema: %s nests deeper than %d", ErrTooLarge, path, maxNesting)
	}
	defer func() { r.depth-- }()
	if err := r.src.spend(8 + len(v.keys)); err != nil {
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
		if _, err := r.combine(key, sub, at, 0); err != nil {
			return nil, err
		}
		return r.each(sub, at)
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

// alone is the one keyword of a schema beside descriptions; "" where there is not one.
func alone(v *value) string {
	found := ""
	for _, k := range v.keys {
		if slices.Contains(annotations, k) {
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
		return nil, wrong("schema: %s is not a text", path)
	}
	pointer, ok := strings.CutPrefix(ref.text, "#")
	if !ok || pointer != "" && pointer[0] != '/' {
		return nil, unsupported("schema: %s: %s points outside of the schema", path, short(ref.text))
	}
	at := r.root
	for i, key := range strings.Split(pointer, "/") {
		if i == 0 {
			continue
		}
		key = strings.ReplaceAll(strings.ReplaceAll(key, "~1", "/"), "~0", "~")
		next := at.get(key)
		if n, err := strconv.Atoi(key); err == nil && at.kind == 'a' && n >= 0 && n < len(at.items) {
			next = at.items[n]
		}
		if next == nil {
			return nil, wrong("schema: %s: %s is not there", path, short(ref.text))
		}
		at = next
	}
	return at, nil
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

// expand turns a schema into alternatives without $ref, allOf, anyOf and oneOf at their top. Each schema is expanded once,
// however many lead to it: a chain of pairs doubles with each link otherwise.
func (r *schemaReader) expand(v *value, path string, depth int) ([]facts, error) {
	if known, ok := r.expanded[v]; ok {
		return known, nil
	}
	switch {
	case depth > maxNesting:
		return nil, wrong("schema: %s: $ref, allOf and anyOf run in a circle", path)
	case v.kind == 't':
		return []facts{{}}, nil
	case v.kind == 'f':
		return nil, nil
	case v.kind != 'o':
		return nil, wrong("schema: %s is neither an object nor true or false", nameOf(path))
	}
	if err := r.src.spend(8 + 4*len(v.keys)); err != nil {
		return nil, err
	}
	own := facts{}
	for _, key := range v.keys {
		switch _, known := keywords[key]; {
		case known:
			own[key] = v.fields[key]
		case slices.Contains(combinations, key), slices.Contains(annotations, key):
		default:
			return nil, unsupported("schema: the keyword %s", in(path, key))
		}
	}
	out := []facts{own}
	for _, key := range v.keys {
		if !slices.Contains(combinations, key) {
			continue
		}
		sub, at := v.fields[key], in(path, key)
		var alternatives []facts
		var err error
		if key == "$ref" {
			to, err := r.target(sub, at)
			if err != nil {
				return nil, err
			}
			if alternatives, err = r.expand(to, at, depth+1); err != nil {
				return nil, err
			}
		} else if alternatives, err = r.combine(key, sub, at, depth); err != nil {
			return nil, err
		}
		if out, err = r.product(out, alternatives, at); err != nil {
			return nil, err
		}
	}
	r.expanded[v] = out
	return out, nil
}

func nameOf(path string) string {
	if path == "" {
		return "it"
	}
	return path
}

// combine expands the value of allOf, anyOf or oneOf.
func (r *schemaReader) combine(key string, v *value, path string, depth int) ([]facts, error) {
	if v.kind != 'a' || len(v.items) == 0 {
		return nil, wrong("schema: %s is not a list of schemas", path)
	}
	var groups [][]facts
	for i, item := range v.items {
		one, err := r.expand(item, path+"["+strconv.Itoa(i)+"]", depth+1)
		if err != nil {
			return nil, err
		}
		groups = append(groups, one)
	}
	out := []facts{{}}
	if key != "allOf" {
		out = nil
	}
	apart := false // proven of all at once, where each is a list of values
	if key == "oneOf" {
		var err error
		if apart, err = r.listsApart(groups); err != nil {
			return nil, err
		}
	}
	for i, g := range groups {
		if key == "allOf" {
			var err error
			if out, err = r.product(out, g, path); err != nil {
				return nil, err
			}
			continue
		}
		if key == "oneOf" && !apart {
			for j, other := range groups[:i] {
				if ok, err := r.disjoint(other, g); err != nil {
					return nil, err
				} else if !ok {
					return nil, unsupported("schema: %s: a value could match both [%d] and [%d]; anyOf is served", path, j, i)
				}
			}
		}
		if out = append(out, g...); len(out) > maxAlternatives {
			return nil, fmt.Errorf("%w: schema: %s has more than %d alternatives", ErrTooLarge, path, maxAlternatives)
		}
	}
	return out, nil
}

// product joins every alternative of a with every one of b.
func (r *schemaReader) product(a, b []facts, path string) ([]facts, error) {
	if len(a)*len(b) > maxAlternatives {
		return nil, fmt.Errorf("%w: schema: %s has more than %d alternatives", ErrTooLarge, path, maxAlternatives)
	}
	var out []facts
	for _, x := range a {
		for _, y := range b {
			m, err := r.merge(x, y, path)
			if err != nil {
				return nil, err
			}
			out = append(out, m)
		}
	}
	return out, nil
}

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
	if err := r.src.spend(8 * (1 + len(a) + len(b))); err != nil {
		return false, err
	}
	if va, vb := a["enum"], b["enum"]; va != nil && vb != nil && a["const"] == nil && b["const"] == nil {
		return r.noneIn(va.items, vb.items)
	}
	ta, err := r.types(a)
	if err != nil {
		return false, err
	}
	tb, err := r.types(b)
	if err != nil {
		return false, err
	}
	shared := false
	for _, t := range ta {
		shared = shared || slices.Contains(tb, t) || t == "integer" && slices.Contains(tb, "number") || t == "number" && slices.Contains(tb, "integer")
	}
	if !shared {
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
	if va != nil && vb != nil {
		return r.noneIn(va, vb)
	}
	if !slices.Equal(ta, []string{"object"}) || !slices.Equal(tb, []string{"object"}) {
		return false, nil
	}
	for _, key := range texts(a["required"]) {
		if !slices.Contains(texts(b["required"]), key) {
			continue
		}
		fa, fb := factsOf(a["properties"].get(key)), factsOf(b["properties"].get(key))
		if fa == nil || fb == nil {
			continue
		}
		if ok, err := r.apart(fa, fb); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// factsOf are the keywords of a schema without combinations; nil where it has some.
func factsOf(v *value) facts {
	if v == nil || v.kind != 'o' {
		return nil
	}
	out := facts{}
	for _, k := range v.keys {
		if _, ok := keywords[k]; ok {
			out[k] = v.fields[k]
		} else if !slices.Contains(annotations, k) {
			return nil
		}
	}
	return out
}

// common are those of a that are in b.
func (r *schemaReader) common(a, b []*value) ([]*value, error) {
	there := make(map[int]bool, len(b))
	for _, v := range b {
		n, err := r.class(v)
		if err != nil {
			return nil, err
		}
		there[n] = true
	}
	out := []*value{}
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

func (r *schemaReader) noneIn(a, b []*value) (bool, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	both, err := r.common(a, b)
	return len(both) == 0, err
}

// equal compares values; numbers by what they are.
func (r *schemaReader) equal(a, b *value) (bool, error) {
	x, err := r.class(a)
	if err != nil || a == b {
		return true, err
	}
	y, err := r.class(b)
	return x == y, err
}

// class is a number that equal values have in common and others have not. It is found once for each value, from those of
// its parts, so that comparing large lists is not a matter of the square of their length.
func (r *schemaReader) class(v *value) (int, error) {
	if v.class > 0 {
		return v.class, nil
	}
	if err := r.src.spend(4 + len(v.text)/8 + 2*len(v.keys) + len(v.items)); err != nil {
		return 0, err
	}
	key := []byte{v.kind}
	switch v.kind {
	case 's':
		key = append(key, v.text...)
	case 'n':
		key = append(key, sameNumber(v.text)...)
	case 'o':
		for _, k := range slices.Sorted(slices.Values(v.keys)) {
			n, err := r.class(v.fields[k])
			if err != nil {
				return 0, err
			}
			key = strconv.AppendQuote(key, k)
			key = append(strconv.AppendInt(key, int64(n), 10), ',')
		}
	case 'a':
		for _, it := range v.items {
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
	v.class = n
	return n, nil
}

// values are those of enum and const; nil: not bound to some.
func (r *schemaReader) values(f facts) ([]*value, error) {
	var out []*value
	if e := f["enum"]; e != nil {
		if out = e.items; out == nil {
			out = []*value{}
		}
	}
	if c := f["const"]; c != nil {
		if out != nil {
			return r.common([]*value{c}, out)
		}
		out = []*value{c}
	}
	return out, nil
}

// types are those that a value may have: what type says; without it, those that other keywords speak of; without those, all.
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
		if err := r.src.spend(len(vs)); err != nil {
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

func typeOf(v *value) string {
	switch v.kind {
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
func texts(v *value) []string {
	switch {
	case v == nil:
		return nil
	case v.kind == 's':
		return []string{v.text}
	}
	out := []string{}
	for _, it := range v.items {
		if it.kind == 's' {
			out = append(out, it.text)
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

func listOf(all []string) *value {
	v := &value{kind: 'a'}
	for _, t := range all {
		v.items = append(v.items, &value{kind: 's', text: t})
	}
	return v
}

// merge is what both say.
func (r *schemaReader) merge(a, b facts, path string) (facts, error) {
	switch {
	case len(a) == 0:
		return b, nil
	case len(b) == 0:
		return a, nil
	}
	if err := r.src.spend(8 * (1 + len(a) + len(b))); err != nil {
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
		case errors.Is(err, ErrTooLarge):
			return nil, err
		case err != nil:
			return nil, unsupported("schema: %s: %v", path, err)
		}
		out[k] = m
	}
	r.closeObject(a, b, out)
	return out, nil
}

// closeObject gives each side's additionalProperties its meaning: it is about what that side does not list.
func (r *schemaReader) closeObject(a, b, out facts) {
	for _, side := range [2][2]facts{{a, b}, {b, a}} {
		if more := side[0]["additionalProperties"]; more == nil || more.kind != 'f' {
			continue
		}
		props := out["properties"]
		if props == nil {
			continue
		}
		kept := object()
		for _, k := range props.keys {
			if side[0]["properties"].get(k) != nil {
				kept.set(k, props.fields[k])
			}
		}
		out["properties"] = kept
	}
}

func (r *schemaReader) mergeKeyword(key string, x, y *value) (*value, error) {
	switch same, err := r.equal(x, y); {
	case err != nil:
		return nil, err
	case same:
		return x, nil
	}
	both := func(a, b *value) *value {
		v := object()
		v.set("allOf", &value{kind: 'a', items: []*value{a, b}})
		return v
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
		all := texts(x)
		there := setOf(all)
		for _, t := range texts(y) {
			if !there[t] {
				all = append(all, t)
			}
		}
		return listOf(all), r.src.spend(2 * len(all))
	case "properties":
		out := object()
		for _, v := range []*value{x, y} {
			for _, k := range v.keys {
				if old := out.fields[k]; old != nil {
					out.set(k, both(old, v.fields[k]))
				} else {
					out.set(k, v.fields[k])
				}
			}
		}
		return out, nil
	case "enum":
		kept, err := r.common(x.items, y.items)
		return &value{kind: 'a', items: kept}, err
	case "const":
		return nil, fmt.Errorf("const is %s and %s", x, y)
	case "items":
		return both(x, y), nil
	case "additionalProperties":
		switch {
		case x.kind == 'f' || y.kind == 't':
			return x, nil
		case y.kind == 'f' || x.kind == 't':
			return y, nil
		}
		return both(x, y), nil
	case "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties":
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

// facts is the expression of one alternative.
func (r *schemaReader) facts(f facts, path string) (*expr, error) {
	types, err := r.types(f)
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		if !slices.Contains(allTypes, t) {
			return nil, wrong("schema: %s: %s is not a type", in(path, "type"), short(t))
		}
	}
	for _, list := range []string{"type", "required", "enum", "prefixItems"} {
		if v := f[list]; v != nil && v.kind != 'a' && (list != "type" || v.kind != 's') {
			return nil, wrong("schema: %s is not a list", in(path, list))
		}
	}
	vs, err := r.values(f)
	if err != nil {
		return nil, err
	}
	if vs != nil {
		return r.listed(f, vs, path)
	}
	out := alt()
	for _, t := range types {
		if t == "integer" && slices.Contains(types, "number") {
			continue
		}
		var e *expr
		var err error
		switch t {
		case "object":
			e, err = r.object(f, path)
		case "array":
			e, err = r.array(f, path)
		case "string":
			e, err = r.text(f, path)
		case "number", "integer":
			e, err = numberOf(f, path, t == "integer")
		case "boolean":
			e = alt(lit("true"), lit("false"))
		default:
			e = lit("null")
		}
		if err != nil {
			return nil, err
		}
		out.subs = append(out.subs, e)
	}
	if len(out.subs) == 1 {
		return out.subs[0], nil
	}
	return out, nil
}

// listed is one of some values, as far as the other keywords allow them.
func (r *schemaReader) listed(f facts, vs []*value, path string) (*expr, error) {
	for k := range f {
		switch k {
		case "enum", "const", "type", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		default:
			return nil, unsupported("schema: %s beside enum or const", in(path, k))
		}
	}
	var out []*expr
	for _, v := range vs {
		if err := r.src.spend(4); err != nil {
			return nil, err
		}
		if f.allows(v) {
			out = append(out, lit(v.String()))
		}
	}
	return oneOf(out), nil
}

func (f facts) allows(v *value) bool {
	t := typeOf(v)
	if types := texts(f["type"]); f["type"] != nil && !slices.Contains(types, t) {
		n, ok := number(v)
		if !ok || !n.IsInt() || !slices.Contains(types, "integer") {
			return false
		}
	}
	limit := func(key string, n *big.Rat, signs ...int) bool {
		bound, ok := number(f[key])
		return !ok || slices.Contains(signs, n.Cmp(bound))
	}
	switch t {
	case "number":
		n, ok := number(v)
		return ok && limit("minimum", n, 0, 1) && limit("maximum", n, 0, -1) && limit("exclusiveMinimum", n, 1) && limit("exclusiveMaximum", n, -1)
	case "string":
		n := new(big.Rat).SetInt64(int64(utf8.RuneCountInString(v.text)))
		return limit("minLength", n, 0, 1) && limit("maxLength", n, 0, -1)
	}
	return true
}

// anything is the rule of any JSON value.
func (r *schemaReader) anything() (*expr, error) {
	const name = "any JSON value"
	if number, ok := r.refs[name]; ok {
		return call1(number), nil
	}
	number, err := r.src.add(name, seq())
	if err != nil {
		return nil, err
	}
	r.refs[name] = number
	e, err := r.facts(facts{}, "")
	if err != nil {
		return nil, err
	}
	r.src.rules[number].body = e
	return call1(number), nil
}

// shared is the expression of a schema as a rule, for one that is repeated: its places are then there once.
func (r *schemaReader) shared(v *value, path string) (*expr, error) {
	if v == nil || v.kind == 't' {
		return r.anything()
	}
	e, err := r.read(v, path)
	if err != nil || e.op == opRule || e.op == opLit {
		return e, err
	}
	number, err := r.src.add(path, e)
	return call1(number), err
}

// count reads a keyword that is a whole number from 0.
func (f facts) count(key, path string, missing int) (int, error) {
	v := f[key]
	if v == nil {
		return missing, nil
	}
	n, ok := number(v)
	if !ok || !n.IsInt() || n.Sign() < 0 || !n.Num().IsInt64() || n.Num().Int64() > maxCount {
		return 0, wrong("schema: %s is %s: want a whole number from 0 to %d", in(path, key), short(v.String()), maxCount)
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
		err = wrong("schema: %s is below %s", in(path, most), least)
	}
	return lo, hi, err
}

func (r *schemaReader) array(f facts, path string) (*expr, error) {
	least, most, err := f.counts("minItems", "maxItems", path)
	if err != nil {
		return nil, err
	}
	if u := f["uniqueItems"]; u != nil && u.kind != 'f' && (most < 0 || most > 1) {
		return nil, unsupported("schema: the keyword %s", in(path, "uniqueItems"))
	}
	var first []*value
	if p := f["prefixItems"]; p != nil {
		first = p.items
	}
	items := f["items"]
	switch {
	case items != nil && items.kind == 'a':
		return nil, unsupported("schema: %s as a list: write prefixItems", in(path, "items"))
	case items != nil && items.kind == 'f' && (most < 0 || most > len(first)):
		most = len(first)
	}
	if most >= 0 && most < least {
		return nil, wrong("schema: %s: no array has %d to %d items", nameOf(path), least, most)
	}
	rest := seq()
	if most < 0 || most > len(first) {
		item, err := r.shared(items, in(path, "items"))
		if err != nil {
			return nil, err
		}
		n := len(first)
		more, bound := seq(lit(", "), item), most-max(n, 1)
		if most < 0 {
			bound = -1
		}
		rest = repeat(more, max(least-max(n, 1), 0), bound)
		if n == 0 {
			rest = seq(item, rest)
			if least == 0 {
				rest = repeat(rest, 0, 1)
			}
		}
	}
	n := len(first)
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

func (r *schemaReader) object(f facts, path string) (*expr, error) {
	props, more := f["properties"], f["additionalProperties"]
	if props != nil && props.kind != 'o' {
		return nil, wrong("schema: %s is not an object", in(path, "properties"))
	}
	if more == nil && (props == nil || len(props.keys) == 0) {
		more = &value{kind: 't'}
	}
	open := more != nil && more.kind != 'f'
	required := texts(f["required"])
	must, listed := setOf(required), map[string]bool{}
	members := &expr{op: opMember}
	var names []string
	var other *expr // of a required property that is not listed
	member := func(key string, e *expr) {
		names = append(names, key)
		listed[key] = true
		members.subs = append(members.subs, seq(lit(quote(key)+": "), e))
		members.must = append(members.must, must[key])
	}
	if props != nil {
		for _, key := range props.keys {
			v := props.fields[key]
			if v.kind == 'f' && !must[key] {
				names = append(names, key) // it must not be there
				listed[key] = true
				continue
			}
			e, err := r.read(v, in(in(path, "properties"), key))
			if err != nil {
				return nil, err
			}
			member(key, e)
		}
	}
	for _, key := range required {
		if listed[key] {
			continue
		}
		if !open && more != nil {
			return nil, wrong("schema: %s: %s is required and not allowed", in(path, "required"), short(key))
		}
		if other == nil {
			var err error
			if other, err = r.shared(more, in(path, "additionalProperties")); err != nil {
				return nil, err
			}
		}
		member(key, other)
	}
	least, most, err := f.counts("minProperties", "maxProperties", path)
	switch {
	case err != nil:
		return nil, err
	case least > len(required):
		return nil, unsupported("schema: the keyword %s beyond the number of required properties", in(path, "minProperties"))
	case most >= 0 && (open || most < len(members.subs)):
		return nil, unsupported("schema: the keyword %s below the number of properties there can be", in(path, "maxProperties"))
	}
	if open {
		v, err := r.shared(more, in(path, "additionalProperties"))
		if err != nil {
			return nil, err
		}
		key, err := r.otherKey(names)
		if err != nil {
			return nil, err
		}
		pair := seq(key, lit(": "), v)
		number, err := r.src.add(in(path, "additionalProperties"), pair)
		if err != nil {
			return nil, err
		}
		members.subs = append(members.subs, seq(call1(number), repeat(seq(lit(", "), call1(number)), 0, -1)))
		members.must = append(members.must, false)
	}
	return seq(lit("{"), members, lit("}")), nil
}

// otherKey is a key that is none of some names. With names it holds no escapes, which could spell one of them.
func (r *schemaReader) otherKey(names []string) (*expr, error) {
	if len(names) == 0 {
		char, err := r.char()
		return seq(lit(`"`), repeat(char, 1, -1), lit(`"`)), err
	}
	var left [][]rune
	for _, n := range names {
		left = append(left, []rune(n))
	}
	tail := repeat(class(unescaped()...), 0, -1)
	number, err := r.src.add("the rest of a key", seq(tail, lit(`"`)))
	if err != nil {
		return nil, err
	}
	return seq(lit(`"`), notAmong(left, call1(number), true)), nil
}

// notAmong is a text and its closing quote that is none of some names; rest is what may follow once it is none of them.
func notAmong(names [][]rune, rest *expr, begins bool) *expr {
	groups := map[rune][][]rune{}
	ends := begins // nor is it empty
	var firsts []span
	for _, n := range names {
		if len(n) == 0 {
			ends = true
			continue
		}
		if groups[n[0]] == nil {
			firsts = append(firsts, span{n[0], n[0]})
		}
		groups[n[0]] = append(groups[n[0]], n[1:])
	}
	out := alt()
	if !ends {
		out.subs = append(out.subs, lit(`"`))
	}
	firsts = ordered(firsts)
	if other := common(unescaped(), except(firsts)); len(other) > 0 {
		out.subs = append(out.subs, seq(class(other...), rest))
	}
	for _, s := range firsts {
		for c := s.lo; c <= s.hi; c++ {
			if one := common(unescaped(), []span{{c, c}}); len(one) > 0 {
				out.subs = append(out.subs, seq(class(one...), notAmong(groups[c], rest, false)))
			}
		}
	}
	return out
}
