package bpe

// byteBPE merges the bytes of words: byte-level BPE.
type byteBPE struct {
	sym     [256]int32 // the symbol of each byte; -1: none, the byte is dropped
	syms    *symbols
	merges  *mergeTable
	whole   *index // decoded texts of tokens, for ignore_merges; nil: words are merged
	unknown int32  // stands for bytes without a symbol; -1: they are dropped
	fuse    bool   // one unknown for a run of them
}

func (m *byteBPE) cacheable(_ bool) bool { return true }

func (m *byteBPE) word(w *work, s string) error {
	if m.whole != nil {
		if id, ok := m.whole.find(s); ok {
			w.out = append(w.out, id)
			return nil
		}
	}
	w.id = w.id[:0]
	lastUnknown := false
	for i := range len(s) {
		id := m.sym[s[i]]
		if id < 0 {
			if m.unknown < 0 || m.fuse && lastUnknown {
				continue
			}
			id = m.unknown
			lastUnknown = true
		} else {
			lastUnknown = false
		}
		w.id = append(w.id, id)
	}
	for _, id := range w.merge(byRank{m.merges}) {
		if m.syms.isToken(id) {
			w.out = append(w.out, id)
			continue
		}
		// A step that is no token: llama.cpp looks each byte of its text up as if it were a token of its own, and
		// drops what is none.
		for _, c := range []byte(m.syms.extra[int(id)-len(m.syms.vocab.text)]) {
			if c < 0x80 {
				if id, ok := m.syms.vocab.lookup(string(rune(c))); ok {
					w.out = append(w.out, id)
				}
			}
		}
	}
	return nil
}
