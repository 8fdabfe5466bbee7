package grammar

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// hostile are grammars that were made to be slow or large: by name, of at most 64 KiB unless the name says otherwise.
func hostile() map[string]string {
	numbers := func(from, n int) string {
		var all []string
		for i := range n {
			all = append(all, strconv.Itoa(from+i))
		}
		return strings.Join(all, ",")
	}
	each := func(n int, f func(i int) string) string {
		var all []string
		for i := range n {
			all = append(all, f(i))
		}
		return strings.Join(all, ",")
	}
	chain := func(levels int, kind string) string {
		return `{"allOf":[{"$ref":"#/$defs/n0"},{"type":"string"}],"$defs":{` + each(levels, func(i int) string {
			return fmt.Sprintf(`"n%d":{"%s":[{"$ref":"#/$defs/n%d"},{"$ref":"#/$defs/n%d"}]}`, i, kind, i+1, i+1)
		}) + fmt.Sprintf(`,"n%d":{"type":"string"}}}`, levels)
	}
	return map[string]string{
		"chain of pairs":        Schema([]byte(chain(40, "allOf"))),
		"chain of anyOf":        Schema([]byte(chain(40, "anyOf"))),
		"chain of oneOf":        Schema([]byte(chain(40, "oneOf"))),
		"two enums":             Schema([]byte(`{"allOf":[{"enum":[` + numbers(0, 2000) + `]},{"enum":[` + numbers(1000, 2000) + `]}]}`)),
		"two enums of decimals": Schema([]byte(`{"allOf":[{"enum":[` + each(2000, func(i int) string { return fmt.Sprint(i, ".0") }) + `]},{"enum":[` + each(2000, func(i int) string { return fmt.Sprint(i, "e0") }) + `]}]}`)),
		"oneOf of enums":        Schema([]byte(`{"oneOf":[` + each(200, func(i int) string { return `{"enum":[` + numbers(100*i, 100) + `]}` }) + `]}`)),
		"oneOf of const": Schema([]byte(`{"oneOf":[` + each(250, func(i int) string {
			return fmt.Sprintf(`{"type":"object","properties":{"k":{"const":"%d"}},"required":["k"]}`, i)
		}) + `]}`)),
		"anyOf times anyOf": Schema([]byte(`{"allOf":[` + each(64, func(int) string {
			return `{"anyOf":[` + each(16, func(i int) string { return fmt.Sprintf(`{"minimum":%d}`, i) }) + `]}`
		}) + `]}`)),
		"merge of properties": Schema([]byte(`{"allOf":[` + each(200, func(int) string {
			return `{"properties":{` + each(10, func(i int) string { return fmt.Sprintf(`"p%d":{"minimum":%d}`, i, i) }) + `}}`
		}) + `]}`)),
		"nested allOf":           Schema([]byte(strings.Repeat(`{"properties":{"a":`, 60) + `{}` + strings.Repeat(`}}`, 60))),
		"many values":            Schema([]byte(`{"enum":[` + strings.TrimSuffix(strings.Repeat("[],", 21000), ",") + `]}`)),
		"many values, 1 MiB":     Schema([]byte(`{"enum":[` + strings.TrimSuffix(strings.Repeat("[],", 340000), ",") + `]}`)),
		"many names":             Schema([]byte(`{"additionalProperties":true,"properties":{` + each(3000, func(i int) string { return fmt.Sprintf(`"%d":{}`, i) }) + `}}`)),
		"many long names":        Schema([]byte(`{"additionalProperties":true,"properties":{` + each(100, func(i int) string { return `"` + strings.Repeat("x", 6*i) + `":{}` }) + `}}`)),
		"many required":          Schema([]byte(`{"additionalProperties":true,"required":[` + each(8000, func(i int) string { return fmt.Sprintf(`"%d"`, i) }) + `]}`)),
		"large numbers":          Schema([]byte(`{"enum":[` + each(6000, func(i int) string { return fmt.Sprint(i, "e999") }) + `]}`)),
		"large bounds":           Schema([]byte(`{"allOf":[` + each(1500, func(i int) string { return fmt.Sprintf(`{"minimum":%de-999}`, i+1) }) + `]}`)),
		"long number":            Schema([]byte(`{"minimum":` + strings.Repeat("9", 60000) + `}`)),
		"calls to one place":     "root ::= " + strings.Repeat("a|", 30000) + "a\na ::= \"x\"",
		"calls to many places":   "root ::= " + strings.Repeat("a b|", 15000) + "a\na ::= \"x\"\nb ::= \"y\"|\"\"",
		"empty calls":            "root ::= " + strings.Repeat("a ", 30000) + "\"x\"\na ::= \"\" | \"y\"",
		"many rules":             each2(4000, func(i int) string { return fmt.Sprintf("r%d ::= r%d r%d | \"\"\n", i, i+1, i+1) }) + "r4000 ::= \"x\"\nroot ::= r0\n",
		"nested repeats":         "root ::= " + strings.Repeat("(", 100) + `"a"` + strings.Repeat("){9}", 100),
		"nested empty repeats":   "root ::= " + strings.Repeat("(", 100) + `""` + strings.Repeat("){9}", 100) + `"a"`,
		"optional repeats":       "root ::= " + strings.Repeat("(", 100) + `"a"?` + strings.Repeat(")*", 100),
		"large sets":             `root ::= %regex "` + strings.Repeat(`\\pL`, 15000) + `"`,
		"repeated large sets":    `root ::= %regex "([\\pL\\pN]{100}){100}"`,
		"many regexes":           "root ::= " + strings.Repeat(`%regex "a" `, 5000),
		"nested regex":           `root ::= %regex "` + strings.Repeat("(", 900) + "a" + strings.Repeat(")*", 900) + `"`,
		"regex of repeats":       `root ::= %regex "((((a{0,30}){0,30}){0,30}){0,30}){0,30}"`,
		"alternatives":           "root ::= " + strings.Repeat(`"a"|`, 10000) + `"b"`,
		"prefixes":               "root ::= " + each2(300, func(i int) string { return `"` + strings.Repeat("a", i) + `"|` }) + `"b"`,
		"recursion":              "root ::= a\na ::= \"x\" a a a | \"y\"",
		"long text":              `root ::= "` + strings.Repeat("a", 60000) + `"`,
		"long shortest text":     Schema([]byte(`{"type":"string","minLength":30000}`)),
		"ambiguous":              "root ::= (a|b|c|d)* \"!\"\na ::= .{1,9}\nb ::= .{1,9} \"x\"?\nc ::= (.|\"\")* \"y\"\nd ::= .{2,60}",
		"ambiguous at all times": "root ::= " + strings.Repeat("([a-z]* \"x\")? ", 60) + "[a-z]{9}",
		"deep calls":             "root ::= a{1,400}\na ::= (b c)*\nb ::= (\"x\"|c)+\nc ::= [a-z]{1,9}",
	}
}

