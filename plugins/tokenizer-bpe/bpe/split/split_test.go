package split

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

type words []string

func (w *words) Word(s string) { *w = append(*w, s) }

func cut(tb testing.TB, s Splitter, text string) []string {
	tb.Helper()
	var w words
	if err := s.Split(text, &w, nil); err != nil {
		tb.Fatal(err)
	}
	return w
}

// published gives each splitter written by hand beside the patterns that define it, applied one after the other.
func published(tb testing.TB) map[string]struct {
	hand     Splitter
	patterns Splitter
} {
	tb.Helper()
	c := NewClasses()
	chain := func(patterns ...string) Splitter {
		var out Chain
		for _, p := range patterns {
			re, err := compileLlama(p)
			if err != nil {
				tb.Fatal(err)
			}
			out = append(out, re)
		}
		return out
	}
	named := func(name string) Splitter {
		f, err := ByName(name, c)
		if err != nil {
			tb.Fatal(err)
		}
		return f.Splitter
	}
	return map[string]struct{ hand, patterns Splitter }{
		"gpt-2":          {named("gpt-2"), chain(PatternGPT2)},
		"llama-bpe":      {named("llama-bpe"), chain(PatternLlama3)},
		"qwen2":          {named("qwen2"), chain(PatternQwen2)},
		"qwen35":         {named("qwen35"), chain(PatternQwen35)},
		"starcoder":      {named("starcoder"), chain(`\p{N}`, PatternGPT2)},
		"falcon":         {named("falcon"), chain("[\\p{P}\\$\\+<=>\\^~\\|`]+", PatternGPT2, `[0-9][0-9][0-9]`)},
		"default":        {named("default"), chain(`[\p{P}\$\+<=>\^~\|]+`, PatternGPT2, `\p{N}+`, `[0-9][0-9][0-9]`)},
		"deepseek-coder": {named("deepseek-coder"), chain(`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`, `\p{N}`)},
		"deepseek-llm": {
			named("deepseek-llm"),
			chain(`[\r\n]`, `\s?[`+rangesOf(c)+`]+`, `\s?[!-/:-~！-／：-～‘-‟　-。]+`, `\s+$`, `[一-龥ࠀ-一가-퟿]+`, `\p{N}+`),
		},
		"o200k":  {Cased{C: c, MaxDigits: 3, Contractions: true, LongS: false}, chain(PatternO200k)},
		"tekken": {Cased{C: c, MaxDigits: 1}, chain(PatternTekken)},
		"tekken, loose": {
			named("tekken"),
			chain(`[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*` +
				`|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`),
		},
		"gemma4":       {named("gemma4"), chain(`[^\n]+|[\n]+`)},
		"three digits": {Modern{C: c, MaxDigits: 0}, chain(strings.Replace(PatternLlama3, `{1,3}`, `+`, 1))},
	}
}

func rangesOf(*Classes) string {
	var b strings.Builder
	b.WriteString("A-Za-z")
	for _, s := range casedLetters() {
		fmt.Fprintf(&b, "%c-%c", s.lo, s.hi)
	}
	return b.String()
}

// alphabet holds what patterns tell apart, so that short random texts meet every branch.
const alphabet = "aABCZsStTrReEvVmMlLdD'''  \t\n\r\n09²½Ⅳ٣.,!?-_$+<=>^~|`#@/:éßŁǅжЖΩ\u0301\u0308ा한字一龥ࠀ。、，！：～‘\u2003\u00a0\u0085\u200b\u200d\ufeff😀🇯🇵\u0378𝐀ⅎ\u1c90\U0001E900"

func randomText(r *rand.Rand, spaces bool) string {
	runes := []rune(alphabet)
	n := r.IntN(24)
	var b strings.Builder
	for range n {
		var c rune
		switch k := r.IntN(16); {
		case k < 12:
			c = runes[r.IntN(len(runes))]
		case k < 14:
			c = rune(r.IntN(0x3100))
		default:
			c = rune(r.IntN(0x20000))
		}
		if !utf8.ValidRune(c) || !spaces && c > 0x7F && (c == 0x85 || c == 0xA0 || c == 0x3000 || c == 0x2028 || c == 0x2029 || c >= 0x2000 && c <= 0x200A || c == 0x202F || c == 0x205F || c == 0x1680) {
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// dullSpaces names the families whose stages do not see white space above ASCII as llama.cpp runs them: there the
// published patterns hold for other texts only.
func dullSpaces(name string) bool { return strings.HasPrefix(name, "deepseek") }

func TestSplittersFollowPublishedPatterns(t *testing.T) {
	for name, p := range published(t) {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for range 20000 {
				text := randomText(r, !dullSpaces(name))
				got, want := cut(t, p.hand, text), cut(t, p.patterns, text)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%q (-pattern +hand):\n%s", text, diff)
				}
			}
		})
	}
}

