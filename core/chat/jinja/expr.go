package jinja

import (
	"fmt"
)

func (ev *evaluator) truth(v value) bool { return truth(v) }

func (e *constant) eval(*evaluator, *frame) value { return e.v }

func (e *nameExpr) eval(ev *evaluator, f *frame) value {
	v := *f.at(e.ref)
	if v == missing {
		ev.alloc(96)
		return &undefined{name: e.name}
	}
	return v
}

func (e *nsTarget) eval(*evaluator, *frame) value { return nil } // written only

func (ev *evaluator) all(items []expr, f *frame) []value {
	out := ev.room(len(items))
	for _, item := range items {
		out = append(out, item.eval(ev, f))
	}
	return out
}

func (e *listExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	l := ev.newList(ev.all(e.items, f))
	ev.up()
	return l
}

func (e *tupleExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	ev.alloc(sizeList)
	t := &tuple{items: ev.all(e.items, f)}
	ev.up()
	return t
}

func (e *dictExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	d := ev.newDict()
	for i := range e.keys {
		k := e.keys[i].eval(ev, f)
		ev.put(d, k, e.vals[i].eval(ev, f))
	}
	ev.up()
	return d
}

func (e *attrExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := ev.attr(e.of.eval(ev, f), e.name)
	ev.up()
	return v
}

func (e *itemExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	of := e.of.eval(ev, f)
	var v value
	if s, ok := e.key.(*sliceExpr); ok {
		v = ev.slice(of, s, f, e.folded)
	} else {
		v = ev.item(of, e.key.eval(ev, f))
	}
	ev.up()
	return v
}

func (e *sliceExpr) eval(ev *evaluator, _ *frame) value {
	ev.fail("TypeError", "a slice can stand alone only")
	return nil
}

func (a *callArgs) eval(ev *evaluator, f *frame) *args {
	out := &args{}
	if len(a.pos) > 0 {
		out.pos = ev.all(a.pos, f)
	}
	if len(a.named) > 0 {
		ev.alloc(48 * int64(len(a.named)))
	}
	for i, e := range a.named {
		out.named = append(out.named, kwarg{a.names[i], e.eval(ev, f)})
	}
	if a.star != nil {
		next := ev.iter(a.star.eval(ev, f))
		if next == nil {
			ev.fail("TypeError", "argument after * must be an iterable")
		}
		for {
			v, ok := next()
			if !ok {
				break
			}
			out.pos = ev.push(out.pos, v)
		}
	}
	if a.map_ != nil {
		d, ok := a.map_.eval(ev, f).(*dict)
		if !ok {
			ev.fail("TypeError", "argument after ** must be a mapping")
		}
		for _, e := range d.entries {
			name, ok := text(e.key)
			if !ok {
				ev.fail("TypeError", "keywords must be strings")
			}
			for _, k := range out.named {
				if k.name == name {
					ev.fail("TypeError", "got multiple values for keyword argument '%s'", name)
				}
			}
			ev.alloc(48)
			ev.work(len(out.named))
			out.named = append(out.named, kwarg{name, e.val})
		}
	}
	return out
}

func (e *callExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	of := e.of.eval(ev, f)
	v := ev.call(of, e.args.eval(ev, f))
	ev.up()
	return v
}

// call calls a value.
func (ev *evaluator) call(of value, a *args) value {
	switch t := of.(type) {
	case *callable:
		return t.call(ev, a)
	case *macro:
		return t.call(ev, a)
	case *loop:
		if t.recurse == nil {
			ev.fail("TypeError", "The loop must have the 'recursive' marker to be called recursively.")
		}
		p := ev.bind("loop", a, []string{"iterable"}, 1)
		return t.recurse(p[0], t.depth0+1)
	case *joiner:
		return t.call(ev, a)
	case *undefined:
		ev.used(t)
	}
	ev.fail("TypeError", "'%s' object is not callable", typeName(of))
	return nil
}

func (e *filterExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := e.apply(ev, e.of.eval(ev, f), f)
	ev.up()
	return v
}

