package grammar

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestAfter: a grammar of what follows a mark begins with its own rule, and without that line with root.
func TestAfter(t *testing.T) {
	v, pieces := letters()
	const whole = "root ::= \"x\" rest\nrest ::= [a-c]{2} \"e\"\n"
	text := After("<t>\n", "rest", whole)
	g, err := Parse(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	a, err := g.Bind(v)
	if err != nil {
		t.Fatal(err)
	}
	if a.After() != "<t>\n" || !IsAfter(text) || !accepts(a, "abe") || accepts(a, "xabe") {
		t.Errorf("%q does not begin behind %q", text, a.After())
	}
	if b := bind(t, Whole(text), v); Whole(text) != whole || Whole(whole) != whole || b.After() != "" || !accepts(b, "xabe") {
		t.Errorf("%q is not whole", Whole(text))
	}
	m, err := a.Start(3)
	if err != nil {
		t.Fatal(err)
	}
	id := func(s string) int32 {
		return int32(slices.IndexFunc(pieces, func(p []byte) bool { return string(p) == s }))
	}
	piece := func(id int32) []byte { return pieces[id] }
	if n := m.Follow([]int32{id("a"), id("b"), id("e"), id("a")}, piece); n != 3 {
		t.Errorf("%d tokens can follow, want 3", n)
	}
	if err := m.Skip([]byte("c")); err != nil {
		t.Error(err)
	}
	if n := m.Follow([]int32{id("b"), id("b"), id("e")}, piece); n != 1 {
		t.Errorf("%d tokens can follow, want 1", n)
	}
	if err := m.Skip([]byte("x")); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
	for text, says := range map[string]string{
		"%after x root\nroot ::= \"a\"":                    "wants a text in quotes",
		"%after \"\" root\nroot ::= \"a\"":                 "wants a text in quotes",
		"%after \"x\"\nroot ::= \"a\"":                     "wants the name of a rule",
		"%after \"x\" root more\nroot ::= \"a\"":           "and nothing more",
		"%after \"x\" none\nroot ::= \"a\"":                "there is no rule none",
		After(strings.Repeat("x", 257), "root", whole):     "at most 256 bytes",
		"root ::= \"a\"\n%after \"x\" root\n":              "want the name of a rule",
		"%after \"x\" root\n%after \"y\" root\nroot ::= a": "want the name of a rule",
	} {
		if _, err := Parse(t.Context(), text); !errors.Is(err, ErrSyntax) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}
