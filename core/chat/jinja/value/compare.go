package value

import (
	"cmp"
	"math"
	"strings"
)

// Equal is Python's ==.
func (ev *Evaluation) Equal(a, b Value) bool {
	ev.Work(1)
	switch x := a.(type) {
	case nil:
		return b == nil
	case string:
		y, ok := Text(b)
		return ok && ev.same(x, y)
	case Markup:
		y, ok := Text(b)
		return ok && ev.same(string(x), y)
	case *Undefined:
		_, ok := b.(*Undefined)
		return ok
	case *List:
		y, ok := b.(*List)
		return ok && (x == y || ev.equalItems(x.Items, y.Items))
	case *Tuple:
		y, ok := b.(*Tuple)
		return ok && (x == y || ev.equalItems(x.Items, y.Items))
	case *Dict:
		y, ok := b.(*Dict)
		return ok && (x == y || ev.equalDicts(x, y))
	case *Range:
		y, ok := b.(*Range)
		return ok && x.N == y.N && (x.N == 0 || x.Start == y.Start && (x.N == 1 || x.Step == y.Step))
	case *View:
		y, ok := b.(*View)
		if !ok || x.Part == "values" || y.Part == "values" {
			return a == b
		}
		return len(x.Dict.Entries) == len(y.Dict.Entries) && ev.subset(x, y)
	}
	if IsNumber(a) {
		return IsNumber(b) && CompareNumbers(a, b) == 0
	}
	return a == b
}

func (ev *Evaluation) subset(x, y *View) bool {
	for i := range x.Dict.Entries {
		if !ev.Contains(y, x.At(ev, i)) {
			return false
		}
	}
	return true
}

func (ev *Evaluation) same(x, y string) bool {
	if len(x) != len(y) {
		return false
	}
	ev.Work(len(x) / 256)
	return x == y
}

func (ev *Evaluation) equalItems(x, y []Value) bool {
	if len(x) != len(y) {
		return false
	}
	ev.Enter()
	defer ev.Leave()
	for i := range x {
		if !ev.Equal(x[i], y[i]) {
			return false
		}
	}
	return true
}

func (ev *Evaluation) equalDicts(x, y *Dict) bool {
	if len(x.Entries) != len(y.Entries) {
		return false
	}
	ev.Enter()
	defer ev.Leave()
	for _, e := range x.Entries {
		v, ok := y.Get(e.hash)
		if !ok || !ev.Equal(e.Value, v) {
			return false
		}
	}
	return true
}

// Compare orders two values as Python's < does, and ends the rendering where it would not.
func (ev *Evaluation) Compare(a, b Value, op string) int {
	ev.Work(1)
	if IsNumber(a) && IsNumber(b) {
		return CompareNumbers(a, b)
	}
	if x, ok := Text(a); ok {
		if y, ok := Text(b); ok {
			ev.Work(min(len(x), len(y)) / 256)
			return strings.Compare(x, y)
		}
	}
	switch s := a.(type) {
	case *List:
		if t, ok := b.(*List); ok {
			return ev.compareItems(s.Items, t.Items, op)
		}
	case *Tuple:
		if t, ok := b.(*Tuple); ok {
			return ev.compareItems(s.Items, t.Items, op)
		}
	case *Undefined:
		ev.UseUndefined(s)
	}
	if u, ok := b.(*Undefined); ok {
		ev.UseUndefined(u)
	}
	ev.Fail("TypeError", "'%s' not supported between instances of '%s' and '%s'", op, TypeName(a), TypeName(b))
	return 0
}

func (ev *Evaluation) compareItems(x, y []Value, op string) int {
	ev.Enter()
	defer ev.Leave()
	for i := range min(len(x), len(y)) {
		if !ev.Equal(x[i], y[i]) {
			return ev.Compare(x[i], y[i], op)
		}
	}
	return cmp.Compare(len(x), len(y))
}

// Contains is Python's "item in of".
func (ev *Evaluation) Contains(of, item Value) bool {
	ev.Work(1)
	switch t := of.(type) {
	case *Dict:
		_, ok := t.Get(ev.Hash(item))
		return ok
	case *View:
		switch t.Part {
		case "keys":
			_, ok := t.Dict.Get(ev.Hash(item))
			return ok
		case "items":
			p, ok := item.(*Tuple)
			if !ok || len(p.Items) != 2 {
				return false
			}
			v, ok := t.Dict.Get(ev.Hash(p.Items[0]))
			return ok && ev.Equal(v, p.Items[1])
		}
	case *Range:
		i, ok := item.(int64)
		if b, isBool := item.(bool); isBool {
			i, ok = int64(BoolInt(b)), true
		}
		if f, isFloat := item.(float64); isFloat && f == math.Trunc(f) && math.Abs(f) < 1<<62 {
			i, ok = int64(f), true
		}
		if !ok {
			return false
		}
		d := i - t.Start
		return d%t.Step == 0 && d/t.Step >= 0 && d/t.Step < t.N
	case string, Markup:
		s, _ := Text(of)
		sub, ok := Text(item)
		if !ok {
			ev.Fail("TypeError", "'in <string>' requires string as left operand, not %s", TypeName(item))
		}
		ev.Work(len(s) / 64)
		return strings.Contains(s, sub)
	}
	next := ev.Iter(of)
	if next == nil {
		ev.Fail("TypeError", "argument of type '%s' is not iterable", TypeName(of))
	}
	for {
		v, ok := next()
		if !ok {
			return false
		}
		if v == nil && item == nil || ev.Equal(v, item) {
			return true
		}
	}
}

// BoolInt is int(b).
func BoolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Holds is one comparison.
func (ev *Evaluation) Holds(op string, a, b Value) bool {
	switch op {
	case "==":
		return ev.Equal(a, b)
	case "!=":
		return !ev.Equal(a, b)
	case "in":
		return ev.Contains(b, a)
	case "not in":
		return !ev.Contains(b, a)
	}
	if v, ok := ev.compareViews(op, a, b); ok {
		return v
	}
	c := ev.Compare(a, b, op)
	if c == unordered {
		return false
	}
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

// compareViews orders keys and items of dicts as sets.
func (ev *Evaluation) compareViews(op string, a, b Value) (bool, bool) {
	x, ok := a.(*View)
	y, ok2 := b.(*View)
	if !ok || !ok2 || x.Part == "values" || y.Part == "values" {
		return false, false
	}
	n, m := len(x.Dict.Entries), len(y.Dict.Entries)
	switch op {
	case "<":
		return n < m && ev.subset(x, y), true
	case "<=":
		return n <= m && ev.subset(x, y), true
	case ">":
		return n > m && ev.subset(y, x), true
	}
	return n >= m && ev.subset(y, x), true
}
