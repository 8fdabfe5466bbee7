package bpe

import (
	"errors"
	"fmt"
	"slices"
)

// PairPart is a part of what a model wants of two texts: a token, or one of them.
type PairPart struct {
	Text  int   // 1 or 2: the first or second text; 0: a token
	Token int32 // where Text is 0
	Type  int32 // of the part's tokens: what a model adds up with them as token_type_ids
}

// ErrPairs means that a tokenizer's files do not say how the model wants two texts.
var ErrPairs = errors.New("the tokenizer's files do not say how the model wants two texts")

// EncodePair gives the ids of two texts as the model wants them, and the types of the tokens. With most > 0
// the pair is cut to so many tokens, the longer text first, as the library tokenizers does it.
func (t *Tokenizer) EncodePair(a, b string, o Options, most int) (ids, types []int32, err error) {
	if len(t.parts.Pair) == 0 {
		return nil, nil, fmt.Errorf("bpe: %w: %w", ErrText, ErrPairs)
	}
	o.AddSpecial = false
	var texts [2][]int32
	for i, s := range []string{a, b} {
		if texts[i], err = t.Encode(nil, s, o); err != nil {
			return nil, nil, err
		}
	}
	if most > 0 {
		n := 0
		for _, p := range t.parts.Pair {
			if p.Text == 0 {
				n++
			}
		}
		texts[0], texts[1] = longestFirst(texts[0], texts[1], max(most-n, 0))
	}
	for _, p := range t.parts.Pair {
		part := []int32{p.Token}
		if p.Text > 0 {
			part = texts[p.Text-1]
		}
		ids = append(ids, part...)
		for range part {
			types = append(types, p.Type)
		}
	}
	return ids, types, nil
}

// longestFirst cuts two lists to so many together: the longer one to the other's length, then both to a half each.
func longestFirst(a, b []int32, most int) (x, y []int32) {
	if len(a)+len(b) <= most {
		return a, b
	}
	short, turned := min(len(a), len(b)), len(a) > len(b)
	long := short
	if short <= most {
		long = max(short, most-short)
	}
	if short+long > most {
		short = most / 2
		long = short + most%2
	}
	if turned {
		short, long = long, short
	}
	return a[:min(short, len(a))], b[:min(long, len(b))]
}

// EncodeCut is Encode of a text that is cut to so many tokens, those around it included.
func (t *Tokenizer) EncodeCut(text string, o Options, most int) ([]int32, error) {
	ids, err := t.Encode(nil, text, o)
	if err != nil || len(ids) <= most || most <= 0 {
		return ids, err
	}
	if !o.AddSpecial {
		return ids[:most], nil
	}
	keep := max(most-len(t.parts.Suffix), min(len(t.parts.Prefix), most))
	return append(ids[:keep:keep], t.parts.Suffix[:min(len(t.parts.Suffix), most-keep)]...), nil
}

// pairsAsClasses is how the classes of transformers put two texts together that have a token on both sides of
// one, or behind it.
func (p *Parts) pairsAsClasses() {
	if p.Pair != nil || len(p.Suffix) == 0 || p.Info.Kind == KindBPE && len(p.Prefix) == 0 {
		return
	}
	second := int32(0)
	between := p.Suffix
	switch {
	case p.Info.Kind == KindWordPiece: // BERT's: [CLS] a [SEP] b [SEP], the second text of another type
		second = 1
	case len(p.Prefix) > 0: // RoBERTa's: <s> a </s></s> b </s>
		between = append(slices.Clone(p.Suffix), p.Suffix...)
	}
	p.JoinPair(between, second)
}

// JoinPair sets Pair to the two texts with Prefix before, Suffix behind and these tokens between them. second
// is the type of the second text's tokens and of those behind it.
func (p *Parts) JoinPair(between []int32, second int32) {
	p.Pair = nil
	put := func(ids []int32, kind int32) {
		for _, id := range ids {
			p.Pair = append(p.Pair, PairPart{Token: id, Type: kind})
		}
	}
	put(p.Prefix, 0)
	p.Pair = append(p.Pair, PairPart{Text: 1})
	put(between, 0)
	p.Pair = append(p.Pair, PairPart{Text: 2, Type: second})
	put(p.Suffix, second)
}
