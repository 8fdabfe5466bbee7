package kv

import (
	"errors"
	"fmt"
)

// Sound proves what must hold of a tree between two calls: the list holds every node once, each behind its parent, the
// counts are right, and each node has its edge.
func (t *Tree) Sound() error {
	place, n := map[int32]int{}, 0
	members := map[*root]int{}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("kv: "+format, args...)) }
	for at := t.newest; at != none; at = t.nodes[at].older {
		c := &t.nodes[at]
		if n++; n > len(t.nodes) {
			return errors.New("kv: the list of nodes has a loop")
		}
		place[at] = n
		members[c.root]++
		if c.parent != none {
			if above, ok := place[c.parent]; !ok || above > n {
				fail("node %d is newer than its parent", at)
			}
			if t.nodes[c.parent].root != c.root {
				fail("node %d has another root than its parent", at)
			}
		}
		if t.edges[c.hash] != at || !c.kept {
			fail("node %d has no edge", at)
		}
		if t.roots[c.root.set] != c.root {
			fail("the root of node %d is not known", at)
		}
	}
	if n != len(t.edges) || len(members) != len(t.roots) {
		fail("%d nodes, %d edges; %d of %d roots have nodes", n, len(t.edges), len(members), len(t.roots))
	}
	children := 0
	list := func(parent, child int32, r *root) {
		for before := int32(none); child != none && children <= n; before, child = child, t.nodes[child].next {
			c := &t.nodes[child]
			if c.parent != parent || c.before != before || c.root != r || place[child] == 0 {
				fail("the list of children of node %d is broken", parent)
				return
			}
			children++
		}
	}
	for at := range place {
		list(at, t.nodes[at].child, t.nodes[at].root)
	}
	for r, nodes := range members {
		list(none, r.child, r)
		if r.nodes != nodes {
			fail("a root counts %d nodes and has %d", r.nodes, nodes)
		}
	}
	if children != n {
		fail("%d nodes are children of %d", children, n)
	}
	return errors.Join(errs...)
}

// Parent is the node above a page, -1 for one that begins a prefix.
func (t *Tree) Parent(page int32) int32 { return t.nodes[page].parent }

// Roots is the number of sets of adapters that have nodes.
func (t *Tree) Roots() int { return len(t.roots) }

// Collide makes all hashes but for the bits of mask equal: a test's way to chance.
func (t *Tree) Collide(mask uint64) { t.mask = mask }
