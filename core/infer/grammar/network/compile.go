package network

import (
	"container/heap"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"edged/core/infer/grammar/expression"
)

// compiler makes the network (Thompson's construction, with calls).
type compiler struct {
	src     *expression.Source
	g       Network
	size    int                        // nodes and edges
	classes map[string]int32           // rules of sets of characters, by their ranges
	same    map[*expression.Span]int32 // and by where the ranges stand
}

// Never is the distance of what has no end.
const Never = math.MaxInt32 / 4

// Compile makes the network of a source, and proves that every rule can be followed to an end. The errors are
// ErrSyntax, ErrTooLarge and those of spend.
func Compile(src *expression.Source) (*Network, error) {
	c := &compiler{src: src}
	root, ok := c.src.Names[c.src.Root]
	if !ok {
		return nil, expression.Syntaxf("there is no rule %s", c.src.Root)
	}
	c.classes, c.same = map[string]int32{}, map[*expression.Span]int32{}
	for i := range c.src.Rules {
		d := &c.src.Rules[i]
		if d.Body == nil {
			return nil, expression.Syntaxf("rule %s is used and not defined", d.Name)
		}
		r := Rule{name: d.Name, Start: c.node(), end: c.node()}
		c.g.Nodes[r.end].End = true
		c.g.Rules = append(c.g.Rules, r)
	}
	for i := range c.src.Rules {
		last, err := c.emit(c.src.Rules[i].Body, c.g.Rules[i].Start)
		if err != nil {
			return nil, err
		}
		c.eps(last, c.g.Rules[i].end)
	}
	c.g.Root = int32(root)
	g := &c.g
	g.shorten()
	if err := g.refuseLeftRecursion(); err != nil {
		return nil, err
	}
	all := [256]bool{}
	for i := range all {
		all[i] = true
	}
	dist := g.Distances(&all)
	if dist[g.Rules[root].Start] >= Never {
		return nil, expression.Syntaxf("no text ever completes rule %s", c.src.Root)
	}
	g.Alive = make([]bool, len(g.Nodes))
	for i, d := range dist {
		g.Alive[i] = d < Never
	}
	g.classify()
	return g, nil
}

func (c *compiler) node() int32 {
	c.g.Nodes = append(c.g.Nodes, Node{})
	c.size++
	return int32(len(c.g.Nodes) - 1)
}

func (c *compiler) edge(from int32, lo, hi byte, to int32) {
	n := &c.g.Nodes[from]
	n.Edges = append(n.Edges, Edge{to, lo, hi})
	c.size++
}

func (c *compiler) eps(from, to int32) {
	n := &c.g.Nodes[from]
	n.Eps = append(n.Eps, to)
	c.size++
}

func (c *compiler) call(from, rule, back int32) {
	n := &c.g.Nodes[from]
	n.Calls = append(n.Calls, Call{rule, back})
	c.size++
}

// emit adds what passes an expression from a node and returns the node after it. Nothing leads back to from.
func (c *compiler) emit(e *expression.Expr, from int32) (int32, error) {
	if c.size > expression.MaxNodes {
		return 0, fmt.Errorf("%w: it has more than %d places: bound its repetitions lower", expression.ErrTooLarge, expression.MaxNodes)
	}
	if err := c.src.Spend(2 + len(e.Subs) + len(e.Class)); err != nil {
		return 0, err
	}
	c.size++ // also what adds nothing: it may be repeated without end
	switch e.Op {
	case expression.OpLiteral:
		for i := range len(e.Literal) {
			to := c.node()
			c.edge(from, e.Literal[i], e.Literal[i], to)
			from = to
		}
		return from, nil
	case expression.OpClass:
		to := c.node()
		c.chars(e.Class, from, to)
		return to, nil
	case expression.OpSequence:
		var err error
		for _, sub := range e.Subs {
			if from, err = c.emit(sub, from); err != nil {
				return 0, err
			}
		}
		return from, nil
	case expression.OpAlternative:
		to := c.node()
		for _, sub := range e.Subs {
			last, err := c.emit(sub, from)
			if err != nil {
				return 0, err
			}
			c.eps(last, to)
		}
		return to, nil
	case expression.OpRepeat:
		return c.emitRepeat(e, from)
	case expression.OpRule:
		to := c.node()
		c.call(from, e.Rule, to)
		return to, nil
	case expression.OpMembers:
		if e.Counted {
			return c.emitCounted(e, from)
		}
		return c.emitMembers(e, from)
	case expression.OpMachine:
		return c.emitMachine(e, from)
	}
	return from, nil
}

