package engine

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// prefixes is the prefix cache: a radix tree over tokens whose nodes are full KV pages, and the last ones of what has ended, which
// are leaves. A path from a root spells a prefix, page by page; each root is one set of adapters, by content. What else a page depends on (model, KV type, precision, RoPE
// settings, layout of a page) is constant for a loaded model.
//
// Two rules keep the accounting simple. A sequence holds a node only together with all nodes above it, since it adopted
// them or had its own pages of equal content exchanged for them; so below a node that nobody but the cache holds (an idle
// one) all are idle, and every idle page can be given back. And a node is always used more recently than those below it,
// so that one walk from the oldest finds leaves only.
//
// Nodes are numbered by their page. The loop owns the tree.
type prefixes struct {
	model  model
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

// history is a list of tokens that a sequence computes.
type history interface{ token(i int) int32 }

func newPrefixes(m model, page int) *prefixes {
	return &prefixes{
		model: m, page: page, nodes: make([]node, m.totalPages()), edges: map[uint64]int32{}, roots: map[string]*root{},
		newest: none, oldest: none, seed: maphash.MakeSeed(), mask: ^uint64(0), tokens: make([]int32, page), bytes: make([]byte, 8+4*page),
	}
}

// place is a point of the tree from which prefixes go on.
type place struct {
	root *root // nil: no such prefix
	node int32 // none: the root itself
}

// at is the place of the first full pages of s; false: they are not in the tree.
func (p *prefixes) at(set string, s seq, full int) (place, bool) {
	if full == 0 {
		return place{p.roots[set], none}, true
	}
	n := s.Page(full - 1)
	if !p.nodes[n].kept {
		return place{}, false
	}
	return place{p.nodes[n].root, n}, true
}

// follow is the node behind a place for page i of h.
func (p *prefixes) follow(from place, h history, i int) (int32, bool) {
	if from.root == nil {
		return none, false
	}
	n, ok := p.edges[p.hash(from, h, i)]
	if !ok || !p.is(n, from) {
		return none, false
	}
	return n, true
}

// is reports whether a node is the one behind a place that the tokens in scratch lead to.
func (p *prefixes) is(n int32, from place) bool {
	c := &p.nodes[n]
	return c.root == from.root && c.parent == from.node && slices.Equal(c.tokens, p.tokens)
}

// hash is that of a place and the tokens of page i of h, which it leaves in scratch.
func (p *prefixes) hash(from place, h history, i int) uint64 {
	b := p.bytes
	if from.node == none {
		binary.LittleEndian.PutUint64(b, uint64(^from.root.id))
	} else {
		binary.LittleEndian.PutUint64(b, uint64(from.node))
	}
	for k := range p.tokens {
		p.tokens[k] = h.token(i*p.page + k)
		binary.LittleEndian.PutUint32(b[8+4*k:], uint32(p.tokens[k]))
	}
	return maphash.Bytes(p.seed, b) & p.mask
}

// adopt gives s, which has computed a part of h, the pages that follow in the tree, as far as they end at limit or before,
// and a copy of the beginning of one more. It returns how many tokens s need not compute.
func (p *prefixes) adopt(set string, s seq, h history, limit int) int {
	had := s.Len()
	full := had / p.page
	if had >= limit {
		return 0
	}
	at, ok := p.at(set, s, full)
	if !ok {
		return 0
	}
	for ; (full+1)*p.page <= limit; full++ {
		n, ok := p.follow(at, h, full)
		if !ok {
			break
		}
		s.Truncate(full * p.page) // what is computed of a page that is there as a whole
		s.Adopt(n)
		at.node = n
	}
	if s.Len() > had {
		p.touch(at.node)
	}
	p.copy(at, s, h, full, limit)
	return max(0, s.Len()-had)
}

// copy gives s the beginning of a page that goes on otherwise than h does, where that is more than s has computed of it.
func (p *prefixes) copy(at place, s seq, h history, full, limit int) {
	if at.root == nil {
		return
	}
	child := *p.first(at.node, at.root)
	from := full * p.page
	best, n := int32(none), max(0, s.Len()-from)
	for tries := 0; child != none && tries < maxSiblings; tries++ {
		c := &p.nodes[child]
		k := 0
		for k < min(len(c.tokens), p.page-1) && from+k < limit && c.tokens[k] == h.token(from+k) {
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
	p.touch(best)
	if s.Truncate(from); p.model.freePages() == 0 {
		p.evict(1)
	}
	// The page that was given back may have been this one.
	if p.nodes[best].kept && p.model.freePages() > 0 {
		s.Copy(best, n)
	}
}

// maxSiblings is how many pages are compared token by token at most, those that were added last first.
const maxSiblings = 512

// held is the number of pages that adopt would give a new sequence and that are not idle: they cost nothing.
func (p *prefixes) held(set string, h history, limit int) int {
	at, n := place{p.roots[set], none}, 0
	for i := 0; (i+1)*p.page <= limit; i++ {
		c, ok := p.follow(at, h, i)
		if !ok || p.model.idle(c) {
			break // below it all are idle
		}
		at.node = c
		n++
	}
	return n
}

// keep takes the full pages of s, which has computed the first n tokens of h, into the tree. Where the tree has a page
// already, s gets that one for its own. False: another prefix has the hash of a page, by chance. Nothing may be kept of what
// shares pages with s from then on: a fork of s would hold its later pages as nodes, and its own page above them.
func (p *prefixes) keep(set string, s seq, h history, n int) bool {
	full := n / p.page
	i := full
	for i > 0 && !p.nodes[s.Page(i-1)].kept {
		i--
	}
	if i == full {
		return true
	}
	at, _ := p.at(set, s, i)
	p.plant(&at, set)
	sound := true
	for ; i < full && sound; i++ {
		own := s.Page(i)
		hash := p.hash(at, h, i)
		n, taken := p.edges[hash]
		switch {
		case !taken:
			p.add(own, p.tokens, at, hash)
			n = own
		case p.is(n, at):
			s.Swap(i, n)
		default: // the hash has 64 bits
			sound = false
			continue
		}
		at.node = n
	}
	if at.node != none {
		p.touch(at.node)
	}
	return sound
}

// keepRest takes the page of s that is not full into the tree, where s has computed the first n tokens of h and computes nothing
// more. What begins the same copies it: of a long system prompt with short questions and answers that saves half a page of
// tokens, a third to a half of what is left to compute. A prompt below a page is not worth one.
func (p *prefixes) keepRest(set string, s seq, h history, n int) {
	full, rest := n/p.page, n%p.page
	if full == 0 || rest == 0 {
		return
	}
	own := s.Page(full)
	at, ok := p.at(set, s, full)
	if !ok || p.nodes[own].kept {
		return
	}
	tokens := p.tokens[:rest]
	for i := range tokens {
		tokens[i] = h.token(full*p.page + i)
		binary.LittleEndian.PutUint32(p.bytes[8+4*i:], uint32(tokens[i]))
	}
	for child, tries := p.nodes[at.node].child, 0; child != none && tries < maxSiblings; tries++ {
		c := &p.nodes[child]
		if len(c.tokens) >= rest && slices.Equal(c.tokens[:rest], tokens) { // there is nothing to add
			p.touch(child)
			return
		}
		child = c.next
	}
	binary.LittleEndian.PutUint64(p.bytes, uint64(at.node))
	hash := maphash.Bytes(p.seed, p.bytes[:8+4*rest]) & p.mask
	if _, taken := p.edges[hash]; taken { // by chance
		return
	}
	p.add(own, tokens, at, hash)
	p.touch(own)
}

// insert takes pages of another origin, which hold the tokens of h from page from on, into the tree. Those whose beginning
// is not there any more, or that are there already, are left to the caller alone.
func (p *prefixes) insert(set string, h history, from int, pages []int32) {
	at := place{p.roots[set], none}
	for i := range from {
		n, ok := p.follow(at, h, i)
		if !ok {
			return
		}
		at.node = n
	}
	if len(pages) == 0 {
		return
	}
	p.plant(&at, set)
	for i, own := range pages {
		hash := p.hash(at, h, from+i)
		n, taken := p.edges[hash]
		switch {
		case !taken:
			p.add(own, p.tokens, at, hash)
			n = own
		case !p.is(n, at): // another prefix with this hash of 64 bits, by chance
			p.touch(at.node)
			return
		}
		at.node = n
	}
	p.touch(at.node)
}

// plant gives a place a root where it has none.
func (p *prefixes) plant(at *place, set string) {
	if at.root == nil {
		p.made++
		at.root = &root{set: set, id: p.made, child: none}
	}
}

// add makes a node of a page.
func (p *prefixes) add(page int32, tokens []int32, at place, hash uint64) {
	n := &p.nodes[page]
	n.tokens = append(n.tokens[:0], tokens...)
	p.adds++
	n.hash, n.root, n.parent, n.kept, n.made = hash, at.root, at.node, true, p.adds
	first := p.first(at.node, at.root)
	n.child, n.next, n.before = none, *first, none
	if n.next != none {
		p.nodes[n.next].before = page
	}
	*first = page
	at.root.nodes++
	p.roots[at.root.set] = at.root
	p.edges[hash] = page
	p.push(page)
	p.model.keep(page)
}

// evict gives n pages back, those that were not used for longest first; fewer, where no more are idle.
func (p *prefixes) evict(n int) {
	for at := p.oldest; at != none && n > 0; {
		c := &p.nodes[at]
		newer := c.newer
		if c.child == none && p.model.idle(at) {
			p.remove(at)
			n--
		}
		at = newer
	}
}

// clear gives back all pages that no sequence holds.
func (p *prefixes) clear() { p.evict(len(p.nodes)) }

// remove takes a leaf out of the tree.
func (p *prefixes) remove(page int32) {
	n := &p.nodes[page]
	delete(p.edges, n.hash)
	if n.before != none {
		p.nodes[n.before].next = n.next
	} else {
		*p.first(n.parent, n.root) = n.next
	}
	if n.next != none {
		p.nodes[n.next].before = n.before
	}
	if n.root.nodes--; n.root.nodes == 0 {
		delete(p.roots, n.root.set)
	}
	p.unlink(page)
	n.root, n.kept = nil, false
	p.model.forget(page)
}

// first is where the list of children of a node, or of a root, begins.
func (p *prefixes) first(parent int32, r *root) *int32 {
	if parent == none {
		return &r.child
	}
	return &p.nodes[parent].child
}

// touch makes a node and those above it the most recently used ones, each newer than the one below.
func (p *prefixes) touch(page int32) {
	for ; page != none; page = p.nodes[page].parent {
		if page != p.newest {
			p.unlink(page)
			p.push(page)
		}
	}
}

func (p *prefixes) push(page int32) {
	n := &p.nodes[page]
	n.newer, n.older = none, p.newest
	if p.newest != none {
		p.nodes[p.newest].newer = page
	} else {
		p.oldest = page
	}
	p.newest = page
}

func (p *prefixes) unlink(page int32) {
	n := &p.nodes[page]
	if n.newer != none {
		p.nodes[n.newer].older = n.older
	} else {
		p.newest = n.older
	}
	if n.older != none {
		p.nodes[n.older].newer = n.newer
	} else {
		p.oldest = n.newer
	}
}
