package grammar

import (
	"slices"
	"testing"

	"edged/core/infer/grammar/gbnf"
)

// TestControlTokens names control tokens: each is that token alone, and the same characters in other tokens are not it.
func TestControlTokens(t *testing.T) {
	marks := []string{"<|call>", "<call|>", "<|call"}
	piece := func(id int32) []byte {
		if id < 256 {
			return []byte{byte(id)}
		}
		return gbnf.TokenPiece([]byte(marks[id-256]))
	}
	v := NewVocabulary(256+len(marks), piece)
	text := Show([]string{"<|call>", "<x>"}, After("<|call>", "marked", "root ::= %token \"<|call>\" marked\nmarked ::= \"a\" [0-9]+ %token \"<call|>\"\n"))
	if shown, more := Shown(text); !slices.Equal(shown, []string{"<|call>", "<x>"}) || !more {
		t.Errorf("%q %v", shown, more)
	}
	if shown, more := Shown(ShownOnly(text)); len(shown) != 2 || more {
		t.Errorf("%q %v", shown, more)
	}
	if mark, ok := Mark(text); !IsAfter(text) || !ok || mark != "<|call>" {
		t.Error("the mark is not found behind what is shown")
	}
	for _, c := range []struct {
		text string
		ids  []int32
		ok   bool
	}{
		{Whole(text), []int32{256, 'a', '1', '2', 257}, true},
		{Whole(text), []int32{'<', '|', 'c', 'a', 'l', 'l', '>'}, false},
		{Whole(text), []int32{258, '>'}, false},
		{Whole(text), []int32{0xff}, false},
		{Whole(text), []int32{256, 'a', '1', '<'}, false},
		{text, []int32{'a', '1', 257}, true},
	} {
		g, err := Parse(t.Context(), c.text)
		if err != nil {
			t.Fatal(err)
		}
		a, err := g.Bind(v)
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.Start(8)
		if err != nil {
			t.Fatal(err)
		}
		ok := true
		for _, id := range c.ids {
			st, err := m.Next()
			if err != nil {
				t.Fatal(err)
			}
			if ok = st.Mask[id>>6]>>(id&63)&1 != 0; !ok {
				break
			}
			if err := m.Advance(id, piece(id)); err != nil {
				t.Fatal(err)
			}
		}
		if ok != c.ok || ok && !m.Ended() {
			t.Errorf("%d: %v", c.ids, ok)
		}
	}
	for _, bad := range []string{"%shown 1\nroot ::= \"a\"\n", "root ::= %token \"\"\n", "root ::= %token 1\n", "root ::= %other \"a\"\n"} {
		if _, err := Parse(t.Context(), bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	g, err := Parse(t.Context(), `root ::= %token "<none>"`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Bind(v); err == nil {
		t.Error("a control token that the model does not have is taken")
	}
	// The fewest tokens are counted: with three left, a call fits.
	g, err = Parse(t.Context(), Whole(text))
	if err != nil {
		t.Fatal(err)
	}
	a, err := g.Bind(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Start(4); err != nil {
		t.Error(err)
	}
	if _, err := a.Start(3); err == nil {
		t.Error("a call fits into three tokens")
	}
}
