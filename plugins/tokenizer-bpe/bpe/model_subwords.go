package bpe

import (
	"strings"
	"unicode/utf8"
)

// subwords is WordPiece as tokenizer.json has it: each word is covered with the longest tokens from its start on, of which
// all but the first are written with a prefix; a word that cannot be covered is one unknown token. (A GGUF's WordPiece marks
// the first one instead: see wordPiece.)
type subwords struct {
	starts   *prefixTrie // tokens that start a word
	rest     *prefixTrie // tokens that go on one, without the prefix
	unknown  int32
	maxChars int // longer words are unknown
}

// newSubwords indexes a vocabulary but for hidden tokens. With an empty prefix every token can stand everywhere.
func newSubwords(v *vocabulary, hidden []bool, prefix string) *subwords {
	var starts, rest []string
	var startIDs, restIDs []int32
	for id, s := range v.text {
		if s == "" || hidden[id] {
			continue
		}
		starts, startIDs = append(starts, s), append(startIDs, int32(id))
		if s, ok := strings.CutPrefix(s, prefix); ok {
			rest, restIDs = append(rest, s), append(restIDs, int32(id))
		}
	}
	return &subwords{starts: newPrefixTrie(starts, startIDs), rest: newPrefixTrie(rest, restIDs)}
}

func (m *subwords) cacheable(_ bool) bool { return true }

func (m *subwords) word(w *work, s string) error {
	start, trie := len(w.out), m.starts
	rest := s
	if utf8.RuneCountInString(s) > m.maxChars {
		trie = nil
	}
	for ; rest != "" && trie != nil; trie = m.rest {
		id, n := trie.longest(rest)
		if n == 0 {
			break
		}
		w.out = append(w.out, id)
		rest = rest[n:]
	}
	if rest == "" {
		return nil
	}
	w.out = w.out[:start]
	if m.unknown >= 0 {
		w.out = append(w.out, m.unknown)
	}
	return nil
}
