package jinja

import "fmt"

// macro is a macro as a value, with the variables that were around it.
type macro struct {
	m   *macroStmt
	out *frame
}

func (ev *evaluator) intoMacro() {
	ev.macros++
	if ev.macros > maxMacros {
		ev.stop("macros and loops call each other more than %d deep", maxMacros)
	}
}

func (s *macroStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.alloc(48)
	*f.at(s.ref) = &macro{s, f}
	ev.export(s.export, f)
	return goOn
}

func (s *callBlock) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	caller := &macro{s.macro, f}
	if s.call == nil { // generation: the text inside, with variables of its own
		ev.writeText(caller.call(ev, &args{}))
		return goOn
	}
	of := s.call.of.eval(ev, f)
	a := s.call.args.eval(ev, f)
	for _, k := range a.named {
		if k.name == "caller" {
			ev.fail("TypeError", "got multiple values for keyword argument 'caller'")
		}
	}
	a.named = append(a.named, kwarg{"caller", caller})
	ev.writeText(ev.call(of, a))
	return goOn
}

// call runs the macro's body and returns its text.
func (m *macro) call(ev *evaluator, a *args) value {
	ev.intoMacro()
	line := ev.line
	s := m.m
	f := ev.frame(s.fn, m.out)
	vals := ev.room(len(s.params))
	vals = append(vals, a.pos[:min(len(a.pos), len(s.params))]...)
	foundCaller := len(vals) == len(s.params) && s.explicit
	for _, p := range s.params[len(vals):] {
		v, ok := a.take(p.name)
		if !ok {
			v = missing
		}
		if p.name == "caller" {
			foundCaller = true
		}
		vals = append(vals, v)
	}
	if s.usesCaller && !foundCaller {
		caller, ok := a.take("caller")
		if !ok || caller == nil {
			caller = &undefined{message: "No caller defined", name: "caller"}
		}
		f.slots[s.caller.slot] = caller
	}
	switch {
	case s.kwargs != nil:
		d := ev.newDict()
		for _, k := range a.named {
			ev.put(d, k.name, k.val)
		}
		f.slots[s.kwargs.slot] = d
	case len(a.named) > 0:
		for _, k := range a.named {
			if k.name == "caller" {
				ev.fail("TypeError", "macro '%s' was invoked with two values for the special caller argument. This is most likely a bug.", s.name)
			}
		}
		ev.fail("TypeError", "macro '%s' takes no keyword argument %s", s.name, ev.repr(a.named[0].name))
	}
	switch {
	case s.varargs != nil:
		rest := ev.room(max(len(a.pos)-len(s.params), 0))
		if len(a.pos) > len(s.params) {
			rest = append(rest, a.pos[len(s.params):]...)
		}
		f.slots[s.varargs.slot] = &tuple{items: rest}
	case len(a.pos) > len(s.params):
		ev.fail("TypeError", "macro '%s' takes not more than %d argument(s)", s.name, len(s.params))
	}
	ev.enterScope(s.scope, f)
	for i, p := range s.params {
		if vals[i] == missing {
			if d := i - (len(s.params) - len(s.defaults)); d >= 0 {
				vals[i] = s.defaults[d].eval(ev, f)
			} else {
				vals[i] = &undefined{message: fmt.Sprintf("parameter '%s' was not provided", p.name), name: p.name}
			}
		}
		*f.at(p.ref) = vals[i]
	}
	out, _ := ev.capture(func() flow { return ev.run(s.body, f) })
	ev.macros--
	ev.line = line
	if ev.autoescape {
		return markup(out)
	}
	return out
}

// attr is what a template can ask a macro.
func (m *macro) attr(ev *evaluator, name string) (value, bool) {
	switch name {
	case "name":
		if m.m.anonymous {
			return nil, true
		}
		return m.m.name, true
	case "arguments":
		items := ev.room(len(m.m.params))
		for _, p := range m.m.params {
			items = append(items, p.name)
		}
		return &tuple{items: items}, true
	case "caller":
		return m.m.usesCaller, true
	case "catch_kwargs":
		return m.m.kwargs != nil, true
	case "catch_varargs":
		return m.m.varargs != nil, true
	case "explicit_caller":
		return m.m.explicit, true
	}
	return nil, false
}

// loop is the variable of that name inside a for block.
type loop struct {
	ev      *evaluator
	next    func() (value, bool)
	n       int // -1: not known yet
	index0  int
	depth0  int
	before  value
	current value
	after   value
	changed value
	recurse func(value, int) value
}

// advance goes to the next turn.
func (l *loop) advance() (value, bool) {
	v := l.after
	if v != missing {
		l.after = missing
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

func (l *loop) peek() value {
	if l.after == missing {
		if v, ok := l.next(); ok {
			l.after = v
		}
	}
	return l.after
}

// length reads the rest of what is looped over, where its size is not known.
func (l *loop) length() int {
	if l.n < 0 {
		rest := l.ev.collect(l.next)
		l.next = each(rest)
		l.n = len(rest) + l.index0 + 1
		if l.after != missing {
			l.n++
		}
	}
	return l.n
}

func (l *loop) attr(name string) (value, bool) {
	switch name {
	case "index":
		return int64(l.index0 + 1), true
	case "index0":
		return int64(l.index0), true
	case "first":
		return l.index0 == 0, true
	case "last":
		return l.peek() == missing, true
	case "length":
		return int64(l.length()), true
	case "revindex":
		return int64(l.length() - l.index0), true
	case "revindex0":
		return int64(l.length() - l.index0 - 1), true
	case "depth":
		return int64(l.depth0 + 1), true
	case "depth0":
		return int64(l.depth0), true
	case "previtem":
		if l.index0 == 0 {
			return undef("there is no previous item"), true
		}
		return l.before, true
	case "nextitem":
		if v := l.peek(); v != missing {
			return v, true
		}
		return undef("there is no next item"), true
	case "cycle":
		return &callable{"cycle", func(ev *evaluator, a *args) value {
			ev.noNames("cycle", a)
			if len(a.pos) == 0 {
				ev.fail("TypeError", "no items for cycling given")
			}
			return a.pos[l.index0%len(a.pos)]
		}}, true
	case "changed":
		return &callable{"changed", func(ev *evaluator, a *args) value {
			ev.noNames("changed", a)
			now := &tuple{items: a.pos}
			if l.changed == missing || !ev.equal(l.changed, now) {
				l.changed = now
				return true
			}
			return false
		}}, true
	}
	return nil, false
}

// cycler and joiner are what the functions of these names return.
type (
	cycler struct {
		items []value
		pos   int
	}
	joiner struct {
		sep  value
		used bool
	}
)

func (j *joiner) call(ev *evaluator, a *args) value {
	ev.bind("joiner", a, nil, 0)
	if !j.used {
		j.used = true
		return ""
	}
	return j.sep
}

func (c *cycler) attr(name string) (value, bool) {
	switch name {
	case "current":
		return c.items[c.pos], true
	case "pos":
		return int64(c.pos), true
	case "items":
		return &tuple{items: c.items}, true
	case "next":
		return &callable{"next", func(ev *evaluator, a *args) value {
			ev.bind("next", a, nil, 0)
			v := c.items[c.pos]
			c.pos = (c.pos + 1) % len(c.items)
			return v
		}}, true
	case "reset":
		return &callable{"reset", func(ev *evaluator, a *args) value {
			ev.bind("reset", a, nil, 0)
			c.pos = 0
			return nil
		}}, true
	}
	return nil, false
}
