package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

func upper(ev *evaluator, s string) string {
	ev.work(len(s) / 16)
	if ascii(s) {
		ev.alloc(int64(len(s)))
		return strings.ToUpper(s)
	}
	ev.alloc(3 * int64(len(s)))
	return cases.Upper(language.Und).String(s)
}

func lower(ev *evaluator, s string) string {
	ev.work(len(s) / 16)
	if ascii(s) {
		ev.alloc(int64(len(s)))
		return strings.ToLower(s)
	}
	ev.alloc(3 * int64(len(s)))
	return cases.Lower(language.Und).String(s)
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// titleRune is the first letter of a word; a few letters become two.
func titleRune(ev *evaluator, r rune) string {
	if t := unicode.ToTitle(r); t != r {
		return string(t)
	}
	up := []rune(upper(ev, string(r)))
	if len(up) > 1 {
		return string(up[0]) + lower(ev, string(up[1:]))
	}
	return string(up)
}

func capitalize(ev *evaluator, s string) string {
	if s == "" {
		return s
	}
	n := runeLength(s)
	r, _ := utf8.DecodeRuneInString(s)
	ev.alloc(int64(len(s)))
	return titleRune(ev, r) + lower(ev, s[n:])
}

func cased(r rune) bool {
	return unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r) || unicode.Is(unicode.Other_Lowercase, r) || unicode.Is(unicode.Other_Uppercase, r)
}

func isLower(r rune) bool { return unicode.IsLower(r) || unicode.Is(unicode.Other_Lowercase, r) }

func isUpper(r rune) bool { return unicode.IsUpper(r) || unicode.Is(unicode.Other_Uppercase, r) }

func title(ev *evaluator, s string) string {
	ev.work(len(s) / 8)
	ev.alloc(3 * int64(len(s)))
	var b strings.Builder
	word := 0 // where the current word began
	inside := false
	flush := func(end int) {
		if inside {
			r, n := utf8.DecodeRuneInString(s[word:])
			b.WriteString(titleRune(ev, r))
			b.WriteString(lower(ev, s[word+n:end]))
			inside = false
		}
	}
	for i, r := range s {
		switch {
		case cased(r) && !inside:
			word, inside = i, true
		case !cased(r):
			flush(i)
			b.WriteRune(r)
		}
	}
	flush(len(s))
	return b.String()
}

func swapcase(ev *evaluator, s string) string {
	ev.work(len(s) / 4)
	ev.alloc(3 * int64(len(s)))
	var b strings.Builder
	for _, r := range s {
		switch {
		case isUpper(r):
			b.WriteString(lower(ev, string(r)))
		case isLower(r):
			b.WriteString(upper(ev, string(r)))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isTitle(s string) bool {
	found, before := false, false
	for _, r := range s {
		switch {
		case isUpper(r) || unicode.IsTitle(r):
			if before {
				return false
			}
			found, before = true, true
		case isLower(r):
			if !before {
				return false
			}
			found = true
		default:
			before = false
		}
	}
	return found
}

// oneCase says whether all cased characters are of one case, and there is one.
func oneCase(s string, is, other func(rune) bool) bool {
	found := false
	for _, r := range s {
		if other(r) || unicode.IsTitle(r) {
			return false
		}
		found = found || is(r)
	}
	return found
}
