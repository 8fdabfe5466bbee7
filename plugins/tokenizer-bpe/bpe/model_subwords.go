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

// subwordSink encodes word after word.
type subwordSink struct {
	m *subwords
	w *work
}

// Word implements split.Sink.
func (p *subwordSink) Word(s string) {
	if ids, ok := p.w.wordCache.get(s); ok {
		p.w.out = append(p.w.out, ids...)
		return
	}
	start := len(p.w.out)
	p.m.word(p.w, s)
	p.w.wordCache.put(s, p.w.out[start:])
}

func (m *subwords) word(w *work, s string) {
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
		return
	}
	w.out = w.out[:start]
	if m.unknown >= 0 {
		w.out = append(w.out, m.unknown)
	}
}

// longest returns the longest text of the trie that s starts with, and its length; 0 for none.
func (t *prefixTrie) longest(s string) (value int32, n int) {
	node := t.root[s[0]]
	for i := 1; node >= 0; i++ {
		if v := t.nodes[node].value; v >= 0 {
			value, n = v, i
		}
		if i == len(s) {
			break
		}
		node = t.step(node, s[i])
	}
	return value, n
}
