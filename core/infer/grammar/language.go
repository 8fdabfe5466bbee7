package grammar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A language is what several demands on one text have in common: patterns that look around themselves, a format, lengths,
// values that are excluded. Each is a term; a term's derivative by a character is what may follow that character
// (J. A. Brzozowski, Derivatives of regular expressions, 1964), and the derivatives of one are the states of a machine. Terms that are the
// same are one, so that the machine is found to close.

// maxStates bounds one machine.
const maxStates = 5000

// maxTerms bounds the terms of one language.
const maxTerms = 24_000

type termOp uint8

const (
	termNone   termOp = iota // no text
	termEmpty                // the empty text
	termSet                  // one character of a set
	termCat                  // subs[0], then subs[1]
	termOr                   // any of subs
	termAnd                  // all of subs
	termNot                  // what is no text of subs[0]
	termRepeat               // subs[0], min to max times
	termLoop                 // itself again: subs[0], set later, leads back to it
)

type term struct {
	op       termOp
	id       int
	subs     []*term
	set      int // index of the set
	min, max int
	empty    bool // it has the empty text
}

type language struct {
	*effort
	terms map[string]*term
	sets  [][]span
	known map[string]int // sets, by their spans
	last  int

	none, nothing, all, any *term

	classes [][]span // characters that no set tells apart
	has     [][]bool // of each set: which classes
	derived map[[2]int]*term
	full    bool // maxTerms is reached
	most    int  // states of its machine
}

func newLanguage(e *effort) *language {
	l := &language{effort: e, most: maxStates, terms: map[string]*term{}, known: map[string]int{}, derived: map[[2]int]*term{}}
	l.none = l.make(term{op: termNone})
	l.nothing = l.make(term{op: termEmpty, empty: true})
	l.any = l.set(every())
	l.all = l.make(term{op: termRepeat, subs: []*term{l.any}, max: -1, empty: true})
	return l
}

// make is the one term that is made so.
func (l *language) make(t term) *term {
	key := []byte{byte(t.op)}
	key = binary.AppendVarint(key, int64(t.set))
	key = binary.AppendVarint(key, int64(t.min))
	key = binary.AppendVarint(key, int64(t.max))
	for _, s := range t.subs {
		key = binary.AppendVarint(key, int64(s.id))
	}
	if old, ok := l.terms[string(key)]; ok {
		return old
	}
	if l.last++; l.last > maxTerms {
		l.full = true
		return l.none
	}
	t.id = l.last
	l.terms[string(key)] = &t
	return &t
}

func (l *language) set(spans []span) *term {
	spans = ordered(spans)
	if len(spans) == 0 {
		return l.none
	}
	key := fmt.Sprint(spans)
	n, ok := l.known[key]
	if !ok {
		n = len(l.sets)
		l.sets = append(l.sets, spans)
		l.known[key] = n
	}
	return l.make(term{op: termSet, set: n})
}

func (l *language) text(s string) *term {
	out := l.nothing
	all := []rune(s)
	for i := len(all) - 1; i >= 0; i-- {
		out = l.cat(l.set([]span{{all[i], all[i]}}), out)
	}
	return out
}

func (l *language) cat(a, b *term) *term {
	switch {
	case a == l.none || b == l.none:
		return l.none
	case a == l.nothing:
		return b
	case b == l.nothing:
		return a
	case a == l.all && (b == l.all || b.op == termCat && b.subs[0] == l.all):
		return b
	case a.op == termCat:
		return l.cat(a.subs[0], l.cat(a.subs[1], b))
	}
	return l.make(term{op: termCat, subs: []*term{a, b}, empty: a.empty && b.empty})
}

// gather flattens terms of one operation, leaves out what changes nothing, and sorts.
func (l *language) gather(op termOp, all []*term, without *term) []*term {
	var out []*term
	for _, t := range all {
		if t.op == op {
			out = append(out, t.subs...)
		} else if t != without {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *term) int { return a.id - b.id })
	return slices.Compact(out)
}

func (l *language) or(all ...*term) *term {
	out := l.gather(termOr, all, l.none)
	empty := false
	for _, t := range out {
		if t == l.all || t.op == termNot && slices.Contains(out, t.subs[0]) {
			return l.all
		}
		empty = empty || t.empty
	}
	switch len(out) {
	case 0:
		return l.none
	case 1:
		return out[0]
	}
	return l.make(term{op: termOr, subs: out, empty: empty})
}

