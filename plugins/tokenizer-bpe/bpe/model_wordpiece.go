package bpe

import "unicode/utf8"

// wordPiece is a GGUF's WordPiece: it covers each word with the longest tokens from its start on; a word that cannot be covered is one unknown
// token.
type wordPiece struct {
	words   func(s string, word func(w string)) // the text's words, normalised
	texts   *index                              // tokens that start a word have blank before them
	longest int
	ids     []int32 // by place in texts
	unknown int32
}

func (m *wordPiece) encode(w *work, s string, _, _ bool) error {
	m.words(s, func(word string) { m.word(w, word) })
	return nil
}

func (m *wordPiece) word(w *work, word string) {
	start := len(w.out)
	w.buf = append(append(w.buf[:0], blank...), word...)
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
	w.out = w.out[:start]
	if m.unknown >= 0 {
		w.out = append(w.out, m.unknown)
	}
}

func (m *wordPiece) longestMatch(w *work, s string) int {
	for n := min(len(s), m.longest); n > 0; n-- {
		if n < len(s) && !utf8.RuneStart(s[n]) {
			continue
		}
		if i, ok := m.texts.find(s[:n]); ok {
			w.out = append(w.out, m.ids[i])
			return n
		}
	}
	return 0
}

// newWordPiece indexes the vocabulary of a GGUF file, in which tokens that start a word have blank before them.
func newWordPiece(v *vocabulary, hide func(id int) bool) *wordPiece {
	m := &wordPiece{}
	texts := make([]string, 0, len(v.text))
	for id, s := range v.text {
		if s == "" || hide(id) {
			continue
		}
		texts = append(texts, s)
		m.ids = append(m.ids, int32(id))
		m.longest = max(m.longest, len(s))
	}
	m.texts = indexAll(texts)
	return m
}
