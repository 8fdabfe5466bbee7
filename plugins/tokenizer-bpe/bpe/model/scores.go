package model

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// ScoreBPE merges a whole text, spaces included: the pair whose joined text has the best score first. This is
// SentencePiece's BPE as llama.cpp runs it on GGUF files.
type ScoreBPE struct {
	vocab   *vocab.Vocabulary
	keys    []uint32 // by token: less is better
	bytes   [256]int32
	unknown int32
	prefix  bool // a space stands before every text
	words   split.Splitter
}

// NewScoreBPE makes the model of a vocabulary with scores; a vocabulary without them has the score 0 for each token.
func NewScoreBPE(v *vocab.Vocabulary, unknown int32, prefix bool) *ScoreBPE {
	m := &ScoreBPE{vocab: v, unknown: unknown, prefix: prefix, keys: make([]uint32, len(v.Text)), words: split.Blanks{}}
	for id, text := range v.Text {
		if split.Crosses(text) && !v.Types[id].IsSpecial() {
			m.words = split.Chain{}
		}
		var s float32
		if v.Scores != nil {
			s = v.Scores[id]
		}
		m.keys[id] = scoreKey(s)
	}
	m.bytes = vocab.ByteTokens(v)
	return m
}

// scoreKey orders scores: a higher score gives a lower key.
func scoreKey(s float32) uint32 {
	u := math.Float32bits(s)
	if u>>31 == 0 {
		u |= 1 << 31
	} else {
		u = ^u
	}
	return min(^u, noMerge-1)
}

// Encode implements Model.
func (m *ScoreBPE) Encode(w *Scratch, s string, _, afterToken bool) error {
	if len(s) >= math.MaxInt32/4 {
		return fmt.Errorf("a text of %d bytes is too long", len(s))
	}
	if m.prefix && afterToken {
		s = " " + s
	}
	words := m.words
	if !utf8.ValidString(s) {
		words = split.Chain{} // a broken character may swallow a part of a blank
	}
	return words.Split(strings.ReplaceAll(s, " ", vocab.Blank), &wordSink{m: m, w: w, cached: true}, nil)
}

func (m *ScoreBPE) cacheable(_ bool) bool { return true }

func (m *ScoreBPE) word(w *Scratch, text string) error {
	w.id, w.from = w.id[:0], w.from[:0]
	for i := 0; i < len(text); {
		n := min(vocab.CharLength(text[i]), len(text)-i)
		id, ok := m.vocab.Lookup(text[i : i+n])
		if !ok {
			id = -2 // -1 would mean merged
		}
		w.id = append(w.id, id)
		w.from = append(w.from, int32(i))
		i += n
	}
	w.from = append(w.from, int32(len(text)))
	mergeLong(&w.merger, byScore{m: m, text: text})
	for i := 0; i < len(w.next); i = int(w.next[i]) {
		if w.id[i] >= 0 {
			w.Out = append(w.Out, w.id[i])
			continue
		}
		for _, c := range []byte(text[w.from[i]:w.from[w.next[i]]]) {
			id := m.bytes[c]
			if id < 0 {
				id = m.unknown
			}
			if id >= 0 {
				w.Out = append(w.Out, id)
			}
		}
	}
	return nil
}

// byScore finds pairs by their joined text.
type byScore struct {
	m    *ScoreBPE
	text string
}

func (b byScore) pair(w *merger, left, right int32) (key uint32, id int32) {
	joined := b.text[w.from[left]:w.from[w.next[right]]]
	id, ok := b.m.vocab.Lookup(joined)
	if !ok {
		return noMerge, -1
	}
	return b.m.keys[id], id
}
