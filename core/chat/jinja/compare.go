package jinja

import (
	"cmp"
	"math"
	"strings"
)

// equal is Python's ==.
func (ev *evaluator) equal(a, b value) bool {
	ev.work(1)
	switch x := a.(type) {
	case nil:
		return b == nil
	case string:
		y, ok := text(b)
		return ok && ev.same(x, y)
	case markup:
		y, ok := text(b)
		return ok && ev.same(string(x), y)
	case *undefined:
		_, ok := b.(*undefined)
		return ok
	case *list:
		y, ok := b.(*list)
		return ok && (x == y || ev.equalItems(x.items, y.items))
	case *tuple:
		y, ok := b.(*tuple)
		return ok && (x == y || ev.equalItems(x.items, y.items))
	case *dict:
		y, ok := b.(*dict)
		return ok && (x == y || ev.equalDicts(x, y))
	case *span:
		y, ok := b.(*span)
		return ok && x.n == y.n && (x.n == 0 || x.start == y.start && (x.n == 1 || x.step == y.step))
	case *view:
		y, ok := b.(*view)
		if !ok || x.what == "values" || y.what == "values" {
			return a == b
		}
		return len(x.d.entries) == len(y.d.entries) && ev.subset(x, y)
	}
	if isNumber(a) {
		return isNumber(b) && compareNumbers(a, b) == 0
	}
	return a == b
}

func (ev *evaluator) subset(x, y *view) bool {
	for i := range x.d.entries {
		if !ev.contains(y, x.at(ev, i)) {
			return false
		}
	}
	return true
}

func (ev *evaluator) same(x, y string) bool {
	if len(x) != len(y) {
		return false
	}
	ev.work(len(x) / 256)
	return x == y
}

func (ev *evaluator) equalItems(x, y []value) bool {
	if len(x) != len(y) {
		return false
	}
	ev.down()
	defer ev.up()
	for i := range x {
		if !ev.equal(x[i], y[i]) {
			return false
		}
	}
	return true
}

func (ev *evaluator) equalDicts(x, y *dict) bool {
	if len(x.entries) != len(y.entries) {
		return false
	}
	ev.down()
	defer ev.up()
	for _, e := range x.entries {
		v, ok := y.get(e.hash)
		if !ok || !ev.equal(e.val, v) {
			return false
		}
	}
	return true
}

// compare orders two values as Python's < does, and ends the rendering where it would not.
func (ev *evaluator) compare(a, b value, op string) int {
	ev.work(1)
	if isNumber(a) && isNumber(b) {
		return compareNumbers(a, b)
	}
	if x, ok := text(a); ok {
		if y, ok := text(b); ok {
			ev.work(min(len(x), len(y)) / 256)
			return strings.Compare(x, y)
		}
	}
	switch s := a.(type) {
	case *list:
		if t, ok := b.(*list); ok {
			return ev.compareItems(s.items, t.items, op)
		}
	case *tuple:
		if t, ok := b.(*tuple); ok {
			return ev.compareItems(s.items, t.items, op)
		}
	case *undefined:
		ev.used(s)
	}
	if u, ok := b.(*undefined); ok {
		ev.used(u)
	}
	ev.fail("TypeError", "'%s' not supported between instances of '%s' and '%s'", op, typeName(a), typeName(b))
	return 0
}

func (ev *evaluator) compareItems(x, y []value, op string) int {
	ev.down()
	defer ev.up()
	for i := range min(len(x), len(y)) {
		if !ev.equal(x[i], y[i]) {
			return ev.compare(x[i], y[i], op)
		}
	}
	return cmp.Compare(len(x), len(y))
}

// contains is Python's "item in of".
func (ev *evaluator) contains(of, item value) bool {
	ev.work(1)
	switch t := of.(type) {
	case *dict:
		_, ok := t.get(ev.hash(item))
		return ok
	case *view:
		switch t.what {
		case "keys":
			_, ok := t.d.get(ev.hash(item))
			return ok
		case "items":
			p, ok := item.(*tuple)
			if !ok || len(p.items) != 2 {
				return false
			}
			v, ok := t.d.get(ev.hash(p.items[0]))
			return ok && ev.equal(v, p.items[1])
		}
	case *span:
		i, ok := item.(int64)
		if b, isBool := item.(bool); isBool {
			i, ok = int64(b2i(b)), true
		}
		if f, isFloat := item.(float64); isFloat && f == math.Trunc(f) && math.Abs(f) < 1<<62 {
			i, ok = int64(f), true
		}
		if !ok {
			return false
		}
		d := i - t.start
		return d%t.step == 0 && d/t.step >= 0 && d/t.step < t.n
	case string, markup:
		s, _ := text(of)
		sub, ok := text(item)
		if !ok {
			ev.fail("TypeError", "'in <string>' requires string as left operand, not %s", typeName(item))
		}
		ev.work(len(s) / 64)
		return strings.Contains(s, sub)
	}
	next := ev.iter(of)
	if next == nil {
		ev.fail("TypeError", "argument of type '%s' is not iterable", typeName(of))
	}
	for {
		v, ok := next()
		if !ok {
			return false
		}
		if v == nil && item == nil || ev.equal(v, item) {
			return true
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
