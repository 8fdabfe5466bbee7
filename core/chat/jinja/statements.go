package jinja

import (
	"edged/core/chat/jinja/syntax"
	"edged/core/chat/jinja/value"
)

// flow is how a statement ended.
type flow uint8

const (
	goOn flow = iota
	goBreak
	goContinue
)

// exec executes a statement.
func (ev *evaluator) exec(s syntax.Stmt, f *frame) flow {
	switch s := s.(type) {
	case *syntax.Output:
		return ev.outputStmt(s, f)
	case *syntax.Set:
		return ev.setStmt(s, f)
	case *syntax.SetBlock:
		return ev.setBlock(s, f)
	case *syntax.For:
		return ev.forStmt(s, f)
	case *syntax.If:
		return ev.ifStmt(s, f)
	case *syntax.Macro:
		return ev.macroStmt(s, f)
	case *syntax.CallBlock:
		return ev.callBlock(s, f)
	case *syntax.FilterBlock:
		return ev.filterBlock(s, f)
	case *syntax.With:
		return ev.withStmt(s, f)
	case *syntax.Autoescape:
		return ev.autoescapeStmt(s, f)
	case *syntax.Block:
		return ev.blockStmt(s, f)
	case *syntax.Loader:
		return ev.loaderStmt(s, f)
	case *syntax.Jump:
		if s.Again {
			return goContinue
		}
		return goBreak
	}
	// The parser makes no other: one that is added to it without a case here ends the first test of its own.
	panic("jinja: a statement of an unknown kind")
}

func (ev *evaluator) outputStmt(s *syntax.Output, f *frame) flow {
	for i, e := range s.Parts {
		ev.SetLine(s.Lines[i])
		if d, ok := e.(*syntax.Data); ok {
			ev.write(d.Text)
			continue
		}
		v := ev.eval(e, f)
		if ev.Autoescape() {
			ev.write(string(ev.Escape(v)))
			continue
		}
		ev.print(v)
	}
	return goOn
}

// print writes str(v).
func (ev *evaluator) print(v value.Value) {
	if s, ok := value.Text(v); ok {
		ev.write(s)
		return
	}
	ev.write(ev.Str(v))
}

func (ev *evaluator) setStmt(s *syntax.Set, f *frame) flow {
	ev.SetLine(s.Line)
	ev.namespaces(s.Target, f)
	v := ev.eval(s.Value, f)
	ev.assign(s.Target, v, f)
	ev.export(s.Export, f)
	return goOn
}

func (ev *evaluator) export(names []syntax.Exported, f *frame) {
	for _, e := range names {
		if ev.exported == nil {
			ev.exported = map[string]value.Value{}
		}
		ev.exported[e.Name] = f.slots[e.Slot]
	}
}

// namespaces checks that the attributes of a target are a namespace's, before its value is computed.
func (ev *evaluator) namespaces(target syntax.Expr, f *frame) {
	switch t := target.(type) {
	case *syntax.NamespaceTarget:
		if _, ok := (*f.at(t.Ref)).(*value.Namespace); !ok {
			ev.Fail("TemplateRuntimeError", "cannot assign attribute on non-namespace object")
		}
	case *syntax.Tuple:
		for _, item := range t.Items {
			ev.namespaces(item, f)
		}
	}
}

func (ev *evaluator) assign(target syntax.Expr, v value.Value, f *frame) {
	switch t := target.(type) {
	case *syntax.Name:
		*f.at(t.Ref) = v
	case *syntax.NamespaceTarget:
		ns, ok := (*f.at(t.Ref)).(*value.Namespace)
		if !ok {
			ev.Fail("TypeError", "cannot assign attribute on non-namespace object")
		}
		ev.setAttr(ns, t.Attr, v)
	case *syntax.Tuple:
		items := ev.Unpack(v, len(t.Items))
		for i, item := range t.Items {
			ev.assign(item, items[i], f)
		}
	}
}

func (ev *evaluator) setAttr(ns *value.Namespace, name string, v value.Value) {
	if name != "" && name[0] == '_' {
		ev.Fail(
			"SecurityError",
			"Chat templates cannot store underscore-prefixed attributes on a namespace, but got %s. Please rename the attribute.",
			ev.Repr(name),
		)
	}
	ev.Put(ns.Dict, name, v)
}

func (ev *evaluator) setBlock(s *syntax.SetBlock, f *frame) flow {
	ev.SetLine(s.Line)
	ev.enterScope(s.Scope, f)
	out, how := ev.capture(func() flow { return ev.run(s.Body, f) })
	if how != goOn {
		return how
	}
	var v value.Value = out
	if s.Filter != nil {
		v = ev.blockFilter(s.Filter, out, f)
	}
	if ev.Autoescape() {
		v = ev.MarkSafe(v)
	}
	ev.assign(s.Target, v, f)
	ev.export(s.Export, f)
	return goOn
}

// blockFilter applies the filters of a block to its text.
func (ev *evaluator) blockFilter(e syntax.Expr, out string, f *frame) value.Value {
	chain := e.(*syntax.Filter)
	var of value.Value = out
	if inner, ok := chain.Of.(*syntax.Filter); ok {
		of = ev.blockFilter(inner, out, f)
	} else if ev.Autoescape() {
		of = value.Markup(out)
	}
	return ev.apply(chain, of, f)
}

