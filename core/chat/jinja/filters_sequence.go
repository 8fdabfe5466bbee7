package jinja

import (
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

func generator(ev *evaluator, step func() (value, bool)) value {
	ev.alloc(sizeIter)
	return &iterator{"generator", step}
}

func filterBatch(ev *evaluator, v value, a *args) value {
	p := ev.bind("batch", a, []string{"linecount", "fill_with"}, 1)
	var next func() (value, bool)
	held := missing
	return generator(ev, func() (value, bool) {
		if next == nil {
			next = ev.iterate(v)
		}
		var items []value
		if held != missing {
			items = ev.push(items, held)
			held = missing
		}
		full := func() bool { return ev.equal(int64(len(items)), p[0]) }
		for {
			item, ok := next()
			if !ok {
				break
			}
			ev.work(1)
			if full() {
				held = item
				return ev.newList(items), true
			}
			items = ev.push(items, item)
		}
		if len(items) == 0 {
			return nil, false
		}
		if fill := or(p[1], nil); fill != nil {
			if n := ev.wholeArg("linecount", p[0]) - int64(len(items)); n > 0 {
				items = append(append(ev.room(len(items)), items...), ev.repeatItems([]value{fill}, n)...)
			}
		}
		return ev.newList(items), true
	})
}

func filterSlice(ev *evaluator, v value, a *args) value {
	p := ev.bind("slice", a, []string{"slices", "fill_with"}, 1)
	var items []value
	started := false
	k, offset, n := int64(0), int64(0), int64(0)
	return generator(ev, func() (value, bool) {
		if !started {
			started = true
			items = ev.items(v)
			if n = ev.wholeArg("slices", p[0]); n == 0 {
				ev.fail("ZeroDivisionError", "integer division or modulo by zero")
			}
		}
		if k >= n {
			return nil, false
		}
		ev.work(1)
		per, extra := int64(len(items))/n, int64(len(items))%n
		start := offset + k*per
		if k < extra {
			offset++
		}
		end := offset + (k+1)*per
		part := items[start:end:end]
		if fill := or(p[1], nil); fill != nil && k >= extra {
			part = append(append(ev.room(len(part)+1), part...), fill)
		}
		k++
		return ev.newList(part), true
	})
}

func filterLength(ev *evaluator, v value, a *args) value {
	ev.bind("length", a, nil, 0)
	n := ev.length(v)
	if n < 0 {
		ev.fail("TypeError", "object of type '%s' has no len()", typeName(v))
	}
	return int64(n)
}

func ignoreCase(ev *evaluator, v value) value {
	switch t := v.(type) {
	case string:
		return lower(ev, t)
	case markup:
		return markup(lower(ev, string(t)))
	}
	return v
}

func filterDictsort(ev *evaluator, v value, a *args) value {
	p := ev.bind("dictsort", a, []string{"case_sensitive", "by", "reverse"}, 0)
	by, _ := text(or(p[1], "key"))
	if by != "key" && by != "value" {
		ev.fail("FilterArgumentError", `You can only sort by either "key" or "value"`)
	}
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	d, ok := v.(*dict)
	if !ok {
		ev.fail("AttributeError", "'%s' object has no attribute 'items'", typeName(v))
	}
	keys, items := ev.room(len(d.entries)), ev.room(len(d.entries))
	for _, e := range d.entries {
		k := e.key
		if by == "value" {
			k = e.val
		}
		if p[0] == missing || !ev.truth(p[0]) {
			k = ignoreCase(ev, k)
		}
		keys = append(keys, k)
		items = append(items, ev.pair(e.key, e.val))
	}
	return ev.newList(ev.sorted(items, keys, p[2]))
}

// sorted orders items by their keys.
func (ev *evaluator) sorted(items, keys []value, reverse value) []value {
	backwards := reverse != missing && ev.wholeArg("reverse", reverse) != 0
	out := ev.room(len(items))
	ev.sort(len(items), func(i, j int) bool {
		if backwards {
			i, j = j, i
		}
		c := ev.compare(keys[i], keys[j], "<")
		return c < 0
	}, func(order []int) {
		for _, i := range order {
			out = append(out, items[i])
		}
	})
	return out
}

func filterFirst(ev *evaluator, v value, a *args) value {
	ev.bind("first", a, nil, 0)
	if item, ok := ev.iterate(v)(); ok {
		return item
	}
	return undef("No first item, sequence was empty.")
}

func filterLast(ev *evaluator, v value, a *args) value {
	ev.bind("last", a, nil, 0)
	next := ev.reversed(v)
	if next == nil {
		ev.fail("TypeError", "'%s' object is not reversible", typeName(v))
	}
	if item, ok := next(); ok {
		return item
	}
	return undef("No last item, sequence was empty.")
}

// reversed reads a value's items from the last to the first, nil where that is not possible.
func (ev *evaluator) reversed(v value) func() (value, bool) {
	at := func(n int, get func(i int) value) func() (value, bool) {
		return func() (value, bool) {
			if n == 0 {
				return nil, false
			}
			n--
			return get(n), true
		}
	}
	switch t := v.(type) {
	case *list:
		return at(len(t.items), func(i int) value { return t.items[i] })
	case *tuple:
		return at(len(t.items), func(i int) value { return t.items[i] })
	case *dict:
		return at(len(t.entries), func(i int) value { return t.entries[i].key })
	case *view:
		return at(len(t.d.entries), func(i int) value { return t.at(ev, i) })
	case *span:
		return at(int(t.n), func(i int) value { return t.start + int64(i)*t.step })
	case *undefined:
		return at(0, nil)
	}
	s, ok := text(v)
	if !ok {
		return nil
	}
	_, safe := v.(markup)
	return func() (value, bool) {
		if s == "" {
			return nil, false
		}
		_, n := utf8.DecodeLastRuneInString(s)
		c := s[len(s)-n:]
		s = s[:len(s)-n]
		return marked(c, safe), true
	}
}

func filterReverse(ev *evaluator, v value, a *args) value {
	ev.bind("reverse", a, nil, 0)
	if s, ok := text(v); ok {
		_, safe := v.(markup)
		n := ev.count(s)
		return marked(ev.strideText(s, n, int64(n-1), -1, int64(n)), safe)
	}
	if next := ev.reversed(v); next != nil {
		ev.alloc(sizeIter)
		name := "reversed"
		switch v.(type) {
		case *list:
			name = "list_reverseiterator"
		case *dict:
			name = "dict_reversekeyiterator"
		case *span:
			name = "range_iterator"
		}
		return &iterator{name, next}
	}
	items := ev.collect(ev.iterate(v))
	for i, j := 0, len(items)-1; i < j; i, j = i+1, j-1 {
		items[i], items[j] = items[j], items[i]
	}
	return ev.newList(items)
}

// getter reads an attribute of a value as filters name it: parts apart by dots, digits as positions.
func (ev *evaluator) getter(attribute, none value) func(value) value {
	var parts []value
	switch t := attribute.(type) {
	case nil:
	case string, markup:
		s, _ := text(t)
		for part := range strings.SplitSeq(s, ".") {
			ev.alloc(sizeValue)
			if part != "" && strings.IndexFunc(part, func(r rune) bool { return !isDigit(r) }) < 0 {
				i, ok := parseInt(part, 10)
				if !ok {
					ev.fail("ValueError", "invalid literal for int() with base 10: %s", ev.repr(part))
				}
				parts = append(parts, i)
				continue
			}
			parts = append(parts, part)
		}
	default:
		parts = []value{t}
	}
	return func(v value) value {
		for _, part := range parts {
			ev.work(1)
			v = ev.item(v, part)
			if _, ok := v.(*undefined); ok && none != nil {
				v = none
			}
		}
		return v
	}
}

func filterGroupBy(ev *evaluator, v value, a *args) value {
	p := ev.bind("groupby", a, []string{"attribute", "default", "case_sensitive"}, 1)
	get := ev.getter(p[0], or(p[1], nil))
	fold := p[2] == missing || !ev.truth(p[2])
	items := ev.items(v)
	keys := ev.room(len(items))
	for _, item := range items {
		k := get(item)
		if fold {
			k = ignoreCase(ev, k)
		}
		keys = append(keys, k)
	}
	var out []value
	ev.sort(len(items), func(i, j int) bool { return ev.compare(keys[i], keys[j], "<") < 0 }, func(order []int) {
		for i := 0; i < len(order); {
			j := i
			var group []value
			for j < len(order) && ev.equal(keys[order[i]], keys[order[j]]) {
				group = ev.push(group, items[order[j]])
				j++
			}
			if j == i { // not equal to itself
				group = ev.push(group, items[order[j]])
				j++
			}
			k := keys[order[i]]
			if fold {
				k = get(group[0])
			}
			t := ev.pair(k, ev.newList(group))
			t.group = true
			out = ev.push(out, t)
			i = j
		}
	})
	return ev.newList(out)
}

func filterItems(ev *evaluator, v value, a *args) value {
	ev.bind("items", a, nil, 0)
	i := 0
	return generator(ev, func() (value, bool) {
		if _, ok := v.(*undefined); ok {
			return nil, false
		}
		d, ok := v.(*dict)
		if !ok {
			ev.fail("TypeError", "Can only get item pairs from a mapping.")
		}
		if i == len(d.entries) {
			return nil, false
		}
		i++
		return ev.pair(d.entries[i-1].key, d.entries[i-1].val), true
	})
}

func filterJoin(ev *evaluator, v value, a *args) value {
	p := ev.bind("join", a, []string{"d", "attribute"}, 0)
	next := ev.iterate(v)
	if attribute := or(p[1], nil); attribute != nil {
		get, all := ev.getter(attribute, nil), next
		next = func() (value, bool) {
			item, ok := all()
			if !ok {
				return nil, false
			}
			return get(item), true
		}
	}
	sep, safe := ev.soft(or(p[0], ""))
	if !ev.autoescape {
		return ev.joinItems(sep, next, ev.str)
	}
	items := ev.collect(next)
	plain := !safe
	if plain {
		for _, item := range items {
			if _, ok := item.(markup); ok {
				safe = true
			}
		}
	}
	if !safe {
		return ev.joinItems(sep, each(items), ev.str)
	}
	if plain {
		sep = string(ev.escape(sep))
	}
	return markup(ev.joinItems(sep, each(items), func(v value) string { return string(ev.escape(v)) }))
}

func filterList(ev *evaluator, v value, a *args) value {
	ev.bind("list", a, nil, 0)
	switch t := v.(type) {
	case *list:
		return t
	case *tuple:
		return ev.newList(t.items)
	case string, markup:
		s, _ := text(v)
		n := ev.count(s)
		ev.work(n)
		items := ev.room(2 * n) // each character is a value of its own
		next := ev.iterate(v)
		for c, ok := next(); ok; c, ok = next() {
			items = append(items, c)
		}
		return ev.newList(items)
	}
	return ev.newList(ev.collect(ev.iterate(v)))
}

func filterMap(ev *evaluator, v value, a *args) value {
	var f func(value) value
	return lazy(ev, v, func(next func() (value, bool)) (value, bool) {
		if f == nil {
			f = mapping(ev, a)
		}
		item, ok := next()
		if !ok {
			return nil, false
		}
		return f(item), true
	})
}

// lazy is a generator over a value, which is looked at when the first item is asked for; a false one has none.
func lazy(ev *evaluator, v value, step func(next func() (value, bool)) (value, bool)) value {
	var next func() (value, bool)
	return generator(ev, func() (value, bool) {
		if next == nil {
			if !ev.truth(v) {
				return nil, false
			}
			next = ev.iterate(v)
		}
		ev.work(1)
		return step(next)
	})
}

func mapping(ev *evaluator, a *args) func(value) value {
	if len(a.pos) == 0 {
		var attribute, none value = missing, nil
		for _, k := range a.named {
			if k.name == "attribute" {
				attribute = k.val
			}
		}
		if attribute != missing {
			for _, k := range a.named {
				switch k.name {
				case "attribute":
				case "default":
					none = k.val
				default:
					ev.fail("FilterArgumentError", "Unexpected keyword argument %s", ev.repr(k.name))
				}
			}
			return ev.getter(attribute, none)
		}
		ev.fail("FilterArgumentError", "map requires a filter argument")
	}
	f := ev.filterNamed(a.pos[0])
	return func(v value) value { return f(ev, v, &args{a.pos[1:], a.named}) }
}

// selecting is select, reject, selectattr and rejectattr.
func selecting(reject, attribute bool) filterFunc {
	return func(ev *evaluator, v value, a *args) value {
		var keep func(value) bool
		return lazy(ev, v, func(next func() (value, bool)) (value, bool) {
			if keep == nil {
				keep = condition(ev, a, reject, attribute)
			}
			for {
				item, ok := next()
				if !ok {
					return nil, false
				}
				ev.work(1)
				if keep(item) {
					return item, true
				}
			}
		})
	}
}

func condition(ev *evaluator, a *args, reject, attribute bool) func(value) bool {
	pos := a.pos
	get := func(v value) value { return v }
	if attribute {
		if len(pos) == 0 {
			ev.fail("FilterArgumentError", "Missing parameter for attribute name")
		}
		get = ev.getter(pos[0], nil)
		pos = pos[1:]
	}
	if len(pos) == 0 {
		return func(v value) bool { return ev.truth(get(v)) != reject }
	}
	called, _ := text(pos[0])
	t := testCalled(called)
	if t == nil {
		ev.fail("TemplateRuntimeError", "No test named %s.", ev.repr(pos[0]))
	}
	return func(v value) bool { return ev.truth(t(ev, get(v), &args{pos[1:], a.named})) != reject }
}

// extreme is max and min.
func extreme(name string, sign int) filterFunc {
	return func(ev *evaluator, v value, a *args) value {
		p := ev.bind(name, a, []string{"case_sensitive", "attribute"}, 0)
		get := ev.getter(or(p[1], nil), nil)
		fold := p[0] == missing || !ev.truth(p[0])
		next := ev.iterate(v)
		var best, bestKey value = missing, nil
		op := map[int]string{1: ">", -1: "<"}[sign]
		for {
			item, ok := next()
			if !ok {
				break
			}
			ev.work(1)
			k := get(item)
			if fold {
				k = ignoreCase(ev, k)
			}
			if best == missing || ev.holds(op, k, bestKey) {
				best, bestKey = item, k
			}
		}
		if best == missing {
			return undef("No aggregated item, sequence was empty.")
		}
		return best
	}
}

func filterRandom(ev *evaluator, v value, a *args) value {
	ev.bind("random", a, nil, 0)
	n := ev.length(v)
	switch {
	case n < 0:
		ev.fail("TypeError", "object of type '%s' has no len()", typeName(v))
	case n == 0:
		return undef("No random item, sequence was empty.")
	}
	return ev.item(v, rand.Int64N(int64(n))) //nolint:gosec // nothing is kept secret by it
}

func filterSort(ev *evaluator, v value, a *args) value {
	p := ev.bind("sort", a, []string{"reverse", "case_sensitive", "attribute"}, 0)
	fold := p[1] == missing || !ev.truth(p[1])
	var gets []func(value) value
	attribute := or(p[2], nil)
	if s, ok := text(attribute); ok {
		for part := range strings.SplitSeq(s, ",") {
			ev.alloc(64)
			gets = append(gets, ev.getter(part, nil))
		}
	} else {
		gets = append(gets, ev.getter(attribute, nil))
	}
	items := ev.items(v)
	keys := ev.room(len(items))
	for _, item := range items {
		parts := ev.room(len(gets))
		for _, get := range gets {
			k := get(item)
			if fold {
				k = ignoreCase(ev, k)
			}
			parts = append(parts, k)
		}
		keys = append(keys, ev.newList(parts))
	}
	return ev.newList(ev.sorted(items, keys, p[0]))
}

func filterSum(ev *evaluator, v value, a *args) value {
	p := ev.bind("sum", a, []string{"attribute", "start"}, 0)
	total := or(p[1], int64(0))
	if _, ok := text(total); ok {
		ev.fail("TypeError", "sum() can't sum strings [use ''.join(seq) instead]")
	}
	get := ev.getter(or(p[0], nil), nil)
	next := ev.iterate(v)
	for {
		item, ok := next()
		if !ok {
			return total
		}
		ev.work(1)
		total = ev.binary("+", total, get(item))
	}
}

func filterUnique(ev *evaluator, v value, a *args) value {
	p := ev.bind("unique", a, []string{"case_sensitive", "attribute"}, 0)
	get := ev.getter(or(p[1], nil), nil)
	fold := p[0] == missing || !ev.truth(p[0])
	seen := ev.newDict()
	var next func() (value, bool)
	return generator(ev, func() (value, bool) {
		if next == nil {
			next = ev.iterate(v)
		}
		for {
			item, ok := next()
			if !ok {
				return nil, false
			}
			ev.work(1)
			k := get(item)
			if fold {
				k = ignoreCase(ev, k)
			}
			h := ev.hash(k)
			if _, ok := seen.get(h); !ok {
				ev.put(seen, k, true)
				return item, true
			}
		}
	})
}
