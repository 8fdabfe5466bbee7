package bpe

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// unigram sets up SentencePiece's unigram model as llama.cpp runs it ("t5"): normal, user-defined and unused tokens are
// found, user-defined ones for nothing, and an unknown run is one token.
func (l *ggufLoader) unigram(t *Parts) error {
	prefix, squeeze := l.bool(keySpacePrefix, false), l.bool(keyExtraSpaces, false)
	var charmap *charsmap
	if l.meta.Has(keyCharsmap) {
		ints := l.ints(keyCharsmap)
		if l.err != nil {
			return l.err
		}
		data := make([]byte, len(ints))
		for i, x := range ints {
			data[i] = byte(x)
		}
		var err error
		if charmap, err = newCharsmap(data); err != nil {
			return fmt.Errorf("%s: %w", keyCharsmap, err)
		}
	}
	if l.err != nil {
		return l.err
	}
	v := t.Vocabulary
	if v.score == nil {
		return fmt.Errorf("the file has no %s", keyScores)
	}
	if t.Info.Unknown < 0 {
		return errors.New("the file names no unknown token")
	}
	text, score := make([]string, len(v.text)), make([]float64, len(v.text))
	var defined []string
	var definedIDs []int32
	least := math.MaxFloat32
	for id, k := range v.kind {
		s := float64(v.score[id])
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return fmt.Errorf("%s: the score of token %d is no number", keyScores, id)
		}
		switch k {
		case normal:
			least = min(least, s)
			text[id], score[id] = v.text[id], s
		case unused:
			text[id], score[id] = v.text[id], s
		case userDefined:
			text[id] = v.text[id]
			defined, definedIDs = append(defined, v.text[id]), append(definedIDs, int32(id))
		}
	}
	u, err := newUnigram(text, score, t.Info.Unknown, make([]bool, len(text)))
	if err != nil {
		return err
	}
	u.penalty = float64(float32(least) - unknownPenalty)
	m := &ggufUnigram{model: u, normalizer: spmNormalizer{charsmap: charmap, prefix: prefix, squeeze: squeeze, escape: true, always: true}}
	if len(defined) > 0 {
		m.normalizer.defined = newPrefixTrie(defined, definedIDs)
	}
	t.Model = m
	t.StripSpace = prefix
	t.Pieces = pieces(v, unblank)
	if l.bool(keyAddBOS, false) {
		t.Prefix = []int32{t.Info.BOS}
	}
	if l.bool(keyAddEOS, true) {
		t.Suffix = []int32{t.Info.EOS}
	}
	return l.err
}

// ggufUnigram runs the unigram model on a whole text.
type ggufUnigram struct {
	model      *unigram
	normalizer spmNormalizer
}

func (m *ggufUnigram) encode(w *work, s string, _, _ bool) error {
	s = m.normalizer.normalize(s)
	if s == "" {
		return nil
	}
	return m.model.walk(w, s, func(id int32, _ string) { w.out = append(w.out, id) })
}

// rwkv sets up RWKV's tokenizer: the longest token at each place, over bytes.
func (l *ggufLoader) rwkv(t *Parts) error {
	v := t.Vocabulary
	texts, ids := make([]string, len(v.text)), make([]int32, len(v.text))
	longest := 0
	for id, s := range v.text {
		texts[id], ids[id] = string(unescaped(s)), int32(id)
		longest = max(longest, len(texts[id]))
	}
	if longest > maxUnigramToken {
		return fmt.Errorf("a token has %d bytes: at most %d are supported", longest, maxUnigramToken)
	}
	t.RawBytes = true
	t.Model = &longestMatch{trie: newPrefixTrie(texts, ids), unknown: t.Info.Unknown}
	t.Pieces = pieces(v, func(dst []byte, s string) []byte { return append(dst, unescaped(s)...) })
	l.around(t, false, t.Info.EOS)
	return l.err
}

// longestMatch takes the longest token at each place.
type longestMatch struct {
	trie    *prefixTrie
	unknown int32 // for a byte that starts none; -1: it is dropped
}

func (m *longestMatch) encode(w *work, s string, _, _ bool) error {
	for s != "" {
		id, n := m.trie.longest(s)
		if n == 0 {
			id, n = m.unknown, 1
		}
		if id >= 0 {
			w.out = append(w.out, id)
		}
		s = s[n:]
	}
	return nil
}

// unescaped reads the escapes in which RWKV's files write bytes: \t, \n, \r, \xHH, and any other character after a
// backslash as itself.
func unescaped(s string) []byte {
	if !strings.Contains(s, `\`) {
		return []byte(s)
	}
	var out []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '\\' || i+1 == len(s) {
			if c != '\\' {
				out = append(out, c)
			}
			continue
		}
		i++
		switch s[i] {
		case 't':
			out = append(out, '\t')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 'x':
			if i+2 < len(s) && hexDigit(s[i+1]) >= 0 && hexDigit(s[i+2]) >= 0 {
				out = append(out, byte(hexDigit(s[i+1])<<4|hexDigit(s[i+2])))
				i += 2
			}
		default:
			out = append(out, s[i])
		}
	}
	return out
}