func (ev *evaluator) ifStmt(s *syntax.If, f *frame) flow {
	ev.SetLine(s.Line)
	if value.Truth(ev.eval(s.Test, f)) {
		return ev.run(s.Body, f)
	}
	for _, e := range s.Elifs {
		ev.SetLine(e.Line)
		if value.Truth(ev.eval(e.Test, f)) {
			return ev.run(e.Body, f)
		}
	}
	return ev.run(s.Else, f)
}

func (ev *evaluator) forStmt(s *syntax.For, f *frame) flow {
	ev.SetLine(s.Line)
	over := ev.eval(s.Over, f)
	if !s.Recursive {
		return ev.turns(s, f, over, nil, 0)
	}
	var recurse func(over value.Value, depth int) value.Value
	recurse = func(over value.Value, depth int) value.Value {
		ev.intoMacro()
		in := ev.frame(s.Function, f)
		out, _ := ev.capture(func() flow { return ev.turns(s, in, over, recurse, depth) })
		ev.macros--
		if ev.Autoescape() {
			return value.Markup(out)
		}
		return out
	}
	ev.print(recurse(over, 0))
	return goOn
}

// turns runs the loop.
func (ev *evaluator) turns(s *syntax.For, f *frame, over value.Value, recurse func(value.Value, int) value.Value, depth int) flow {
	next := ev.Iterate(over)
	sized := over
	if s.Test != nil {
		sized = nil
		all := next
		next = func() (value.Value, bool) {
			ev.Enter()
			defer ev.Leave()
			for {
				item, ok := all()
				if !ok {
					return nil, false
				}
				ev.enterScope(s.TestScope, f)
				ev.assign(s.TestTarget, item, f)
				if value.Truth(ev.eval(s.Test, f)) {
					return item, true
				}
			}
		}
	}
	var lp *loop
	if s.UsesLoop {
		ev.Alloc(value.SizeIter)
		lp = &loop{
			ev:      &ev.Evaluation,
			next:    next,
			n:       -1,
			index0:  -1,
			recurse: recurse,
			depth0:  depth,
			before:  value.Missing,
			current: value.Missing,
			after:   value.Missing,
			changed: value.Missing,
		}
		if sized != nil {
			lp.n = ev.Length(over)
		}
		next = lp.Next
	}
	finished := false // a turn came to its end: jumps do not count, as in Jinja
	for {
		ev.Work(1)
		item, ok := next()
		if !ok {
			break
		}
		ev.turn(item)
		ev.assign(s.Target, item, f)
		if lp != nil {
			f.slots[s.Loop.Slot] = lp
		}
		ev.enterScope(s.BodyScope, f)
		how := ev.run(s.Body, f)
		ev.turn(item)
		if how == goBreak {
			break
		}
		if how == goOn {
			finished = true
		}
		ev.SetLine(s.Line)
	}
	if s.Else != nil && !finished {
		ev.enterScope(s.OrScope, f)
		return ev.run(s.Else, f)
	}
	return goOn
}

func (ev *evaluator) filterBlock(s *syntax.FilterBlock, f *frame) flow {
	ev.enterScope(s.Scope, f)
	out, how := ev.capture(func() flow { return ev.run(s.Body, f) })
	if how != goOn {
		return how
	}
	ev.SetLine(s.Line)
	ev.writeText(ev.blockFilter(s.Filter, out, f))
	return goOn
}

// writeText writes what has to be a text already.
func (ev *evaluator) writeText(v value.Value) {
	s, ok := value.Text(v)
	if !ok {
		ev.Fail("TypeError", "sequence item 0: expected str instance, %s found", value.TypeName(v))
	}
	ev.write(s)
}

func (ev *evaluator) withStmt(s *syntax.With, f *frame) flow {
	ev.SetLine(s.Line)
	ev.enterScope(s.Scope, f)
	for i, target := range s.Targets {
		ev.assign(target, ev.eval(s.Values[i], f), f)
	}
	return ev.run(s.Body, f)
}

func (ev *evaluator) autoescapeStmt(s *syntax.Autoescape, f *frame) flow {
	ev.SetLine(s.Line)
	ev.enterScope(s.Scope, f)
	was := ev.Autoescape()
	ev.SetAutoescape(value.Truth(ev.eval(s.On, f)))
	how := ev.run(s.Body, f)
	ev.SetAutoescape(was)
	return how
}

func (ev *evaluator) blockStmt(s *syntax.Block, f *frame) flow {
	ev.SetLine(s.Line)
	ev.intoMacro()
	in := ev.frame(s.Function, f)
	ev.enterScope(s.Scope, in)
	ev.run(s.Body, in)
	ev.macros--
	return goOn
}

func (ev *evaluator) loaderStmt(s *syntax.Loader, f *frame) flow {
	ev.SetLine(s.Line)
	ev.eval(s.Name, f)
	ev.Fail("TypeError", "'%s' wants another template, and a chat template stands alone", s.Tag)
	return goOn
}