func (e *filterExpr) apply(ev *evaluator, of value, f *frame) value {
	if e.f == nil {
		ev.fail("TemplateRuntimeError", "No filter named '%s' found.", e.name)
	}
	return e.f(ev, of, e.args.eval(ev, f))
}

func (e *testExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	of := e.of.eval(ev, f)
	if e.f == nil {
		ev.fail("TemplateRuntimeError", "No test named '%s' found.", e.name)
	}
	v := e.f(ev, of, e.args.eval(ev, f))
	ev.up()
	return v
}

func (e *condExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	defer ev.up()
	switch {
	case ev.truth(e.test.eval(ev, f)):
		return e.then.eval(ev, f)
	case e.or != nil:
		return e.or.eval(ev, f)
	}
	return undef(fmt.Sprintf("the inline if-expression on line %d evaluated to false and no else section was defined.", e.line))
}

func (e *andExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := e.a.eval(ev, f)
	if ev.truth(v) {
		v = e.b.eval(ev, f)
	}
	ev.up()
	return v
}

func (e *orExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := e.a.eval(ev, f)
	if !ev.truth(v) {
		v = e.b.eval(ev, f)
	}
	ev.up()
	return v
}

func (e *notExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := !ev.truth(e.a.eval(ev, f))
	ev.up()
	return v
}

func (e *signExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := e.a.eval(ev, f)
	ev.up()
	switch t := v.(type) {
	case float64:
		if e.minus {
			return -t
		}
		return t
	case *undefined:
		ev.used(t)
	}
	if !isNumber(v) {
		op := "+"
		if e.minus {
			op = "-"
		}
		ev.fail("TypeError", "bad operand type for unary %s: '%s'", op, typeName(v))
	}
	if !e.minus {
		i, b, _ := whole(v)
		if b != nil {
			return b
		}
		return i
	}
	return ev.arithmetic("-", int64(0), v)
}

func (e *binExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	a := e.a.eval(ev, f)
	b := e.b.eval(ev, f)
	v := ev.binary(e.op, a, b)
	ev.up()
	return v
}

func (e *compareExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	defer ev.up()
	a := e.first.eval(ev, f)
	for i, op := range e.ops {
		b := e.rest[i].eval(ev, f)
		if !ev.holds(op, a, b) {
			return false
		}
		a = b
	}
	return true
}

// holds is one comparison.
func (ev *evaluator) holds(op string, a, b value) bool {
	switch op {
	case "==":
		return ev.equal(a, b)
	case "!=":
		return !ev.equal(a, b)
	case "in":
		return ev.contains(b, a)
	case "not in":
		return !ev.contains(b, a)
	}
	if v, ok := ev.compareViews(op, a, b); ok {
		return v
	}
	c := ev.compare(a, b, op)
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
func (ev *evaluator) compareViews(op string, a, b value) (bool, bool) {
	x, ok := a.(*view)
	y, ok2 := b.(*view)
	if !ok || !ok2 || x.what == "values" || y.what == "values" {
		return false, false
	}
	n, m := len(x.d.entries), len(y.d.entries)
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

func (e *concatExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	vals := ev.all(e.parts, f)
	ev.up()
	if ev.autoescape {
		safe := false
		for _, v := range vals {
			if _, ok := v.(markup); ok {
				safe = true
			}
		}
		if safe {
			for i, v := range vals {
				vals[i] = string(ev.escape(v))
			}
			return markup(ev.joinTexts(vals))
		}
	}
	return ev.joinTexts(vals)
}

// joinTexts puts the texts of values together.
func (ev *evaluator) joinTexts(vals []value) string {
	total := 0
	for i, v := range vals {
		s, ok := text(v)
		if !ok {
			s = ev.str(v)
			vals[i] = s
		}
		total += len(s)
	}
	ev.alloc(int64(total))
	b := make([]byte, 0, total)
	for _, v := range vals {
		s, _ := text(v)
		b = append(b, s...)
	}
	return string(b)
}
