package stream

import (
	"testing"
)

func TestVeil(t *testing.T) {
	for _, test := range []struct {
		name, mark string
		pieces     []string
		beside     string // what the tokenizer says stands beside the calls
		early      string // shown before the end
		all        string
	}{
		{"text", "<call>", []string{"Hello", " there"}, "Hello there", "Hello there", "Hello there"},
		{"text with the beginning of a mark", "<call>", []string{"a <", "ca", "b"}, "a <cab", "a <cab", "a <cab"},
		{"mark in pieces", "<call>", []string{"Now: <ca", "ll>", "{}"}, "Now:", "Now:", "Now:"},
		{"only a call", "<call>", []string{"<call>{}"}, "", "", ""},
		{"a bare object", "<call>", []string{" {", "}"}, "", "", ""},
		{"a bare object that is none", "<call>", []string{`{"a":`, "1}"}, `{"a":1}`, "", `{"a":1}`},
		{"mark that was none", "<call>", []string{"x <call>y"}, "x <call>y", "x", "x <call>y"},
		{"unknown mark", "", []string{"<tool>", "x"}, "", "", ""},
		{"text, unknown mark", "", []string{"a <b> ", "c"}, "a <b> c", "a <b> c", "a <b> c"},
		{"white space at the end waits", "<call>", []string{"a", "\n\n"}, "a\n\n", "a", "a\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, early := Veil{Tools: true}, ""
			for _, p := range test.pieces {
				early += v.Pass(p, test.mark)
			}
			if all := early + v.Rest(test.beside); early != test.early || all != test.all {
				t.Errorf("early %q, all %q; want %q, %q", early, all, test.early, test.all)
			}
		})
	}
}
