package model

import "edged/plugins/tokenizer-bpe/bpe/vocab"

// LongestMatch takes the longest token at each place.
type LongestMatch struct {
	trie    *vocab.Trie
	unknown int32 // for a byte that starts none; -1: it is dropped
}

// NewLongestMatch builds the model of tokens' texts and their ids.
func NewLongestMatch(texts []string, ids []int32, unknown int32) *LongestMatch {
	return &LongestMatch{trie: vocab.NewTrie(texts, ids), unknown: unknown}
}

// Encode implements Model.
func (m *LongestMatch) Encode(w *Scratch, s string, _, _ bool) error {
	for s != "" {
		id, n := m.trie.Longest(s)
		if n == 0 {
			id, n = m.unknown, 1
		}
		if id >= 0 {
			w.Out = append(w.Out, id)
		}
		s = s[n:]
	}
	return nil
}
