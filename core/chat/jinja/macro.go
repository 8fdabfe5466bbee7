package jinja

import (
	"fmt"

	"edged/core/chat/jinja/syntax"
	"edged/core/chat/jinja/value"
)

// macro is a macro as a value, with the variables that were around it.
type macro struct {
	ev  *evaluator
	m   *syntax.Macro
	out *frame
}

// maxMacros is how many calls of macros, recursive loops and blocks may stand inside each other.
const maxMacros = 200

func (ev *evaluator) intoMacro() {
	ev.macros++
	if ev.macros > maxMacros {
		ev.Stop("macros and loops call each other more than %d deep", maxMacros)
	}
}

func (ev *evaluator) macroStmt(s *syntax.Macro, f *frame) flow {
	ev.SetLine(s.Line)
	ev.Alloc(48)
	*f.at(s.Ref) = &macro{ev, s, f}
	ev.export(s.Export, f)
	return goOn
}

func (ev *evaluator) callBlock(s *syntax.CallBlock, f *frame) flow {
	ev.SetLine(s.Line)
	caller := &macro{ev, s.Macro, f}
	if s.Call == nil { // generation: the text inside, with variables of its own
		ev.writeText(caller.Call(&ev.Evaluation, &value.Args{}))
		return goOn
	}
	of := ev.eval(s.Call.Of, f)
	a := ev.args(&s.Call.Args, f)
	for _, k := range a.Named {
		if k.Name == "caller" {
			ev.Fail("TypeError", "got multiple values for keyword argument 'caller'")
		}
	}
	a.Named = append(a.Named, value.Keyword{Name: "caller", Value: caller})
	ev.writeText(ev.call(of, a))
	return goOn
}

// Call runs the macro's body and returns its text.
func (m *macro) Call(_ *value.Evaluation, a *value.Args) value.Value {
	ev := m.ev
	ev.intoMacro()
	line := ev.Line()
	s := m.m
	f := ev.frame(s.Function, m.out)
	vals := ev.NewItems(len(s.Params))
	vals = append(vals, a.Pos[:min(len(a.Pos), len(s.Params))]...)
	foundCaller := len(vals) == len(s.Params) && s.Explicit
	for _, p := range s.Params[len(vals):] {
		v, ok := a.Take(p.Name)
		if !ok {
			v = value.Missing
		}
		if p.Name == "caller" {
			foundCaller = true
		}
		vals = append(vals, v)
	}
	if s.UsesCaller && !foundCaller {
		caller, ok := a.Take("caller")
		if !ok || caller == nil {
			caller = &value.Undefined{Message: "No caller defined", Name: "caller"}
		}
		f.slots[s.Caller.Slot] = caller
	}
	switch {
	case s.Kwargs != nil:
		d := ev.NewDict()
		for _, k := range a.Named {
			ev.Put(d, k.Name, k.Value)
		}
		f.slots[s.Kwargs.Slot] = d
	case len(a.Named) > 0:
		for _, k := range a.Named {
			if k.Name == "caller" {
				ev.Fail("TypeError", "macro '%s' was invoked with two values for the special caller argument. This is most likely a bug.", s.Name)
			}
		}
		ev.Fail("TypeError", "macro '%s' takes no keyword argument %s", s.Name, ev.Repr(a.Named[0].Name))
	}
	switch {
	case s.Varargs != nil:
		rest := ev.NewItems(max(len(a.Pos)-len(s.Params), 0))
		if len(a.Pos) > len(s.Params) {
			rest = append(rest, a.Pos[len(s.Params):]...)
		}
		f.slots[s.Varargs.Slot] = &value.Tuple{Items: rest}
	case len(a.Pos) > len(s.Params):
		ev.Fail("TypeError", "macro '%s' takes not more than %d argument(s)", s.Name, len(s.Params))
	}
	ev.enterScope(s.Scope, f)
	for i, p := range s.Params {
		if vals[i] == value.Missing {
			if d := i - (len(s.Params) - len(s.Defaults)); d >= 0 {
				vals[i] = ev.eval(s.Defaults[d], f)
			} else {
				vals[i] = &value.Undefined{Message: fmt.Sprintf("parameter '%s' was not provided", p.Name), Name: p.Name}
			}
		}
		*f.at(p.Ref) = vals[i]
	}
	out, _ := ev.capture(func() flow { return ev.run(s.Body, f) })
	ev.macros--
	ev.SetLine(line)
	if ev.Autoescape() {
		return value.Markup(out)
	}
	return out
}

