package model

import (
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// BlankWordPiece is a GGUF's WordPiece: it covers each word with the longest tokens from its start on; a word
// that cannot be covered is one unknown token.
type BlankWordPiece struct {
	Words   func(s string, word func(w string)) // the text's words, normalised
	texts   *vocab.Index                        // tokens that start a word have blank before them
	longest int
	ids     []int32 // by place in texts
	Unknown int32
}

// Encode implements Model.
func (m *BlankWordPiece) Encode(w *Scratch, s string, _, _ bool) error {
	m.Words(s, func(word string) { m.word(w, word) })
	return nil
}

func (m *BlankWordPiece) word(w *Scratch, word string) {
	start := len(w.Out)
	w.buf = append(append(w.buf[:0], vocab.Blank...), word...)
	rest := string(w.buf)
	for rest != "" {
		n := m.longestMatch(w, rest)
		if n == 0 {
			break
		}
		rest = rest[n:]
	}
	if rest == "" {
		return
	}
	w.Out = w.Out[:start]
	if m.Unknown >= 0 {
		w.Out = append(w.Out, m.Unknown)
	}
}

func (m *BlankWordPiece) longestMatch(w *Scratch, s string) int {
	for n := min(len(s), m.longest); n > 0; n-- {
		if n < len(s) && !utf8.RuneStart(s[n]) {
			continue
		}
		if i, ok := m.texts.Find(s[:n]); ok {
			w.Out = append(w.Out, m.ids[i])
			return n
		}
	}
	return 0
}

// NewBlankWordPiece indexes the vocabulary of a GGUF file, in which tokens that start a word have blank before them.
func NewBlankWordPiece(v *vocab.Vocabulary, hide func(id int) bool) *BlankWordPiece {
	m := &BlankWordPiece{}
	texts := make([]string, 0, len(v.Text))
	for id, s := range v.Text {
		if s == "" || hide(id) {
			continue
		}
		texts = append(texts, s)
		m.ids = append(m.ids, int32(id))
		m.longest = max(m.longest, len(s))
	}
	m.texts = vocab.IndexAll(texts)
	return m
}
