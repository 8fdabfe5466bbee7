package grammar

import (
	"bytes"
	"cmp"
	"slices"
	"unicode/utf8"

	"edged/core/infer/grammar/gbnf"
)

// maxPiece is the longest piece that a grammar lets through, bytes.
const maxPiece = 1024

// maxRun is the most characters of an easy piece.
const maxRun = 64

// Vocabulary holds the token pieces for grammars, as two trees of their bytes. It is immutable.
//
// Most pieces are easy: whole characters that stand in a JSON string as they are. Where all of those lead to
// the same state, as within a string, the sets that were made once for each number of characters stand for a
// walk over the tree of easy pieces: of the 152k pieces of Qwen 2, 13k are left to be looked at.
type Vocabulary struct {
	limit   int // ids from here on do not exist
	easy    tree
	rest    tree
	runs    [][]uint64 // (characters+1) of easy pieces with at most that many characters
	twin    []int32    // of an id: the next one with the same bytes; -1: none
	bytes   [256]bool  // there is a piece of that one byte
	longest int        // bytes of the longest piece
}

// tree is a prefix tree in the order of a walk, so that a walk is a loop.
type tree []branch

type branch struct {
	id    int32 // of the piece that ends here; -1: none
	skip  int32 // the branch after those that continue this one
	depth uint16
	b     byte
}

// NewVocabulary makes the trees of n pieces. A piece that is nil or empty is never text and never allowed,
// nor is one with a byte that is in no UTF-8, unless TokenPiece made it: that of a control token, which
// %token alone lets through.
func NewVocabulary(n int, piece func(id int32) []byte) *Vocabulary {
	v := &Vocabulary{limit: n, twin: make([]int32, n)}
	var ids []int32
	for id := range int32(n) {
		v.twin[id] = -1
		p := piece(id)
		if bytes.IndexByte(p, gbnf.TokenBegin) >= 0 || bytes.IndexByte(p, gbnf.TokenEnd) >= 0 {
			if len(p) < 3 || p[0] != gbnf.TokenBegin || p[len(p)-1] != gbnf.TokenEnd {
				continue
			}
			v.bytes[gbnf.TokenBegin], v.bytes[gbnf.TokenEnd] = true, true // the distance in bytes stays above that in tokens
		}
		if len(p) > 0 && len(p) <= maxPiece {
			ids = append(ids, id)
			v.longest = max(v.longest, len(p))
		}
	}
	slices.SortFunc(ids, func(a, b int32) int { return cmp.Or(bytes.Compare(piece(a), piece(b)), cmp.Compare(a, b)) })
	var easy, rest []int32
	counts := make([]int, 0, len(ids))
	most := 0
	for i := 0; i < len(ids); {
		first := ids[i]
		p := piece(first)
		for i++; i < len(ids) && bytes.Equal(piece(ids[i]), p); i++ {
			v.twin[ids[i-1]] = ids[i]
		}
		if len(p) == 1 {
			v.bytes[p[0]] = true
		}
		if chars := easyChars(p); chars > 0 && chars <= maxRun {
			easy = append(easy, first)
			counts = append(counts, chars)
			most = max(most, chars)
		} else {
			rest = append(rest, first)
		}
	}
	v.easy, v.rest = newTree(easy, piece), newTree(rest, piece)
	v.runs = make([][]uint64, most+1)
	for i := range v.runs {
		v.runs[i] = make([]uint64, (n+63)/64)
	}
	for i, id := range easy {
		for n := counts[i]; n <= most; n++ {
			v.each(id, func(id int32) { v.runs[n][id>>6] |= 1 << (id & 63) })
		}
	}
	return v
}

// each calls f for all ids with the bytes of a branch's id.
func (v *Vocabulary) each(id int32, f func(int32)) {
	for ; id >= 0; id = v.twin[id] {
		f(id)
	}
}

// easyChars is the number of characters of a piece that stands in a JSON string as it is; 0: it does not.
func easyChars(p []byte) int {
	n := 0
	for i := 0; i < len(p); n++ {
		if p[i] < utf8.RuneSelf {
			if p[i] < 0x20 || p[i] == '"' || p[i] == '\\' {
				return 0
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && size == 1 {
			return 0
		}
		i += size
	}
	return n
}

// newTree makes the tree of pieces that are sorted and not the same.
func newTree(ids []int32, piece func(int32) []byte) tree {
	var t tree
	var open []int32 // branches that lead to the last one
	var last []byte
	for _, id := range ids {
		p := piece(id)
		n := 0
		for n < len(p) && n < len(last) && p[n] == last[n] {
			n++
		}
		for _, o := range open[n:] {
			t[o].skip = int32(len(t))
		}
		open = open[:n]
		for ; n < len(p); n++ {
			open = append(open, int32(len(t)))
			t = append(t, branch{id: -1, depth: uint16(n + 1), b: p[n]})
		}
		t[len(t)-1].id = id
		last = p
	}
	for _, o := range open {
		t[o].skip = int32(len(t))
	}
	return t
}

// find is the piece of some bytes with the lowest id; -1: there is none.
func (v *Vocabulary) find(p []byte) int32 {
	if easyChars(p) > 0 {
		if id := v.easy.find(p); id >= 0 {
			return id
		}
	}
	return v.rest.find(p)
}

func (t tree) find(p []byte) int32 {
	at, end := int32(0), int32(len(t))
	for i, b := range p {
		for at < end && t[at].b != b {
			at = t[at].skip
		}
		if at >= end {
			return -1
		}
		if i == len(p)-1 {
			return t[at].id
		}
		at, end = at+1, t[at].skip
	}
	return -1
}

// prefixes calls f with the length of every piece that s begins with.
func (v *Vocabulary) prefixes(s []byte, f func(n int)) {
	for _, t := range [2]tree{v.easy, v.rest} {
		at, end := int32(0), int32(len(t))
		for i, b := range s {
			for at < end && t[at].b != b {
				at = t[at].skip
			}
			if at >= end {
				break
			}
			if t[at].id >= 0 {
				f(i + 1)
			}
			at, end = at+1, t[at].skip
		}
	}
}

// split cuts a text into pieces as byte pair encoding does where ids are in the order of merges, which they are in the
// vocabularies of GPT-2, Llama and Qwen. ends says where each ends. nil: a byte has no piece.
func (v *Vocabulary) split(s []byte) (ids []int32, ends []int) {
	for i := range s {
		id := v.find(s[i : i+1])
		if id < 0 {
			return nil, nil
		}
		ids, ends = append(ids, id), append(ends, i+1)
	}
	begin := func(i int) int {
		if i == 0 {
			return 0
		}
		return ends[i-1]
	}
	for {
		best, at := int32(-1), 0
		for i := 0; i+1 < len(ids); i++ {
			if id := v.find(s[begin(i):ends[i+1]]); id >= 0 && (best < 0 || id < best) {
				best, at = id, i
			}
		}
		if best < 0 {
			return ids, ends
		}
		ids[at] = best
		ids = slices.Delete(ids, at+1, at+2)
		ends = slices.Delete(ends, at, at+1)
	}
}
