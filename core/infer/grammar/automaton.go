package grammar

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/gbnf"
	"edged/core/infer/grammar/network"
)

// Automaton follows texts of one grammar that are written in pieces of one vocabulary. It may be used concurrently.
type Automaton struct {
	g    *Grammar
	net  *network.Network // of g
	v    *Vocabulary
	dist []int32 // of each node, with bytes that have pieces

	mu     sync.Mutex // guards the rest
	states map[string]*state
	frames map[frameKey]*frame
	start  *state
	last   uint32 // number of the last frame
	kept   int    // bytes, about
	work   int    // places looked at since the call of a matcher began
	most   int    // of them that this call may look at
	found  map[place]struct{}
	todo   []place
	path   []*state // scratch of walks
}

// frame is a call that was not returned from, on top of those before it. Equal ones are the same.
type frame struct {
	back   int32
	number uint32
	depth  int32
	dist   int32 // from the return to the end of the text, bytes
	below  *frame
}

type frameKey struct {
	back  int32
	below *frame
}

// place is a node that waits for a byte, and what it returns to.
type place struct {
	node  int32
	stack *frame
}

// state is a set of places in the network: the state of the automaton behind a text. Its fields below the
// line are found when they are first asked for.
type state struct {
	places []place // sorted
	ends   bool    // the text is complete
	dist   int32   // bytes to the nearest end
	next   []*state
	// ----
	tokens int32 // to the nearest end; 0: not known (or none needed)
	known  bool  // tokens is
	set    *set
	even   *state // where every easy character leads; nil: not known
	uneven bool   // easy characters lead to different states, or some lead nowhere
	stuck  bool   // no easy character leads anywhere
}

// set are the tokens that may follow a state, where the limit is far.
type set struct {
	mask  []uint64 // nil: ids has them
	ids   []int32
	count int
	// worst is the longest way to an end, in tokens, that one of them leads to, or more.
	worst int32
}

// Bounds of one automaton.
const (
	maxFrames = 512     // depth of calls
	maxPlaces = 4096    // of one state, and what is looked at to find them
	maxKept   = 8 << 20 // bytes of states and sets that are kept
)

// dead is the state behind a text that the grammar does not allow.
var dead = &state{dist: network.Never} //nolint:gochecknoglobals // a constant

// Bind joins a grammar and a vocabulary. The error is ErrSyntax where the vocabulary cannot write any of its texts.
func (g *Grammar) Bind(v *Vocabulary) (*Automaton, error) {
	for _, text := range g.named {
		if v.find(gbnf.TokenPiece([]byte(text))) < 0 {
			return nil, expression.Syntaxf("the model has no control token %q", text)
		}
	}
	a := &Automaton{g: g, net: g.net, v: v, dist: g.net.Distances(&v.bytes), found: map[place]struct{}{}}
	a.path = make([]*state, v.longest+1)
	a.most = burst
	a.forget()
	if a.start == dead {
		return nil, fmt.Errorf("%w: it is too ambiguous at its beginning, or calls deeper than %d", ErrTooLarge, maxFrames)
	}
	if a.start.dist >= network.Never {
		return nil, expression.Syntaxf("the model's vocabulary cannot write any text of it")
	}
	return a, nil
}

// After is the mark behind which a text begins; "": it is the whole answer.
func (a *Automaton) After() string { return a.g.after }

// forget drops all states. Those that matchers hold go on from where they are.
func (a *Automaton) forget() {
	for _, s := range a.states {
		s.next, s.set, s.even = nil, nil, nil
	}
	a.states, a.frames, a.kept = map[string]*state{}, map[frameKey]*frame{}, 0
	a.found = map[place]struct{}{}
	a.todo = append(a.todo[:0], place{a.net.Rules[a.net.Root].Start, nil})
	a.start = a.close()
}

// step is the state after one more byte.
func (a *Automaton) step(s *state, b byte) *state {
	c := a.net.Class[b]
	if s.next != nil {
		if to := s.next[c]; to != nil {
			return to
		}
	}
	if s == dead {
		return dead
	}
	a.todo = a.todo[:0]
	for _, p := range s.places {
		for _, e := range a.net.Nodes[p.node].Edges {
			if e.Lo <= b && b <= e.Hi {
				a.todo = append(a.todo, place{e.To, p.stack})
			}
		}
	}
	a.work += len(s.places) + 1
	to := dead
	if len(a.todo) > 0 {
		to = a.close()
	}
	if s.next == nil {
		s.next = make([]*state, len(a.net.Least))
		a.kept += 8 * len(a.net.Least)
	}
	s.next[c] = to
	return to
}

