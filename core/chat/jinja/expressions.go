package jinja

import (
	"fmt"

	"edged/core/chat/jinja/operator"
	"edged/core/chat/jinja/syntax"
	"edged/core/chat/jinja/value"
)

// eval gives the value of an expression. What goes wrong on the way is a panic that Evaluation.Ended knows.
func (ev *evaluator) eval(e syntax.Expr, f *frame) value.Value {
	switch e := e.(type) {
	case *syntax.Constant:
		return e.Value
	case *syntax.Data:
		return e.Text
	case *syntax.Name:
		return ev.nameExpr(e, f)
	case *syntax.Attr:
		return ev.attrExpr(e, f)
	case *syntax.Item:
		return ev.itemExpr(e, f)
	case *syntax.Call:
		return ev.callExpr(e, f)
	case *syntax.Filter:
		return ev.filterExpr(e, f)
	case *syntax.Test:
		return ev.testExpr(e, f)
	case *syntax.Compare:
		return ev.compareExpr(e, f)
	case *syntax.Binary:
		return ev.binExpr(e, f)
	case *syntax.And:
		return ev.andExpr(e, f)
	case *syntax.Or:
		return ev.orExpr(e, f)
	case *syntax.Not:
		return ev.notExpr(e, f)
	case *syntax.Cond:
		return ev.condExpr(e, f)
	case *syntax.Concat:
		return ev.concatExpr(e, f)
	case *syntax.List:
		return ev.listExpr(e, f)
	case *syntax.Tuple:
		return ev.tupleExpr(e, f)
	case *syntax.Dict:
		return ev.dictExpr(e, f)
	case *syntax.Sign:
		return ev.signExpr(e, f)
	case *syntax.Slice:
		return ev.sliceExpr()
	}
	return nil // targets, which are written only
}

func (ev *evaluator) nameExpr(e *syntax.Name, f *frame) value.Value {
	v := *f.at(e.Ref)
	if v == value.Missing {
		ev.Alloc(96)
		return &value.Undefined{Name: e.Name}
	}
	return v
}

func (ev *evaluator) all(items []syntax.Expr, f *frame) []value.Value {
	out := ev.NewItems(len(items))
	for _, item := range items {
		out = append(out, ev.eval(item, f))
	}
	return out
}

func (ev *evaluator) listExpr(e *syntax.List, f *frame) value.Value {
	ev.Enter()
	l := ev.NewList(ev.all(e.Items, f))
	ev.Leave()
	return l
}

func (ev *evaluator) tupleExpr(e *syntax.Tuple, f *frame) value.Value {
	ev.Enter()
	ev.Alloc(value.SizeList)
	t := &value.Tuple{Items: ev.all(e.Items, f)}
	ev.Leave()
	return t
}

func (ev *evaluator) dictExpr(e *syntax.Dict, f *frame) value.Value {
	ev.Enter()
	d := ev.NewDict()
	for i := range e.Keys {
		k := ev.eval(e.Keys[i], f)
		ev.Put(d, k, ev.eval(e.Values[i], f))
	}
	ev.Leave()
	return d
}

func (ev *evaluator) attrExpr(e *syntax.Attr, f *frame) value.Value {
	ev.Enter()
	v := operator.Attr(&ev.Evaluation, ev.eval(e.Of, f), e.Name)
	ev.Leave()
	return v
}

func (ev *evaluator) itemExpr(e *syntax.Item, f *frame) value.Value {
	ev.Enter()
	of := ev.eval(e.Of, f)
	var v value.Value
	if s, ok := e.Key.(*syntax.Slice); ok {
		part := func(e syntax.Expr) value.Value {
			if e == nil {
				return nil
			}
			return ev.eval(e, f)
		}
		from, to, by := part(s.From), part(s.To), part(s.Step)
		v = operator.Slice(&ev.Evaluation, of, from, to, by, e.Folded)
	} else {
		v = operator.Item(&ev.Evaluation, of, ev.eval(e.Key, f))
	}
	ev.Leave()
	return v
}

func (ev *evaluator) sliceExpr() value.Value {
	ev.Fail("TypeError", "a slice can stand alone only")
	return nil
}

func (ev *evaluator) args(a *syntax.Args, f *frame) *value.Args {
	out := &value.Args{}
	if len(a.Pos) > 0 {
		out.Pos = ev.all(a.Pos, f)
	}
	if len(a.Named) > 0 {
		ev.Alloc(48 * int64(len(a.Named)))
	}
	for i, e := range a.Named {
		out.Named = append(out.Named, value.Keyword{Name: a.Names[i], Value: ev.eval(e, f)})
	}
	if a.Star != nil {
		next := ev.Iter(ev.eval(a.Star, f))
		if next == nil {
			ev.Fail("TypeError", "argument after * must be an iterable")
		}
		for {
			v, ok := next()
			if !ok {
				break
			}
			out.Pos = ev.Append(out.Pos, v)
		}
	}
	if a.StarStar != nil {
		d, ok := ev.eval(a.StarStar, f).(*value.Dict)
		if !ok {
			ev.Fail("TypeError", "argument after ** must be a mapping")
		}
		for _, e := range d.Entries {
			name, ok := value.Text(e.Key)
			if !ok {
				ev.Fail("TypeError", "keywords must be strings")
			}
			for _, k := range out.Named {
				if k.Name == name {
					ev.Fail("TypeError", "got multiple values for keyword argument '%s'", name)
				}
			}
			ev.Alloc(48)
			ev.Work(len(out.Named))
			out.Named = append(out.Named, value.Keyword{Name: name, Value: e.Value})
		}
	}
	return out
}

