package regex

import (
	"errors"
	"fmt"
	"slices"

	"edged/core/infer/grammar/expression"
)

// Machine is a deterministic automaton over classes of characters. It begins in state 0.
type Machine struct {
	Classes [][]expression.Span
	Next    [][]int32 // (states, classes); -1: nowhere
	Ends    []bool
}

// TooMany says which expression an error of machine is about.
func TooMany(err error, what string) error {
	switch {
	case errors.Is(err, ErrStates):
		return fmt.Errorf("%w: %s: %w", expression.ErrTooLarge, what, err)
	case errors.Is(err, ErrNoText):
		return expression.Syntaxf("%s: %v", what, err)
	}
	return err
}

// Machine makes the machine of a term; no more terms of the language may be made after it. The errors are errStates,
// errNoText and those of spend.
func (l *Language) Machine(root *Term) (*Machine, error) {
	if err := l.alphabet(); err != nil {
		return nil, err
	}
	m := &Machine{Classes: l.classes}
	number := map[*Term]int32{root: 0}
	todo := []*Term{root}
	for i := 0; i < len(todo); i++ {
		t := todo[i]
		row := make([]int32, len(l.classes))
		if err := l.Spend(4 + len(row)); err != nil {
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
		m.Next, m.Ends = append(m.Next, row), append(m.Ends, t.empty)
		if len(todo) > l.most || l.full {
			return nil, ErrStates
		}
	}
	return m.Trim()
}

// Shortened is the machine of a term, as made in a new language. Where it takes too many states the longest
// texts are left out: bounds on parts of a text multiply with those on the whole.
func Shortened(e *expression.Effort, make func(l *Language) (*Term, error), least int) (*Machine, error) {
	for _, most := range []int{-1, 64, 24} {
		l := NewLanguage(e)
		if most != 24 {
			l.most = MaxStates / 2 // the steps must do for another one
		}
		t, err := make(l)
		if err != nil {
			return nil, err
		}
		if most >= 0 {
			t = l.And(t, l.Repeat(l.Any, 0, max(most, least)))
		}
		m, err := l.Machine(t)
		if !errors.Is(err, ErrStates) {
			return m, err
		}
	}
	return nil, ErrStates
}

// Trim leaves out the states from which no text ends.
func (m *Machine) Trim() (*Machine, error) {
	before := make([][]int32, len(m.Next))
	var todo []int32
	alive := make([]bool, len(m.Next))
	for i, row := range m.Next {
		for c, to := range row {
			if to >= 0 && (c == 0 || row[c-1] != to) {
				before[to] = append(before[to], int32(i))
			}
		}
		if m.Ends[i] {
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
		return nil, ErrNoText
	}
	number := make([]int32, len(m.Next))
	n := int32(0)
	for i, ok := range alive {
		if number[i] = -1; ok {
			number[i] = n
			n++
		}
	}
	out := &Machine{Classes: m.Classes}
	for i, row := range m.Next {
		if !alive[i] {
			continue
		}
		kept := make([]int32, len(row))
		for c, to := range row {
			if kept[c] = -1; to >= 0 {
				kept[c] = number[to]
			}
		}
		out.Next, out.Ends = append(out.Next, kept), append(out.Ends, m.Ends[i])
	}
	return out, nil
}

// Accepts tells whether a text is one of the machine's.
func (m *Machine) Accepts(text string) bool {
	at := int32(0)
	for _, r := range text {
		c := slices.IndexFunc(m.Classes, func(set []expression.Span) bool {
			return slices.ContainsFunc(set, func(s expression.Span) bool { return s.Lo <= r && r <= s.Hi })
		})
		if c < 0 || m.Next[at][c] < 0 {
			return false
		}
		at = m.Next[at][c]
	}
	return m.Ends[at]
}

// lengths are the characters of the shortest and of the longest text; below 0: without bound.
func (m *Machine) lengths() (least, most int) {
	dist := make([]int, len(m.Next))
	for i := range dist {
		dist[i] = -1
	}
	dist[0], least = 0, -1
	for todo := []int32{0}; len(todo) > 0; todo = todo[1:] {
		n := todo[0]
		if m.Ends[n] && least < 0 {
			least = dist[n]
		}
		for _, to := range m.Next[n] {
			if to >= 0 && dist[to] < 0 {
				dist[to] = dist[n] + 1
				todo = append(todo, to)
			}
		}
	}
	// All states end somewhere: a circle is a text without bound. Without one, layer after layer is left.
	const fresh, open, closed = 0, 1, 2
	mark := make([]uint8, len(m.Next))
	long := make([]int, len(m.Next))
	type step struct{ state, class int }
	mark[0] = open
	for path := []step{{}}; len(path) > 0; {
		at := &path[len(path)-1]
		if at.class == len(m.Classes) {
			mark[at.state] = closed
			path = path[:len(path)-1]
			if n := len(path); n > 0 {
				long[path[n-1].state] = max(long[path[n-1].state], long[at.state]+1)
			}
			continue
		}
		to := m.Next[at.state][at.class]
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

// Counted is the machine of those texts that have least to most characters (most below 0: or more). Where
// that would take too many states the longest texts are left out.
func (m *Machine) Counted(e *expression.Effort, least, most int) (*Machine, error) {
	low, high := m.lengths()
	if low >= least && (most < 0 || high >= 0 && high <= most) {
		return m, nil
	}
	layers := most
	if most < 0 {
		layers = least
	}
	if room := MaxStates / len(m.Next); layers > room {
		if layers = max(least, low, room); layers > 4*MaxStates/len(m.Next) {
			return nil, ErrStates
		}
	}
	type place struct {
		state int32
		count int
	}
	out := &Machine{Classes: m.Classes}
	number := map[place]int32{{}: 0}
	todo := []place{{}}
	for i := 0; i < len(todo); i++ {
		p := todo[i]
		row := make([]int32, len(m.Classes))
		if err := e.Spend(4 + len(row)); err != nil {
			return nil, err
		}
		for c, to := range m.Next[p.state] {
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
		out.Next, out.Ends = append(out.Next, row), append(out.Ends, m.Ends[p.state] && p.count >= least)
	}
	return out.Trim()
}

// Expr is the expression of a machine's texts.
func (m *Machine) Expr(c Chars) *expression.Expr {
	out := &expression.Expr{Op: expression.OpMachine, Parts: &expression.Parts{Ends: m.Ends}}
	made := map[string]*expression.Expr{}
	for _, row := range m.Next {
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
		var moves []expression.Move
		for _, to := range order {
			key := fmt.Sprint(by[to])
			on := made[key]
			if on == nil {
				var spans []expression.Span
				for _, class := range by[to] {
					spans = append(spans, m.Classes[class]...)
				}
				on = c(expression.Normalize(spans))
				made[key] = on
			}
			moves = append(moves, expression.Move{On: on, To: to})
		}
		out.Moves = append(out.Moves, moves)
	}
	return out
}
