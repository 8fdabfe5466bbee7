package grammar

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/infer/grammar/grammartest"
	"edged/core/infer/grammar/schema"
	"edged/test/oracle"
)

var update = flag.Bool("update", false, "write the table of docs/constrained.md anew")

// kind is one row of the table of what is served: each schema is, with valid answers.
type kind struct {
	keywords string
	says     string
	schemas  []string
}

func kinds() []kind {
	return []kind{
		{"`type`", "one or a list; without it, the types that the other keywords speak of", []string{`{"type":"integer"}`, `{"type":["string","null"]}`, `{"minLength":2}`, `{}`, `true`}},
		{"`enum`, `const`", "any values, as far as the keywords beside them allow", []string{`{"enum":["a",1,null,{"k":[true]}]}`, `{"const":"x\"y"}`, `{"type":"string","enum":["a","bc"],"pattern":"c$"}`, `{"enum":[{"a":1},{"a":"x"},3],"properties":{"a":{"type":"string"}}}`}},
		{"`properties`, `required`, `additionalProperties`", "properties beyond the listed ones appear where `additionalProperties` is `true` or a schema, and where none are listed; the same one may appear twice", []string{
			`{"properties":{"a":{"type":"integer"},"b":{}},"required":["b"]}`, `{"properties":{"a":{}},"additionalProperties":{"type":"boolean"},"required":["z"]}`, `{"type":"object","additionalProperties":{"type":"string"}}`,
		}},
		{"`patternProperties`, `propertyNames`", "a name that two patterns match does not appear", []string{
			`{"type":"object","patternProperties":{"^s_":{"type":"string"},"^n_":{"type":"integer"}},"additionalProperties":false}`,
			`{"type":"object","properties":{"s_a":{"maxLength":2},"b":{}},"patternProperties":{"^s_":{"type":"string"}},"additionalProperties":{"type":"null"},"required":["s_a","s_b"]}`,
			`{"type":"object","propertyNames":{"pattern":"^[a-z]{2,3}$"},"additionalProperties":{"type":"integer"}}`,
			`{"type":"object","propertyNames":{"enum":["hall","attic"]},"additionalProperties":{"type":"number"}}`,
			`{"type":"object","propertyNames":{"format":"uuid"}}`, `{"type":"object","propertyNames":{"maxLength":3,"not":{"const":"id"}}}`,
		}},
		{"`minProperties`, `maxProperties`", "of more than one that must be there and is not listed, each name begins with letters of another part of the alphabet", []string{
			`{"type":"object","minProperties":2}`, `{"type":"object","properties":{"a":{"type":"null"}},"additionalProperties":{"type":"integer"},"minProperties":3,"maxProperties":4}`,
			`{"type":"object","propertyNames":{"pattern":"^[a-z]{2,5}$"},"additionalProperties":{"type":"boolean"},"minProperties":4}`, `{"type":"object","additionalProperties":{"type":"string"},"minProperties":2,"maxProperties":2}`,
			`{"type":"object","minProperties":1}`, `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"},"c":{"type":"boolean"}},"minProperties":2,"additionalProperties":false}`,
			`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"}},"maxProperties":1}`, `{"type":"object","additionalProperties":{"type":"integer"},"maxProperties":3,"required":["k"]}`,
		}},
		{"`dependentRequired`, `dependentSchemas`, `dependencies`", "", []string{
			`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"dependentRequired":{"a":["b"]}}`,
			`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"dependentSchemas":{"a":{"properties":{"b":{"minimum":5}},"required":["b"]}}}`,
			`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"dependencies":{"a":["b"]},"$schema":"http://json-schema.org/draft-07/schema#"}`,
		}},
		{"`unevaluatedProperties`, `unevaluatedItems`", "", []string{
			`{"allOf":[{"properties":{"a":{"type":"integer"}}},{"properties":{"b":{"type":"null"}}}],"required":["a"],"unevaluatedProperties":false}`,
			`{"type":"array","prefixItems":[{"type":"null"}],"unevaluatedItems":false}`,
		}},
		{"`items`, `prefixItems`, `additionalItems`, `minItems`, `maxItems`", "`items` as a list, too", []string{
			`{"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3}`, `{"prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"null"}}`,
			`{"type":"array","items":[{"type":"integer"},{"type":"boolean"}],"additionalItems":false,"$schema":"http://json-schema.org/draft-07/schema#"}`, `{"type":"array","items":{"type":"null"},"maxItems":40000}`,
		}},
		{"`uniqueItems`", "of at most 256 values that can be listed; of more than 6 in the order of the schema", []string{
			`{"type":"array","items":{"enum":["a","b","c"]},"uniqueItems":true}`, `{"type":"array","items":{"type":"integer","minimum":-4,"maximum":9},"uniqueItems":true,"minItems":2,"maxItems":5}`,
			`{"type":"array","items":{"type":["boolean","null"]},"uniqueItems":true,"minItems":3}`, `{"type":"array","items":{"type":"string"},"uniqueItems":true,"maxItems":1}`,
		}},
		{"`contains`, `minContains`", "the list begins with what it must contain", []string{`{"type":"array","items":{"type":"integer"},"contains":{"minimum":10}}`, `{"type":"array","contains":{"const":"x"},"minContains":2}`}},
		{"`minLength`, `maxLength`", "characters, any number of them", []string{`{"type":"string","minLength":2,"maxLength":5}`, `{"type":"string","maxLength":20000}`, `{"type":"string","minLength":400,"maxLength":3000000000}`, `{"type":"string","minLength":700}`}},
		{"`pattern`", "as JavaScript reads it, look-around included, and beside the other keywords of texts; where bounds multiply, the longest texts are left out", []string{
			`{"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":5}`, `{"type":"string","pattern":"^(?=.*[A-Z])(?=.*\\d)[A-Za-z\\d]{8,16}$"}`, `{"type":"string","pattern":"^(?!foo)[a-z]{3,6}$"}`, `{"type":"string","pattern":"\\bcat\\b","maxLength":20}`,
			`{"type":"string","pattern":"^\\d+(?<=5)$"}`, `{"type":"string","pattern":"^((?!--).)*$","maxLength":12}`, `{"type":"string","pattern":"a^b|c"}`, `{"type":"string","pattern":"^\\p{Lu}\\S{1,9}$"}`, `{"allOf":[{"type":"string","pattern":"a.*b"},{"pattern":"^[a-c]{4}$"}]}`, `{"type":"string","pattern":"^[\\u00e0-\\u00ff]+\\/\\d+$"}`,
		}},
		{"`format`", "`date`, `time`, `date-time`, `duration`, `email`, `hostname`, `ipv4`, `ipv6`, `uuid`, `uri`, `uri-reference`, `uri-template`, `iri`, `json-pointer`, `relative-json-pointer`, `regex`, `byte`, `int32`, `int64`, beside `pattern` too; others assert nothing", func() []string {
			out := []string{`{"type":"string","format":"date","pattern":"^20"}`, `{"type":"string","format":"includes","pattern":"x"}`, `{"type":"integer","format":"int32"}`}
			for _, f := range schema.Formats() {
				out = append(out, `{"type":"string","format":"`+f+`"}`)
			}
			return out
		}()},
		{"`minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`", "exactly; a bounded number has no exponent, and no number has more than 15 digits before or after its point unless a bound demands it; draft 4's `true` too", []string{
			`{"type":"integer","minimum":-5,"exclusiveMaximum":120}`, `{"type":"number","exclusiveMinimum":0}`, `{"type":"integer","minimum":9007199254740993}`, `{"type":"integer","maximum":-1e18}`, `{"type":"number","minimum":-3.4028234663852886e38,"maximum":3.4028234663852886e38}`,
		}},
		{"`multipleOf`", "of a step that leaves more than 128 remainders, the 1,000 multiples that are nearest to zero", []string{
			`{"type":"number","multipleOf":0.5}`, `{"type":"integer","multipleOf":7}`, `{"type":"number","multipleOf":0.01,"minimum":0,"maximum":1}`, `{"type":"integer","multipleOf":3600,"minimum":0}`, `{"type":"number","multipleOf":2.5,"minimum":-10,"exclusiveMaximum":10}`, `{"allOf":[{"type":"integer","multipleOf":4},{"multipleOf":6}]}`,
		}},
		{"`anyOf`, `oneOf`", "`oneOf` where its schemas are disjoint or can be made so; the property that tells them apart then always appears", []string{
			`{"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}]}`,
			`{"oneOf":[{"type":"object","properties":{"kind":{"const":"cat"},"n":{"type":"integer"}}},{"type":"object","properties":{"kind":{"const":"dog"}}}],"discriminator":{"propertyName":"kind"}}`,
			`{"oneOf":[{"type":"integer","maximum":3},{"type":"integer","minimum":4}]}`, `{"oneOf":[{"type":"integer","maximum":5},{"type":"integer","minimum":3}]}`,
			`{"oneOf":[{"properties":{"a":{"type":"integer"}},"required":["a"],"type":"object"},{"properties":{"b":{"type":"integer"}},"required":["b"],"type":"object"}]}`,
			`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"anyOf":[{"required":["a"]},{"required":["b"]}]}`,
		}},
		{"`allOf`", "", []string{`{"allOf":[{"properties":{"a":{"type":"integer","minimum":0}},"required":["a"]},{"properties":{"a":{"maximum":5},"b":{"type":"null"}}}]}`, `{"$ref":"#/$defs/n","minimum":5,"$defs":{"n":{"type":"integer"}}}`, `{"allOf":[{"type":"object","properties":{"x":{"type":"null"}},"additionalProperties":false},{"patternProperties":{"^y":{"type":"integer"}}}]}`, `{"allOf":[{"type":"object","properties":{"a":{}},"additionalProperties":{"type":"integer"}},{"properties":{"b":{"minimum":3}},"required":["b"]}]}`}},
		{"`not`, `if`, `then`, `else`", "where what is excluded can be said by the keywords of values, bounds, lengths, patterns, types, properties and `required`", []string{
			`{"type":"string","not":{"enum":["a","b"]}}`, `{"type":"string","not":{"pattern":"[0-9]"}}`, `{"type":"integer","minimum":0,"maximum":9,"not":{"const":5}}`, `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"not":{"required":["a","b"]}}`, `{"not":{"type":"object"}}`,
			`{"type":"object","properties":{"kind":{"enum":["on","off"]},"level":{"type":"integer"}},"required":["kind"],"if":{"properties":{"kind":{"const":"on"}}},"then":{"required":["level"]},"else":{"properties":{"level":false}}}`, `{"type":"object","if":{}}`,
		}},
		{"`$ref`, `$defs`, `definitions`, `$anchor`", "within the schema; a schema may contain itself", []string{
			`{"type":"array","items":{"$ref":"#"}}`, `{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"v":{"type":"integer"},"kids":{"type":"array","items":{"$ref":"#/$defs/tree"}}},"required":["v"]}}}`, `{"$ref":"#/definitions/a%20b","definitions":{"a b":{"type":"null"}}}`, `{"$ref":"#x","$defs":{"a":{"$anchor":"x","type":"boolean"}}}`,
		}},
		{"everything else", "titles, examples, `nullable`, `discriminator`, `readOnly`, `contentEncoding`, `x-…` and keywords that no draft knows assert nothing and are passed over", []string{
			`{"type":"string","nullable":true,"x-mine":1,"title":"t","examples":["a"],"contentEncoding":"base64","contentSchema":{},"readOnly":true,"deprecated":true,"markdownDescription":"m","maxLength":9}`,
		}},
	}
}