func (ev *evaluator) callExpr(e *syntax.Call, f *frame) value.Value {
	ev.Enter()
	of := ev.eval(e.Of, f)
	v := ev.call(of, ev.args(&e.Args, f))
	ev.Leave()
	return v
}

// call calls a value.
func (ev *evaluator) call(of value.Value, a *value.Args) value.Value {
	switch t := of.(type) {
	case *value.Function:
		return t.Call(&ev.Evaluation, a)
	case value.Callable:
		return t.Call(&ev.Evaluation, a)
	case *value.Undefined:
		ev.UseUndefined(t)
	}
	ev.Fail("TypeError", "'%s' object is not callable", value.TypeName(of))
	return nil
}

func (ev *evaluator) filterExpr(e *syntax.Filter, f *frame) value.Value {
	ev.Enter()
	v := ev.apply(e, ev.eval(e.Of, f), f)
	ev.Leave()
	return v
}

func (ev *evaluator) apply(e *syntax.Filter, of value.Value, f *frame) value.Value {
	if e.Func == nil {
		ev.Fail("TemplateRuntimeError", "No filter named '%s' found.", e.Name)
	}
	return e.Func(&ev.Evaluation, of, ev.args(&e.Args, f))
}

func (ev *evaluator) testExpr(e *syntax.Test, f *frame) value.Value {
	ev.Enter()
	of := ev.eval(e.Of, f)
	if e.Func == nil {
		ev.Fail("TemplateRuntimeError", "No test named '%s' found.", e.Name)
	}
	v := e.Func(&ev.Evaluation, of, ev.args(&e.Args, f))
	ev.Leave()
	return v
}

func (ev *evaluator) condExpr(e *syntax.Cond, f *frame) value.Value {
	ev.Enter()
	defer ev.Leave()
	switch {
	case value.Truth(ev.eval(e.Test, f)):
		return ev.eval(e.Then, f)
	case e.Else != nil:
		return ev.eval(e.Else, f)
	}
	return value.NewUndefined(fmt.Sprintf("the inline if-expression on line %d evaluated to false and no else section was defined.", e.Line))
}

func (ev *evaluator) andExpr(e *syntax.And, f *frame) value.Value {
	ev.Enter()
	v := ev.eval(e.A, f)
	if value.Truth(v) {
		v = ev.eval(e.B, f)
	}
	ev.Leave()
	return v
}

func (ev *evaluator) orExpr(e *syntax.Or, f *frame) value.Value {
	ev.Enter()
	v := ev.eval(e.A, f)
	if !value.Truth(v) {
		v = ev.eval(e.B, f)
	}
	ev.Leave()
	return v
}

func (ev *evaluator) notExpr(e *syntax.Not, f *frame) value.Value {
	ev.Enter()
	v := !value.Truth(ev.eval(e.A, f))
	ev.Leave()
	return v
}

func (ev *evaluator) signExpr(e *syntax.Sign, f *frame) value.Value {
	ev.Enter()
	v := ev.eval(e.A, f)
	ev.Leave()
	switch t := v.(type) {
	case float64:
		if e.Minus {
			return -t
		}
		return t
	case *value.Undefined:
		ev.UseUndefined(t)
	}
	if !value.IsNumber(v) {
		op := "+"
		if e.Minus {
			op = "-"
		}
		ev.Fail("TypeError", "bad operand type for unary %s: '%s'", op, value.TypeName(v))
	}
	if !e.Minus {
		i, b, _ := value.Int(v)
		if b != nil {
			return b
		}
		return i
	}
	return ev.Arithmetic("-", int64(0), v)
}

func (ev *evaluator) binExpr(e *syntax.Binary, f *frame) value.Value {
	ev.Enter()
	a := ev.eval(e.A, f)
	b := ev.eval(e.B, f)
	v := operator.Binary(&ev.Evaluation, e.Op, a, b)
	ev.Leave()
	return v
}

func (ev *evaluator) compareExpr(e *syntax.Compare, f *frame) value.Value {
	ev.Enter()
	defer ev.Leave()
	a := ev.eval(e.First, f)
	for i, op := range e.Ops {
		b := ev.eval(e.Rest[i], f)
		if !ev.Holds(op, a, b) {
			return false
		}
		a = b
	}
	return true
}

func (ev *evaluator) concatExpr(e *syntax.Concat, f *frame) value.Value {
	ev.Enter()
	vals := ev.all(e.Parts, f)
	ev.Leave()
	if ev.Autoescape() {
		safe := false
		for _, v := range vals {
			if _, ok := v.(value.Markup); ok {
				safe = true
			}
		}
		if safe {
			for i, v := range vals {
				vals[i] = string(ev.Escape(v))
			}
			return value.Markup(ev.joinTexts(vals))
		}
	}
	return ev.joinTexts(vals)
}

// joinTexts puts the texts of values together.
func (ev *evaluator) joinTexts(vals []value.Value) string {
	total := 0
	for i, v := range vals {
		s, ok := value.Text(v)
		if !ok {
			s = ev.Str(v)
			vals[i] = s
		}
		total += len(s)
	}
	ev.Alloc(int64(total))
	b := make([]byte, 0, total)
	for _, v := range vals {
		s, _ := value.Text(v)
		b = append(b, s...)
	}
	return string(b)
}