// close is the state of the places in todo and of all that is reached from them without a byte. It is dead
// where that is more than a state may have.
func (a *Automaton) close() *state {
	clear(a.found)
	s := &state{dist: network.Never}
	for len(a.todo) > 0 {
		p := a.todo[len(a.todo)-1]
		a.todo = a.todo[:len(a.todo)-1]
		if _, ok := a.found[p]; ok || !a.net.Alive[p.node] {
			continue
		}
		a.found[p] = struct{}{}
		if len(a.found) > maxPlaces {
			a.work += len(a.found)
			return dead
		}
		n := &a.net.Nodes[p.node]
		if n.End {
			if p.stack == nil {
				s.ends, s.dist = true, 0
			} else {
				a.todo = append(a.todo, place{p.stack.back, p.stack.below})
			}
			continue
		}
		for _, to := range n.Eps {
			a.todo = append(a.todo, place{to, p.stack})
		}
		for _, c := range n.Calls {
			if f, ok := a.push(c.Back, p.stack); ok {
				a.todo = append(a.todo, place{a.net.Rules[c.Rule].Start, f})
			}
		}
		if len(n.Edges) > 0 {
			s.places = append(s.places, p)
			s.dist = min(s.dist, a.far(p))
		}
	}
	a.work += len(a.found)
	if len(s.places) == 0 && !s.ends {
		return dead
	}
	slices.SortFunc(s.places, func(x, y place) int {
		if x.node != y.node {
			return int(x.node) - int(y.node)
		}
		return int(int64(x.stack.id()) - int64(y.stack.id()))
	})
	key := make([]byte, 0, 8*len(s.places)+1)
	if s.ends {
		key = append(key, 1)
	}
	for _, p := range s.places {
		key = binary.LittleEndian.AppendUint32(key, uint32(p.node))
		key = binary.LittleEndian.AppendUint32(key, p.stack.id())
	}
	if old, ok := a.states[string(key)]; ok {
		return old
	}
	a.states[string(key)] = s
	a.kept += 200 + 2*len(key) + 16*len(s.places)
	return s
}

// push puts a return on a stack, unless it would only return further. False: the stack is full.
func (a *Automaton) push(back int32, below *frame) (*frame, bool) {
	if a.net.Nodes[back].End {
		return below, true
	}
	key := frameKey{back, below}
	if f, ok := a.frames[key]; ok {
		return f, true
	}
	f := &frame{back: back, below: below, depth: 1, dist: a.dist[back], number: a.last + 1}
	if below != nil {
		f.depth, f.dist = below.depth+1, min(network.Never, f.dist+below.dist)
	}
	if f.depth > maxFrames {
		return nil, false
	}
	a.last++
	a.frames[key] = f
	a.kept += 100
	return f, true
}

func (f *frame) id() uint32 {
	if f == nil {
		return 0
	}
	return f.number
}

// far is the distance of a place to the end of the text.
func (a *Automaton) far(p place) int32 {
	if p.stack == nil {
		return a.dist[p.node]
	}
	return min(network.Never, a.dist[p.node]+p.stack.dist)
}

// over says that a call has looked at more places than it may.
func (a *Automaton) over() bool { return a.work > a.most || a.kept > 4*maxKept }