func FuzzSplitters(f *testing.F) {
	all := published(f)
	classes := NewClasses()
	f.Add("I'LL  go\n\n to ½ 12345's é\u0301!! ")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || len(text) > 1000 {
			t.Skip()
		}
		for name, p := range all {
			got := cut(t, p.hand, text)
			if joined := strings.Join(got, ""); joined != text {
				t.Fatalf("%s: words of %q join to %q", name, text, joined)
			}
			if strings.ContainsFunc(text, func(r rune) bool { return r > 0x7F && classes.IsSpace(r) }) && dullSpaces(name) {
				continue
			}
			if strings.ContainsRune(text, '\u017f') {
				continue // folds to s
			}
			if diff := cmp.Diff(cut(t, p.patterns, text), got); diff != "" {
				t.Fatalf("%s: %q (-pattern +hand):\n%s", name, text, diff)
			}
		}
	})
}

func TestEveryCharacterKeepsItsClass(t *testing.T) {
	c := NewClasses()
	hand, re := Modern{C: c, MaxDigits: 3}, mustCompile(t, PatternLlama3)
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) || r >= 0x2EBF0 && r <= 0x2EE5D || r == 0x17F {
			continue // the class table is newer than package unicode there
		}
		if r > 0x323B0 && r < 0xE0000 {
			continue // nothing is assigned
		}
		text := "a" + string(r) + " " + string(r) + "9"
		if diff := cmp.Diff(cut(t, re, text), cut(t, hand, text)); diff != "" {
			t.Fatalf("U+%04X (-pattern +hand):\n%s", r, diff)
		}
	}
}

func mustCompile(tb testing.TB, p string) *Pattern {
	tb.Helper()
	re, err := compileLlama(p)
	if err != nil {
		tb.Fatal(err)
	}
	return re
}

func TestCompile(t *testing.T) {
	tests := []struct {
		pattern, text string
		want          []string
		err           string
	}{
		{pattern: `\d++`, text: "ab12c", want: []string{"ab", "12", "c"}},
		{pattern: `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+| ?[^\s\p{L}\p{N}]++[\r\n]*`, text: "I'LL go !!", want: []string{"I", "'LL", " go", " !!"}},
		{pattern: `(ab)++c`, text: "ababc", want: []string{"ababc"}},
		{pattern: `\s+$`, text: "a  \nb ", want: []string{"a", "  ", "\nb", " "}},
		{pattern: `[a-e&&[^bc]]+`, text: "abcde", want: []string{"a", "bc", "de"}},
		{pattern: `[a[x-z]]+`, text: "axb", want: []string{"ax", "b"}},
		{pattern: `[[:upper:]]|\h`, text: "XgÉa", want: []string{"X", "g", "É", "a"}},
		{pattern: `\p{^L}+|[^\P{Lu}]`, text: "ab12É", want: []string{"ab", "12", "É"}},
		{pattern: `\d{1,2}+x`, text: "12345x", want: []string{"12345x"}},
		{pattern: `a{,2}b`, text: "aaab", want: []string{"a", "aab"}},
		{pattern: `(?x) a b # c
			| d`, text: "xabd", want: []string{"x", "ab", "d"}},
		{pattern: `(?i)x|k`, text: "aXK", want: []string{"a", "X", "K"}},
		{pattern: `\K`, err: "not supported"},
		{pattern: `(?~a)`, err: "not supported"},
		{pattern: `[z-a]`, err: "is empty"},
		{pattern: `\p{Klingon}`, err: "not known"},
		{pattern: `a)`, err: "closes that none opened"},
		{pattern: `[ab`, err: "does not end"},
		{pattern: `(`, err: "pattern"},
		{pattern: strings.Repeat("a", 20000), err: "too long"},
		{pattern: strings.Repeat(`[\w]+`, 3000), err: "when they are written out"}, // a quantifier's cost is its own
		{pattern: strings.Repeat(`\b`, 8000), err: "when they are written out"},
		{pattern: "[" + strings.Repeat(`\w`, 8000) + "]", err: "when they are written out"},
		{pattern: `(?i)[\x{17F}ß&&\p{L}]`, text: "1s2ẞ3", want: []string{"1", "s", "2", "ẞ", "3"}},
	}
	for _, tt := range tests {
		re, err := Compile(tt.pattern)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: error %v, want %q", tt.pattern, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
			continue
		}
		if diff := cmp.Diff(tt.want, cut(t, re, tt.text)); diff != "" {
			t.Errorf("%q on %q (-want +got):\n%s", tt.pattern, tt.text, diff)
		}
	}
}

