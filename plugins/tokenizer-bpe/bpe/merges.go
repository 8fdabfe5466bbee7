package bpe

import (
	"fmt"
	"math/rand/v2"
)

// maxMerges bounds the list of merges; Gemma's has 514 906.
const maxMerges = 1 << 22

// none is the rank of a pair that does not merge.
const none = ^uint32(0)

// merge is what a pair of symbols becomes, and how early.
type merge struct {
	rank uint32
	id   int32
}

// mergeTable maps pairs of symbols to merges: open addressing with 16 bytes a slot, read for every pair of neighbours of
// every word.
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

// find returns the merge of two symbols; its rank is none where there is none.
func (t *mergeTable) find(left, right int32) merge {
	pair := uint64(uint32(left))<<32 | uint64(uint32(right)) + 1
	for i := pair * t.odd >> t.shift; ; i = (i + 1) & uint64(len(t.slots)-1) {
		s := &t.slots[i]
		if s.pair == pair {
			return s.merge
		}
		if s.pair == 0 {
			return merge{rank: none}
		}
	}
}

// symbols gives numbers to the strings that merges are about. A token is its id; a string that is only a step on the way,
// and no token, gets a number above all ids.
type symbols struct {
	vocab *vocabulary
	extra []string
	byStr map[string]int32
}

func (s *symbols) number(text string) int32 {
	if id, ok := s.vocab.lookup(text); ok {
		return id
	}
	if id, ok := s.byStr[text]; ok {
		return id
	}
	if s.byStr == nil {
		s.byStr = map[string]int32{}
	}
	id := int32(len(s.vocab.text) + len(s.extra))
	s.extra = append(s.extra, text)
	s.byStr[text] = id
	return id
}

// isToken reports whether a symbol is a token rather than a step.
func (s *symbols) isToken(id int32) bool { return int(id) < len(s.vocab.text) }

// build makes the table of n merges. Merges of what is no token are refused, as Hugging Face does, unless may accepts the
// text; with may nil they count, as in llama.cpp. ranks, if given, take the place of
// the merges' own places. prefix is what right loses when it joins left.
func (s *symbols) build(n int, at func(i int) (left, right string, ok bool), ranks []uint32, prefix string, may func(text string) bool) (*mergeTable, error) {
	if n > maxMerges {
		return nil, fmt.Errorf("there are %d merges: at most %d are supported", n, maxMerges)
	}
	table := newMergeTable(n)
	var joined []byte
	for i := range n {
		left, right, ok := at(i)
		if !ok {
			return nil, fmt.Errorf("merge %d is not a pair of two texts", i)
		}
		joined = append(append(joined[:0], left...), right[min(len(prefix), len(right)):]...)
		id, ok := s.vocab.lookup(string(joined))
		if !ok {
			if may != nil && !may(string(joined)) {
				return nil, fmt.Errorf("merge %d makes %q, which is not in the vocabulary", i, joined)
			}
			id = s.number(string(joined))
		}
		l, r := s.number(left), s.number(right)
		if may != nil && (!s.isToken(l) && !may(left) || !s.isToken(r) && !may(right)) {
			return nil, fmt.Errorf("merge %d joins %q and %q, which are not both in the vocabulary", i, left, right)
		}
		rank := uint32(i)
		if ranks != nil {
			rank = ranks[i]
		}
		table.add(l, r, merge{rank: rank, id: id})
	}
	return table, nil
}
