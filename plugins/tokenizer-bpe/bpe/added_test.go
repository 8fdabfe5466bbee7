package bpe

import (
	"slices"
	"testing"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// TestPrefersLongTokens: of added tokens that overlap, the longest wins as in llama.cpp, wherever it starts; Hugging
// Face's first match wins.
func TestOverlappingTokens(t *testing.T) {
	tokens := []AddedToken{{ID: 1, Text: "<ab>"}, {ID: 2, Text: "b><cde"}, {ID: 3, Text: "\n"}, {ID: 4, Text: "\n\n\n"}, {ID: 5, Text: "x", RStrip: true, LStrip: true}, {ID: 6, Text: "cde", SingleWord: true}}
	m := newMatcher(tokens, split.HuggingFaceClasses())
	show := func(f []fragment) (ids []int32) {
		for _, x := range f {
			ids = append(ids, x.token)
		}
		return ids
	}
	for _, tt := range []struct {
		text               string
		byLength, leftmost []int32
	}{
		{"<ab><cde", []int32{-1, 2}, []int32{1, -1, 6}},
		{"\n\n\n\n\n", []int32{4, 3, 3}, []int32{4, 3, 3}},
		{"a  x  b", []int32{-1, 5, -1}, []int32{-1, 5, -1}},
		{" x x ", []int32{5, 5}, []int32{5, 5}},
		{"", nil, nil},
		{"cdef cde", []int32{6, -1, 6}, []int32{-1, 6}},
	} {
		if got := show(m.byLength(tt.text, all)); !slices.Equal(got, tt.byLength) {
			t.Errorf("%q by length: %v, want %v", tt.text, got, tt.byLength)
		}
		if got := show(m.leftmost(tt.text, all)); !slices.Equal(got, tt.leftmost) {
			t.Errorf("%q leftmost: %v, want %v", tt.text, got, tt.leftmost)
		}
	}
}

// TestCutPairs: the longer text loses first, as tokenizers' strategy longest_first has it; the expected lengths are that library's.
func TestCutPairs(t *testing.T) {
	list := func(n int) []int32 { return make([]int32, n) }
	for _, c := range []struct{ a, b, most, x, y int }{
		{5, 5, 10, 5, 5},
		{5, 5, 9, 4, 5},
		{3, 20, 10, 3, 7},
		{20, 3, 10, 7, 3},
		{20, 30, 11, 5, 6},
		{30, 20, 11, 6, 5},
		{4, 4, 1, 0, 1},
		{4, 4, 0, 0, 0},
	} {
		x, y := longestFirst(list(c.a), list(c.b), c.most)
		if len(x) != c.x || len(y) != c.y {
			t.Errorf("%d and %d to %d: %d and %d, want %d and %d", c.a, c.b, c.most, len(x), len(y), c.x, c.y)
		}
	}
}
