package grammar

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"edged/core/infer/grammar/network"
)

// letters is a vocabulary of all bytes and some longer pieces, ids in the order of merges.
func letters(more ...string) (*Vocabulary, [][]byte) {
	var pieces [][]byte
	for b := range 256 {
		pieces = append(pieces, []byte{byte(b)})
	}
	for _, m := range more {
		pieces = append(pieces, []byte(m))
	}
	return NewVocabulary(len(pieces), func(id int32) []byte { return pieces[id] }), pieces
}

// jsonPieces are longer pieces as vocabularies have them.
func jsonPieces() []string {
	return []string{
		`":`, `",`, `{"`, `"}`, `": "`, `", "`, `"]`, `[{"`, `"}]`, `: `, `, `, `true`, `false`, `null`, `name`, `nam`, `me`, ` the`, `the`, `12`, `123`, `0.`,
		"\u00e9", "\u00e9t\u00e9", "\xe2\x82", "\xe2\x82\xac", "\u00fc\xe2", "\\n", `\"`, "\\u00", "  ", "    ", "[[", "]]", "}}", "{{", "abc", "a\"", "", "é", "\n\n", "-1", "e+",
	}
}

func bind(tb testing.TB, text string, v *Vocabulary) *Automaton {
	tb.Helper()
	g, err := Parse(tb.Context(), text)
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	a, err := g.Bind(v)
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return a
}

// accepts tells whether a grammar takes the whole text.
func accepts(a *Automaton, text string) bool {
	s := a.start
	for i := range len(text) {
		s = a.step(s, text[i])
	}
	return s.ends
}

