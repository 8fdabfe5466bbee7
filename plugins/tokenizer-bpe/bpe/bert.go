package bpe

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// bertWords normalises a text and cuts it into words as llama.cpp does for BERT. It follows the published BertNormalizer
// and BertPreTokenizer except where llama.cpp differs: of a decomposed character only the first stays (é is e, and a
// Hangul syllable its first letter), and all marks go, not only those that take no space.
type bertWords struct {
	classes        *split.Classes
	lower, accents bool
}

func (b *bertWords) words(s string, word func(w string)) {
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
		if b.classes.IsPunct(r) || r < 0x7F && b.classes.IsSymbol(r) || isChinese(r) {
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

// isChinese is BERT's idea of a Chinese character: each is a word. Source: BERT's tokenization.py; the block from U+2B920
// is Hugging Face's and llama.cpp's (it should start at U+2B820).
func isChinese(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF || r >= 0x2A700 && r <= 0x2B73F ||
		r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF || r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}
