package bpe

import (
	"strings"
	"unicode/utf8"
)

// charBPE merges the characters of words: SentencePiece vocabularies in Hugging Face's form, and Gemma 4.
type charBPE struct {
	syms     *symbols
	merges   *mergeTable
	bytes    [256]int32 // the tokens of bytes, for characters that are no symbol; -1: none
	unknown  int32      // stands for characters without a symbol or byte tokens; -1: they are dropped
	fuse     bool       // one unknown for a run of them
	whole    bool       // a word that is a token as a whole is that token
	lines    bool       // that holds for runs of line feeds only
	fallback bool       // all bytes of a character must have tokens, otherwise it is unknown
	prefix   string     // of characters that do not start a word
	suffix   string     // of the character that ends a word
}

func (m *charBPE) cacheable(_ bool) bool { return true }

func (m *charBPE) word(w *work, s string) error {
	if m.whole || m.lines && strings.Trim(s, "\n") == "" {
		if id, ok := m.syms.vocab.lookup(s); ok {
			w.out = append(w.out, id)
			return nil
		}
	}
	w.id = w.id[:0]
	// An unknown token waits until a known character comes, as in the library: bytes overtake it.
	waiting := false
	for at := 0; at < len(s); {
		_, n := utf8.DecodeRuneInString(s[at:])
		c := s[at : at+n]
		at += n
		if m.prefix != "" && at > n {
			c = m.prefix + c
		}
		if m.suffix != "" && at == len(s) {
			c += m.suffix
		}
		id, ok := m.symbol(c)
		switch {
		case ok:
			if waiting {
				w.id = append(w.id, m.unknown)
				waiting = false
			}
			w.id = append(w.id, id)
		case m.hasBytes(c):
			for _, b := range []byte(c) {
				if m.bytes[b] >= 0 {
					w.id = append(w.id, m.bytes[b])
				}
			}
		case m.unknown >= 0:
			if waiting && !m.fuse {
				w.id = append(w.id, m.unknown)
			}
			waiting = true
		}
	}
	if waiting {
		w.id = append(w.id, m.unknown)
	}
	for _, id := range w.merge(byRank{m.merges}) {
		if m.syms.isToken(id) {
			w.out = append(w.out, id)
			continue
		}
		for _, b := range []byte(m.syms.extra[int(id)-len(m.syms.vocab.text)]) {
			if m.bytes[b] >= 0 {
				w.out = append(w.out, m.bytes[b])
			}
		}
	}
	return nil
}

func (m *charBPE) symbol(s string) (int32, bool) {
	if id, ok := m.syms.vocab.lookup(s); ok {
		return id, true
	}
	id, ok := m.syms.byStr[s]
	return id, ok
}

// hasBytes reports whether a character is written as bytes.
func (m *charBPE) hasBytes(s string) bool {
	if !m.fallback {
		return true
	}
	for _, b := range []byte(s) {
		if m.bytes[b] < 0 {
			return false
		}
	}
	return true
}
