package model

import "slices"

// smallWord is the number of symbols up to which merging scans all pairs for the best one: for the words of
// ordinary text (4 to 10 bytes) that is three times as fast as a heap; at 64 they are even.
const smallWord = 48

// merger is the scratch of merging the symbols of a word, for one goroutine.
//
// A word is a list of symbols. Of its pairs of neighbours the one with the least key merges first, the
// leftmost of equal ones, until none merges. Long words (a megabyte of one letter is a word) are merged with
// a heap over a linked list, in O(n log n).
type merger struct {
	id   []int32  // symbol; -1: merged into its left neighbour
	key  []uint32 // of the pair that starts here; none: does not merge
	made []int32  // the symbol that this pair makes
	next []int32  // place of the right neighbour, len(id) at the end
	prev []int32  // place of the left neighbour, -1 at the start
	heap []uint64 // key<<32 | place

	// from is where a symbol starts in the text, for pairs that are looked up by their text.
	from []int32
}

// release drops the memory that only a huge text needs.
func (m *merger) release() {
	if cap(m.id) > 1<<16 {
		*m = merger{}
	}
}

// pairs says what the symbols at two neighbouring places become and with which key; noMerge: they do not merge.
type pairs interface {
	pair(m *merger, left, right int32) (key uint32, id int32)
}

// byRank merges symbols by a table.
type byRank struct{ table *mergeTable }

func (b byRank) pair(m *merger, left, right int32) (key uint32, id int32) {
	f := b.table.find(m.id[left], m.id[right])
	return f.rank, f.id
}

// merge merges m.id in place and returns what is left.
func (m *merger) merge(p byRank) []int32 {
	if len(m.id) <= smallWord {
		return m.mergeSmall(p.table)
	}
	mergeLong(m, p)
	out := m.id[:0]
	for i := 0; i < len(m.next); i = int(m.next[i]) {
		out = append(out, m.id[i])
	}
	return out
}

func (m *merger) mergeSmall(t *mergeTable) []int32 {
	ids := m.id
	if len(ids) < 2 {
		return ids
	}
	m.key = slices.Grow(m.key[:0], len(ids))[:len(ids)]
	m.made = slices.Grow(m.made[:0], len(ids))[:len(ids)]
	key, made := m.key, m.made
	for i := range len(ids) - 1 {
		f := t.find(ids[i], ids[i+1])
		key[i], made[i] = f.rank, f.id
	}
	n := len(ids)
	key[n-1] = noMerge
	for {
		best, at := noMerge, 0
		for i, k := range key[:n-1] {
			if k < best {
				best, at = k, i
			}
		}
		if best == noMerge {
			return ids[:n]
		}
		ids[at] = made[at]
		copy(ids[at+1:n-1], ids[at+2:n])
		copy(key[at+1:n-1], key[at+2:n])
		copy(made[at+1:n-1], made[at+2:n])
		n--
		if at > 0 {
			f := t.find(ids[at-1], ids[at])
			key[at-1], made[at-1] = f.rank, f.id
		}
		key[at] = noMerge
		if at < n-1 {
			f := t.find(ids[at], ids[at+1])
			key[at], made[at] = f.rank, f.id
		}
	}
}

// mergeLong merges the linked list of m.id; merged symbols are -1, m.next skips them.
func mergeLong[P pairs](m *merger, p P) {
	n := len(m.id)
	m.key = slices.Grow(m.key[:0], n)[:n]
	m.made = slices.Grow(m.made[:0], n)[:n]
	m.next = slices.Grow(m.next[:0], n)[:n]
	m.prev = slices.Grow(m.prev[:0], n)[:n]
	m.heap = m.heap[:0]
	for i := range n {
		m.prev[i], m.next[i] = int32(i-1), int32(i+1)
	}
	for i := range n - 1 {
		m.key[i], m.made[i] = p.pair(m, int32(i), int32(i+1))
		if m.key[i] != noMerge {
			m.heap = append(m.heap, uint64(m.key[i])<<32|uint64(i))
		}
	}
	if n > 0 {
		m.key[n-1] = noMerge
	}
	slices.Sort(m.heap) // a sorted list is a heap
	for len(m.heap) > 0 {
		top := m.pop()
		at := int32(top)
		// An entry is stale when its pair has changed since: then the place has another key, or none.
		if key := uint32(top >> 32); m.id[at] == -1 || m.key[at] != key {
			continue
		}
		right := m.next[at]
		m.id[at] = m.made[at]
		m.id[right] = -1
		m.key[right] = noMerge
		after := m.next[right]
		m.next[at] = after
		if int(after) < n {
			m.prev[after] = at
			updatePair(m, p, at, after)
		} else {
			m.key[at] = noMerge
		}
		if before := m.prev[at]; before >= 0 {
			updatePair(m, p, before, at)
		}
	}
}

// updatePair looks up the pair at two places anew. It is generic since an interface would take an allocation per call.
func updatePair[P pairs](m *merger, p P, left, right int32) {
	m.key[left], m.made[left] = p.pair(m, left, right)
	if m.key[left] != noMerge {
		m.push(uint64(m.key[left])<<32 | uint64(left))
	}
}

func (m *merger) push(x uint64) {
	m.heap = append(m.heap, x)
	h := m.heap
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if h[up] <= x {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = x
}

func (m *merger) pop() uint64 {
	h := m.heap
	top, x := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	m.heap = h
	if len(h) == 0 {
		return top
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= len(h) {
			break
		}
		if down+1 < len(h) && h[down+1] < h[down] {
			down++
		}
		if h[down] >= x {
			break
		}
		h[i] = h[down]
		i = down
	}
	h[i] = x
	return top
}
