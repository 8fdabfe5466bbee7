package jinja

// used ends the rendering because an undefined value was used for more than printing and asking.
func (ev *evaluator) used(u *undefined) {
	if u.unsafe {
		ev.fail("SecurityError", "%s", ev.sentence(u))
	}
	ev.fail("UndefinedError", "%s", ev.sentence(u))
}

// iterate gives what reads a value's items in turn. It ends the rendering where there are none to read.
func (ev *evaluator) iterate(v value) func() (value, bool) {
	if next := ev.iter(v); next != nil {
		return next
	}
	ev.fail("TypeError", "'%s' object is not iterable", typeName(v))
	return nil
}

// iter is iterate that returns nil where a value has no items.
func (ev *evaluator) iter(v value) func() (value, bool) {
	switch t := v.(type) {
	case *list:
		return each(t.items)
	case *tuple:
		return each(t.items)
	case *dict:
		i := 0
		return func() (value, bool) {
			if i == len(t.entries) {
				return nil, false
			}
			i++
			return t.entries[i-1].key, true
		}
	case *view:
		i := 0
		return func() (value, bool) {
			if i == len(t.d.entries) {
				return nil, false
			}
			i++
			return t.at(ev, i-1), true
		}
	case *span:
		i := int64(0)
		return func() (value, bool) {
			if i == t.n {
				return nil, false
			}
			i++
			return t.start + (i-1)*t.step, true
		}
	case *iterator:
		return func() (value, bool) {
			ev.down()
			item, ok := t.step()
			ev.up()
			return item, ok
		}
	case *loop:
		return func() (value, bool) {
			item, ok := t.advance()
			if !ok {
				return nil, false
			}
			return ev.pair(item, t), true
		}
	case *undefined:
		return func() (value, bool) { return nil, false }
	}
	if s, ok := text(v); ok {
		return func() (value, bool) {
			if s == "" {
				return nil, false
			}
			n := runeLength(s)
			c := s[:n]
			s = s[n:]
			ev.work(1)
			return c, true
		}
	}
	return nil
}

func (w *view) at(ev *evaluator, i int) value {
	e := &w.d.entries[i]
	switch w.what {
	case "keys":
		return e.key
	case "values":
		return e.val
	}
	return ev.pair(e.key, e.val)
}

func each(items []value) func() (value, bool) {
	i := 0
	return func() (value, bool) {
		if i == len(items) {
			return nil, false
		}
		i++
		return items[i-1], true
	}
}

// items reads all that a value has: a list or a tuple gives its own, which must not be changed.
func (ev *evaluator) items(v value) []value {
	switch t := v.(type) {
	case *list:
		return t.items
	case *tuple:
		return t.items
	}
	return ev.collect(ev.iterate(v))
}

func (ev *evaluator) collect(next func() (value, bool)) []value {
	var out []value
	for {
		item, ok := next()
		if !ok {
			return out
		}
		ev.work(1)
		out = ev.push(out, item)
	}
}

// length is Python's len(), -1 where there is none.
func (ev *evaluator) length(v value) int {
	switch t := v.(type) {
	case string:
		return ev.count(t)
	case markup:
		return ev.count(string(t))
	case *list:
		return len(t.items)
	case *tuple:
		return len(t.items)
	case *dict:
		return len(t.entries)
	case *view:
		return len(t.d.entries)
	case *span:
		return int(t.n)
	case *loop:
		return t.length()
	case *undefined:
		return 0
	}
	return -1
}
