package jinja

func (s *outputStmt) exec(ev *evaluator, f *frame) flow {
	for i, e := range s.parts {
		ev.line = s.lines[i]
		if d, ok := e.(*dataPart); ok {
			ev.write(d.text)
			continue
		}
		v := e.eval(ev, f)
		if ev.autoescape {
			ev.write(string(ev.escape(v)))
			continue
		}
		ev.print(v)
	}
	return goOn
}

// print writes str(v).
func (ev *evaluator) print(v value) {
	if s, ok := text(v); ok {
		ev.write(s)
		return
	}
	ev.write(ev.str(v))
}

func (d *dataPart) eval(*evaluator, *frame) value { return d.text }

func (s *setStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.namespaces(s.target, f)
	v := s.value.eval(ev, f)
	ev.assign(s.target, v, f)
	ev.export(s.export, f)
	return goOn
}

func (ev *evaluator) export(names []exported, f *frame) {
	for _, e := range names {
		if ev.exported == nil {
			ev.exported = map[string]value{}
		}
		ev.exported[e.name] = f.slots[e.slot]
	}
}

// namespaces checks that the attributes of a target are a namespace's, before its value is computed.
func (ev *evaluator) namespaces(target expr, f *frame) {
	switch t := target.(type) {
	case *nsTarget:
		if _, ok := (*f.at(t.ref)).(*namespace); !ok {
			ev.fail("TemplateRuntimeError", "cannot assign attribute on non-namespace object")
		}
	case *tupleExpr:
		for _, item := range t.items {
			ev.namespaces(item, f)
		}
	}
}

func (ev *evaluator) assign(target expr, v value, f *frame) {
	switch t := target.(type) {
	case *nameExpr:
		*f.at(t.ref) = v
	case *nsTarget:
		ns, ok := (*f.at(t.ref)).(*namespace)
		if !ok {
			ev.fail("TypeError", "cannot assign attribute on non-namespace object")
		}
		ev.setAttr(ns, t.attr, v)
	case *tupleExpr:
		items := ev.unpack(v, len(t.items))
		for i, item := range t.items {
			ev.assign(item, items[i], f)
		}
	}
}

// unpack reads exactly n items.
func (ev *evaluator) unpack(v value, n int) []value {
	next := ev.iter(v)
	if next == nil {
		ev.fail("TypeError", "cannot unpack non-iterable %s object", typeName(v))
	}
	items := ev.room(n)
	for {
		item, ok := next()
		switch {
		case ok && len(items) == n:
			ev.fail("ValueError", "too many values to unpack (expected %d)", n)
		case !ok && len(items) < n:
			ev.fail("ValueError", "not enough values to unpack (expected %d, got %d)", n, len(items))
		case !ok:
			return items
		}
		items = append(items, item)
	}
}

func (ev *evaluator) setAttr(ns *namespace, name string, v value) {
	if name != "" && name[0] == '_' {
		ev.fail("SecurityError", "Chat templates cannot store underscore-prefixed attributes on a namespace, but got %s. Please rename the attribute.", ev.repr(name))
	}
	ev.put(ns.d, name, v)
}

func (s *setBlock) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.enterScope(s.scope, f)
	out, how := ev.capture(func() flow { return ev.run(s.body, f) })
	if how != goOn {
		return how
	}
	var v value = out
	if s.filter != nil {
		v = ev.blockFilter(s.filter, out, f)
	}
	if ev.autoescape {
		v = ev.markup(v)
	}
	ev.assign(s.target, v, f)
	ev.export(s.export, f)
	return goOn
}

// blockFilter applies the filters of a block to its text.
func (ev *evaluator) blockFilter(e expr, out string, f *frame) value {
	chain := e.(*filterExpr)
	var of value = out
	if inner, ok := chain.of.(*filterExpr); ok {
		of = ev.blockFilter(inner, out, f)
	} else if ev.autoescape {
		of = markup(out)
	}
	return chain.apply(ev, of, f)
}