func (l *language) and(all ...*term) *term {
	out := l.gather(termAnd, all, l.all)
	empty := true
	for _, t := range out {
		if t == l.none || t.op == termNot && slices.Contains(out, t.subs[0]) {
			return l.none
		}
		empty = empty && t.empty
	}
	switch {
	case len(out) == 0:
		return l.all
	case len(out) == 1:
		return out[0]
	case slices.Contains(out, l.nothing) && empty:
		return l.nothing
	case slices.Contains(out, l.nothing):
		return l.none
	}
	return l.make(term{op: termAnd, subs: out, empty: empty})
}

func (l *language) not(t *term) *term {
	switch {
	case t.op == termNot:
		return t.subs[0]
	case t == l.none:
		return l.all
	case t == l.all:
		return l.none
	}
	return l.make(term{op: termNot, subs: []*term{t}, empty: !t.empty})
}

func (l *language) repeat(t *term, least, most int) *term {
	switch {
	case t == l.none && least > 0:
		return l.none
	case t == l.none, t == l.nothing, most == 0:
		return l.nothing
	case least == 1 && most == 1:
		return t
	case t.op == termRepeat && t.min == 0 && t.max < 0:
		return t
	}
	if t.empty {
		least = 0
	}
	return l.make(term{op: termRepeat, subs: []*term{t}, min: least, max: most, empty: least == 0})
}

// expr is the term of an expression without rules.
func (l *language) expr(e *expr) *term {
	switch e.op {
	case opLit:
		return l.text(e.lit)
	case opClass:
		return l.set(e.class)
	case opSeq:
		out := l.nothing
		for _, s := range slices.Backward(e.subs) {
			out = l.cat(l.expr(s), out)
		}
		return out
	case opAlt:
		var all []*term
		for _, s := range e.subs {
			all = append(all, l.expr(s))
		}
		return l.or(all...)
	case opRepeat:
		return l.repeat(l.expr(e.subs[0]), e.min, e.max)
	}
	return l.nothing
}

// pattern is the term of a regular expression.
func (l *language) pattern(n *rx, a anchoring, text string) (*term, error) {
	items := []*rx{n}
	if n.op == rxCat {
		items = n.subs
	}
	if a == part {
		anything := &rx{op: rxRepeat, subs: []*rx{{op: rxSet, set: every()}}, max: -1}
		items = append(append([]*rx{anything}, items...), anything)
	}
	p := &looking{language: l, text: text}
	return p.row(items, l.nothing, true)
}

// looking turns a regular expression into a term from its end to its beginning: an expression stands for itself and what
// follows it, since that is what it may look at.
type looking struct {
	*language
	text string
}

func (p *looking) unsupported(what string) error {
	return unsupported("regular expression %s: %s", short(p.text), what)
}