// emitRepeat leaves an optional repetition by one step from each of its places, so that a state has few of them.
func (c *compiler) emitRepeat(e *expression.Expr, from int32) (int32, error) {
	var err error
	for range e.Min {
		if from, err = c.emit(e.Subs[0], from); err != nil {
			return 0, err
		}
	}
	if e.Max < 0 {
		loop := c.node()
		c.eps(from, loop)
		last, err := c.emit(e.Subs[0], loop)
		if err != nil {
			return 0, err
		}
		c.eps(last, loop)
		return loop, nil
	}
	to := c.node()
	for range e.Max - e.Min {
		c.eps(from, to)
		if from, err = c.emit(e.Subs[0], from); err != nil {
			return 0, err
		}
	}
	c.eps(from, to)
	return to, nil
}

// emitMembers passes subs in their order, each of which may be left out unless it must be there, with a comma
// between two. Two rows of places, before the first member and after one, keep that linear.
func (c *compiler) emitMembers(e *expression.Expr, from int32) (int32, error) {
	none, some := from, int32(-1) // nothing is written yet; something is
	for i, sub := range e.Subs {
		begin := c.node()
		c.eps(none, begin)
		if some >= 0 {
			comma, err := c.emit(expression.Literal(", "), some)
			if err != nil {
				return 0, err
			}
			c.eps(comma, begin)
		}
		last, err := c.emit(sub, begin)
		if err != nil {
			return 0, err
		}
		after := c.node()
		c.eps(last, after)
		if e.Must[i] {
			none = c.node() // out of reach: this member is there
		} else {
			next := c.node()
			c.eps(none, next)
			none = next
			if some >= 0 {
				c.eps(some, after)
			}
		}
		some = after
	}
	to := c.node()
	c.eps(none, to)
	if some >= 0 {
		c.eps(some, to)
	}
	return to, nil
}

// emitCounted is emitMembers where the number of members has bounds: a row of places for each number of
// members that were written. The subs are single places, such as calls.
func (c *compiler) emitCounted(e *expression.Expr, from int32) (int32, error) {
	last := e.Max // the greatest number that is told apart
	if last < 0 {
		last = max(e.Min, 1)
	}
	rows := make([]int32, last+1) // after so many; below 0: out of reach
	for i := range rows {
		rows[i] = -1
	}
	rows[0] = from
	// write adds one more member to a row.
	write := func(sub *expression.Expr, row, n int32) (int32, error) {
		if n > 0 {
			var err error
			if row, err = c.emit(expression.Literal(", "), row); err != nil {
				return 0, err
			}
		} else {
			begin := c.node()
			c.eps(row, begin)
			row = begin
		}
		return c.emit(sub, row)
	}
	for i, sub := range e.Subs {
		next := make([]int32, len(rows))
		for n := range next {
			next[n] = -1
		}
		join := func(n int, row int32) {
			if next[n] < 0 {
				next[n] = c.node()
			}
			c.eps(row, next[n])
		}
		for n, row := range rows {
			if row < 0 {
				continue
			}
			if !e.Must[i] {
				join(n, row)
			}
			if n == last && e.Max >= 0 {
				continue
			}
			after, err := write(sub, row, int32(n))
			if err != nil {
				return 0, err
			}
			join(min(n+1, last), after)
		}
		rows = next
	}
	to := c.node()
	for n := range rows {
		row := rows[n]
		if row < 0 {
			continue
		}
		if n >= e.Min {
			c.eps(row, to)
		}
		if e.Rest == nil || n < e.Min-1 || n == last && e.Max >= 0 { // what is repeated may repeat itself, and counts once
			continue
		}
		after, err := write(e.Rest, row, int32(n))
		if err != nil {
			return 0, err
		}
		if n < last {
			if rows[n+1] < 0 {
				rows[n+1] = c.node()
			}
			c.eps(after, rows[n+1])
			continue
		}
		loop := c.node()
		c.eps(after, loop)
		again, err := write(e.Rest, loop, 1)
		if err != nil {
			return 0, err
		}
		c.eps(again, loop)
		c.eps(loop, to)
	}
	return to, nil
}