func (m *macro) TypeName() string { return "Macro" }

func (m *macro) Repr(w *value.Writer) {
	if m.m.Anonymous {
		w.Add("<Macro anonymous>")
		return
	}
	w.Add("<Macro ")
	w.Quote(m.m.Name)
	w.Add(">")
}

// Attr returns the attribute name of a macro, and whether macros have it.
func (m *macro) Attr(ev *value.Evaluation, name string) (value.Value, bool) {
	switch name {
	case "name":
		if m.m.Anonymous {
			return nil, true
		}
		return m.m.Name, true
	case "arguments":
		items := ev.NewItems(len(m.m.Params))
		for _, p := range m.m.Params {
			items = append(items, p.Name)
		}
		return &value.Tuple{Items: items}, true
	case "caller":
		return m.m.UsesCaller, true
	case "catch_kwargs":
		return m.m.Kwargs != nil, true
	case "catch_varargs":
		return m.m.Varargs != nil, true
	case "explicit_caller":
		return m.m.Explicit, true
	}
	return nil, false
}

// loop is the variable of that name inside a for block.
type loop struct {
	ev      *value.Evaluation
	next    func() (value.Value, bool)
	n       int // -1: not known yet
	index0  int
	depth0  int
	before  value.Value
	current value.Value
	after   value.Value
	changed value.Value
	recurse func(value.Value, int) value.Value
}

// Next goes to the next turn.
func (l *loop) Next() (value.Value, bool) {
	v := l.after
	if v != value.Missing {
		l.after = value.Missing
	} else {
		var ok bool
		if v, ok = l.next(); !ok {
			return nil, false
		}
	}
	l.index0++
	l.before, l.current = l.current, v
	return v, true
}

func (l *loop) peek() value.Value {
	if l.after == value.Missing {
		if v, ok := l.next(); ok {
			l.after = v
		}
	}
	return l.after
}

// Len reads the rest of what is looped over, where its size is not known.
func (l *loop) Len() int {
	if l.n < 0 {
		rest := l.ev.Collect(l.next)
		l.next = value.Each(rest)
		l.n = len(rest) + l.index0 + 1
		if l.after != value.Missing {
			l.n++
		}
	}
	return l.n
}

func (l *loop) TypeName() string { return "LoopContext" }

func (l *loop) Repr(w *value.Writer) { w.Add(fmt.Sprintf("<LoopContext %d/%d>", l.index0+1, l.Len())) }

// Call goes through something inside the loop, as a recursive one does.
func (l *loop) Call(ev *value.Evaluation, a *value.Args) value.Value {
	if l.recurse == nil {
		ev.Fail("TypeError", "The loop must have the 'recursive' marker to be called recursively.")
	}
	p := ev.Bind("loop", a, []string{"iterable"}, 1)
	return l.recurse(p[0], l.depth0+1)
}

// Attr returns the attribute name of a loop, and whether loops have it.
func (l *loop) Attr(_ *value.Evaluation, name string) (value.Value, bool) {
	switch name {
	case "index":
		return int64(l.index0 + 1), true
	case "index0":
		return int64(l.index0), true
	case "first":
		return l.index0 == 0, true
	case "last":
		return l.peek() == value.Missing, true
	case "length":
		return int64(l.Len()), true
	case "revindex":
		return int64(l.Len() - l.index0), true
	case "revindex0":
		return int64(l.Len() - l.index0 - 1), true
	case "depth":
		return int64(l.depth0 + 1), true
	case "depth0":
		return int64(l.depth0), true
	case "previtem":
		if l.index0 == 0 {
			return value.NewUndefined("there is no previous item"), true
		}
		return l.before, true
	case "nextitem":
		if v := l.peek(); v != value.Missing {
			return v, true
		}
		return value.NewUndefined("there is no next item"), true
	case "cycle":
		return &value.Function{Name: "cycle", Call: func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.NoNames("cycle", a)
			if len(a.Pos) == 0 {
				ev.Fail("TypeError", "no items for cycling given")
			}
			return a.Pos[l.index0%len(a.Pos)]
		}}, true
	case "changed":
		return &value.Function{Name: "changed", Call: func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.NoNames("changed", a)
			now := &value.Tuple{Items: a.Pos}
			if l.changed == value.Missing || !ev.Equal(l.changed, now) {
				l.changed = now
				return true
			}
			return false
		}}, true
	}
	return nil, false
}
