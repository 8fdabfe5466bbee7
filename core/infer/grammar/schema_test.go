package grammar

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"edged/core/infer/grammar/grammartest"
)

// TestSchemas: what a schema's grammar takes and what not.
func TestSchemas(t *testing.T) {
	v, _ := letters()
	for _, c := range []struct {
		schema   string
		yes, not []string
	}{
		{`true`, []string{`null`, `{"a": [1, "x", {}]}`, `-0.5e+3`}, []string{``, `{"a":1}`, `[1,2]`, `01`}},
		{`{"type":"object"}`, []string{`{}`, `{"a": 1, "b": {}}`}, []string{`[]`}},
		{`{"type":["string","null"]}`, []string{`"é\n\u00e9"`, `null`}, []string{`1`, "\"\n\"", `"\ud800"`}},
		{`{"type":"string","minLength":1,"maxLength":3}`, []string{`"é€😀"`, `"\n\"\u00e9"`}, []string{`""`, `"abcd"`}},
		{`{"type":"string","pattern":"b+"}`, []string{`"abc"`, `"\nbb\""`}, []string{`"ac"`}},
		{`{"type":"string","pattern":"^a\\\\.\"$","maxLength":5}`, []string{`"a\\x\""`, `"a\\\"\""`}, []string{`"a\\x"`}},
		{`{"type":"integer"}`, []string{`0`, `-12`}, []string{`1.0`, `012`}},
		{`{"type":"integer","minimum":-5,"exclusiveMaximum":120}`, []string{`-5`, `-1`, `0`, `9`, `10`, `119`}, []string{`-6`, `-0`, `120`, `1000`}},
		{`{"type":"integer","minimum":1.5}`, []string{`2`, `1000000`}, []string{`1`, `-2`}},
		{`{"type":"number","minimum":0.25,"maximum":0.5}`, []string{`0.25`, `0.3`, `0.49999`, `0.5`, `0.50`}, []string{`0`, `0.2`, `0.51`, `1`, `-0.3`}},
		{`{"type":"number","exclusiveMinimum":-1.5,"maximum":10}`, []string{`-1.49`, `-1`, `-0.1`, `0`, `9.99`, `10`, `10.0`}, []string{`-1.5`, `-2`, `10.01`, `11`}},
		{`{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1}`, []string{`0.01`, `0.999`}, []string{`0`, `0.0`, `1`, `-0.5`}},
		{`{"enum":["a",1,null,{"k":[true]}]}`, []string{`"a"`, `1`, `null`, `{"k": [true]}`}, []string{`"b"`, `2`}},
		{`{"const":"x\"y"}`, []string{`"x\"y"`}, []string{`"x"`}},
		{`{"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3}`, []string{`[1]`, `[1, 2, 3]`}, []string{`[]`, `[1, 2, 3, 4]`, `["a"]`}},
		{`{"prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"null"}}`, []string{`[]`, `[1]`, `[1, "a"]`, `[1, "a", null, null]`}, []string{`["a"]`, `[1, null]`}},
		{`{"prefixItems":[{"type":"integer"},{"type":"string"}],"items":false,"minItems":2}`, []string{`[1, "a"]`}, []string{`[1]`, `[1, "a", 1]`}},
		{`{"type":"array","maxItems":0}`, []string{`[]`}, []string{`[1]`}},
		{`{"properties":{"a":{"type":"integer"},"b":{"type":"boolean"},"c":{"type":"null"}},"required":["b"]}`, []string{`{"b": true}`, `{"a": 1, "b": false}`, `{"b": true, "c": null}`, `{"a": 1, "b": true, "c": null}`}, []string{`{}`, `{"a": 1}`, `{"b": true, "a": 1}`, `{"b": true, "x": 1}`, `{"a": 1, }`}},
		{`{"properties":{"a":{},"ab":{}},"additionalProperties":{"type":"integer"}}`, []string{`{}`, `{"b": 1, "c": 2}`, `{"a": "x", "aa": 1}`, `{"abc": 3}`}, []string{`{"b": "x"}`, `{"": 1}`, `{"\u0061": 1}`}},
		{`{"type":"object","additionalProperties":{"type":"integer"},"required":["z"]}`, []string{`{"z": 1}`, `{"z": 1, "y": 2}`}, []string{`{}`, `{"y": 2}`}},
		{`{"type":"object","properties":{"a":false},"additionalProperties":true}`, []string{`{"b": 1}`}, []string{`{"a": 1}`}},
		{`{"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}]}`, []string{`1`, `"a"`}, []string{`"ab"`}},
		{`{"oneOf":[{"type":"object","properties":{"k":{"const":"a"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"b"},"n":{"type":"integer"}},"required":["k","n"]}]}`, []string{`{"k": "a"}`, `{"k": "b", "n": 1}`}, []string{`{"k": "b"}`}},
		{`{"allOf":[{"properties":{"a":{"type":"integer","minimum":0}},"required":["a"]},{"properties":{"a":{"maximum":5},"b":{"type":"null"}}}]}`, []string{`{"a": 5}`, `{"a": 0, "b": null}`}, []string{`{"a": 6}`, `{}`, `{"a": -1}`}},
		{`{"allOf":[{"$ref":"#/$defs/base"},{"properties":{"y":{"const":1}},"required":["y"]}],"$defs":{"base":{"type":"object","properties":{"x":{"type":"integer"}},"required":["x"]}}}`, []string{`{"x": 1, "y": 1}`}, []string{`{"x": 1}`}},
		{`{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"v":{"type":"integer"},"kids":{"type":"array","items":{"$ref":"#/$defs/tree"}}},"required":["v"]}}}`, []string{`{"v": 1}`, `{"v": 1, "kids": [{"v": 2, "kids": []}]}`}, []string{`{"kids": []}`}},
		{`{"type":"array","items":{"$ref":"#"}}`, []string{`[]`, `[[], [[]]]`}, []string{`[1]`}},
		{`{"type":"string","format":"date"}`, []string{`"2026-11-28"`}, []string{`"2026-02-30"`, `"2026-13-01"`}},
		{`{"type":"string","format":"date-time"}`, []string{`"2026-11-28T01:02:03Z"`, `"2026-11-28T23:59:59.5+01:00"`}, []string{`"2026-11-28"`}},
		{`{"type":"string","format":"ipv4"}`, []string{`"192.168.0.255"`}, []string{`"1.2.3"`, `"256.1.1.1"`}},
		{`{"type":"string","enum":["a","abc",1],"maxLength":2}`, []string{`"a"`}, []string{`"abc"`, `1`}},
		{`{"type":"integer","title":"t","description":"d","default":1,"examples":[1],"$schema":"x","minLength":3}`, []string{`5`}, nil},
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

func TestSchemaRefusals(t *testing.T) {
	for _, c := range []struct {
		schema string
		err    error
		says   string
	}{
		{`{"not":{}}`, ErrSyntax, "no text ever completes"},
		{`{"type":"integer","multipleOf":0}`, ErrSyntax, "want a number above 0"},
		{`{"type":"integer","multipleOf":7,"minimum":1,"maximum":6}`, ErrSyntax, "no multiple is within"},
		{`{"type":"string","minLength":3000000}`, ErrTooLarge, "at most 1048576 is served"},
		{`{"type":"string","pattern":"^a$","not":{"const":"a"}}`, ErrSyntax, "no text keeps to it"},
		{`{"type":"array","uniqueItems":true}`, ErrUnsupported, "uniqueItems"},
		{`{"oneOf":[{"type":"integer"},{"type":"number"}]}`, ErrSyntax, "no text ever completes"},
		{`{"$ref":"https://example.org/x"}`, ErrUnsupported, "points outside"},
		{`{"$ref":"#/$defs/x"}`, ErrSyntax, "is not there"},
		{`{"$ref":"#"}`, ErrSyntax, "can begin with itself"},
		{`{"allOf":[{"$ref":"#"},{"type":"object"}]}`, ErrSyntax, "run in a circle"},
		{`{"type":"string","pattern":"(?<a"}`, ErrSyntax, "regular expression"},
		{`{"type":"strnig"}`, ErrSyntax, `"strnig" is not a type`},
		{`{"type":"integer","minimum":5,"maximum":4}`, ErrSyntax, "no number is within"},
		{`{"type":"array","minItems":2,"maxItems":1}`, ErrSyntax, "maxItems is below minItems"},
		{`{"type":"array","minItems":-1}`, ErrSyntax, "want a whole number"},
		{`{"type":"object","properties":{},"required":["a"],"additionalProperties":false}`, ErrSyntax, "required and not allowed"},
		{`{"type":"object","minProperties":27}`, ErrUnsupported, "minProperties"},
		{`{"enum":[]}`, ErrSyntax, "no text ever completes"},
		{`{"properties":{"n":{"$ref":"#"}},"required":["n"]}`, ErrSyntax, "no text ever completes"},
		{`false`, ErrSyntax, "no text ever completes"},
		{`{"type":"object","properties":[]}`, ErrSyntax, "properties is not an object"},
		{`{"anyOf":{}}`, ErrSyntax, "anyOf is not a list"},
		{`{"anyOf":[3]}`, ErrSyntax, "anyOf[0] is neither"},
	} {
		_, err := Parse(t.Context(), Schema([]byte(c.schema)))
		if !errors.Is(err, c.err) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v, want %v with %q", c.schema, err, c.err, c.says)
		}
	}
}

// TestRefusedKeywords: whatever some draft of JSON Schema holds and is not served is refused by its name and place, wherever in a
// schema it stands.
func TestRefusedKeywords(t *testing.T) {
	places := map[string]string{
		"%s":                      `%s`,
		"properties.a.%s":         `{"type":"object","properties":{"a":%s}}`,
		"items.%s":                `{"type":"array","items":%s}`,
		"prefixItems[1].%s":       `{"type":"array","prefixItems":[{"type":"null"},%s]}`,
		"additionalProperties.%s": `{"type":"object","additionalProperties":%s}`,
		"anyOf[1].%s":             `{"anyOf":[{"type":"null"},%s]}`,
		"properties.a.items.anyOf[0].properties.b.%s": `{"type":"object","properties":{"a":{"type":"array","items":{"anyOf":[{"type":"object","properties":{"b":%s}},{"type":"null"}]}}}}`,
		"#/$defs/d.%s": `{"$ref":"#/$defs/d","$defs":{"d":%s}}`,
	}
	for keyword, schema := range map[string]string{
		"maxContains":   `{"type":"array","contains":{},"maxContains":1}`,
		"uniqueItems":   `{"type":"array","uniqueItems":true}`,
		"$dynamicRef":   `{"$dynamicRef":"#a"}`,
		"$recursiveRef": `{"$recursiveRef":"#"}`,
		"divisibleBy":   `{"type":"number","divisibleBy":2}`,
		"disallow":      `{"disallow":"string"}`,
		"extends":       `{"extends":{"type":"string"}}`,
	} {
		for at, place := range places {
			text := fmt.Sprintf(place, schema)
			_, err := Parse(t.Context(), Schema([]byte(text)))
			if want := fmt.Sprintf(at, keyword); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it refused as %s", text, err, want)
			}
		}
	}
}

