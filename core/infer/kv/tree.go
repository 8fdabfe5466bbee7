package kv

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// Tree is the prefix cache: a radix tree over tokens whose nodes are full KV pages, and the last ones of what
// has ended, which are leaves. A path from a root spells a prefix, page by page; each root is one set of
// adapters, by content. What else a page depends on (model, KV type, precision, RoPE settings, layout of a
// page) is constant for a loaded model.
//
// Two rules keep the accounting simple. A sequence holds a node only together with all nodes above it, since
// it adopted them or had its own pages of equal content exchanged for them; so below a node that nobody but
// the cache holds (an idle one) all are idle, and every idle page can be given back. And a node is always
// used more recently than those below it, so that one walk from the oldest finds leaves only.
//
// Nodes are numbered by their page. A tree is used by one goroutine at a time.
type Tree struct {
	pages  Pages
	page   int // positions of a page
	nodes  []node
	edges  map[uint64]int32 // hash of parent and tokens → node; a node whose hash is taken is not kept
	roots  map[string]*root
	made   int64 // roots so far
	adds   uint64
	newest int32 // ends of the list of nodes by last use; none: empty
	oldest int32
	seed   maphash.Seed
	mask   uint64  // bits of hashes that count: all; a test takes fewer
	tokens []int32 // (page) scratch
	bytes  []byte  // (8 + 4·page) scratch
}

// node is a kept page.
type node struct {
	tokens       []int32 // (page, or fewer) what it adds to its parent; nil: never used; memory is kept for the next node of this page
	hash         uint64
	root         *root
	made         uint64 // counts what add makes: another page of this number has another one
	parent       int32  // none: the root
	child        int32  // the last one that was added; none: a leaf
	next, before int32  // among the children of parent
	newer, older int32
	kept         bool
	states       []Checkpoint // behind so many of its tokens
}

// root begins the prefixes of one set of adapters.
type root struct {
	set   string
	id    int64
	nodes int
	child int32 // as node.child
}

// none is no node.
const none = -1

// History is a list of tokens that a sequence computes.
type History interface{ Token(i int) int32 }

// Pages is the part of a Pool that a tree uses.
type Pages interface {
	Keep(page int32)
	Forget(page int32)
	Idle(page int32) bool
	FreePages() int
	TotalPages() int
	// Fixed reports whether sequences have a fixed state, so that only those of their positions are found
	// that have a checkpoint.
	Fixed() bool
	ShareState(slot int32)
	DropState(slot int32)
	FreeStates() int
}

// Holder is the part of a Seq that a tree uses.
type Holder interface {
	Len() int
	Page(i int) int32
	Adopt(page int32)
	Copy(page int32, n int)
	Swap(i int, page int32)
	Truncate(n int) int
	Cut(n int)
	Resume(slot int32)
	Checkpoints() []Checkpoint
	ForgetCheckpoints(n int)
}

// NewTree returns an empty tree over pages of so many positions.
func NewTree(m Pages, page int) *Tree {
	return &Tree{
		pages: m, page: page, nodes: make([]node, m.TotalPages()), edges: map[uint64]int32{}, roots: map[string]*root{},
		newest: none, oldest: none, seed: maphash.MakeSeed(), mask: ^uint64(0), tokens: make([]int32, page), bytes: make([]byte, 8+4*page),
	}
}

// place is a point of the tree from which prefixes go on.
type place struct {
	root *root // nil: no such prefix
	node int32 // none: the root itself
}

// at is the place of the first full pages of s; false: they are not in the tree.
func (t *Tree) at(set string, s Holder, full int) (place, bool) {
	if full == 0 {
		return place{t.roots[set], none}, true
	}
	n := s.Page(full - 1)
	if !t.nodes[n].kept {
		return place{}, false
	}
	return place{t.nodes[n].root, n}, true
}

// follow is the node behind a place for page i of h.
func (t *Tree) follow(from place, h History, i int) (int32, bool) {
	if from.root == nil {
		return none, false
	}
	n, ok := t.edges[t.hash(from, h, i)]
	if !ok || !t.is(n, from) {
		return none, false
	}
	return n, true
}

// is reports whether a node is the one behind a place that the tokens in scratch lead to.
func (t *Tree) is(n int32, from place) bool {
	c := &t.nodes[n]
	return c.root == from.root && c.parent == from.node && slices.Equal(c.tokens, t.tokens)
}

// hash is that of a place and the tokens of page i of h, which it leaves in scratch.
func (t *Tree) hash(from place, h History, i int) uint64 {
	b := t.bytes
	if from.node == none {
		binary.LittleEndian.PutUint64(b, uint64(^from.root.id))
	} else {
		binary.LittleEndian.PutUint64(b, uint64(from.node))
	}
	for k := range t.tokens {
		t.tokens[k] = h.Token(i*t.page + k)
		binary.LittleEndian.PutUint32(b[8+4*k:], uint32(t.tokens[k]))
	}
	return maphash.Bytes(t.seed, b) & t.mask
}