// shortest is the shortest text that completes a state, the first in the order of bytes among them, and the
// states that it passes, beginning with s. What is left of it after a piece is the shortest text of the state
// that the piece leads to. nil: a bound was exceeded on the way.
func (a *Automaton) shortest(s *state) ([]byte, []*state) {
	const known = 1 << 12 // of the text; longer ones are rare
	out := make([]byte, 0, min(s.dist, known))
	passed := append(make([]*state, 0, cap(out)+1), s)
	for s.dist > 0 {
		best := 256
		for _, p := range s.places {
			if a.far(p) != s.dist {
				continue
			}
			edges := a.net.Nodes[p.node].Edges
			a.work += len(edges)
			for _, e := range edges {
				if a.far(place{e.To, p.stack}) != s.dist-1 || !a.net.Alive[e.To] {
					continue
				}
				for b := int(e.Lo); b <= int(e.Hi) && b < best; b++ {
					if a.v.bytes[b] {
						best = b
					}
				}
			}
		}
		a.work += len(s.places) + 1
		if best == 256 || a.over() {
			return nil, nil // a place was dropped for a bound
		}
		to := a.step(s, byte(best))
		if to.dist >= s.dist {
			return nil, nil // likewise
		}
		out, passed = append(out, byte(best)), append(passed, to)
		s = to
	}
	return out, passed
}

// need is the number of tokens that complete a state: the fewest that write its shortest text.
func (a *Automaton) need(s *state) int32 {
	switch {
	case s.dist == 0 || s.dist >= network.Never:
		return s.dist
	case s.known:
		return s.tokens
	}
	text, passed := a.shortest(s)
	if text == nil {
		if !a.over() { // another call may look further
			s.known, s.tokens = true, network.Never
		}
		return network.Never
	}
	fewest := make([]int32, len(text)+1) // of the text from here on
	for i := len(text) - 1; i >= 0; i-- {
		if to := passed[i]; to.known {
			fewest[i] = to.tokens // as the states of a long text mostly are: one of them was asked for before
			continue
		}
		fewest[i] = network.Never
		a.v.prefixes(text[i:], func(n int) { fewest[i] = min(fewest[i], 1+fewest[i+n]) })
		passed[i].known, passed[i].tokens = true, fewest[i]
		a.work += 8
	}
	return fewest[0]
}

// atLeast is a number of tokens below which no text completes a state: all of them as long as the longest piece.
func (a *Automaton) atLeast(s *state) int {
	if s.dist >= network.Never {
		return network.Never
	}
	longest := max(a.v.longest, 1)
	return (int(s.dist) + longest - 1) / longest
}

// uniform finds out where easy characters lead.
func (a *Automaton) uniform(s *state) {
	if s.even != nil || s.uneven || s.stuck {
		return
	}
	var to *state
	same := true
	see := func(n *state) bool {
		if to == nil {
			to = n
		}
		same = same && to == n && !a.over()
		return same
	}
	last := -1
	for b := 0x20; b < 0x80 && same; b++ {
		if c := int(a.net.Class[b]); b != '"' && b != '\\' && c != last {
			last = c
			see(a.step(s, byte(b)))
		}
	}
	for _, r := range [][4]byte{ // first byte from and to, second from and to (The Unicode Standard, table 3-7)
		{0xC2, 0xDF, 0x80, 0xBF},
		{0xE0, 0xE0, 0xA0, 0xBF},
		{0xE1, 0xEC, 0x80, 0xBF},
		{0xED, 0xED, 0x80, 0x9F},
		{0xEE, 0xEF, 0x80, 0xBF},
		{0xF0, 0xF0, 0x90, 0xBF},
		{0xF1, 0xF3, 0x80, 0xBF},
		{0xF4, 0xF4, 0x80, 0x8F},
	} {
		a.each(s, r[0], r[1], func(n *state) bool {
			return a.each(n, r[2], r[3], func(n *state) bool {
				if r[0] < 0xE0 {
					return see(n)
				}
				return a.each(n, 0x80, 0xBF, func(n *state) bool {
					if r[0] < 0xF0 {
						return see(n)
					}
					return a.each(n, 0x80, 0xBF, see)
				})
			})
		})
		if !same {
			break
		}
	}
	switch {
	case a.over(): // not found out
	case !same:
		s.uneven = true
	case to == dead:
		s.stuck = true
	default:
		s.even = to
	}
}

// each calls f with the states after the bytes lo to hi, once for each class of them, until one of the calls is false.
func (a *Automaton) each(s *state, lo, hi byte, f func(*state) bool) bool {
	last := -1
	for b := int(lo); b <= int(hi); b++ {
		if c := int(a.net.Class[b]); c != last {
			last = c
			if !f(a.step(s, byte(b))) {
				return false
			}
		}
	}
	return true
}
