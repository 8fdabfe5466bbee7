package value

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// DigitValue is the value of a digit in bases up to 36; a larger number for what is none.
func DigitValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'z':
		return int(c|0x20-'a') + 10
	}
	return 99
}

// WordLength is how many bytes of letters, digits and underscores s begins with.
func WordLength(s string) int {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.Is(unicode.M, r) && !unicode.Is(unicode.Nl, r) &&
			!unicode.Is(unicode.Pc, r) {
			return i
		}
	}
	return len(s)
}

// Identifier is Python's str.isidentifier.
func Identifier(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return s != "" && WordLength(s) == len(s) && (r == '_' || unicode.IsLetter(r) || unicode.Is(unicode.Nl, r))
}

// IsSpace is Python's str.isspace.
func IsSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// TrimRight takes Python's whitespace from the end.
func TrimRight(s string) string { return strings.TrimRightFunc(s, IsSpace) }

// TrimLeft takes Python's whitespace from the beginning.
func TrimLeft(s string) string { return strings.TrimLeftFunc(s, IsSpace) }

// asciiDigits turns the digits of other scripts into 0 to 9.
func asciiDigits(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if d := decimal(r); d >= 0 {
			return '0' + rune(d)
		}
		return r
	}, s)
}

// decimal is the value of a decimal digit of any script, -1 for others. Ranges of digits begin with a zero.
func decimal(r rune) int {
	if !unicode.Is(unicode.Nd, r) {
		return -1
	}
	for _, t := range unicode.Nd.R16 {
		if r >= rune(t.Lo) && r <= rune(t.Hi) {
			return int(r-rune(t.Lo)) % 10
		}
	}
	for _, t := range unicode.Nd.R32 {
		if r >= rune(t.Lo) && r <= rune(t.Hi) {
			return int(r-rune(t.Lo)) % 10
		}
	}
	return -1
}