func each2(n int, f func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i))
	}
	return b.String()
}

// TestHostile: whatever was made to be slow or large is served or refused by name, with bounded work and memory.
func TestHostile(t *testing.T) {
	v, pieces := letters(jsonPieces()...)
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			cost := measure(t, func() { lead(t, text, v, pieces) })
			t.Log(cost)
			if cost.bytes > 64<<20 {
				t.Errorf("it takes %d MiB", cost.bytes>>20)
			}
		})
	}
}

// lead reads a grammar and writes a text of it, as far as it is served.
func lead(t *testing.T, text string, v *Vocabulary, pieces [][]byte) {
	t.Helper()
	named := func(err error) bool {
		for _, known := range []error{ErrSyntax, ErrUnsupported, ErrTooLarge, ErrTooShort} {
			if errors.Is(err, known) {
				return true
			}
		}
		return false
	}
	g, err := Parse(t.Context(), text)
	if err == nil {
		var a *Automaton
		if a, err = g.Bind(v); err == nil {
			var m *Matcher
			if m, err = a.Start(60); err == nil {
				err = write(m, pieces, 60)
			}
		}
	}
	if err != nil && !named(err) {
		t.Errorf("%v", err)
	}
	t.Log(err)
}

// TestTooAmbiguous: a text whose next tokens take ever new work to find has burst of it and refill for each token, and
// then ends by a clear error; another text goes on.
func TestTooAmbiguous(t *testing.T) {
	more := jsonPieces()
	for a := 'a'; a <= 'z'; a++ {
		for b := 'a'; b <= 'z'; b++ {
			more = append(more, string(a)+string(b), string(a)+string(b)+"e")
		}
	}
	v, pieces := letters(more...)
	a := bind(t, "root ::= (w{6} \".\")*\nw ::= x x? | [a-z]{1,60}\nx ::= [a-m]{2,40} | [b-z]{3,50} | [a-z] x\n", v)
	m, err := a.Start(10_000)
	if err != nil {
		t.Fatal(err)
	}
	looked, n := 0, 0
	for ; err == nil && n < 5000; n++ {
		before := m.credit
		var st Step
		if st, err = m.Next(); err == nil {
			looked += before - m.credit
			id := int32('a' + n%26)
			if st.Mask[id>>6]>>(id&63)&1 == 0 {
				id = '.'
			}
			err = m.Advance(id, pieces[id])
		}
	}
	if !errors.Is(err, ErrEffort) {
		t.Fatalf("%d tokens looked at %d places: %v", n, looked, err)
	}
	if most := burst + n*refill; looked > most {
		t.Errorf("%d tokens looked at %d places, and may at %d", n, looked, most)
	}
	t.Logf("%d tokens, %d places: %v", n, looked, err)
}