func (s *ifStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	if ev.truth(s.test.eval(ev, f)) {
		return ev.run(s.body, f)
	}
	for _, e := range s.elifs {
		ev.line = e.line
		if ev.truth(e.test.eval(ev, f)) {
			return ev.run(e.body, f)
		}
	}
	return ev.run(s.or, f)
}

func (s *forStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	over := s.over.eval(ev, f)
	if !s.recursive {
		return s.turns(ev, f, over, nil, 0)
	}
	var recurse func(over value, depth int) value
	recurse = func(over value, depth int) value {
		ev.intoMacro()
		in := ev.frame(s.fn, f)
		out, _ := ev.capture(func() flow { return s.turns(ev, in, over, recurse, depth) })
		ev.macros--
		if ev.autoescape {
			return markup(out)
		}
		return out
	}
	ev.print(recurse(over, 0))
	return goOn
}

// turns runs the loop.
func (s *forStmt) turns(ev *evaluator, f *frame, over value, recurse func(value, int) value, depth int) flow {
	next := ev.iterate(over)
	sized := over
	if s.test != nil {
		sized = nil
		all := next
		next = func() (value, bool) {
			ev.down()
			defer ev.up()
			for {
				item, ok := all()
				if !ok {
					return nil, false
				}
				ev.enterScope(s.testScope, f)
				ev.assign(s.testTarget, item, f)
				if ev.truth(s.test.eval(ev, f)) {
					return item, true
				}
			}
		}
	}
	var lp *loop
	if s.usesLoop {
		ev.alloc(sizeIter)
		lp = &loop{ev: ev, next: next, n: -1, index0: -1, recurse: recurse, depth0: depth, before: missing, current: missing, after: missing, changed: missing}
		if sized != nil {
			lp.n = ev.length(over)
		}
		next = lp.advance
	}
	finished := false // a turn came to its end: jumps do not count, as in Jinja
	for {
		ev.work(1)
		item, ok := next()
		if !ok {
			break
		}
		ev.assign(s.target, item, f)
		if lp != nil {
			f.slots[s.loop.slot] = lp
		}
		ev.enterScope(s.bodyScope, f)
		how := ev.run(s.body, f)
		if how == goBreak {
			break
		}
		if how == goOn {
			finished = true
		}
		ev.line = s.line
	}
	if s.or != nil && !finished {
		ev.enterScope(s.orScope, f)
		return ev.run(s.or, f)
	}
	return goOn
}

func (s *filterBlock) exec(ev *evaluator, f *frame) flow {
	ev.enterScope(s.scope, f)
	out, how := ev.capture(func() flow { return ev.run(s.body, f) })
	if how != goOn {
		return how
	}
	ev.line = s.line
	ev.writeText(ev.blockFilter(s.filter, out, f))
	return goOn
}

// writeText writes what has to be a text already.
func (ev *evaluator) writeText(v value) {
	s, ok := text(v)
	if !ok {
		ev.fail("TypeError", "sequence item 0: expected str instance, %s found", typeName(v))
	}
	ev.write(s)
}

func (s *withStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.enterScope(s.scope, f)
	for i, target := range s.targets {
		ev.assign(target, s.values[i].eval(ev, f), f)
	}
	return ev.run(s.body, f)
}

func (s *autoescapeStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.enterScope(s.scope, f)
	was := ev.autoescape
	ev.autoescape = ev.truth(s.on.eval(ev, f))
	how := ev.run(s.body, f)
	ev.autoescape = was
	return how
}

func (s *blockStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.intoMacro()
	in := ev.frame(s.fn, f)
	ev.enterScope(s.scope, in)
	ev.run(s.body, in)
	ev.macros--
	return goOn
}

func (s *loaderStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	s.name.eval(ev, f)
	ev.fail("TypeError", "'%s' wants another template, and a chat template stands alone", s.tag)
	return goOn
}

func (s jumpStmt) exec(*evaluator, *frame) flow { return s.flow }
