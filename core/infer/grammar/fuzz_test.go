package grammar

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"edged/core/infer/grammar/grammartest"
)

// FuzzParse: whatever is read can be followed to a complete text, or is refused.
func FuzzParse(f *testing.F) {
	for _, g := range masksOf() {
		f.Add(g)
	}
	f.Add("root ::= (a|b)* c\na ::= \"x\"{0,3}\nb ::= [^é]? \"y\"\nc ::= a c | \"\"")
	f.Add(`root ::= a a a; a ::= "x"?`)
	f.Add("%after \"<t>\" a\na ::= [a-c]+ \"x\"\n")
	v, pieces := letters(jsonPieces()...)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		g, err := Parse(t.Context(), text)
		if err != nil {
			return
		}
		a, err := g.Bind(v)
		if err != nil {
			return
		}
		const limit = 60
		m, err := a.Start(limit)
		if err != nil {
			return
		}
		rng := rand.New(rand.NewPCG(1, 1))
		for range limit {
			st, err := m.Next()
			if err != nil || m.Ended() {
				return
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
			if err := m.Advance(id, pieces[id]); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
		if !m.at.ends {
			t.Errorf("%q: %d tokens do not complete it", text, limit)
		}
	})
}

// FuzzSchema: what a schema's grammar draws is JSON at least.
func FuzzSchema(f *testing.F) {
	for i := range uint64(20) {
		f.Add([]byte(grammartest.Schema(i)))
	}
	v, pieces := letters(jsonPieces()...)
	f.Fuzz(func(t *testing.T, schema []byte) {
		if len(schema) > 4096 || !json.Valid(schema) {
			return // a request's decoder lets one value through
		}
		g, err := Parse(t.Context(), Schema(schema))
		if err != nil {
			return
		}
		a, err := g.Bind(v)
		if err != nil {
			return
		}
		m, err := a.Start(80)
		if err != nil {
			return
		}
		out := drawAll(t, m, pieces, rand.New(rand.NewPCG(1, 1)))
		if _, err := readValue(out); err != nil {
			t.Fatalf("%s: %q: %v", schema, out, err)
		}
	})
}