// node is the term of n and then k. first: n stands where the text begins.
func (p *looking) node(n *rx, k *term, first bool) (*term, error) {
	if err := p.spend(8 + len(n.set)); err != nil {
		return nil, err
	}
	if p.full {
		return nil, p.unsupported("it is too large")
	}
	switch n.op {
	case rxSet:
		return p.cat(p.set(n.set), k), nil
	case rxCat:
		return p.row(n.subs, k, first)
	case rxAlt:
		var all []*term
		for _, s := range n.subs {
			t, err := p.node(s, k, first)
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
		return p.or(all...), nil
	case rxRepeat:
		return p.loop(n, k, first)
	case rxEnd:
		return p.and(p.nothing, k), nil
	case rxLook:
		if !n.back {
			t, err := p.node(n.subs[0], p.all, false)
			if err != nil {
				return nil, err
			}
			if n.not {
				t = p.not(t)
			}
			return p.and(t, k), nil
		}
	case rxEmpty:
		return k, nil
	}
	return p.row([]*rx{n}, k, first)
}

// loop is the term of a repetition and then k.
func (p *looking) loop(n *rx, k *term, first bool) (*term, error) {
	body := n.subs[0]
	if body.pure() {
		t, err := p.node(body, p.nothing, false)
		return p.cat(p.repeat(t, n.min, n.max), k), err
	}
	const unrolled = 32
	if n.min > unrolled || n.max > unrolled {
		return nil, p.unsupported("it looks around itself within a long repetition")
	}
	out := k
	if n.max < 0 {
		if body.least() == 0 {
			return nil, p.unsupported("it looks around itself within a repetition of nothing")
		}
		p.last++
		again := &term{op: termLoop, id: p.last, empty: k.empty}
		t, err := p.node(body, again, false)
		if err != nil {
			return nil, err
		}
		again.subs = []*term{p.or(t, k)}
		out = again
	}
	for i := max(n.max, n.min); i > 0; i-- {
		t, err := p.node(body, out, first && i == 1)
		if err != nil {
			return nil, err
		}
		if out = t; i > n.min {
			out = p.or(t, k)
		}
	}
	return out, nil
}

// row is the term of items and then k. What looks behind looks at the items before it, or knows that the text begins.
func (p *looking) row(items []*rx, k *term, first bool) (*term, error) {
	at := slices.IndexFunc(items, func(n *rx) bool {
		return n.op == rxBegin || n.op == rxEdge || n.op == rxLook && n.back
	})
	if at < 0 {
		var err error
		for i, n := range slices.Backward(items) {
			if k, err = p.node(n, k, first && i == 0); err != nil {
				return nil, err
			}
		}
		return k, nil
	}
	before, n := &rx{op: rxCat, subs: items[:at]}, items[at]
	if !before.pure() {
		return nil, p.unsupported("it looks behind at what looks around itself")
	}
	head, err := p.node(before, p.nothing, false)
	if err != nil {
		return nil, err
	}
	tail, err := p.row(items[at+1:], k, false)
	if err != nil {
		return nil, err
	}
	reach := 1 // how far it looks back
	var behind *term
	switch n.op {
	case rxLook:
		if reach = n.subs[0].most(); !n.subs[0].pure() {
			return nil, p.unsupported("it looks around itself in what it looks behind at")
		}
		if behind, err = p.node(n.subs[0], p.nothing, false); err != nil {
			return nil, err
		}
		if behind = p.cat(p.all, behind); n.not {
			behind = p.not(behind)
		}
	case rxBegin:
		behind = p.nothing
	}
	if !first && (reach < 0 || before.least() < reach) {
		return nil, p.unsupported("it looks behind beyond the group that it stands in")
	}
	if n.op != rxEdge {
		return p.cat(p.and(head, behind), tail), nil
	}
	word, other := p.set(words()), p.set(except(words()))
	into := [2]*term{p.cat(word, p.all), p.or(p.nothing, p.cat(other, p.all))}
	from := [2]*term{p.cat(p.all, word), p.or(p.nothing, p.cat(p.all, other))}
	if n.not {
		from[0], from[1] = from[1], from[0]
	}
	return p.or(
		p.cat(p.and(head, from[1]), p.and(into[0], tail)),
		p.cat(p.and(head, from[0]), p.and(into[1], tail)),
	), nil
}

// alphabet finds the classes of characters that no set tells apart.
func (l *language) alphabet() error {
	var begins []rune
	for _, s := range l.sets {
		if err := l.spend(2 * len(s)); err != nil {
			return err
		}
		for _, r := range s {
			begins = append(begins, r.lo, r.hi+1)
		}
	}
	slices.Sort(begins)
	begins = slices.Compact(begins)
	at := make([]int, len(l.sets)) // of each set: the span that begins or contains the place
	l.has = make([][]bool, len(l.sets))
	found := map[string]int{}
	key := make([]byte, len(l.sets))
	for i := 0; i+1 < len(begins); i++ {
		if err := l.spend(1 + len(l.sets)/4); err != nil {
			return err
		}
		some := byte(0)
		for k, s := range l.sets {
			for at[k] < len(s) && s[at[k]].hi < begins[i] {
				at[k]++
			}
			key[k] = 0
			if at[k] < len(s) && s[at[k]].lo <= begins[i] {
				key[k], some = 1, 1
			}
		}
		if some == 0 {
			continue
		}
		n, ok := found[string(key)]
		if !ok {
			n = len(l.classes)
			found[string(key)] = n
			l.classes = append(l.classes, nil)
			for k := range l.sets {
				l.has[k] = append(l.has[k], key[k] == 1)
			}
		}
		l.classes[n] = append(l.classes[n], span{begins[i], begins[i+1] - 1})
	}
	return nil
}

// after is the derivative of a term by a class of characters.
func (l *language) after(t *term, class int) (*term, error) {
	switch t.op {
	case termNone, termEmpty:
		return l.none, nil
	case termSet:
		if l.has[t.set][class] {
			return l.nothing, nil
		}
		return l.none, nil
	}
	key := [2]int{t.id, class}
	if d, ok := l.derived[key]; ok {
		return d, nil
	}
	if err := l.spend(6 + 3*len(t.subs)); err != nil {
		return nil, err
	}
	var subs []*term
	for i, s := range t.subs {
		if t.op == termCat && i > 0 && !t.subs[0].empty {
			break
		}
		d, err := l.after(s, class)
		if err != nil {
			return nil, err
		}
		subs = append(subs, d)
	}
	var out *term
	switch t.op {
	case termCat:
		if out = l.cat(subs[0], t.subs[1]); len(subs) > 1 {
			out = l.or(out, subs[1])
		}
	case termOr:
		out = l.or(subs...)
	case termAnd:
		out = l.and(subs...)
	case termNot:
		out = l.not(subs[0])
	case termRepeat:
		most := t.max
		if most > 0 {
			most--
		}
		out = l.cat(subs[0], l.repeat(t.subs[0], max(t.min-1, 0), most))
	default:
		out = subs[0]
	}
	l.derived[key] = out
	return out, nil
}

// machine is a deterministic automaton over classes of characters. It begins in state 0.
type machine struct {
	classes [][]span
	next    [][]int32 // (states, classes); -1: nowhere
	ends    []bool
}

var (
	errStates = errors.New("it takes too many states")
	errNoText = errors.New("no text keeps to it")
)

// tooMany says which expression an error of machine is about.
func tooMany(err error, what string) error {
	switch {
	case errors.Is(err, errStates):
		return fmt.Errorf("%w: %s: %w", ErrTooLarge, what, err)
	case errors.Is(err, errNoText):
		return wrong("%s: %v", what, err)
	}
	return err
}

// machine makes the machine of a term; no more terms of the language may be made after it. The errors are errStates,
// errNoText and those of spend.
func (l *language) machine(root *term) (*machine, error) {
	if err := l.alphabet(); err != nil {
		return nil, err
	}
	m := &machine{classes: l.classes}
	number := map[*term]int32{root: 0}
	todo := []*term{root}
	for i := 0; i < len(todo); i++ {
		t := todo[i]
		row := make([]int32, len(l.classes))
		if err := l.spend(4 + len(row)); err != nil {
			return nil, err
		}
		for c := range row {
			d, err := l.after(t, c)
			if err != nil {
				return nil, err
			}
			row[c] = -1
			if d == l.none {
				continue
			}
			n, ok := number[d]
			if !ok {
				n = int32(len(todo))
				number[d] = n
				todo = append(todo, d)
			}
			row[c] = n
		}
		m.next, m.ends = append(m.next, row), append(m.ends, t.empty)
		if len(todo) > l.most || l.full {
			return nil, errStates
		}
	}
	return m.trim()
}

// shortened is the machine of a term, as made in a new language. Where it takes too many states the longest texts are left out:
// bounds on parts of a text multiply with those on the whole.
func shortened(e *effort, make func(l *language) (*term, error), least int) (*machine, error) {
	for _, most := range []int{-1, 64, 24} {
		l := newLanguage(e)
		if most != 24 {
			l.most = maxStates / 2 // the steps must do for another one
		}
		t, err := make(l)
		if err != nil {
			return nil, err
		}
		if most >= 0 {
			t = l.and(t, l.repeat(l.any, 0, max(most, least)))
		}
		m, err := l.machine(t)
		if !errors.Is(err, errStates) {
			return m, err
		}
	}
	return nil, errStates
}

// trim leaves out the states from which no text ends.
func (m *machine) trim() (*machine, error) {
	before := make([][]int32, len(m.next))
	var todo []int32
	alive := make([]bool, len(m.next))
	for i, row := range m.next {
		for c, to := range row {
			if to >= 0 && (c == 0 || row[c-1] != to) {
				before[to] = append(before[to], int32(i))
			}
		}
		if m.ends[i] {
			alive[i] = true
			todo = append(todo, int32(i))
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, from := range before[n] {
			if !alive[from] {
				alive[from] = true
				todo = append(todo, from)
			}
		}
	}
	if !alive[0] {
		return nil, errNoText
	}
	number := make([]int32, len(m.next))
	n := int32(0)
	for i, ok := range alive {
		if number[i] = -1; ok {
			number[i] = n
			n++
		}
	}
	out := &machine{classes: m.classes}
	for i, row := range m.next {
		if !alive[i] {
			continue
		}
		kept := make([]int32, len(row))
		for c, to := range row {
			if kept[c] = -1; to >= 0 {
				kept[c] = number[to]
			}
		}
		out.next, out.ends = append(out.next, kept), append(out.ends, m.ends[i])
	}
	return out, nil
}

// accepts tells whether a text is one of the machine's.
func (m *machine) accepts(text string) bool {
	at := int32(0)
	for _, r := range text {
		c := slices.IndexFunc(m.classes, func(set []span) bool {
			return slices.ContainsFunc(set, func(s span) bool { return s.lo <= r && r <= s.hi })
		})
		if c < 0 || m.next[at][c] < 0 {
			return false
		}
		at = m.next[at][c]
	}
	return m.ends[at]
}

// lengths are the characters of the shortest and of the longest text; below 0: without bound.
func (m *machine) lengths() (least, most int) {
	dist := make([]int, len(m.next))
	for i := range dist {
		dist[i] = -1
	}
	dist[0], least = 0, -1
	for todo := []int32{0}; len(todo) > 0; todo = todo[1:] {
		n := todo[0]
		if m.ends[n] && least < 0 {
			least = dist[n]
		}
		for _, to := range m.next[n] {
			if to >= 0 && dist[to] < 0 {
				dist[to] = dist[n] + 1
				todo = append(todo, to)
			}
		}
	}
	// All states end somewhere: a circle is a text without bound. Without one, layer after layer is left.
	const fresh, open, closed = 0, 1, 2
	mark := make([]uint8, len(m.next))
	long := make([]int, len(m.next))
	type step struct{ state, class int }
	mark[0] = open
	for path := []step{{}}; len(path) > 0; {
		at := &path[len(path)-1]
		if at.class == len(m.classes) {
			mark[at.state] = closed
			path = path[:len(path)-1]
			if n := len(path); n > 0 {
				long[path[n-1].state] = max(long[path[n-1].state], long[at.state]+1)
			}
			continue
		}
		to := m.next[at.state][at.class]
		at.class++
		switch {
		case to < 0:
		case mark[to] == open:
			return least, -1
		case mark[to] == closed:
			long[at.state] = max(long[at.state], long[to]+1)
		default:
			mark[to] = open
			path = append(path, step{int(to), 0})
		}
	}
	return least, long[0]
}

// counted is the machine of those texts that have least to most characters (most below 0: or more). Where that would take
// too many states the longest texts are left out.
func (m *machine) counted(e *effort, least, most int) (*machine, error) {
	low, high := m.lengths()
	if low >= least && (most < 0 || high >= 0 && high <= most) {
		return m, nil
	}
	layers := most
	if most < 0 {
		layers = least
	}
	if room := maxStates / len(m.next); layers > room {
		if layers = max(least, low, room); layers > 4*maxStates/len(m.next) {
			return nil, errStates
		}
	}
	type place struct {
		state int32
		count int
	}
	out := &machine{classes: m.classes}
	number := map[place]int32{{}: 0}
	todo := []place{{}}
	for i := 0; i < len(todo); i++ {
		p := todo[i]
		row := make([]int32, len(m.classes))
		if err := e.spend(4 + len(row)); err != nil {
			return nil, err
		}
		for c, to := range m.next[p.state] {
			row[c] = -1
			count := p.count + 1
			if count > layers {
				if count = layers; most >= 0 {
					continue
				}
			}
			if to < 0 {
				continue
			}
			q := place{to, count}
			n, ok := number[q]
			if !ok {
				n = int32(len(todo))
				number[q] = n
				todo = append(todo, q)
			}
			row[c] = n
		}
		out.next, out.ends = append(out.next, row), append(out.ends, m.ends[p.state] && p.count >= least)
	}
	return out.trim()
}

// move is a step of a machine in a network: an expression of one character, and the state that it leads to.
type move struct {
	on *expr
	to int32
}

// expr is the expression of a machine's texts.
func (m *machine) expr(c chars) *expr {
	out := &expr{op: opMachine, parts: &parts{ends: m.ends}}
	made := map[string]*expr{}
	for _, row := range m.next {
		by := map[int32][]int{}
		var order []int32
		for class, to := range row {
			if to < 0 {
				continue
			}
			if by[to] == nil {
				order = append(order, to)
			}
			by[to] = append(by[to], class)
		}
		var moves []move
		for _, to := range order {
			key := fmt.Sprint(by[to])
			on := made[key]
			if on == nil {
				var spans []span
				for _, class := range by[to] {
					spans = append(spans, m.classes[class]...)
				}
				on = c(ordered(spans))
				made[key] = on
			}
			moves = append(moves, move{on, to})
		}
		out.moves = append(out.moves, moves)
	}
	return out
}