// Adopt gives s, which has computed a part of h, the pages that follow in the tree, as far as they end at
// limit or before, and a copy of the beginning of one more. It returns how many tokens s need not compute.
func (t *Tree) Adopt(set string, s Holder, h History, limit int) int {
	had := s.Len()
	full := had / t.page
	if had >= limit {
		return 0
	}
	at, ok := t.at(set, s, full)
	if !ok {
		return 0
	}
	if t.pages.Fixed() {
		return t.adoptState(at, s, h, limit)
	}
	for ; (full+1)*t.page <= limit; full++ {
		n, ok := t.follow(at, h, full)
		if !ok {
			break
		}
		s.Truncate(full * t.page) // what is computed of a page that is there as a whole
		s.Adopt(n)
		at.node = n
	}
	if s.Len() > had {
		t.touch(at.node)
	}
	t.copy(at, s, h, full, limit)
	return max(0, s.Len()-had)
}

// copy gives s the beginning of a page that goes on otherwise than h does, where that is more than s has
// computed of it.
func (t *Tree) copy(at place, s Holder, h History, full, limit int) {
	if at.root == nil {
		return
	}
	child := *t.first(at.node, at.root)
	from := full * t.page
	best, n := int32(none), max(0, s.Len()-from)
	for tries := 0; child != none && tries < maxSiblings; tries++ {
		c := &t.nodes[child]
		k := 0
		for k < min(len(c.tokens), t.page-1) && from+k < limit && c.tokens[k] == h.Token(from+k) {
			k++
		}
		if k > n {
			best, n = child, k
		}
		child = c.next
	}
	if best == none {
		return
	}
	t.touch(best)
	if s.Truncate(from); t.pages.FreePages() == 0 {
		t.Evict(1)
	}
	// The page that was given back may have been this one.
	if t.nodes[best].kept && t.pages.FreePages() > 0 {
		s.Copy(best, n)
	}
}

// maxSiblings is how many pages are compared token by token at most, those that were added last first.
const maxSiblings = 512

// Held is the number of pages that adopt would give a new sequence and that are not idle: they cost nothing.
func (t *Tree) Held(set string, h History, limit int) int {
	at, n := place{t.roots[set], none}, 0
	if t.pages.Fixed() {
		return 0 // what is found depends on checkpoints
	}
	for i := 0; (i+1)*t.page <= limit; i++ {
		c, ok := t.follow(at, h, i)
		if !ok || t.pages.Idle(c) {
			break // below it all are idle
		}
		at.node = c
		n++
	}
	return n
}

// Keep takes the full pages of s, which has computed the first n tokens of h, into the tree. Where the tree
// has a page already, s gets that one for its own. False: another prefix has the hash of a page, by chance.
// Nothing may be kept of what shares pages with s from then on: a fork of s would hold its later pages as
// nodes, and its own page above them.
func (t *Tree) Keep(set string, s Holder, h History, n int) bool {
	sound := t.keep(set, s, h, n)
	if sound && t.pages.Fixed() {
		t.keepStates(s, n/t.page*t.page)
	}
	return sound
}

func (t *Tree) keep(set string, s Holder, h History, n int) bool {
	full := n / t.page
	i := full
	for i > 0 && !t.nodes[s.Page(i-1)].kept {
		i--
	}
	if i == full {
		return true
	}
	at, _ := t.at(set, s, i)
	t.plant(&at, set)
	sound := true
	for ; i < full && sound; i++ {
		own := s.Page(i)
		hash := t.hash(at, h, i)
		n, taken := t.edges[hash]
		switch {
		case !taken:
			t.add(own, t.tokens, at, hash)
			n = own
		case t.is(n, at):
			s.Swap(i, n)
		default: // the hash has 64 bits
			sound = false
			continue
		}
		at.node = n
	}
	if at.node != none {
		t.touch(at.node)
	}
	return sound
}

// KeepRest takes the page of s that is not full into the tree, where s has computed the first n tokens of h
// and computes nothing more. What begins the same copies it: of a long system prompt with short questions and
// answers that saves half a page of tokens, a third to a half of what is left to compute. A prompt below a
// page is not worth one. It returns the node that begins with these tokens, -1 where there is none.
func (t *Tree) KeepRest(set string, s Holder, h History, n int) int32 {
	full, rest := n/t.page, n%t.page
	if full == 0 || rest == 0 {
		return none
	}
	own := s.Page(full)
	at, ok := t.at(set, s, full)
	if !ok || t.nodes[own].kept {
		return none
	}
	leaf := t.leaf(at, h, full, rest, own)
	if leaf != none {
		t.addStates(leaf, s, full*t.page)
		t.touch(leaf)
	}
	return leaf
}

