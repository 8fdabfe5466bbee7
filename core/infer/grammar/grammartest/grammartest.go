// Package grammartest makes random JSON schemas of the subset that core/infer/grammar serves, and validates
// texts against them with an implementation that is not edged's.
//
// It must not know how grammars work. Its functions may be called concurrently.
package grammartest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/dlclark/regexp2/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schema makes a schema; the same seed makes the same one.
func Schema(seed uint64) string {
	g := schemaMaker{rng: rand.New(rand.NewPCG(seed, 7))}
	return g.root()
}

// Validate says what is wrong with a text: that it is no JSON, or not valid under the schema.
func Validate(schema string, text []byte) error {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if strings.Contains(schema, `imum":true`) || strings.Contains(schema, `imum": true`) {
		c.DefaultDraft(jsonschema.Draft4) // as OpenAPI 3.0 has it
	}
	c.UseRegexpEngine(ecmaScript)
	if err := c.AddResource("mem:///s.json", doc); err != nil {
		return err
	}
	compiled, err := c.Compile("mem:///s.json")
	if err != nil {
		return err
	}
	got, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return compiled.Validate(got)
}

// ecmaScript compiles the patterns of schemas as JavaScript reads them, which Go's own package does not know:
// look-ahead, \uHHHH.
func ecmaScript(pattern string) (jsonschema.Regexp, error) {
	re, err := regexp2.Compile(pattern, regexp2.ECMAScript|regexp2.Unicode)
	if err != nil {
		re, err = regexp2.Compile(pattern, regexp2.None)
	}
	return engine{re, pattern}, err
}

type engine struct {
	re   *regexp2.Regexp
	text string
}

func (e engine) String() string { return e.text }

func (e engine) MatchString(s string) bool {
	ok, err := e.re.MatchString(s)
	return ok && err == nil
}

// schemaMaker makes one schema.
type schemaMaker struct {
	rng   *rand.Rand
	depth int
}

func (g *schemaMaker) root() string {
	if g.rng.IntN(4) == 0 { // recursive
		return fmt.Sprintf(
			`{"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"v": %s, "next": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}, "list": {"type": "array", "items": {"$ref": "#/$defs/b"}, "maxItems": 2}}, "required": ["v"]}, "b": {"anyOf": [%s, {"$ref": "#/$defs/a"}]}}}`,
			g.schema(),
			g.schema(),
		)
	}
	return g.schema()
}

func (g *schemaMaker) pick(all ...func() string) string { return all[g.rng.IntN(len(all))]() }

func (g *schemaMaker) schema() string {
	g.depth++
	defer func() { g.depth-- }()
	leaves := []func() string{
		g.text,
		g.text,
		g.integer,
		g.number,
		g.values,
		func() string { return `{"type": "boolean"}` },
		func() string { return `{"type": ["null", "integer"]}` },
	}
	if g.depth > 4 {
		return g.pick(leaves...)
	}
	return g.pick(
		append(
			leaves,
			g.object,
			g.object,
			g.object,
			g.array,
			g.array,
			g.anyOf,
			g.allOf,
			g.oneOf,
			func() string { return "{}" },
			func() string { return "true" },
		)...)
}

func (g *schemaMaker) text() string {
	switch g.rng.IntN(4) {
	case 0:
		lo := g.rng.IntN(4)
		return fmt.Sprintf(`{"type": "string", "minLength": %d, "maxLength": %d}`, lo, lo+g.rng.IntN(6))
	case 1:
		p := []string{`^[a-z]+$`, `[0-9]{2}`, `^(on|off)$`, `\"x`, `^\\d{3}-\\w*$`, `^[^a-c]{1,4}$`, `é|ü`, `^.{2,5}$`, `^\\s?[\\\\/]$`}
		return fmt.Sprintf(`{"type": "string", "pattern": "%s"}`, p[g.rng.IntN(len(p))])
	case 2:
		f := []string{"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
		return fmt.Sprintf(`{"type": "string", "format": %q}`, f[g.rng.IntN(len(f))])
	}
	return `{"type": "string"}`
}

func (g *schemaMaker) bounds(scale int) string {
	var b strings.Builder
	lo := g.rng.IntN(2000) - 1000
	width := 2 + g.rng.IntN(400)
	value := func(n int) string {
		if scale == 1 {
			return strconv.Itoa(n)
		}
		return fmt.Sprintf("%.*f", len(strconv.Itoa(scale))-1, float64(n)/float64(scale))
	}
	if k := g.rng.IntN(4); k < 3 {
		fmt.Fprintf(&b, `, "%s": %s`, []string{"minimum", "exclusiveMinimum"}[g.rng.IntN(2)], value(lo))
	}
	if k := g.rng.IntN(4); k < 3 {
		fmt.Fprintf(&b, `, "%s": %s`, []string{"maximum", "exclusiveMaximum"}[g.rng.IntN(2)], value(lo+width))
	}
	return b.String()
}

func (g *schemaMaker) integer() string { return `{"type": "integer"` + g.bounds(1) + `}` }

func (g *schemaMaker) number() string {
	return `{"type": "number"` + g.bounds([]int{1, 10, 100, 1000}[g.rng.IntN(4)]) + `}`
}

func (g *schemaMaker) values() string {
	all := []string{`"a"`, `"on"`, `"the \"x\""`, `1`, `-2.5`, `null`, `true`, `{"k": [1, "é"]}`, `[]`, `"\n"`}
	g.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if g.rng.IntN(4) == 0 {
		return `{"const": ` + all[0] + `}`
	}
	return `{"enum": [` + strings.Join(all[:1+g.rng.IntN(5)], ", ") + `]}`
}

func (g *schemaMaker) object() string {
	var props, required []string
	for i := range g.rng.IntN(5) {
		name := fmt.Sprintf("%q", []string{"name", "n", "ein Ding", "é\"", "value"}[i])
		props = append(props, name+": "+g.schema())
		if g.rng.IntN(2) == 0 {
			required = append(required, name)
		}
	}
	more := ""
	switch g.rng.IntN(4) {
	case 0:
		more = `, "additionalProperties": false`
	case 1:
		more = `, "additionalProperties": ` + g.schema()
	}
	return `{"type": "object", "properties": {` + strings.Join(
		props,
		", ",
	) + `}, "required": [` + strings.Join(
		required,
		", ",
	) + `]` + more + `}`
}

func (g *schemaMaker) array() string {
	lo := g.rng.IntN(3)
	out := fmt.Sprintf(`{"type": "array", "minItems": %d`, lo)
	if g.rng.IntN(2) == 0 {
		out += fmt.Sprintf(`, "maxItems": %d`, lo+g.rng.IntN(4))
	}
	if g.rng.IntN(3) == 0 {
		out += `, "prefixItems": [` + g.schema() + `, ` + g.schema() + `]`
	}
	if g.rng.IntN(4) > 0 {
		out += `, "items": ` + g.schema()
	}
	return out + `}`
}

func (g *schemaMaker) anyOf() string {
	return `{"anyOf": [` + g.schema() + `, ` + g.schema() + `]}`
}

func (g *schemaMaker) allOf() string {
	return `{"allOf": [{"type": "object", "properties": {"a": ` + g.integer() + `}, "required": ["a"]}, {"properties": {"b": ` + g.schema() + `}, "required": ["b"]}]}`
}

func (g *schemaMaker) oneOf() string {
	return `{"oneOf": [{"type": "object", "properties": {"kind": {"const": "x"}, "v": ` + g.schema() + `}, "required": ["kind", "v"]}, {"type": "object", "properties": {"kind": {"const": "y"}}, "required": ["kind"]}, {"type": "null"}]}`
}