func TestAccepts(t *testing.T) {
	v, _ := letters()
	for _, c := range []struct {
		grammar  string
		yes, not []string
	}{
		{`root ::= "a" | "b" "c"`, []string{"a", "bc"}, []string{"", "b", "ab", "c"}},
		{"root ::= x{2,3} y?\nx ::= [a-c] # a comment\ny ::= \"!\"", []string{"ab", "abc!", "cc!"}, []string{"a", "abca", "!"}},
		{"root ::= (\"a\" |\n  \"b\")+", []string{"a", "abba"}, []string{""}},
		{`root ::= [^"\\é-ü] .`, []string{"ax", "€é", "\U0001F600\U0001F600"}, []string{`"x`, "éx", "a", "a\xff", "a\xed\xa0\x80"}},
		{`root ::= "(" root ")" | "x"`, []string{"x", "((x))"}, []string{"((x)", "()"}},
		{`root ::= list
list ::= item "," list | item
item ::= "1"`, []string{"1", "1,1,1"}, []string{"1,"}},
		{`root ::= "a"* "b"{0,2} "c"{2} "d"{2,}`, []string{"ccdd", "aabbccddd"}, []string{"bbbccdd", "ccd"}},
		{`root ::= %regex "^[a-f\\d]{2,4}(-x|é)?$"`, []string{"ab", "a1f3", "00-x", "abé"}, []string{"a", "abcde", "ab-y"}},
		{`root ::= %regex "(?i)ja|nein"`, []string{"JA", "nEin"}, []string{"jaein"}},
		{`root ::= "call(" %json {"type": "boolean"} ")"`, []string{"call(true)"}, []string{"call()"}},
		{`root ::= "\x41\u00e9\U0001F600\n"`, []string{"Aé😀\n"}, nil},
		{Choices([]string{"on", "off", "o\"n\\", "on"}), []string{"on", "off", `o"n\`}, []string{"o", "of"}},
	} {
		a := bind(t, c.grammar, v)
		for _, s := range c.yes {
			if !accepts(a, s) {
				t.Errorf("%s does not take %q", c.grammar, s)
			}
		}
		for _, s := range c.not {
			if accepts(a, s) {
				t.Errorf("%s takes %q", c.grammar, s)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	deep := strings.Repeat("(", 200) + `"a"` + strings.Repeat(")", 200)
	for _, c := range []struct {
		grammar string
		err     error
		says    string
	}{
		{`x ::= "a"`, ErrSyntax, "no rule root"},
		{`root ::= y`, ErrSyntax, "rule y is used and not defined"},
		{"root ::= \"a\"\nroot ::= \"b\"", ErrSyntax, "line 2: rule root is defined twice"},
		{`root ::= root "a" | "b"`, ErrSyntax, "can begin with itself"},
		{"root ::= e root \"a\" | \"b\"\ne ::= \"\" | \"c\"", ErrSyntax, "can begin with itself"},
		{`root ::= "a" root`, ErrSyntax, "no text ever completes"},
		{`root ::= "a`, ErrSyntax, "line 1: a text in quotes"},
		{`root ::= [a`, ErrSyntax, "a set in brackets"},
		{`root ::= [z-a]`, ErrSyntax, "runs backwards"},
		{`root ::= ("a"`, ErrSyntax, "a parenthesis"},
		{`root ::= "a" )`, ErrSyntax, "cannot stand here"},
		{`root ::= "\q"`, ErrSyntax, `\q is not an escape`},
		{`root ::= "a"{3,2}`, ErrSyntax, "3 to 2"},
		{`root ::= "a"{999999999999}`, ErrSyntax, "more than"},
		{`root ::= ("a"{200000}){200000}`, ErrTooLarge, "places"},
		{`root ::= (""{200000}){200000}`, ErrTooLarge, "places"},
		{`root ::= ` + deep, ErrSyntax, "parentheses are open"},
		{`root ::= <think>`, ErrUnsupported, "tokens as items"},
		{`root ::= %lark "x"`, ErrSyntax, "%lark is not known"},
		{`root ::= %json {`, ErrSyntax, "wants JSON"},
		{`root ::= %regex "a(?=b)"`, ErrSyntax, "no text keeps to it"},
		{`root ::= %regex "a\\bc"`, ErrSyntax, "no text keeps to it"},
		{`root ::= %regex "a^b"`, ErrSyntax, "no text keeps to it"},
		{`root ::= %regex "(a"`, ErrSyntax, "a ( without its )"},
		{`root ::= %regex "a)"`, ErrSyntax, "a ) without its ("},
		{`root ::= %regex "*a"`, ErrSyntax, "nothing stands before *"},
		{`root ::= %regex "[z-a]"`, ErrSyntax, "runs backwards"},
		{`root ::= %regex "a{3,2}"`, ErrSyntax, "3 to 2 times"},
		{`root ::= %regex "\\y"`, ErrSyntax, "not an escape"},
		{`root ::= %regex "(a)\\1"`, ErrUnsupported, "refers back"},
		{"root ::= \"\xff\"", ErrSyntax, "UTF-8"},
	} {
		_, err := Parse(t.Context(), c.grammar)
		if !errors.Is(err, c.err) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%.60s: %v, want %v with %q", c.grammar, err, c.err, c.says)
		}
	}
}

// masksOf are grammars of every kind for the tests of sets.
func masksOf() []string {
	return []string{
		`root ::= "name" | "nam" | "the" [0-9]{1,3} "é"`,
		`root ::= "[" root ("," root)* "]" | [a-c]{1,4}`,
		`root ::= .{0,3} "."`,
		`root ::= [^"]* "\"" [a-z]`,
		"root ::= %json {}",
		`root ::= %json {"type":"object","properties":{"name":{"type":"string","maxLength":4},"n":{"type":"integer","minimum":-12,"maximum":123},"é":{"enum":["the",12,null,"a\"b"]}},"required":["name"]}`,
		`root ::= %json {"type":"array","items":{"type":"string","minLength":2,"maxLength":3},"minItems":1}`,
		`root ::= %json {"type":"object","properties":{"name":{"type":"boolean"}},"additionalProperties":{"type":"number"}}`,
		`root ::= %json {"type":"string","pattern":"^[a-zé]{2,3}\"?$"}`,
		`root ::= %json {"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["next"]}}}`,
		`root ::= %regex "(a|b)*abc|the .{2,}"`,
	}
}

// TestMasks walks at random and compares every set with what each token of the vocabulary does by itself.
func TestMasks(t *testing.T) {
	v, pieces := letters(jsonPieces()...)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, text := range masksOf() {
		a := bind(t, text, v)
		other := bind(t, text, v) // shares no state with what is tested
		for range 25 {
			limit := 1 + rng.IntN(40)
			m, err := a.Start(limit)
			if errors.Is(err, ErrTooShort) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var sofar []byte
			for left := limit; left > 0; left-- {
				m.run = nil // every token is drawn
				st, err := m.Next()
				if err != nil {
					t.Fatalf("%s after %q: %v", text, sofar, err)
				}
				want := brute(other, pieces, sofar, left)
				var got []int32
				for id := range int32(len(pieces)) {
					if st.Mask[id>>6]>>(id&63)&1 != 0 {
						got = append(got, id)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("%s after %q with %d left:\n got %v\nwant %v", text, sofar, left, names(pieces, got), names(pieces, want))
				}
				if st.Ends != accepts(other, string(sofar)) {
					t.Fatalf("%s after %q: ends %v", text, sofar, st.Ends)
				}
				if (st.Only >= 0) != (len(got) == 1 && !st.Ends) || st.None != (len(got) == 0) {
					t.Fatalf("%s after %q: %+v of %v", text, sofar, st, got)
				}
				if len(got) == 0 {
					break
				}
				id := got[rng.IntN(len(got))]
				sofar = append(sofar, pieces[id]...)
				if err := m.Advance(id, pieces[id]); err != nil {
					t.Fatal(err)
				}
			}
			if !accepts(other, string(sofar)) {
				t.Fatalf("%s: %q with %d tokens is not complete", text, sofar, limit)
			}
		}
	}
}

// brute is every token after which the text can be completed.
func brute(a *Automaton, pieces [][]byte, sofar []byte, left int) []int32 {
	s := a.start
	for _, b := range sofar {
		s = a.step(s, b)
	}
	var out []int32
	for id, p := range pieces {
		to := s
		for _, b := range p {
			to = a.step(to, b)
		}
		if len(p) > 0 && to != dead && to.dist < network.Never && int(a.need(to)) <= left-1 {
			out = append(out, int32(id))
		}
	}
	return out
}

func names(pieces [][]byte, ids []int32) []string {
	var out []string
	for _, id := range ids {
		out = append(out, string(pieces[id]))
	}
	return out
}

// TestShorten: a limit that becomes smaller under way is kept, or refused.
func TestShorten(t *testing.T) {
	v, pieces := letters()
	a := bind(t, `root ::= [a-z]{3} ("-" [a-z]{2})*`, v)
	m, err := a.Start(100)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Shorten(2); !errors.Is(err, ErrTooShort) {
		t.Errorf("got %v", err)
	}
	if err := m.Shorten(5); err != nil {
		t.Fatal(err)
	}
	if out := drawAll(t, m, pieces, rand.New(rand.NewPCG(1, 1))); len(out) != 3 {
		t.Errorf("%q", out)
	}
}
