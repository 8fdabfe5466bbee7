package model

import (
	"fmt"
	"math/rand/v2"

	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// noMerge is the rank of a pair that does not merge.
const noMerge = ^uint32(0)

// merge holds the token that a pair of symbols becomes, and the rank of the merge.
type merge struct {
	rank uint32
	id   int32
}

// mergeTable maps pairs of symbols to merges: open addressing with 16 bytes a slot, read for every pair of
// neighbours of every word.
type mergeTable struct {
	slots []slot
	shift uint
	odd   uint64 // a random odd factor: no file can choose what collides
}

type slot struct {
	pair uint64 // left<<32 | right, plus 1: 0 is free
	merge
}

func newMergeTable(n int) *mergeTable {
	bits := uint(3)
	for 1<<bits < n+n/2 {
		bits++
	}
	return &mergeTable{slots: make([]slot, 1<<bits), shift: 64 - bits, odd: rand.Uint64() | 1}
}

// add stores a merge; of equal pairs the first counts.
func (t *mergeTable) add(left, right int32, m merge) {
	pair := uint64(uint32(left))<<32 | uint64(uint32(right)) + 1
	for i := pair * t.odd >> t.shift; ; i = (i + 1) & uint64(len(t.slots)-1) {
		s := &t.slots[i]
		if s.pair == 0 {
			*s = slot{pair: pair, merge: m}
			return
		}
		if s.pair == pair {
			return
		}
	}
}

// find returns the merge of two symbols; its rank is noMerge where there is none.
func (t *mergeTable) find(left, right int32) merge {
	pair := uint64(uint32(left))<<32 | uint64(uint32(right)) + 1
	for i := pair * t.odd >> t.shift; ; i = (i + 1) & uint64(len(t.slots)-1) {
		s := &t.slots[i]
		if s.pair == pair {
			return s.merge
		}
		if s.pair == 0 {
			return merge{rank: noMerge}
		}
	}
}

// Merges are the merges of a BPE model. They work on symbols, which are numbers: that of a token is its id,
// and a string that is no token but a step on the way to one has a number above all ids.
type Merges struct {
	table *mergeTable
	vocab *vocab.Vocabulary
	steps []string         // strings that are no tokens, by their number less the number of tokens
	byStr map[string]int32 // numbers of steps
}

// Symbol is the number of a string. One that is neither a token nor a step becomes a step, so it must not be
// called while the merges are in use.
func (s *Merges) Symbol(text string) int32 {
	if id, ok := s.vocab.Lookup(text); ok {
		return id
	}
	if id, ok := s.byStr[text]; ok {
		return id
	}
	if s.byStr == nil {
		s.byStr = map[string]int32{}
	}
	id := int32(len(s.vocab.Text) + len(s.steps))
	s.steps = append(s.steps, text)
	s.byStr[text] = id
	return id
}

// isToken reports whether a symbol is a token rather than a step.
func (s *Merges) isToken(id int32) bool { return int(id) < len(s.vocab.Text) }

// NewMerges makes a table of n merges, of which at returns the i-th. Their ranks are their places in the list
// unless ranks has others. prefix is cut off the right string when it joins the left one. A merge of or into
// a string that is no token is an error unless may is true for it, as in Hugging Face's library; with may nil
// such merges count, as in llama.cpp.
func NewMerges(
	v *vocab.Vocabulary,
	n int,
	at func(i int) (left, right string, ok bool),
	ranks []uint32,
	prefix string,
	may func(text string) bool,
) (*Merges, error) {
	if n > vocab.MaxMerges {
		return nil, fmt.Errorf("there are %d merges: at most %d are supported", n, vocab.MaxMerges)
	}
	s := &Merges{vocab: v, table: newMergeTable(n)}
	var joined []byte
	for i := range n {
		left, right, ok := at(i)
		if !ok {
			return nil, fmt.Errorf("merge %d is not a pair of two texts", i)
		}
		joined = append(append(joined[:0], left...), right[min(len(prefix), len(right)):]...)
		id, ok := s.vocab.Lookup(string(joined))
		if !ok {
			if may != nil && !may(string(joined)) {
				return nil, fmt.Errorf("merge %d makes %q, which is not in the vocabulary", i, joined)
			}
			id = s.Symbol(string(joined))
		}
		l, r := s.Symbol(left), s.Symbol(right)
		if may != nil && (!s.isToken(l) && !may(left) || !s.isToken(r) && !may(right)) {
			return nil, fmt.Errorf("merge %d joins %q and %q, which are not both in the vocabulary", i, left, right)
		}
		rank := uint32(i)
		if ranks != nil {
			rank = ranks[i]
		}
		s.table.add(l, r, merge{rank: rank, id: id})
	}
	return s, nil
}

// textOf is the string of a step.
func (s *Merges) textOf(step int32) string { return s.steps[int(step)-len(s.vocab.Text)] }
