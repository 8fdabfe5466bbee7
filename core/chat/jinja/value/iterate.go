package value

import "unicode/utf8"

// UseUndefined ends the rendering because an undefined value was used for more than printing and asking.
func (ev *Evaluation) UseUndefined(u *Undefined) {
	if u.Unsafe {
		ev.Fail("SecurityError", "%s", ev.sentence(u))
	}
	ev.Fail("UndefinedError", "%s", ev.sentence(u))
}

// Iterate gives what reads a value's items in turn. It ends the rendering where there are none to read.
func (ev *Evaluation) Iterate(v Value) func() (Value, bool) {
	if next := ev.Iter(v); next != nil {
		return next
	}
	ev.Fail("TypeError", "'%s' object is not iterable", TypeName(v))
	return nil
}

// Iter is Iterate that returns nil where a value has no items.
func (ev *Evaluation) Iter(v Value) func() (Value, bool) {
	switch t := v.(type) {
	case *List:
		return Each(t.Items)
	case *Tuple:
		return Each(t.Items)
	case *Dict:
		i := 0
		return func() (Value, bool) {
			if i == len(t.Entries) {
				return nil, false
			}
			i++
			return t.Entries[i-1].Key, true
		}
	case *View:
		i := 0
		return func() (Value, bool) {
			if i == len(t.Dict.Entries) {
				return nil, false
			}
			i++
			return t.At(ev, i-1), true
		}
	case *Range:
		i := int64(0)
		return func() (Value, bool) {
			if i == t.N {
				return nil, false
			}
			i++
			return t.Start + (i-1)*t.Step, true
		}
	case *Iterator:
		return func() (Value, bool) {
			ev.Enter()
			item, ok := t.Step()
			ev.Leave()
			return item, ok
		}
	case Iterable:
		return func() (Value, bool) {
			item, ok := t.Next()
			if !ok {
				return nil, false
			}
			return ev.Pair(item, t), true
		}
	case *Undefined:
		return func() (Value, bool) { return nil, false }
	}
	if s, ok := Text(v); ok {
		return func() (Value, bool) {
			if s == "" {
				return nil, false
			}
			n := RuneLength(s)
			c := s[:n]
			s = s[n:]
			ev.Work(1)
			return c, true
		}
	}
	return nil
}

// At is the item at a position: a key, a value or a pair of both.
func (w *View) At(ev *Evaluation, i int) Value {
	e := &w.Dict.Entries[i]
	switch w.Part {
	case "keys":
		return e.Key
	case "values":
		return e.Value
	}
	return ev.Pair(e.Key, e.Value)
}

// Each reads items in turn.
func Each(items []Value) func() (Value, bool) {
	i := 0
	return func() (Value, bool) {
		if i == len(items) {
			return nil, false
		}
		i++
		return items[i-1], true
	}
}

// Items reads all that a value has: a list or a tuple gives its own, which must not be changed.
func (ev *Evaluation) Items(v Value) []Value {
	switch t := v.(type) {
	case *List:
		return t.Items
	case *Tuple:
		return t.Items
	}
	return ev.Collect(ev.Iterate(v))
}

// Collect reads all that is left.
func (ev *Evaluation) Collect(next func() (Value, bool)) []Value {
	var out []Value
	for {
		item, ok := next()
		if !ok {
			return out
		}
		ev.Work(1)
		out = ev.Append(out, item)
	}
}

// Length is Python's len(), -1 where there is none.
func (ev *Evaluation) Length(v Value) int {
	switch t := v.(type) {
	case string:
		return ev.Count(t)
	case Markup:
		return ev.Count(string(t))
	case *List:
		return len(t.Items)
	case *Tuple:
		return len(t.Items)
	case *Dict:
		return len(t.Entries)
	case *View:
		return len(t.Dict.Entries)
	case *Range:
		return int(t.N)
	case sized:
		return t.Len()
	case *Undefined:
		return 0
	}
	return -1
}

// Unpack reads exactly n items.
func (ev *Evaluation) Unpack(v Value, n int) []Value {
	next := ev.Iter(v)
	if next == nil {
		ev.Fail("TypeError", "cannot unpack non-iterable %s object", TypeName(v))
	}
	items := ev.NewItems(n)
	for {
		item, ok := next()
		switch {
		case ok && len(items) == n:
			ev.Fail("ValueError", "too many values to unpack (expected %d)", n)
		case !ok && len(items) < n:
			ev.Fail("ValueError", "not enough values to unpack (expected %d, got %d)", n, len(items))
		case !ok:
			return items
		}
		items = append(items, item)
	}
}

// Count is how many characters a text has.
func (ev *Evaluation) Count(s string) int {
	ev.Work(len(s) / 32)
	return utf8.RuneCountInString(s)
}

// RuneLength is how many bytes the first character has.
func RuneLength(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// ByteIndex returns the byte offset of character i in a text of n characters.
func ByteIndex(s string, i, n int) int {
	switch {
	case n == len(s):
		return i
	case i >= n:
		return len(s)
	}
	for at := range s {
		if i == 0 {
			return at
		}
		i--
	}
	return len(s)
}
