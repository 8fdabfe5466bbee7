package grammar

import (
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"edged/core/infer/grammar/grammartest"
	"edged/core/infer/grammar/jsonvalue"
)

// What one input may cost: the time of a thread, which is asserted while fuzzing and not in tests, whose machine may be busy
// or small, and the bytes that are asked for.
const (
	mostTime  = 200 * time.Millisecond
	mostBytes = 64 << 20
)

// bounded runs f and holds it to its cost. An input that is too slow is tried again: a collection of garbage is not its fault.
func bounded(t *testing.T, f func()) {
	t.Helper()
	c := measure(t, f)
	fuzzing := flag.Lookup("test.fuzz").Value.String() != "" || flag.Lookup("test.fuzzworker").Value.String() == "true"
	for range 3 {
		if c.took <= mostTime || !fuzzing {
			break
		}
		c = measure(t, f)
	}
	if fuzzing && c.took > mostTime || c.bytes > mostBytes {
		t.Fatalf("it takes %v", c)
	}
}

// complete draws tokens until the text ends. Its error is one of the bounds'.
func complete(t *testing.T, m *Matcher, pieces [][]byte, limit int) ([]byte, error) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	var out []byte
	for range limit {
		st, err := m.Next()
		if err != nil {
			if !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return nil, err
		}
		if m.Ended() {
			return out, nil
		}
		id := st.Only
		for k := rng.IntN(len(pieces)); id < 0 && k < 2*len(pieces); k++ {
			if c := int32(k % len(pieces)); st.Mask[c>>6]>>(c&63)&1 != 0 {
				id = c
			}
		}
		if id < 0 {
			break
		}
		out = append(out, pieces[id]...)
		if err := m.Advance(id, pieces[id]); err != nil {
			if !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return nil, err
		}
	}
	if !m.at.ends {
		t.Errorf("%d tokens do not complete %q", limit, out)
	}
	return out, nil
}

// follow reads a grammar and draws a text of it; nil: it is refused, or the text met a bound.
func follow(t *testing.T, text string, v *Vocabulary, pieces [][]byte, limit int) []byte {
	t.Helper()
	g, err := Parse(t.Context(), text)
	if err != nil {
		return nil
	}
	a, err := g.Bind(v)
	if err != nil {
		return nil
	}
	m, err := a.Start(limit)
	if err != nil {
		return nil
	}
	out, err := complete(t, m, pieces, limit)
	if err != nil {
		return nil
	}
	return out
}

// FuzzParse: whatever is read can be followed to a complete text, or is refused, within its cost.
func FuzzParse(f *testing.F) {
	for _, g := range masksOf() {
		f.Add(g)
	}
	for _, g := range hostile() {
		f.Add(g)
	}
	f.Add("root ::= (a|b)* c\na ::= \"x\"{0,3}\nb ::= [^é]? \"y\"\nc ::= a c | \"\"")
	f.Add(`root ::= a a a; a ::= "x"?`)
	f.Add("%after \"<t>\" a\na ::= [a-c]+ \"x\"\n")
	v, pieces := letters(jsonPieces()...)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<16 {
			return
		}
		bounded(t, func() { follow(t, text, v, pieces, 60) })
	})
}

// FuzzSchema: what a schema's grammar draws is JSON at least, and valid where another implementation can tell.
func FuzzSchema(f *testing.F) {
	for i := range uint64(20) {
		f.Add([]byte(grammartest.Schema(i)))
	}
	for _, k := range kinds() {
		for _, s := range k.schemas {
			f.Add([]byte(s))
		}
	}
	v, pieces := letters(jsonPieces()...)
	f.Fuzz(func(t *testing.T, schema []byte) {
		if len(schema) > 1<<16 || !json.Valid(schema) {
			return // a request's decoder lets one value through
		}
		var out []byte
		bounded(t, func() { out = follow(t, Schema(schema), v, pieces, 80) })
		if out == nil {
			return
		}
		if _, err := jsonvalue.Read(out); err != nil {
			t.Fatalf("%s: %q: %v", schema, out, err)
		}
	})
}

// FuzzRegex: what a regular expression's grammar draws matches it.
func FuzzRegex(f *testing.F) {
	for _, p := range []string{
		`^[a-z]+$`, `(a|b)*c{2,3}`, `^(?=.*\d)(?!x)[a-z\d]{3,9}$`, `\bcat\b`, `^((?!ab).)*$`, `(?<=a)b|(?<!c)d`, `[^\s\W]\S`, `(?i)straße`, `\p{Lu}\pN`, `a{1000}{1000}`,
		`^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(T(?=\d)(\d+H)?)?)$`, `(((a{0,30}){0,30}){0,30}){0,30}`, `(a|b)*a(a|b){20}`, `(?=(?=(?=a*)a*)a*)b`, `(?:(?:a?){99}){99}`, `^(?=.{1,253}$)([a-z]{0,61}\.)+$`,
	} {
		f.Add(p)
	}
	v, pieces := letters(jsonPieces()...)
	f.Add("(?:(\xff\xff\x80\x00){99}){99}") // 67 MiB once
	f.Add("(?:(?:a?){99}){9999}}")
	f.Fuzz(func(t *testing.T, pattern string) {
		if len(pattern) > 1<<12 {
			return
		}
		bounded(t, func() { follow(t, Regex(pattern), v, pieces, 60) })
		beside := Schema([]byte(`{"type":"string","maxLength":9,"pattern":` + jsonvalue.Quote(pattern) + `}`))
		bounded(t, func() { follow(t, beside, v, pieces, 60) })
	})
}
