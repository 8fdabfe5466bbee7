package split

import (
	"slices"
	"unicode"
)

// Scripts cuts a text where the script changes: Hugging Face's UnicodeScripts. Kana count as Han, and
// characters without a script (spaces, and what the library's table does not know) belong to what stands
// before them; those that start a text are dropped, as the library does.
type Scripts struct {
	lo, hi []rune // ranges, sorted
	script []uint8
}

// anyScript is that of characters that fit everywhere.
const anyScript = 0

// NewScripts builds the table.
func NewScripts() *Scripts {
	type entry struct {
		lo, hi rune
		script uint8
	}
	var all []entry
	names := make([]string, 0, len(unicode.Scripts))
	for name := range unicode.Scripts {
		names = append(names, name)
	}
	slices.Sort(names)
	number := map[string]uint8{}
	for i, name := range names {
		number[name] = uint8(i + 1)
	}
	number["Hiragana"], number["Katakana"] = number["Han"], number["Han"]
	for _, name := range names {
		t := unicode.Scripts[name]
		add := func(lo, hi, stride rune) {
			if stride == 1 {
				all = append(all, entry{lo, hi, number[name]})
				return
			}
			for c := lo; c <= hi; c += stride {
				all = append(all, entry{c, c, number[name]})
			}
		}
		for _, r := range t.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range t.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return int(a.lo - b.lo) })
	s := &Scripts{}
	for _, e := range all {
		if n := len(s.hi); n > 0 && s.hi[n-1]+1 == e.lo && s.script[n-1] == e.script {
			s.hi[n-1] = e.hi
			continue
		}
		s.lo, s.hi, s.script = append(s.lo, e.lo), append(s.hi, e.hi), append(s.script, e.script)
	}
	// Where the library's older table differs.
	for _, r := range noScript() {
		s.set(r.lo, r.hi, anyScript)
	}
	s.set(0x953, 0x954, number["Devanagari"])
	s.set(0x61C, 0x61C, number["Common"])
	s.set(0x589, 0x589, number["Common"])
	s.set(0x30FC, 0x30FC, number["Han"])
	return s
}

// set changes the script of a range, which lies within one script or across some.
func (s *Scripts) set(lo, hi rune, script uint8) {
	next := &Scripts{}
	add := func(a, b rune, k uint8) {
		if a <= b {
			next.lo, next.hi, next.script = append(next.lo, a), append(next.hi, b), append(next.script, k)
		}
	}
	done := false
	for i := range s.lo {
		a, b, k := s.lo[i], s.hi[i], s.script[i]
		if b < lo || a > hi {
			if a > hi && !done {
				add(lo, hi, script)
				done = true
			}
			add(a, b, k)
			continue
		}
		add(a, lo-1, k)
		if !done {
			add(lo, hi, script)
			done = true
		}
		add(hi+1, b, k)
	}
	*s = *next
}

func (s *Scripts) of(r rune) uint8 {
	i, ok := slices.BinarySearch(s.lo, r)
	if !ok {
		i--
	}
	if i < 0 || r > s.hi[i] {
		return anyScript
	}
	return s.script[i]
}

// Split implements Splitter.
func (s *Scripts) Split(text string, to Sink, _ *Budget) error {
	start := -1
	var last uint8
	seen := false
	for i, r := range text {
		k := s.of(r)
		if k == anyScript {
			continue
		}
		if !seen || k != last {
			if start >= 0 {
				to.Word(text[start:i])
			}
			start = i
		}
		last, seen = k, true
	}
	if start >= 0 && start < len(text) {
		to.Word(text[start:])
	}
	return nil
}