// TestKinds: what the table says is served is, with answers that another implementation finds valid, and the table in the
// documentation is this one. -update writes it.
func TestKinds(t *testing.T) {
	v, pieces := letters(jsonPieces()...)
	var table strings.Builder
	table.WriteString("| keyword | |\n|---|---|\n")
	for _, k := range kinds() {
		says := k.says
		fmt.Fprintf(&table, "| %s | %s |\n", k.keywords, says)
		for _, schema := range k.schemas {
			made, err := answers(t, schema, v, pieces, 20)
			if err != nil {
				t.Errorf("%s: %v", schema, err)
				continue
			}
			for _, a := range made {
				if err := grammartest.Validate(schema, a); err != nil {
					t.Errorf("%s: %.200q: %v", schema, a, err)
					break
				}
			}
		}
	}
	path := filepath.Join(oracle.Repo(t), "docs", "constrained.md")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- served: go test ./core/infer/grammar -run TestKinds -update -->\n", "<!-- served ends -->\n"
	before, rest, ok1 := strings.Cut(string(raw), begin)
	old, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok1 || !ok2:
		t.Fatalf("%s has no place for the table", path)
	case old == table.String():
	case *update:
		if err := os.WriteFile(path, []byte(before+begin+table.String()+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the table of %s is not that of kinds: run with -update", path)
	}
}

// TestLongTexts: large lengths are exact, and take few places.
func TestLongTexts(t *testing.T) {
	v, _ := letters()
	a := bind(t, Schema([]byte(`{"type":"string","minLength":1000,"maxLength":70001}`)), v)
	for n, want := range map[int]bool{0: false, 999: false, 1000: true, 1001: true, 20_000: true, 65_536: true, 70_000: true, 70_001: true, 70_002: false} {
		if got := accepts(a, `"`+strings.Repeat("a", n)+`"`); got != want {
			t.Errorf("%d characters: %v", n, got)
		}
	}
	if n := len(a.net.Nodes); n > 5000 {
		t.Errorf("70,001 characters take %d places", n)
	}
}

// TestHeldKinds: texts that keywords of several kinds allow and do not.
func TestHeldKinds(t *testing.T) {
	v, _ := letters()
	for _, c := range []struct {
		schema   string
		yes, not []string
	}{
		{`{"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":3}`, []string{`"ab"`, `"abc"`}, []string{`"a"`, `"abcd"`, `"aB"`}},
		{`{"type":"string","pattern":"^(?=.*\\d)(?!.*x)[a-z\\d]{3}$"}`, []string{`"a1b"`, `"123"`}, []string{`"abc"`, `"1xa"`}},
		{`{"type":"string","pattern":"^P(?:(\\d+W)|(?!.*W)(?=\\d|T\\d)(\\d+Y)?(T(?=\\d)(\\d+H)?)?)$"}`, []string{`"P1W"`, `"P2YT1H"`, `"PT1H"`}, []string{`"P"`, `"PT"`, `"P1YT"`}},
		{`{"type":"string","pattern":"\\bcat\\b"}`, []string{`"cat"`, `"a cat."`, `"cat cat"`}, []string{`"cats"`, `"concat"`}},
		{`{"type":"string","pattern":"^((?!ab).)*$"}`, []string{`""`, `"ba"`, `"aac"`}, []string{`"ab"`, `"xabx"`}},
		{`{"type":"string","pattern":"(?<!\\d)5$"}`, []string{`"5"`, `"a5"`}, []string{`"15"`, `"5a"`}},
		{`{"type":"string","not":{"enum":["a","bc"]}}`, []string{`"b"`, `""`, `"bcd"`}, []string{`"a"`, `"bc"`, `"\u0061"`}},
		{`{"type":"number","multipleOf":0.25}`, []string{`1.25`, `0`, `-3.5`, `100`, `0.50`}, []string{`0.3`, `1.255`}},
		{`{"type":"integer","multipleOf":7,"minimum":-20,"maximum":100000}`, []string{`-14`, `0`, `7`, `99995`}, []string{`1`, `-21`, `100002`}},
		{`{"type":"integer","minimum":9007199254740993,"maximum":9007199254740995}`, []string{`9007199254740993`, `9007199254740995`}, []string{`9007199254740992`, `9007199254740996`}},
		{`{"type":"array","items":{"enum":[1,2,3]},"uniqueItems":true,"minItems":2}`, []string{`[3, 1]`, `[1, 2, 3]`}, []string{`[1]`, `[1, 1]`, `[1, 2, 1]`}},
		{`{"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"},"c":{"type":"null"}},"minProperties":2,"maxProperties":2}`, []string{`{"a": null, "c": null}`}, []string{`{"a": null}`, `{"a": null, "b": null, "c": null}`}},
		{`{"type":"object","patternProperties":{"^n":{"type":"integer"}},"additionalProperties":{"type":"string"}}`, []string{`{"n1": 1, "a": "x"}`}, []string{`{"n1": "x"}`, `{"a": 1}`}},
		{`{"$ref":"#/$defs/n","minimum":5,"$defs":{"n":{"type":"integer"}}}`, []string{`5`}, []string{`4`}},
		{`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"dependentRequired":{"a":["b"]}}`, []string{`{}`, `{"b": 1}`, `{"a": 1, "b": 2}`}, []string{`{"a": 1}`}},
		{`{"type":"object","properties":{"k":{"enum":["x","y"]},"n":{"type":"integer"}},"required":["k"],"if":{"properties":{"k":{"const":"x"}}},"then":{"required":["n"]}}`, []string{`{"k": "x", "n": 1}`, `{"k": "y"}`}, []string{`{"k": "x"}`}},
		{`{"oneOf":[{"type":"object","properties":{"kind":{"const":"a"}}},{"type":"object","properties":{"kind":{"const":"b"}}}]}`, []string{`{"kind": "a"}`, `{"kind": "b"}`}, []string{`{}`}},
	} {
		a := bind(t, Schema([]byte(c.schema)), v)
		for _, s := range c.yes {
			if !accepts(a, s) {
				t.Errorf("%s does not take %s", c.schema, s)
			}
		}
		for _, s := range c.not {
			if accepts(a, s) {
				t.Errorf("%s takes %s", c.schema, s)
			}
		}
	}
}

// TestRefusedKinds: what asserts something and is not served is refused by a sentence that names it and its place.
func TestRefusedKinds(t *testing.T) {
	for _, c := range []struct{ schema, says string }{
		{`{"type":"array","items":{"type":"string"},"uniqueItems":true}`, "uniqueItems of items that are not a short list"},
		{`{"type":"array","contains":{"type":"null"},"maxContains":2}`, "the keyword maxContains"},
		{`{"type":"object","minProperties":27}`, "minProperties beyond the properties that are listed"},
		{`{"type":"object","patternProperties":{"^a":true},"minProperties":3}`, "minProperties beyond the properties that are listed and 26, or beside patternProperties"},
		{`{"type":"object","propertyNames":{"pattern":"^x"},"minProperties":2}`, "minProperties: no name of its others begins with a to m"},
		{`{"type":"object","properties":{"a":{"$dynamicRef":"#x"}}}`, "the keyword properties.a.$dynamicRef"},
		{`{"type":"array","not":{"items":{"type":"null"}}}`, "what items does not allow"},
		{`{"not":{"format":"date"}}`, "what format does not allow"},
		{`{"type":"string","pattern":"(a)\\1"}`, "refers back to a group"},
		{`{"type":"string","pattern":"(?>a)"}`, "(?>"},
		{`{"type":"string","pattern":"(a|(?<=bc)d)e"}`, "looks behind beyond the group"},
		{`{"$ref":"https://example.org/x"}`, "points outside"},
		{`{"oneOf":[{"type":"array","items":{"type":"integer"}},{"type":"array","items":{"minimum":0}}]}`, "could match both [0] and [1]"},
	} {
		_, err := Parse(t.Context(), Schema([]byte(c.schema)))
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v, want %q", c.schema, err, c.says)
		}
	}
}
