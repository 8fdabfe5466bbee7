package model

import (
	"strings"
	"unicode/utf8"
)

// CharBPE is BPE over characters: a word starts as one symbol for each of its characters, and those that have
// none as the tokens of their bytes or as the unknown token. It serves SentencePiece vocabularies in
// tokenizer.json, and Gemma 4 in GGUF files.
type CharBPE struct {
	Merges         *Merges
	Bytes          [256]int32 // the tokens of bytes, for characters that are no symbol; -1: none
	Unknown        int32      // stands for characters without a symbol or byte tokens; -1: they are dropped
	FuseUnknown    bool       // one unknown for a run of them
	Whole          bool       // a word that is a token as a whole is that token
	WholeLineFeeds bool       // that holds for runs of line feeds only
	AllBytes       bool       // all bytes of a character must have tokens, otherwise it is unknown
	Prefix         string     // of characters that do not start a word
	Suffix         string     // of the character that ends a word
}

func (m *CharBPE) cacheable(_ bool) bool { return true }

func (m *CharBPE) word(w *Scratch, s string) error { //nolint:unparam // WordModel's signature
	if m.Whole || m.WholeLineFeeds && strings.Trim(s, "\n") == "" {
		if id, ok := m.Merges.vocab.Lookup(s); ok {
			w.Out = append(w.Out, id)
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
		if m.Prefix != "" && at > n {
			c = m.Prefix + c
		}
		if m.Suffix != "" && at == len(s) {
			c += m.Suffix
		}
		id, ok := m.symbol(c)
		switch {
		case ok:
			if waiting {
				w.id = append(w.id, m.Unknown)
				waiting = false
			}
			w.id = append(w.id, id)
		case m.hasBytes(c):
			for _, b := range []byte(c) {
				if m.Bytes[b] >= 0 {
					w.id = append(w.id, m.Bytes[b])
				}
			}
		case m.Unknown >= 0:
			if waiting && !m.FuseUnknown {
				w.id = append(w.id, m.Unknown)
			}
			waiting = true
		}
	}
	if waiting {
		w.id = append(w.id, m.Unknown)
	}
	for _, id := range w.merge(byRank{m.Merges.table}) {
		if m.Merges.isToken(id) {
			w.Out = append(w.Out, id)
			continue
		}
		for _, b := range []byte(m.Merges.textOf(id)) {
			if m.Bytes[b] >= 0 {
				w.Out = append(w.Out, m.Bytes[b])
			}
		}
	}
	return nil
}

func (m *CharBPE) symbol(s string) (int32, bool) {
	if id, ok := m.Merges.vocab.Lookup(s); ok {
		return id, true
	}
	id, ok := m.Merges.byStr[s]
	return id, ok
}

// hasBytes reports whether a character is written as bytes.
func (m *CharBPE) hasBytes(s string) bool {
	if !m.AllBytes {
		return true
	}
	for _, b := range []byte(s) {
		if m.Bytes[b] < 0 {
			return false
		}
	}
	return true
}
