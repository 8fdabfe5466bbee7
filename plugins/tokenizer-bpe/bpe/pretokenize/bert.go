package pretokenize

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// BERT normalises a text and cuts it into words as llama.cpp does for BERT. It follows the published BertNormalizer
// and BertPreTokenizer except where llama.cpp differs: of a decomposed character only the first stays (é is e, and a
// Hangul syllable its first letter), and all marks go, not only those that take no space.
type BERT struct {
	classes        *split.Classes
	lower, accents bool
}

// NewBERT makes the pre-tokenizer of a GGUF file's BERT.
func NewBERT(lower, accents bool) *BERT {
	return &BERT{classes: split.NewClasses(), lower: lower, accents: accents}
}

// Words calls word with each word of a text, normalised.
func (b *BERT) Words(s string, word func(w string)) {
	var w strings.Builder
	flush := func() {
		if w.Len() > 0 {
			word(w.String())
			w.Reset()
		}
	}
	for _, r := range s {
		if b.accents {
			r = firstOfNFD(r)
		}
		switch {
		case b.classes.IsSpace(r):
			flush()
			continue
		case r == 0, r == utf8.RuneError, b.classes.IsControl(r):
			continue
		case b.accents && b.classes.IsMark(r):
			continue
		}
		c := r
		if b.lower {
			c = unicode.ToLower(r)
		}
		if b.classes.IsPunct(r) || r < 0x7F && b.classes.IsSymbol(r) || split.IsChinese(r) {
			flush()
			word(string(c))
			continue
		}
		w.WriteRune(c)
	}
	flush()
}

// firstOfNFD is the first character of the canonical decomposition.
func firstOfNFD(r rune) rune {
	if r < 0xC0 {
		return r
	}
	var in [utf8.UTFMax]byte
	d := norm.NFD.Properties(in[:utf8.EncodeRune(in[:], r)]).Decomposition()
	if len(d) == 0 {
		if r >= 0xAC00 && r <= 0xD7A3 { // Hangul syllables decompose by arithmetic
			return 0x1100 + (r-0xAC00)/588
		}
		return r
	}
	first, _ := utf8.DecodeRune(d)
	return first
}
