package split

import (
	"sync"
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

	// What only Hugging Face's library knows; see HuggingFaceClasses.
	word       // \w of its regular expressions
	rustWord   // \w of Rust's
	rustNumber // Rust's is_numeric
	bertPunct  // BERT's punctuation
	accent     // what StripAccents drops
	bertAccent // what BertNormalizer drops
)

const pageBits = 7

// Classes answers which categories a character belongs to: one lookup for ASCII, two for the rest. It holds
// about 60 kB.
type Classes struct {
	ascii [utf8.RuneSelf]class
	pages [(unicode.MaxRune + 1) >> pageBits]uint16 // index into blocks
	block [][1 << pageBits]class
}

// NewClasses builds the table from package unicode (Unicode 15.0), brought to 15.1, which is what llama.cpp's
// table has.
func NewClasses() *Classes {
	flat := goClasses()
	// Unicode 15.1: CJK Extension I, and ideographic description characters.
	for c := 0x2EBF0; c <= 0x2EE5D; c++ {
		flat[c] |= letter
	}
	for _, c := range []rune{0x2FFC, 0x2FFD, 0x2FFE, 0x2FFF, 0x31EF} {
		flat[c] |= symbol
	}
	return pack(flat)
}

// huggingFace is the table of HuggingFaceClasses, which no tokenizer changes.
var huggingFace = sync.OnceValue(newHuggingFaceClasses) //nolint:gochecknoglobals // a table

// HuggingFaceClasses is the table that Hugging Face's tokenizers library has (0.23): see hf_data.go. It is built once.
func HuggingFaceClasses() *Classes { return huggingFace() }

func newHuggingFaceClasses() *Classes {
	flat := goClasses()
	for _, t := range []*unicode.RangeTable{unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic} {
		setClass(flat, t, word|rustWord)
	}
	flat[0x200C] |= rustWord // the joiners
	flat[0x200D] |= rustWord
	setClass(flat, unicode.N, rustNumber)
	setClass(flat, unicode.P, bertPunct)
	setClass(flat, unicode.M, accent)
	setClass(flat, unicode.Mn, bertAccent)
	for i := range flat {
		if flat[i]&control != 0 && unicode.Is(unicode.Cs, rune(i)) {
			flat[i] &^= control
		}
	}
	changes := hfChanges()
	for name, bit := range map[string]class{
		"L": letter, "Lu": upper, "Ll": lower, "N": number, "M": mark, "P": punct, "S": symbol, "word": word, "rust word": rustWord,
		"rust number": rustNumber, "bert punctuation": bertPunct, "accents": accent, "bert accents": bertAccent, "bert control": control,
	} {
		for _, r := range changes[name].add {
			for c := r.lo; c <= r.hi; c++ {
				flat[c] |= bit
			}
		}
		for _, r := range changes[name].drop {
			for c := r.lo; c <= r.hi; c++ {
				flat[c] &^= bit
			}
		}
	}
	return pack(flat)
}

// goClasses are the categories of package unicode by character.
func goClasses() []class {
	flat := make([]class, unicode.MaxRune+1)
	setClass(flat, unicode.L, letter)
	setClass(flat, unicode.Lu, upper)
	setClass(flat, unicode.Lt, upper)
	setClass(flat, unicode.Ll, lower)
	setClass(flat, unicode.N, number)
	setClass(flat, unicode.M, mark)
	setClass(flat, unicode.P, punct)
	setClass(flat, unicode.S, symbol)
	setClass(flat, unicode.White_Space, space)
	for _, t := range []*unicode.RangeTable{unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs} { // unicode.C holds Cn too
		setClass(flat, t, control)
	}
	return flat
}

// setClass sets a class for the characters of a table.
func setClass(flat []class, t *unicode.RangeTable, bit class) {
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

// pack stores the classes by pages of which equal ones are kept once.
func pack(flat []class) *Classes {
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

// IsAccent reports whether StripAccents drops a character.
func (t *Classes) IsAccent(r rune) bool { return t.of(r)&accent != 0 }

// IsBERTAccent reports whether BertNormalizer drops a character as an accent.
func (t *Classes) IsBERTAccent(r rune) bool { return t.of(r)&bertAccent != 0 }

// IsWord reports whether a character is \w of Rust's regular expressions.
func (t *Classes) IsWord(r rune) bool { return t.of(r)&rustWord != 0 }

// IsChinese reports whether BERT takes a character for Chinese, which makes it a word of its own. Source:
// BERT's tokenization.py; the block from U+2B920 is Hugging Face's and llama.cpp's (it should start at
// U+2B820).
func IsChinese(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF || r >= 0x2A700 && r <= 0x2B73F ||
		r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF || r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}
