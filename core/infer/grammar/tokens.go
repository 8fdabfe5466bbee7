package grammar

import (
	"fmt"
	"math/bits"

	"edged/core/infer/grammar/network"
)

// errAmbiguous ends the text whose next tokens are too much to find.
var errAmbiguous = fmt.Errorf("%w: what may come next is too much to look at: it is too ambiguous", ErrEffort)

// few is how many ids are kept as a list: a bit for each of 152k takes 19 KB.
const few = 512

// tokens is the set of tokens after a state, as long as the limit is far.
func (a *Automaton) tokens(s *state) (*set, error) {
	if s.set != nil {
		return s.set, nil
	}
	mask := make([]uint64, (a.v.limit+63)/64)
	worst, err := a.fill(s, mask, network.Never-1)
	if err != nil {
		return nil, err
	}
	out := &set{worst: worst}
	for _, w := range mask {
		out.count += bits.OnesCount64(w)
	}
	if out.count <= few {
		out.ids = make([]int32, 0, out.count)
		for i, w := range mask {
			for ; w != 0; w &= w - 1 {
				out.ids = append(out.ids, int32(i<<6+bits.TrailingZeros64(w)))
			}
		}
		a.kept += 4 * out.count
	} else {
		out.mask = mask
		a.kept += 8 * len(mask)
	}
	s.set = out
	return out, nil
}

// fill adds to mask the tokens after a state from which at most limit tokens complete the text. worst is an
// upper bound of what those need that were added.
func (a *Automaton) fill(s *state, mask []uint64, limit int32) (worst int32, err error) {
	at, n, most := s, 0, len(a.v.runs)-1
	for n < most {
		a.uniform(at)
		if at.even == nil {
			break
		}
		ok, need := a.within(at.even, limit)
		if !ok {
			break // a longer piece may lead nearer to an end again: the tree tells
		}
		worst = max(worst, need)
		if n++; at.even == at {
			n = most
		}
		at = at.even
	}
	easy := n < most && !at.stuck // pieces of more characters are to be looked at
	for i, w := range a.v.runs[n] {
		mask[i] |= w
	}
	trees := []tree{a.v.rest}
	if easy {
		trees = append(trees, a.v.easy)
	}
	for _, t := range trees {
		w, err := a.walk(s, t, mask, limit)
		if err != nil {
			return 0, err
		}
		worst = max(worst, w)
	}
	if a.over() {
		return 0, errAmbiguous
	}
	return worst, nil
}

// within says whether at most limit tokens complete a state, and an upper bound of how many do. The distance
// in bytes is one, since every byte of it has a piece; it is looked at first, because it is there already.
func (a *Automaton) within(s *state, limit int32) (bool, int32) {
	if s.dist <= limit {
		return true, s.dist
	}
	if s.dist >= network.Never || int64(s.dist) > int64(limit)*int64(a.v.longest) {
		return false, 0
	}
	n := a.need(s)
	return n <= limit, n
}

// walk adds the pieces of a tree.
func (a *Automaton) walk(s *state, t tree, mask []uint64, limit int32) (worst int32, err error) {
	path := a.path // path[d] is the state after d bytes
	path[0] = s
	class := &a.net.Class
	for i := 0; i < len(t); {
		br := &t[i]
		from := path[br.depth-1]
		var to *state
		if from.next != nil {
			to = from.next[class[br.b]]
		}
		if to == nil {
			if to = a.step(from, br.b); a.over() {
				return 0, errAmbiguous
			}
		}
		if to == dead {
			i = int(br.skip)
			continue
		}
		path[br.depth] = to
		if br.id >= 0 {
			if ok, need := a.within(to, limit); ok {
				worst = max(worst, need)
				for id := br.id; id >= 0; id = a.v.twin[id] {
					mask[id>>6] |= 1 << (id & 63)
				}
			}
		}
		i++
	}
	return worst, nil
}