// leaf is the node behind a place that begins with rest tokens of page full of h: one that is there, or else
// own, which is added. none: another prefix has its hash, by chance.
func (t *Tree) leaf(at place, h History, full, rest int, own int32) int32 {
	tokens := t.tokens[:rest]
	for i := range tokens {
		tokens[i] = h.Token(full*t.page + i)
		binary.LittleEndian.PutUint32(t.bytes[8+4*i:], uint32(tokens[i]))
	}
	for child, tries := t.nodes[at.node].child, 0; child != none && tries < maxSiblings; tries++ {
		c := &t.nodes[child]
		if len(c.tokens) >= rest && slices.Equal(c.tokens[:rest], tokens) { // there is nothing to add
			return child
		}
		child = c.next
	}
	binary.LittleEndian.PutUint64(t.bytes, uint64(at.node))
	hash := maphash.Bytes(t.seed, t.bytes[:8+4*rest]) & t.mask
	if _, taken := t.edges[hash]; taken { // by chance
		return none
	}
	t.add(own, tokens, at, hash)
	return own
}

// Insert takes pages of another origin, which hold the tokens of h from page from on, into the tree. Those
// whose beginning is not there any more, or that are there already, are left to the caller alone.
func (t *Tree) Insert(set string, h History, from int, pages []int32) {
	at := place{t.roots[set], none}
	for i := range from {
		n, ok := t.follow(at, h, i)
		if !ok {
			return
		}
		at.node = n
	}
	if len(pages) == 0 {
		return
	}
	t.plant(&at, set)
	for i, own := range pages {
		hash := t.hash(at, h, from+i)
		n, taken := t.edges[hash]
		switch {
		case !taken:
			t.add(own, t.tokens, at, hash)
			n = own
		case !t.is(n, at): // another prefix with this hash of 64 bits, by chance
			t.touch(at.node)
			return
		}
		at.node = n
	}
	t.touch(at.node)
}

// plant gives a place a root where it has none.
func (t *Tree) plant(at *place, set string) {
	if at.root == nil {
		t.made++
		at.root = &root{set: set, id: t.made, child: none}
	}
}

// add makes a node of a page.
func (t *Tree) add(page int32, tokens []int32, at place, hash uint64) {
	n := &t.nodes[page]
	n.tokens = append(n.tokens[:0], tokens...)
	t.adds++
	n.hash, n.root, n.parent, n.kept, n.made = hash, at.root, at.node, true, t.adds
	first := t.first(at.node, at.root)
	n.child, n.next, n.before = none, *first, none
	if n.next != none {
		t.nodes[n.next].before = page
	}
	*first = page
	at.root.nodes++
	t.roots[at.root.set] = at.root
	t.edges[hash] = page
	t.push(page)
	t.pages.Keep(page)
}

// Evict gives n pages back, those that were not used for longest first; fewer, where no more are idle.
func (t *Tree) Evict(n int) {
	for at := t.oldest; at != none && n > 0; {
		c := &t.nodes[at]
		newer := c.newer
		if c.child == none && t.pages.Idle(at) {
			t.remove(at)
			n--
		}
		at = newer
	}
}

// Clear gives back all pages that no sequence holds.
func (t *Tree) Clear() { t.Evict(len(t.nodes)) }

// remove takes a leaf out of the tree.
func (t *Tree) remove(page int32) {
	n := &t.nodes[page]
	delete(t.edges, n.hash)
	if n.before != none {
		t.nodes[n.before].next = n.next
	} else {
		*t.first(n.parent, n.root) = n.next
	}
	if n.next != none {
		t.nodes[n.next].before = n.before
	}
	if n.root.nodes--; n.root.nodes == 0 {
		delete(t.roots, n.root.set)
	}
	t.unlink(page)
	t.dropStates(n)
	n.root, n.kept = nil, false
	t.pages.Forget(page)
}

// first returns the head of the list of children of a node, or of a root.
func (t *Tree) first(parent int32, r *root) *int32 {
	if parent == none {
		return &r.child
	}
	return &t.nodes[parent].child
}

// touch makes a node and those above it the most recently used ones, each newer than the one below.
func (t *Tree) touch(page int32) {
	for ; page != none; page = t.nodes[page].parent {
		if page != t.newest {
			t.unlink(page)
			t.push(page)
		}
	}
}

func (t *Tree) push(page int32) {
	n := &t.nodes[page]
	n.newer, n.older = none, t.newest
	if t.newest != none {
		t.nodes[t.newest].newer = page
	} else {
		t.oldest = page
	}
	t.newest = page
}

func (t *Tree) unlink(page int32) {
	n := &t.nodes[page]
	if n.newer != none {
		t.nodes[n.newer].older = n.older
	} else {
		t.newest = n.older
	}
	if n.older != none {
		t.nodes[n.older].newer = n.newer
	} else {
		t.oldest = n.newer
	}
}

// Kept reports whether a page is a node; it is another one than before where made has changed.
func (t *Tree) Kept(page int32) (made uint64, kept bool) {
	n := &t.nodes[page]
	return n.made, n.kept
}

// Tokens are those that a node adds to its parent, valid until the page is given back.
func (t *Tree) Tokens(page int32) []int32 { return t.nodes[page].tokens }
