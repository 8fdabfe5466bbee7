package model

import (
	"strings"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// WordPiece is WordPiece as tokenizer.json has it: each word is covered with the longest tokens from its
// start on, of which all but the first are written with a prefix; a word that cannot be covered is one
// unknown token. (A GGUF's WordPiece marks the first one instead: see BlankWordPiece.)
type WordPiece struct {
	starts   *vocab.Trie // tokens that start a word
	rest     *vocab.Trie // tokens that go on one, without the prefix
	Unknown  int32
	MaxChars int // longer words are unknown
}

// NewWordPiece indexes a vocabulary but for hidden tokens. With an empty prefix every token can stand everywhere.
func NewWordPiece(v *vocab.Vocabulary, hidden []bool, prefix string) *WordPiece {
	var starts, rest []string
	var startIDs, restIDs []int32
	for id, s := range v.Text {
		if s == "" || hidden[id] {
			continue
		}
		starts, startIDs = append(starts, s), append(startIDs, int32(id))
		if s, ok := strings.CutPrefix(s, prefix); ok {
			rest, restIDs = append(rest, s), append(restIDs, int32(id))
		}
	}
	return &WordPiece{starts: vocab.NewTrie(starts, startIDs), rest: vocab.NewTrie(rest, restIDs)}
}

func (m *WordPiece) cacheable(_ bool) bool { return true }

func (m *WordPiece) word(w *Scratch, s string) error { //nolint:unparam // WordModel's signature
	start, trie := len(w.Out), m.starts
	rest := s
	if utf8.RuneCountInString(s) > m.MaxChars {
		trie = nil
	}
	for ; rest != "" && trie != nil; trie = m.rest {
		id, n := trie.Longest(rest)
		if n == 0 {
			break
		}
		w.Out = append(w.Out, id)
		rest = rest[n:]
	}
	if rest == "" {
		return nil
	}
	w.Out = w.Out[:start]
	if m.Unknown >= 0 {
		w.Out = append(w.Out, m.Unknown)
	}
	return nil
}