// emitMachine has a node for each state.
func (c *compiler) emitMachine(e *expression.Expr, from int32) (int32, error) {
	states := make([]int32, len(e.Moves))
	for i := range states {
		states[i] = c.node()
	}
	to := c.node()
	c.eps(from, states[0])
	for i, moves := range e.Moves {
		if err := c.src.Spend(2 + len(moves)); err != nil {
			return 0, err
		}
		for _, m := range moves {
			if m.On.Op == expression.OpClass {
				if err := c.src.Spend(len(m.On.Class)); err != nil {
					return 0, err
				}
				c.chars(m.On.Class, states[i], states[m.To])
				continue
			}
			last, err := c.emit(m.On, states[i])
			if err != nil {
				return 0, err
			}
			c.eps(last, states[m.To])
		}
		if e.Ends[i] {
			c.eps(states[i], to)
		}
	}
	return to, nil
}

// chars adds edges for one character of some spans. What is beyond ASCII is a rule of its own, once for each set: a set
// like "all but the quote" takes 14 edges, and a string of 1,000 of them must not take 14,000.
func (c *compiler) chars(spans []expression.Span, from, to int32) {
	var wide []expression.Span
	for _, s := range spans {
		if s.Lo < utf8.RuneSelf {
			c.edge(from, byte(s.Lo), byte(min(s.Hi, utf8.RuneSelf-1)), to)
		}
		if s.Hi >= utf8.RuneSelf {
			wide = append(wide, expression.Span{Lo: max(s.Lo, utf8.RuneSelf), Hi: s.Hi})
		}
	}
	if len(wide) == 0 {
		return
	}
	number, ok := c.same[&spans[0]] // one set that is repeated
	if ok {
		c.call(from, number, to)
		return
	}
	key := fmt.Sprint(wide)
	number, ok = c.classes[key]
	if !ok {
		r := Rule{name: "a set of characters", Start: c.node(), end: c.node()}
		c.g.Nodes[r.end].End = true
		number = int32(len(c.g.Rules))
		c.g.Rules = append(c.g.Rules, r)
		c.classes[key] = number
		tails := map[string]int32{"": r.end}
		for _, s := range wide {
			sequences(s.Lo, s.Hi, func(seq []byteSpan) { c.sequence(seq, r.Start, tails) })
		}
	}
	c.same[&spans[0]] = number
	c.call(from, number, to)
}

// sequence adds the path of one sequence of byte ranges; paths with the same tail share it.
func (c *compiler) sequence(seq []byteSpan, from int32, tails map[string]int32) {
	for i, s := range seq {
		key := fmt.Sprint(seq[i+1:])
		if i == len(seq)-1 {
			key = ""
		}
		to, ok := tails[key]
		if !ok {
			to = c.node()
			tails[key] = to
			c.edge(from, s.lo, s.hi, to)
			from = to
			continue
		}
		c.edge(from, s.lo, s.hi, to)
		return
	}
}

type byteSpan struct{ lo, hi byte }

