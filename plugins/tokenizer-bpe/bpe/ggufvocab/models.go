package ggufvocab

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/model"
	"edged/plugins/tokenizer-bpe/bpe/normalize"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// unigram sets up SentencePiece's unigram model as llama.cpp runs it ("t5"): normal, user-defined and unused tokens are
// found, user-defined ones for nothing, and an unknown run is one token.
func (l *loader) unigram(t *bpe.Parts) error {
	prefix, squeeze := l.bool(keySpacePrefix, false), l.bool(keyExtraSpaces, false)
	var charmap *normalize.Charsmap
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
		if charmap, err = normalize.NewCharsmap(data); err != nil {
			return fmt.Errorf("%s: %w", keyCharsmap, err)
		}
	}
	if l.err != nil {
		return l.err
	}
	v := t.Vocabulary
	if v.Scores == nil {
		return fmt.Errorf("the file has no %s", keyScores)
	}
	if t.Info.Unknown < 0 {
		return errors.New("the file names no unknown token")
	}
	text, score := make([]string, len(v.Text)), make([]float64, len(v.Text))
	var defined []string
	var definedIDs []int32
	least := math.MaxFloat32
	for id, k := range v.Types {
		s := float64(v.Scores[id])
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return fmt.Errorf("%s: the score of token %d is no number", keyScores, id)
		}
		switch k {
		case vocab.Normal:
			least = min(least, s)
			text[id], score[id] = v.Text[id], s
		case vocab.Unused:
			text[id], score[id] = v.Text[id], s
		case vocab.UserDefined:
			text[id] = v.Text[id]
			defined, definedIDs = append(defined, v.Text[id]), append(definedIDs, int32(id))
		}
	}
	u, err := model.NewUnigram(text, score, t.Info.Unknown, make([]bool, len(text)))
	if err != nil {
		return err
	}
	u.UnknownScore = float64(float32(least) - model.UnknownPenalty)
	m := &unigram{
		model:      u,
		normalizer: normalize.SentencePiece{Charsmap: charmap, AddPrefix: prefix, Squeeze: squeeze, Escape: true, AlwaysPrefix: true},
	}
	if len(defined) > 0 {
		m.normalizer.UserDefined = vocab.NewTrie(defined, definedIDs)
	}
	t.Model = m
	t.StripSpace = prefix
	t.Pieces = vocab.Pieces(v, vocab.Unblank)
	if l.bool(keyAddBOS, false) {
		t.Prefix = []int32{t.Info.BOS}
	}
	if l.bool(keyAddEOS, true) {
		t.Suffix = []int32{t.Info.EOS}
	}
	return l.err
}

// unigram runs the unigram model on a whole text.
type unigram struct {
	model      *model.Unigram
	normalizer normalize.SentencePiece
}

// Encode implements model.Model.
func (m *unigram) Encode(w *model.Scratch, s string, _, _ bool) error {
	s = m.normalizer.Normalize(s)
	if s == "" {
		return nil
	}
	return m.model.Walk(w, s, func(id int32, _ string) { w.Out = append(w.Out, id) })
}

// rwkv sets up RWKV's tokenizer: the longest token at each place, over bytes.
func (l *loader) rwkv(t *bpe.Parts) error {
	v := t.Vocabulary
	texts, ids := make([]string, len(v.Text)), make([]int32, len(v.Text))
	longest := 0
	for id, s := range v.Text {
		texts[id], ids[id] = string(unescaped(s)), int32(id)
		longest = max(longest, len(texts[id]))
	}
	if longest > model.MaxSearchedToken {
		return fmt.Errorf("a token has %d bytes: at most %d are supported", longest, model.MaxSearchedToken)
	}
	t.RawBytes = true
	t.Model = model.NewLongestMatch(texts, ids, t.Info.Unknown)
	t.Pieces = vocab.Pieces(v, func(dst []byte, s string) []byte { return append(dst, unescaped(s)...) })
	l.around(t, false, t.Info.EOS)
	return l.err
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
			if i+2 < len(s) && vocab.HexDigit(s[i+1]) >= 0 && vocab.HexDigit(s[i+2]) >= 0 {
				out = append(out, byte(vocab.HexDigit(s[i+1])<<4|vocab.HexDigit(s[i+2])))
				i += 2
			}
		default:
			out = append(out, s[i])
		}
	}
	return out
}
