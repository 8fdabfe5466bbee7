package operator

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"

	"edged/core/chat/jinja/value"
)

// Upper is str.upper.
func Upper(ev *value.Evaluation, s string) string {
	ev.Work(len(s) / 16)
	if ascii(s) {
		ev.Alloc(int64(len(s)))
		return strings.ToUpper(s)
	}
	ev.Alloc(3 * int64(len(s)))
	return cases.Upper(language.Und).String(s)
}

// Lower is str.lower.
func Lower(ev *value.Evaluation, s string) string {
	ev.Work(len(s) / 16)
	if ascii(s) {
		ev.Alloc(int64(len(s)))
		return strings.ToLower(s)
	}
	ev.Alloc(3 * int64(len(s)))
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
func titleRune(ev *value.Evaluation, r rune) string {
	if t := unicode.ToTitle(r); t != r {
		return string(t)
	}
	up := []rune(Upper(ev, string(r)))
	if len(up) > 1 {
		return string(up[0]) + Lower(ev, string(up[1:]))
	}
	return string(up)
}

// Capitalize is str.capitalize: the first character in title case, the others in lower case.
func Capitalize(ev *value.Evaluation, s string) string {
	if s == "" {
		return s
	}
	n := value.RuneLength(s)
	r, _ := utf8.DecodeRuneInString(s)
	ev.Alloc(int64(len(s)))
	return titleRune(ev, r) + Lower(ev, s[n:])
}

func cased(r rune) bool {
	return unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r) || unicode.Is(unicode.Other_Lowercase, r) ||
		unicode.Is(unicode.Other_Uppercase, r)
}

// IsLower says whether a character has Unicode's property Lowercase.
func IsLower(r rune) bool { return unicode.IsLower(r) || unicode.Is(unicode.Other_Lowercase, r) }

// IsUpper says whether a character has Unicode's property Uppercase.
func IsUpper(r rune) bool { return unicode.IsUpper(r) || unicode.Is(unicode.Other_Uppercase, r) }

func title(ev *value.Evaluation, s string) string {
	ev.Work(len(s) / 8)
	ev.Alloc(3 * int64(len(s)))
	var b strings.Builder
	word := 0 // where the current word began
	inside := false
	flush := func(end int) {
		if inside {
			r, n := utf8.DecodeRuneInString(s[word:])
			b.WriteString(titleRune(ev, r))
			b.WriteString(Lower(ev, s[word+n:end]))
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

func swapcase(ev *value.Evaluation, s string) string {
	ev.Work(len(s) / 4)
	ev.Alloc(3 * int64(len(s)))
	var b strings.Builder
	for _, r := range s {
		switch {
		case IsUpper(r):
			b.WriteString(Lower(ev, string(r)))
		case IsLower(r):
			b.WriteString(Upper(ev, string(r)))
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
		case IsUpper(r) || unicode.IsTitle(r):
			if before {
				return false
			}
			found, before = true, true
		case IsLower(r):
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

// HasCase says whether all cased characters are of one case, and there is one.
func HasCase(s string, is, other func(rune) bool) bool {
	found := false
	for _, r := range s {
		if other(r) || unicode.IsTitle(r) {
			return false
		}
		found = found || is(r)
	}
	return found
}
