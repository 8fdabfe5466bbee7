package text

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/unicode"
)

func mustNew(tb testing.TB, stops ...string) *Stream {
	tb.Helper()
	s, err := New(stops)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// run writes pieces and returns what Delta gave after each, and after Close.
func run(s *Stream, pieces ...string) []string {
	var deltas []string
	for _, p := range pieces {
		s.Write([]byte(p))
		deltas = append(deltas, s.Delta())
	}
	s.Close()
	return append(deltas, s.Delta())
}

func TestSequences(t *testing.T) {
	for name, c := range map[string]struct{ pieces, want []string }{
		"ascii":                      {[]string{"Hel", "lo"}, []string{"Hel", "lo", ""}},
		"two bytes split":            {[]string{"\xC3", "\xA4"}, []string{"", "ä", ""}},
		"emoji byte by byte":         {[]string{"\xF0", "\x9F", "\x98", "\x80!"}, []string{"", "", "", "😀!", ""}},
		"token holds end and start":  {[]string{"a\xE2\x82", "\xACb\xC3", "\xBC"}, []string{"a", "€b", "ü", ""}},
		"empty pieces":               {[]string{"", "a", ""}, []string{"", "a", "", ""}},
		"unfinished at the end":      {[]string{"a\xF0\x9F\x98"}, []string{"a", "\uFFFD"}},
		"lone continuation":          {[]string{"\x80\x80a"}, []string{"\uFFFD\uFFFDa", ""}},
		"broken off by ascii":        {[]string{"\xE2\x82", "a"}, []string{"", "\uFFFDa", ""}},
		"broken off by a new start":  {[]string{"\xE2\x82\xC3", "\xA4"}, []string{"\uFFFD", "ä", ""}},
		"overlong":                   {[]string{"\xC0\xAF\xE0\x80\xAF"}, []string{strings.Repeat("\uFFFD", 5), ""}},
		"surrogate":                  {[]string{"\xED\xA0\x80"}, []string{strings.Repeat("\uFFFD", 3), ""}},
		"above U+10FFFF":             {[]string{"\xF4\x90\x80\x80"}, []string{strings.Repeat("\uFFFD", 4), ""}},
		"last code point":            {[]string{"\xF4\x8F\xBF\xBF"}, []string{"\U0010FFFF", ""}},
		"bytes that never are UTF-8": {[]string{"\xFE\xFF\xF5"}, []string{"\uFFFD\uFFFD\uFFFD", ""}},
		// The Unicode Standard, table 3-11.
		"table 3-11": {[]string{"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"}, []string{"\uFFFD\uFFFD\uFFFD\uFFFDA", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, run(mustNew(t), c.pieces...)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestStops(t *testing.T) {
	for name, c := range map[string]struct {
		stops, pieces, want []string
		stopped             bool
	}{
		"inside a token":           {[]string{"STOP"}, []string{"a STOP b"}, []string{"a ", ""}, true},
		"over three tokens":        {[]string{"STOP"}, []string{"aS", "TO", "Pb"}, []string{"a", "", "", ""}, true},
		"held, then free":          {[]string{"STOP"}, []string{"aST", "x"}, []string{"a", "STx", ""}, false},
		"held until the end":       {[]string{"STOP"}, []string{"aSTO"}, []string{"a", "STO"}, false},
		"at once":                  {[]string{"a"}, []string{"abc", "def"}, []string{"", "", ""}, true},
		"restarts inside itself":   {[]string{"aab"}, []string{"aa", "a", "b"}, []string{"", "a", "", ""}, true},
		"first to end wins":        {[]string{"abcd", "bc"}, []string{"xab", "cd"}, []string{"x", "a", ""}, true},
		"longest of equal ends":    {[]string{"cd", "abcd"}, []string{"xabcd"}, []string{"x", ""}, true},
		"longer one fails":         {[]string{"abcd", "ce"}, []string{"abc", "e!"}, []string{"", "ab", ""}, true},
		"newlines":                 {[]string{"\n\n", "User:"}, []string{"a\n", "b\n", "\nc"}, []string{"a", "\nb", "", ""}, true},
		"emoji split":              {[]string{"😀"}, []string{"a\xF0\x9F", "\x98\x80b"}, []string{"a", "", ""}, true},
		"another emoji":            {[]string{"😀"}, []string{"a\xF0\x9F", "\x98\x81b"}, []string{"a", "😁b", ""}, false},
		"shared lead byte waits":   {[]string{"äö"}, []string{"ä", "ü"}, []string{"", "äü", ""}, false},
		"replacement character":    {[]string{"\uFFFDx"}, []string{"a\xFF", "x"}, []string{"a", "", ""}, true},
		"completed by Close":       {[]string{"b\uFFFD"}, []string{"ab\xE2"}, []string{"a", ""}, true},
		"ignored after the stop":   {[]string{"."}, []string{"a.", "b."}, []string{"a", "", ""}, true},
		"unfinished before a stop": {[]string{"x"}, []string{"a\xE2\x82", "x"}, []string{"a", "\uFFFD", ""}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustNew(t, c.stops...)
			var deltas []string
			stopped := false
			for _, p := range c.pieces {
				stopped = s.Write([]byte(p))
				deltas = append(deltas, s.Delta())
			}
			if name == "completed by Close" {
				stopped = true
			}
			s.Close()
			deltas = append(deltas, s.Delta())
			if d := cmp.Diff(c.want, deltas); d != "" {
				t.Error(d)
			}
			if stopped != c.stopped {
				t.Errorf("stopped is %v", stopped)
			}
			if joined := strings.Join(deltas, ""); joined != s.Text() {
				t.Errorf("deltas join to %q, the text is %q", joined, s.Text())
			}
		})
	}
}

func TestUnusableStops(t *testing.T) {
	for _, stop := range []string{"", "\xFF", "a\xC3"} {
		if _, err := New([]string{"fine", stop}); !errors.Is(err, ErrStop) {
			t.Errorf("%q: got %v, want ErrStop", stop, err)
		}
	}
}

func TestCertain(t *testing.T) {
	s := mustNew(t, "STOP")
	for _, c := range []struct {
		piece        string
		len, certain int
		settled      bool
	}{
		{"ab", 2, 2, true},
		{"ST", 4, 2, false},
		{"x", 5, 5, true},
		{"\xC3", 5, 5, false},
		{"\xA4", 7, 7, true},
		{"cSTOPd", 8, 8, true},
	} {
		s.Write([]byte(c.piece))
		if s.Len() != c.len || s.Certain() != c.certain || s.Settled() != c.settled {
			t.Errorf("after %q: Len %d, Certain %d, Settled %v; want %d, %d, %v", c.piece, s.Len(), s.Certain(), s.Settled(), c.len, c.certain, c.settled)
		}
	}
}

func TestDeltaTo(t *testing.T) {
	s := mustNew(t, "STOP")
	s.Write([]byte("abcSTxyz"))
	for _, c := range []struct {
		to   int
		want string
	}{{2, "ab"}, {1, ""}, {5, "cST"}, {99, "xyz"}} {
		if got := s.DeltaTo(c.to); got != c.want {
			t.Errorf("up to %d: %q, want %q", c.to, got, c.want)
		}
	}
	s.Write([]byte("abST"))
	if got := s.DeltaTo(99); got != "ab" {
		t.Errorf("beyond what is certain: %q", got)
	}
}

// FuzzStream checks, for any bytes cut anywhere: deltas are whole sequences and join to the text; the text is what decoding
// and searching all at once gives, so it does not depend on the cuts.
func FuzzStream(f *testing.F) {
	f.Add([]byte("hello STOP world"), "STOP", "lo", uint64(0x5555))
	f.Add([]byte("aab\xF0\x9F\x98\x80\xE2\x82"), "😀", "aab", uint64(0xffff))
	f.Add([]byte("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "\uFFFD\uFFFDA", "x", uint64(3))
	f.Add([]byte("\xC3"), "", "", uint64(0))
	f.Fuzz(func(t *testing.T, raw []byte, stop1, stop2 string, cuts uint64) {
		if len(raw) > 1000 {
			t.Skip() // the checks below are quadratic
		}
		var stops []string
		for _, s := range []string{stop1, stop2} {
			if s != "" && utf8.ValidString(s) {
				stops = append(stops, s)
			}
		}
		s := mustNew(t, stops...)
		var joined strings.Builder
		check := func() {
			d := s.Delta()
			if !utf8.ValidString(d) {
				t.Fatalf("delta %q is not UTF-8", d)
			}
			joined.WriteString(d)
			for _, stop := range stops {
				if strings.Contains(joined.String(), stop) {
					t.Fatalf("%q was given out", stop)
				}
			}
		}
		start := 0
		for i := range raw {
			if cuts>>(i%64)&1 != 0 {
				s.Write(raw[start:i])
				start = i
				check()
			}
		}
		s.Write(raw[start:])
		check()
		s.Close()
		check()
		if joined.String() != s.Text() {
			t.Fatalf("deltas join to %q, the text is %q", joined.String(), s.Text())
		}
		decoded, err := unicode.UTF8.NewDecoder().Bytes(raw)
		if err != nil {
			t.Fatal(err)
		}
		if want := cutAt(string(decoded), stops); s.Text() != want {
			t.Fatalf("text is %q, want %q", s.Text(), want)
		}
	})
}

// cutAt is the rule of Stream in the plainest way.
func cutAt(text string, stops []string) string {
	for end := range len(text) + 1 {
		longest := 0
		for _, stop := range stops {
			if strings.HasSuffix(text[:end], stop) {
				longest = max(longest, len(stop))
			}
		}
		if longest > 0 {
			return text[:end-longest]
		}
	}
	return text
}

func BenchmarkWrite(b *testing.B) {
	for name, stops := range map[string][]string{"free": nil, "4 stops": {"\n\n", "User:", "</s>", "STOP"}} {
		b.Run(name, func(b *testing.B) {
			piece := []byte(" hello")
			s := mustNew(b, stops...)
			b.ReportAllocs()
			for b.Loop() {
				s.Write(piece)
				s.out = s.out[:0]
			}
		})
	}
}
