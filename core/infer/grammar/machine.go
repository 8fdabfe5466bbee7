package grammar

import (
	"errors"
	"fmt"
	"slices"
)

// machine is a deterministic automaton over classes of characters. It begins in state 0.
type machine struct {
	classes [][]span
	next    [][]int32 // (states, classes); -1: nowhere
	ends    []bool
}

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