func TestUnknownNameListsKnownOnes(t *testing.T) {
	_, err := ByName("klingon", NewClasses())
	if err == nil || !strings.Contains(err.Error(), "klingon") || !strings.Contains(err.Error(), "llama-bpe, ") {
		t.Errorf("error %v", err)
	}
}

// TestHostileTexts: time is linear in the length, whatever repeats.
func TestHostileTexts(t *testing.T) {
	for name, p := range published(t) {
		for _, unit := range []string{"a", " ", "\n", "😀", "1", "'", " \n", "\u00a0", "!", "é", "\u0301", "字", " a", "' "} {
			var n count
			text := strings.Repeat(unit, 1<<20/len(unit))
			if err := p.hand.Split(text, &n, nil); err != nil {
				t.Fatal(err)
			}
			if int(n) != len(text) {
				t.Errorf("%s: %d of %d bytes of %q came out", name, n, len(text), unit)
			}
		}
	}
}

type count int

func (c *count) Word(s string) { *c += count(len(s)) }

func BenchmarkSplit(b *testing.B) {
	text := strings.Repeat("The quick brown fox doesn't jump over 12345 lazy dogs; naïve façade, 東京 and Москва!\n\n    return x + 1\n", 1000)
	for _, name := range []string{"gpt-2", "llama-bpe", "qwen2", "qwen35", "falcon", "deepseek-llm", "gpt-4o"} {
		b.Run(name, func(b *testing.B) {
			f, err := ByName(name, NewClasses())
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var n count
			for b.Loop() {
				if err := f.Splitter.Split(text, &n, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNewClasses(b *testing.B) {
	for b.Loop() {
		NewClasses()
	}
}

// TestGroupsOfDigits: pre-tokenizers that group digits from the end of a number.
func TestGroupsOfDigits(t *testing.T) {
	for name, want := range map[string][]string{
		"afmoe":    {"n", " =", " ", "12", "345", "678"},
		"superbpe": {"n = ", "12", "345", "678"},
		"tiny_aya": {"n", " =", " ", "12", "345", "678"},
	} {
		f, err := ByName(name, NewClasses())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, cut(t, f.Splitter, "n = 12345678")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestBudget: the searches of a text have one budget, so that a text on which each of them takes its time ends too.
func TestBudget(t *testing.T) {
	p, err := Compile(`(?:a|aa)+b|X`)
	if err != nil {
		t.Fatal(err)
	}
	slow := strings.Repeat(strings.Repeat("a", 20)+"X", 2000)
	numbers, err := AtPattern(`Y`, Removed, false, HuggingFaceClasses())
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Splitter{
		"alone":      p,
		"in a chain": Chain{GPT2{C: HuggingFaceClasses()}, p},
		"words":      Chain{&Delimited{finder: literal("X"), behavior: MergedWithPrevious}, p}, // short each
		"delimiters": &Delimited{finder: p, behavior: Removed},
	} {
		var n count
		b := &Budget{left: time.Millisecond}
		if err := s.Split(slow, &n, b); !errors.Is(err, ErrPattern) {
			t.Errorf("%s: the error is %v", name, err)
		}
		if err := numbers.Split("xYx", &n, b); !errors.Is(err, ErrPattern) {
			t.Errorf("%s: a budget that is spent lets another pattern search: %v", name, err)
		}
	}
	if by, err := p.Replace("aab XX", "-", &Budget{}); !errors.Is(err, ErrPattern) {
		t.Errorf("Replace without time gives %q, %v", by, err)
	}
	b := NewBudget(6)
	if by, err := p.Replace("aab XX", "-", &b); err != nil || by != "- --" {
		t.Errorf("Replace gives %q, %v", by, err)
	}
}

// TestEveryNameLoads: all names that are listed as known build a tokenizer.
func TestEveryNameLoads(t *testing.T) {
	for _, name := range Names() {
		if _, err := ByName(name, NewClasses()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
