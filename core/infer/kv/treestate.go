package kv

// Checkpoints in the tree. Keys and values of a prefix are of use up to any position; of a sequence with a
// fixed state only up to those whose state was kept. So each node carries the states that its sequences had
// on their way through its tokens, and what is adopted ends at the last of them.

// adoptState is Adopt for sequences with a fixed state; s holds the nodes up to at.
func (t *Tree) adoptState(at place, s Holder, h History, limit int) int {
	had := s.Len()
	full := had / t.page
	if at.root == nil {
		return 0
	}
	best, slot, depth, end := int32(none), int32(noState), 0, had
	tries := 0
	for i := full; ; i++ {
		from := i * t.page
		for child := *t.first(at.node, at.root); child != none && tries < maxSiblings; child = t.nodes[child].next {
			c := &t.nodes[child]
			tries++
			if len(c.states) == 0 || c.tokens[0] != h.Token(from) {
				continue
			}
			k := 0
			for k < len(c.tokens) && from+k < limit && c.tokens[k] == h.Token(from+k) {
				k++
			}
			for _, x := range c.states {
				if x.N <= k && from+x.N > end {
					best, slot, depth, end = child, x.Slot, i, from+x.N
				}
			}
		}
		if (i+1)*t.page > limit {
			break
		}
		n, ok := t.follow(at, h, i)
		if !ok {
			break
		}
		at.node = n
	}
	if best == none {
		return 0
	}
	t.touch(best)
	whole := end == (depth+1)*t.page
	if !whole && had%t.page == 0 && t.pages.FreePages() == 0 {
		if t.Evict(1); !t.nodes[best].kept || t.pages.FreePages() == 0 {
			return 0
		}
	}
	t.pages.ShareState(slot) // whatever the cut gives back
	path := make([]int32, 0, depth+1)
	for n := best; len(path) < depth-full+1; n = t.nodes[n].parent {
		path = append(path, n)
	}
	s.Cut(full * t.page)
	for i := len(path) - 1; i > 0; i-- {
		s.Adopt(path[i])
	}
	if whole {
		s.Adopt(best)
	} else {
		s.Copy(best, end-depth*t.page)
	}
	s.Resume(slot)
	t.pages.DropState(slot)
	return end - had
}

// keepStates hands the checkpoints of s up to position n, all of whose pages are nodes, to them.
func (t *Tree) keepStates(s Holder, n int) {
	for _, c := range s.Checkpoints() {
		if c.N <= n {
			i := (c.N - 1) / t.page
			t.addState(s.Page(i), Checkpoint{c.N - i*t.page, c.Slot})
		}
	}
	s.ForgetCheckpoints(n)
}

// addStates gives a node whose tokens begin at position from the checkpoints of s that lie in it.
func (t *Tree) addStates(page int32, s Holder, from int) {
	for _, c := range s.Checkpoints() {
		if c.N > from && c.N <= from+len(t.nodes[page].tokens) {
			t.addState(page, Checkpoint{c.N - from, c.Slot})
		}
	}
}

func (t *Tree) addState(page int32, c Checkpoint) {
	n := &t.nodes[page]
	if !n.kept {
		return
	}
	for _, x := range n.states {
		if x.N == c.N {
			return
		}
	}
	t.pages.ShareState(c.Slot)
	n.states = append(n.states, c)
}

// States are those that a node carries, valid until the tree changes.
func (t *Tree) States(page int32) []Checkpoint { return t.nodes[page].states }

// Known returns the number of full pages before limit that are nodes, whether or not a sequence holds them.
// They are the last ones to be given back from now on.
func (t *Tree) Known(set string, h History, limit int) int {
	at, n := place{t.roots[set], none}, 0
	for ; (n+1)*t.page <= limit; n++ {
		c, ok := t.follow(at, h, n)
		if !ok {
			break
		}
		at.node = c
	}
	t.touch(at.node)
	return n
}

// Common is the number of tokens of h before limit that the tree has, in pages that are full or not, with a
// state behind them or not.
func (t *Tree) Common(set string, h History, limit int) int {
	at, full := place{t.roots[set], none}, 0
	if at.root == nil {
		return 0
	}
	for ; (full+1)*t.page <= limit; full++ {
		c, ok := t.follow(at, h, full)
		if !ok {
			break
		}
		at.node = c
	}
	from, best := full*t.page, 0
	child := *t.first(at.node, at.root)
	for tries := 0; child != none && tries < maxSiblings; tries++ {
		c := &t.nodes[child]
		k := 0
		for k < len(c.tokens) && from+k < limit && c.tokens[k] == h.Token(from+k) {
			k++
		}
		best = max(best, k)
		child = c.next
	}
	return from + best
}

// InsertState takes the state of the first n tokens of h, of another origin, into the tree, where all full
// pages before it are nodes; of a page that is not full, own holds what it has of these tokens. The tree
// shares slot and page with the caller.
func (t *Tree) InsertState(set string, h History, n int, slot, own int32) {
	full, rest := n/t.page, n%t.page
	at := place{t.roots[set], none}
	for i := range full {
		c, ok := t.follow(at, h, i)
		if !ok {
			return
		}
		at.node = c
	}
	switch {
	case at.node == none:
		return
	case rest == 0:
		rest = t.page
	default:
		if at.node = t.leaf(at, h, full, rest, own); at.node == none {
			return
		}
	}
	t.addState(at.node, Checkpoint{rest, slot})
	t.touch(at.node)
}

func (t *Tree) dropStates(n *node) {
	for _, c := range n.states {
		t.pages.DropState(c.Slot)
	}
	n.states = n.states[:0]
}

// EvictStates drops checkpoints, those of the nodes first that were not used for longest, until so many slots
// are free or none is left. The pages stay.
func (t *Tree) EvictStates(free int) {
	for at := t.oldest; at != none && t.pages.FreeStates() < free; at = t.nodes[at].newer {
		t.dropStates(&t.nodes[at])
	}
}