// sequences calls f for the byte sequences of code points lo to hi, none of which is ASCII: ranges of each
// byte, such that every combination is one of them. Surrogates are left out: they have no UTF-8.
func sequences(lo, hi rune, f func([]byteSpan)) {
	if lo <= 0xDFFF && hi >= 0xD800 {
		if lo < 0xD800 {
			sequences(lo, 0xD7FF, f)
		}
		if hi > 0xDFFF {
			sequences(0xE000, hi, f)
		}
		return
	}
	if lo > hi {
		return
	}
	for _, limit := range []rune{0x7FF, 0xFFFF} { // one length at a time
		if lo <= limit && hi > limit {
			sequences(lo, limit, f)
			sequences(limit+1, hi, f)
			return
		}
	}
	for shift := 6; shift <= 18; shift += 6 { // whole blocks of the last bytes at a time
		low := rune(1)<<shift - 1
		if lo&^low == hi&^low {
			continue
		}
		if lo&low != 0 {
			sequences(lo, lo|low, f)
			sequences(lo|low+1, hi, f)
			return
		}
		if hi&low != low {
			sequences(lo, hi&^low-1, f)
			sequences(hi&^low, hi, f)
			return
		}
	}
	var a, b [utf8.UTFMax]byte
	n := utf8.EncodeRune(a[:], lo)
	utf8.EncodeRune(b[:], hi)
	seq := make([]byteSpan, n)
	for i := range seq {
		seq[i] = byteSpan{a[i], b[i]}
	}
	f(seq)
}

// shorten lets calls return to where a node with nothing but one eps leads: a call that returns to the end of its rule
// needs no place on the stack, so that a rule that ends with itself does not grow one.
func (g *Network) shorten() {
	follow := func(n int32) int32 {
		for range 64 {
			at := &g.Nodes[n]
			if len(at.Eps) != 1 || len(at.Edges)+len(at.Calls) > 0 || at.End {
				break
			}
			n = at.Eps[0]
		}
		return n
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		for k := range n.Calls {
			n.Calls[k].Back = follow(n.Calls[k].Back)
		}
		for k := range n.Eps {
			n.Eps[k] = follow(n.Eps[k])
		}
		for k := range n.Edges {
			n.Edges[k].To = follow(n.Edges[k].To)
		}
	}
}

// refuseLeftRecursion refuses rules that can begin with themselves: to find what may come next would never end.
func (g *Network) refuseLeftRecursion() error {
	nullable := g.nullable()
	begins := make([][]int32, len(g.Rules)) // rules that a rule can begin with
	seen := make([]int, len(g.Nodes))
	for r := range g.Rules {
		work := []int32{g.Rules[r].Start}
		visit := func(n int32) {
			if seen[n] != r+1 {
				seen[n] = r + 1
				work = append(work, n)
			}
		}
		for len(work) > 0 {
			n := &g.Nodes[work[len(work)-1]]
			work = work[:len(work)-1]
			for _, to := range n.Eps {
				visit(to)
			}
			for _, c := range n.Calls {
				begins[r] = append(begins[r], c.Rule)
				if nullable[c.Rule] {
					visit(c.Back)
				}
			}
		}
	}
	const fresh, open, closed = 0, 1, 2
	mark := make([]uint8, len(g.Rules))
	type step struct{ rule, next int }
	for first := range g.Rules {
		if mark[first] != fresh {
			continue
		}
		mark[first] = open
		for path := []step{{first, 0}}; len(path) > 0; {
			at := &path[len(path)-1]
			if at.next == len(begins[at.rule]) {
				mark[at.rule] = closed
				path = path[:len(path)-1]
				continue
			}
			to := int(begins[at.rule][at.next])
			at.next++
			switch mark[to] {
			case open:
				return expression.Syntaxf("rule %s can begin with itself: write the repetition with * or +", g.Rules[to].name)
			case fresh:
				mark[to] = open
				path = append(path, step{to, 0})
			}
		}
	}
	return nil
}

