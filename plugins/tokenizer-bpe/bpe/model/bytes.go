package model

import "edged/plugins/tokenizer-bpe/bpe/vocab"

// ByteBPE is byte-level BPE: a word starts as one symbol for each of its bytes, which are merged.
type ByteBPE struct {
	Symbols     [256]int32 // the symbol of each byte; -1: none, the byte is dropped
	Merges      *Merges
	Whole       *vocab.Index // decoded texts of tokens, for ignore_merges; nil: words are merged
	Unknown     int32        // stands for bytes without a symbol; -1: they are dropped
	FuseUnknown bool         // one unknown for a run of them
}

func (m *ByteBPE) cacheable(_ bool) bool { return true }

func (m *ByteBPE) word(w *Scratch, s string) error { //nolint:unparam // WordModel's signature
	if m.Whole != nil {
		if id, ok := m.Whole.Find(s); ok {
			w.Out = append(w.Out, id)
			return nil
		}
	}
	w.id = w.id[:0]
	lastUnknown := false
	for i := range len(s) {
		id := m.Symbols[s[i]]
		if id < 0 {
			if m.Unknown < 0 || m.FuseUnknown && lastUnknown {
				continue
			}
			id = m.Unknown
			lastUnknown = true
		} else {
			lastUnknown = false
		}
		w.id = append(w.id, id)
	}
	for _, id := range w.merge(byRank{m.Merges.table}) {
		if m.Merges.isToken(id) {
			w.Out = append(w.Out, id)
			continue
		}
		// A step that is no token: llama.cpp looks each byte of its text up as if it were a token of its own, and
		// drops what is none.
		for _, c := range []byte(m.Merges.textOf(id)) {
			if c < 0x80 {
				if id, ok := m.Merges.vocab.Lookup(string(rune(c))); ok {
					w.Out = append(w.Out, id)
				}
			}
		}
	}
	return nil
}