// TestRandomSchemas draws texts of random schemas, tokens at random, and has another implementation validate them. A few
// hundred here; with EDGED_SOAK=1, 10,000.
func TestRandomSchemas(t *testing.T) {
	n := 300
	if os.Getenv("EDGED_SOAK") != "" {
		n = 10_000
	}
	v, pieces := letters(jsonPieces()...)
	short, made, bytesOut := 0, 0, 0
	for i := range n {
		schema := grammartest.Schema(uint64(i))
		rng := rand.New(rand.NewPCG(uint64(i), 8))
		parsed, err := Parse(t.Context(), Schema([]byte(schema)))
		if err != nil {
			t.Fatalf("schema %d: %s: %v", i, schema, err)
		}
		a, err := parsed.Bind(v)
		if err != nil {
			t.Fatalf("schema %d: %s: %v", i, schema, err)
		}
		limit := 1 + rng.IntN(200)
		m, err := a.Start(limit)
		if errors.Is(err, ErrTooShort) {
			short++
			if m, err = a.Start(int(a.need(a.start))); err != nil {
				t.Fatalf("schema %d: %s: %v", i, schema, err)
			}
		}
		out := drawAll(t, m, pieces, rng)
		made++
		bytesOut += len(out)
		if err := grammartest.Validate(schema, out); err != nil {
			t.Fatalf("schema %d: %s: %q: %v", i, schema, out, err)
		}
	}
	t.Logf("%d texts, %d bytes, %d of them with as few tokens as there can be", made, bytesOut, short)
}

// drawAll draws tokens until the text ends.
func drawAll(t *testing.T, m *Matcher, pieces [][]byte, rng *rand.Rand) []byte {
	t.Helper()
	var out []byte
	for m.left > 0 && !m.Ended() {
		st, err := m.Next()
		if err != nil {
			t.Fatal(err)
		}
		id := st.Only
		if id < 0 {
			var all []int32
			for id := range int32(len(pieces)) {
				if st.Mask[id>>6]>>(id&63)&1 != 0 {
					all = append(all, id)
				}
			}
			if st.Ends && (len(all) == 0 || rng.IntN(8) == 0) {
				return out
			}
			id = all[rng.IntN(len(all))]
		}
		out = append(out, pieces[id]...)
		if err := m.Advance(id, pieces[id]); err != nil {
			t.Fatal(err)
		}
	}
	if !m.at.ends {
		t.Fatalf("%q is not complete", out)
	}
	return out
}