// nullable says of each rule whether it matches the empty text.
func (g *Network) nullable() []bool {
	out := make([]bool, len(g.Rules))
	reach := make([]bool, len(g.Nodes))  // the end of the node's rule, without text
	type link struct{ from, rule int32 } // rule below 0: without a call
	before := make([][]link, len(g.Nodes))
	waits := make([][]Call, len(g.Rules)) // call.rule is the node that waits here
	for i := range g.Nodes {
		for _, to := range g.Nodes[i].Eps {
			before[to] = append(before[to], link{int32(i), -1})
		}
		for _, c := range g.Nodes[i].Calls {
			waits[c.Rule] = append(waits[c.Rule], Call{int32(i), c.Back})
			before[c.Back] = append(before[c.Back], link{int32(i), c.Rule})
		}
	}
	starts := map[int32][]int{}
	var work []int32
	visit := func(n int32) {
		if !reach[n] {
			reach[n] = true
			work = append(work, n)
		}
	}
	for i, r := range g.Rules {
		starts[r.Start] = append(starts[r.Start], i)
		visit(r.end)
	}
	for len(work) > 0 {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		for _, l := range before[n] {
			if l.rule < 0 || out[l.rule] {
				visit(l.from)
			}
		}
		for _, r := range starts[n] {
			out[r] = true
			for _, w := range waits[r] {
				if reach[w.Back] {
					visit(w.Rule)
				}
			}
		}
	}
	return out
}

// Distances says of each node how many bytes the shortest text to the end of its rule has, calls included, where only
// some bytes may be used (D. E. Knuth, A generalization of Dijkstra's algorithm, 1977).
func (g *Network) Distances(usable *[256]bool) []int32 {
	dist := make([]int32, len(g.Nodes))
	for i := range dist {
		dist[i] = Never
	}
	type link struct{ from, cost int32 }
	before := make([][]link, len(g.Nodes))
	type user struct{ from, back int32 }
	users := make(map[int32][]user)   // by the start of the rule that is called
	returns := make(map[int32][]user) // by the node that is returned to; back is the start
	for i := range g.Nodes {
		n := &g.Nodes[i]
		for _, e := range n.Edges {
			if slices.Contains(usable[e.Lo:int(e.Hi)+1], true) {
				before[e.To] = append(before[e.To], link{int32(i), 1})
			}
		}
		for _, to := range n.Eps {
			before[to] = append(before[to], link{int32(i), 0})
		}
		for _, c := range n.Calls {
			start := g.Rules[c.Rule].Start
			users[start] = append(users[start], user{int32(i), c.Back})
			returns[c.Back] = append(returns[c.Back], user{int32(i), start})
		}
	}
	final := make([]bool, len(g.Nodes))
	var q queue
	relax := func(n, d int32) {
		if d < dist[n] {
			dist[n] = d
			heap.Push(&q, item{n, d})
		}
	}
	for _, r := range g.Rules {
		relax(r.end, 0)
	}
	for len(q) > 0 {
		it := heap.Pop(&q).(item)
		if final[it.node] {
			continue
		}
		final[it.node] = true
		for _, l := range before[it.node] {
			relax(l.from, min(it.dist+l.cost, Never))
		}
		for _, u := range users[it.node] {
			if final[u.back] {
				relax(u.from, min(it.dist+dist[u.back], Never))
			}
		}
		for _, u := range returns[it.node] {
			if final[u.back] {
				relax(u.from, min(it.dist+dist[u.back], Never))
			}
		}
	}
	return dist
}

type item struct{ node, dist int32 }

// queue is a heap by distance.
type queue []item

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].dist < q[j].dist }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(item)) }

func (q *queue) Pop() any {
	old := *q
	it := old[len(old)-1]
	*q = old[:len(old)-1]
	return it
}

// classify finds the bytes that no edge tells apart.
func (g *Network) classify() {
	var begins [257]bool
	for i := range g.Nodes {
		for _, e := range g.Nodes[i].Edges {
			begins[e.Lo], begins[int(e.Hi)+1] = true, true
		}
	}
	for b := range 256 {
		if b == 0 || begins[b] {
			g.Least = append(g.Least, byte(b))
		}
		g.Class[b] = uint8(len(g.Least) - 1)
	}
}
