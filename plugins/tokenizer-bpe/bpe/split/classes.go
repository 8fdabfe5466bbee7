package split

import (
	"unicode"
	"unicode/utf8"
)

// class is a set of Unicode general categories, as patterns name them.
type class uint16

const (
	letter  class = 1 << iota // \p{L}
	number                    // \p{N}
	mark                      // \p{M}
	punct                     // \p{P}
	symbol                    // \p{S}
	space                     // \s: the property White_Space
	control                   // \p{C} without what is not assigned
	upper                     // \p{Lu} and \p{Lt}
	lower                     // \p{Ll}
)

const pageBits = 7

// Classes answers which categories a character belongs to: one lookup for ASCII, two for the rest. It holds about 60 kB.
type Classes struct {
	ascii [utf8.RuneSelf]class
	pages [(unicode.MaxRune + 1) >> pageBits]uint16 // index into blocks
	block [][1 << pageBits]class
}

// NewClasses builds the table from package unicode (Unicode 15.0), brought to 15.1, which is what llama.cpp's table has.
func NewClasses() *Classes {
	flat := make([]class, unicode.MaxRune+1)
	add := func(t *unicode.RangeTable, bit class) {
		for _, r := range t.R16 {
			for c := int(r.Lo); c <= int(r.Hi); c += int(r.Stride) {
				flat[c] |= bit
			}
		}
		for _, r := range t.R32 {
			for c := int(r.Lo); c <= int(r.Hi); c += int(r.Stride) {
				flat[c] |= bit
			}
		}
	}
	add(unicode.L, letter)
	add(unicode.Lu, upper)
	add(unicode.Lt, upper)
	add(unicode.Ll, lower)
	add(unicode.N, number)
	add(unicode.M, mark)
	add(unicode.P, punct)
	add(unicode.S, symbol)
	add(unicode.White_Space, space)
	for _, t := range []*unicode.RangeTable{unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs} { // unicode.C holds Cn too
		add(t, control)
	}
	// Unicode 15.1: CJK Extension I, and ideographic description characters.
	for c := 0x2EBF0; c <= 0x2EE5D; c++ {
		flat[c] |= letter
	}
	for _, c := range []rune{0x2FFC, 0x2FFD, 0x2FFE, 0x2FFF, 0x31EF} {
		flat[c] |= symbol
	}

	t := &Classes{}
	copy(t.ascii[:], flat)
	seen := map[[1 << pageBits]class]uint16{}
	for p := range t.pages {
		b := [1 << pageBits]class(flat[p<<pageBits : (p+1)<<pageBits])
		i, ok := seen[b]
		if !ok {
			i = uint16(len(t.block))
			seen[b] = i
			t.block = append(t.block, b)
		}
		t.pages[p] = i
	}
	return t
}

// of returns the class of a character.
func (t *Classes) of(r rune) class {
	if uint32(r) > unicode.MaxRune {
		return 0
	}
	return t.block[t.pages[r>>pageBits]][r&(1<<pageBits-1)]
}

// at returns the class of the character that starts at s[i] and its length in bytes; 0, 0 at the end.
func (t *Classes) at(s string, i int) (class, int) {
	if i >= len(s) {
		return 0, 0
	}
	if b := s[i]; b < utf8.RuneSelf {
		return t.ascii[b], 1
	}
	return t.wide(s[i:])
}

func (t *Classes) wide(s string) (class, int) {
	r, n := utf8.DecodeRuneInString(s)
	return t.of(r), n
}

// run returns the end of the longest run of characters from s[i] on that belong to any class of in.
func (t *Classes) run(s string, i int, in class) int {
	for i < len(s) {
		if b := s[i]; b < utf8.RuneSelf {
			if t.ascii[b]&in == 0 {
				return i
			}
			i++
			continue
		}
		c, n := t.wide(s[i:])
		if c&in == 0 {
			return i
		}
		i += n
	}
	return i
}

// runNot is run for the characters that belong to none of the classes.
func (t *Classes) runNot(s string, i int, out class) int {
	for i < len(s) {
		if b := s[i]; b < utf8.RuneSelf {
			if t.ascii[b]&out != 0 {
				return i
			}
			i++
			continue
		}
		c, n := t.wide(s[i:])
		if c&out != 0 {
			return i
		}
		i += n
	}
	return i
}

// IsSpace reports whether a character is white space.
func (t *Classes) IsSpace(r rune) bool { return t.of(r)&space != 0 }

// IsPunct reports whether a character is punctuation (category P).
func (t *Classes) IsPunct(r rune) bool { return t.of(r)&punct != 0 }

// IsSymbol reports whether a character is a symbol (category S).
func (t *Classes) IsSymbol(r rune) bool { return t.of(r)&symbol != 0 }

// IsMark reports whether a character is a combining mark (category M).
func (t *Classes) IsMark(r rune) bool { return t.of(r)&mark != 0 }

// IsControl reports whether a character is a control, format, private-use or surrogate one (category C, assigned).
func (t *Classes) IsControl(r rune) bool { return t.of(r)&control != 0 }

// IsNumber reports whether a character is numeric (category N).
func (t *Classes) IsNumber(r rune) bool { return t.of(r)&number != 0 }

// IsLetter reports whether a character is a letter (category L).
func (t *Classes) IsLetter(r rune) bool { return t.of(r)&letter != 0 }
