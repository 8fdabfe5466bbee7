package builtin

import (
	"math/rand/v2"
	"strings"
	"unicode/utf8"

	"edged/core/chat/jinja/operator"
	"edged/core/chat/jinja/value"
)

func generator(ev *value.Evaluation, step func() (value.Value, bool)) value.Value {
	ev.Alloc(value.SizeIter)
	return &value.Iterator{Name: "generator", Step: step}
}

func filterBatch(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("batch", a, []string{"linecount", "fill_with"}, 1)
	var next func() (value.Value, bool)
	held := value.Missing
	return generator(ev, func() (value.Value, bool) {
		if next == nil {
			next = ev.Iterate(v)
		}
		var items []value.Value
		if held != value.Missing {
			items = ev.Append(items, held)
			held = value.Missing
		}
		full := func() bool { return ev.Equal(int64(len(items)), p[0]) }
		for {
			item, ok := next()
			if !ok {
				break
			}
			ev.Work(1)
			if full() {
				held = item
				return ev.NewList(items), true
			}
			items = ev.Append(items, item)
		}
		if len(items) == 0 {
			return nil, false
		}
		if fill := value.OrDefault(p[1], nil); fill != nil {
			if n := ev.IntArg("linecount", p[0]) - int64(len(items)); n > 0 {
				items = append(append(ev.NewItems(len(items)), items...), ev.RepeatItems([]value.Value{fill}, n)...)
			}
		}
		return ev.NewList(items), true
	})
}

func filterSlice(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("slice", a, []string{"slices", "fill_with"}, 1)
	var items []value.Value
	started := false
	k, offset, n := int64(0), int64(0), int64(0)
	return generator(ev, func() (value.Value, bool) {
		if !started {
			started = true
			items = ev.Items(v)
			if n = ev.IntArg("slices", p[0]); n == 0 {
				ev.Fail("ZeroDivisionError", "integer division or modulo by zero")
			}
		}
		if k >= n {
			return nil, false
		}
		ev.Work(1)
		per, extra := int64(len(items))/n, int64(len(items))%n
		start := offset + k*per
		if k < extra {
			offset++
		}
		end := offset + (k+1)*per
		part := items[start:end:end]
		if fill := value.OrDefault(p[1], nil); fill != nil && k >= extra {
			part = append(append(ev.NewItems(len(part)+1), part...), fill)
		}
		k++
		return ev.NewList(part), true
	})
}

func filterLength(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("length", a, nil, 0)
	n := ev.Length(v)
	if n < 0 {
		ev.Fail("TypeError", "object of type '%s' has no len()", value.TypeName(v))
	}
	return int64(n)
}

func ignoreCase(ev *value.Evaluation, v value.Value) value.Value {
	switch t := v.(type) {
	case string:
		return operator.Lower(ev, t)
	case value.Markup:
		return value.Markup(operator.Lower(ev, string(t)))
	}
	return v
}

func filterDictsort(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("dictsort", a, []string{"case_sensitive", "by", "reverse"}, 0)
	by, _ := value.Text(value.OrDefault(p[1], "key"))
	if by != "key" && by != "value" {
		ev.Fail("FilterArgumentError", `You can only sort by either "key" or "value"`)
	}
	if u, ok := v.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	d, ok := v.(*value.Dict)
	if !ok {
		ev.Fail("AttributeError", "'%s' object has no attribute 'items'", value.TypeName(v))
	}
	keys, items := ev.NewItems(len(d.Entries)), ev.NewItems(len(d.Entries))
	for _, e := range d.Entries {
		k := e.Key
		if by == "value" {
			k = e.Value
		}
		if p[0] == value.Missing || !value.Truth(p[0]) {
			k = ignoreCase(ev, k)
		}
		keys = append(keys, k)
		items = append(items, ev.Pair(e.Key, e.Value))
	}
	return ev.NewList(sorted(ev, items, keys, p[2]))
}

// sorted orders items by their keys.
func sorted(ev *value.Evaluation, items, keys []value.Value, reverse value.Value) []value.Value {
	backwards := reverse != value.Missing && ev.IntArg("reverse", reverse) != 0
	out := ev.NewItems(len(items))
	ev.Sort(len(items), func(i, j int) bool {
		if backwards {
			i, j = j, i
		}
		c := ev.Compare(keys[i], keys[j], "<")
		return c < 0
	}, func(order []int) {
		for _, i := range order {
			out = append(out, items[i])
		}
	})
	return out
}

func filterFirst(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("first", a, nil, 0)
	if item, ok := ev.Iterate(v)(); ok {
		return item
	}
	return value.NewUndefined("No first item, sequence was empty.")
}

func filterLast(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("last", a, nil, 0)
	next := reversed(ev, v)
	if next == nil {
		ev.Fail("TypeError", "'%s' object is not reversible", value.TypeName(v))
	}
	if item, ok := next(); ok {
		return item
	}
	return value.NewUndefined("No last item, sequence was empty.")
}

// reversed reads a value's items from the last to the first, nil where that is not possible.
func reversed(ev *value.Evaluation, v value.Value) func() (value.Value, bool) {
	at := func(n int, get func(i int) value.Value) func() (value.Value, bool) {
		return func() (value.Value, bool) {
			if n == 0 {
				return nil, false
			}
			n--
			return get(n), true
		}
	}
	switch t := v.(type) {
	case *value.List:
		return at(len(t.Items), func(i int) value.Value { return t.Items[i] })
	case *value.Tuple:
		return at(len(t.Items), func(i int) value.Value { return t.Items[i] })
	case *value.Dict:
		return at(len(t.Entries), func(i int) value.Value { return t.Entries[i].Key })
	case *value.View:
		return at(len(t.Dict.Entries), func(i int) value.Value { return t.At(ev, i) })
	case *value.Range:
		return at(int(t.N), func(i int) value.Value { return t.Start + int64(i)*t.Step })
	case *value.Undefined:
		return at(0, nil)
	}
	s, ok := value.Text(v)
	if !ok {
		return nil
	}
	_, safe := v.(value.Markup)
	return func() (value.Value, bool) {
		if s == "" {
			return nil, false
		}
		_, n := utf8.DecodeLastRuneInString(s)
		c := s[len(s)-n:]
		s = s[:len(s)-n]
		return value.Marked(c, safe), true
	}
}

func filterReverse(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("reverse", a, nil, 0)
	if s, ok := value.Text(v); ok {
		_, safe := v.(value.Markup)
		n := ev.Count(s)
		return value.Marked(operator.StrideText(ev, s, n, int64(n-1), -1, int64(n)), safe)
	}
	if next := reversed(ev, v); next != nil {
		ev.Alloc(value.SizeIter)
		name := "reversed"
		switch v.(type) {
		case *value.List:
			name = "list_reverseiterator"
		case *value.Dict:
			name = "dict_reversekeyiterator"
		case *value.Range:
			name = "range_iterator"
		}
		return &value.Iterator{Name: name, Step: next}
	}
	items := ev.Collect(ev.Iterate(v))
	for i, j := 0, len(items)-1; i < j; i, j = i+1, j-1 {
		items[i], items[j] = items[j], items[i]
	}
	return ev.NewList(items)
}

// getter reads an attribute of a value as filters name it: parts apart by dots, digits as positions.
func getter(ev *value.Evaluation, attribute, none value.Value) func(value.Value) value.Value {
	var parts []value.Value
	switch t := attribute.(type) {
	case nil:
	case string, value.Markup:
		s, _ := value.Text(t)
		for part := range strings.SplitSeq(s, ".") {
			ev.Alloc(value.SizeValue)
			if part != "" && strings.IndexFunc(part, func(r rune) bool { return !operator.IsDigit(r) }) < 0 {
				i, ok := value.ParseInt(part, 10)
				if !ok {
					ev.Fail("ValueError", "invalid literal for int() with base 10: %s", ev.Repr(part))
				}
				parts = append(parts, i)
				continue
			}
			parts = append(parts, part)
		}
	default:
		parts = []value.Value{t}
	}
	return func(v value.Value) value.Value {
		for _, part := range parts {
			ev.Work(1)
			v = operator.Item(ev, v, part)
			if _, ok := v.(*value.Undefined); ok && none != nil {
				v = none
			}
		}
		return v
	}
}

func filterGroupBy(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("groupby", a, []string{"attribute", "default", "case_sensitive"}, 1)
	get := getter(ev, p[0], value.OrDefault(p[1], nil))
	fold := p[2] == value.Missing || !value.Truth(p[2])
	items := ev.Items(v)
	keys := ev.NewItems(len(items))
	for _, item := range items {
		k := get(item)
		if fold {
			k = ignoreCase(ev, k)
		}
		keys = append(keys, k)
	}
	var out []value.Value
	ev.Sort(len(items), func(i, j int) bool { return ev.Compare(keys[i], keys[j], "<") < 0 }, func(order []int) {
		for i := 0; i < len(order); {
			j := i
			var group []value.Value
			for j < len(order) && ev.Equal(keys[order[i]], keys[order[j]]) {
				group = ev.Append(group, items[order[j]])
				j++
			}
			if j == i { // not equal to itself
				group = ev.Append(group, items[order[j]])
				j++
			}
			k := keys[order[i]]
			if fold {
				k = get(group[0])
			}
			t := ev.Pair(k, ev.NewList(group))
			t.Group = true
			out = ev.Append(out, t)
			i = j
		}
	})
	return ev.NewList(out)
}

func filterItems(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("items", a, nil, 0)
	i := 0
	return generator(ev, func() (value.Value, bool) {
		if _, ok := v.(*value.Undefined); ok {
			return nil, false
		}
		d, ok := v.(*value.Dict)
		if !ok {
			ev.Fail("TypeError", "Can only get item pairs from a mapping.")
		}
		if i == len(d.Entries) {
			return nil, false
		}
		i++
		return ev.Pair(d.Entries[i-1].Key, d.Entries[i-1].Value), true
	})
}

func filterJoin(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("join", a, []string{"d", "attribute"}, 0)
	next := ev.Iterate(v)
	if attribute := value.OrDefault(p[1], nil); attribute != nil {
		get, all := getter(ev, attribute, nil), next
		next = func() (value.Value, bool) {
			item, ok := all()
			if !ok {
				return nil, false
			}
			return get(item), true
		}
	}
	sep, safe := ev.SoftStr(value.OrDefault(p[0], ""))
	if !ev.Autoescape() {
		return operator.Join(ev, sep, next, ev.Str)
	}
	items := ev.Collect(next)
	plain := !safe
	if plain {
		for _, item := range items {
			if _, ok := item.(value.Markup); ok {
				safe = true
			}
		}
	}
	if !safe {
		return operator.Join(ev, sep, value.Each(items), ev.Str)
	}
	if plain {
		sep = string(ev.Escape(sep))
	}
	return value.Markup(operator.Join(ev, sep, value.Each(items), func(v value.Value) string { return string(ev.Escape(v)) }))
}

func filterList(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("list", a, nil, 0)
	switch t := v.(type) {
	case *value.List:
		return t
	case *value.Tuple:
		return ev.NewList(t.Items)
	case string, value.Markup:
		s, _ := value.Text(v)
		n := ev.Count(s)
		ev.Work(n)
		items := ev.NewItems(2 * n) // each character is a value of its own
		next := ev.Iterate(v)
		for c, ok := next(); ok; c, ok = next() {
			items = append(items, c)
		}
		return ev.NewList(items)
	}
	return ev.NewList(ev.Collect(ev.Iterate(v)))
}

func filterMap(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	var f func(value.Value) value.Value
	return lazy(ev, v, func(next func() (value.Value, bool)) (value.Value, bool) {
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
func lazy(ev *value.Evaluation, v value.Value, step func(next func() (value.Value, bool)) (value.Value, bool)) value.Value {
	var next func() (value.Value, bool)
	return generator(ev, func() (value.Value, bool) {
		if next == nil {
			if !value.Truth(v) {
				return nil, false
			}
			next = ev.Iterate(v)
		}
		ev.Work(1)
		return step(next)
	})
}

func mapping(ev *value.Evaluation, a *value.Args) func(value.Value) value.Value {
	if len(a.Pos) == 0 {
		var attribute, none value.Value = value.Missing, nil
		for _, k := range a.Named {
			if k.Name == "attribute" {
				attribute = k.Value
			}
		}
		if attribute != value.Missing {
			for _, k := range a.Named {
				switch k.Name {
				case "attribute":
				case "default":
					none = k.Value
				default:
					ev.Fail("FilterArgumentError", "Unexpected keyword argument %s", ev.Repr(k.Name))
				}
			}
			return getter(ev, attribute, none)
		}
		ev.Fail("FilterArgumentError", "map requires a filter argument")
	}
	f := filterNamed(ev, a.Pos[0])
	return func(v value.Value) value.Value { return f(ev, v, &value.Args{Pos: a.Pos[1:], Named: a.Named}) }
}

// selecting is select, reject, selectattr and rejectattr.
func selecting(reject, attribute bool) FilterFunc {
	return func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
		var keep func(value.Value) bool
		return lazy(ev, v, func(next func() (value.Value, bool)) (value.Value, bool) {
			if keep == nil {
				keep = condition(ev, a, reject, attribute)
			}
			for {
				item, ok := next()
				if !ok {
					return nil, false
				}
				ev.Work(1)
				if keep(item) {
					return item, true
				}
			}
		})
	}
}

func condition(ev *value.Evaluation, a *value.Args, reject, attribute bool) func(value.Value) bool {
	pos := a.Pos
	get := func(v value.Value) value.Value { return v }
	if attribute {
		if len(pos) == 0 {
			ev.Fail("FilterArgumentError", "Missing parameter for attribute name")
		}
		get = getter(ev, pos[0], nil)
		pos = pos[1:]
	}
	if len(pos) == 0 {
		return func(v value.Value) bool { return value.Truth(get(v)) != reject }
	}
	called, _ := value.Text(pos[0])
	t := Test(called)
	if t == nil {
		ev.Fail("TemplateRuntimeError", "No test named %s.", ev.Repr(pos[0]))
	}
	return func(v value.Value) bool {
		return value.Truth(t(ev, get(v), &value.Args{Pos: pos[1:], Named: a.Named})) != reject
	}
}

// extreme is max and min.
func extreme(name string, sign int) FilterFunc {
	return func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
		p := ev.Bind(name, a, []string{"case_sensitive", "attribute"}, 0)
		get := getter(ev, value.OrDefault(p[1], nil), nil)
		fold := p[0] == value.Missing || !value.Truth(p[0])
		next := ev.Iterate(v)
		var best, bestKey value.Value = value.Missing, nil
		op := map[int]string{1: ">", -1: "<"}[sign]
		for {
			item, ok := next()
			if !ok {
				break
			}
			ev.Work(1)
			k := get(item)
			if fold {
				k = ignoreCase(ev, k)
			}
			if best == value.Missing || ev.Holds(op, k, bestKey) {
				best, bestKey = item, k
			}
		}
		if best == value.Missing {
			return value.NewUndefined("No aggregated item, sequence was empty.")
		}
		return best
	}
}

func filterRandom(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("random", a, nil, 0)
	n := ev.Length(v)
	switch {
	case n < 0:
		ev.Fail("TypeError", "object of type '%s' has no len()", value.TypeName(v))
	case n == 0:
		return value.NewUndefined("No random item, sequence was empty.")
	}
	return operator.Item(ev, v, rand.Int64N(int64(n))) //nolint:gosec // nothing is kept secret by it
}

func filterSort(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("sort", a, []string{"reverse", "case_sensitive", "attribute"}, 0)
	fold := p[1] == value.Missing || !value.Truth(p[1])
	var gets []func(value.Value) value.Value
	attribute := value.OrDefault(p[2], nil)
	if s, ok := value.Text(attribute); ok {
		for part := range strings.SplitSeq(s, ",") {
			ev.Alloc(64)
			gets = append(gets, getter(ev, part, nil))
		}
	} else {
		gets = append(gets, getter(ev, attribute, nil))
	}
	items := ev.Items(v)
	keys := ev.NewItems(len(items))
	for _, item := range items {
		parts := ev.NewItems(len(gets))
		for _, get := range gets {
			k := get(item)
			if fold {
				k = ignoreCase(ev, k)
			}
			parts = append(parts, k)
		}
		keys = append(keys, ev.NewList(parts))
	}
	return ev.NewList(sorted(ev, items, keys, p[0]))
}

func filterSum(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("sum", a, []string{"attribute", "start"}, 0)
	total := value.OrDefault(p[1], int64(0))
	if _, ok := value.Text(total); ok {
		ev.Fail("TypeError", "sum() can't sum strings [use ''.join(seq) instead]")
	}
	get := getter(ev, value.OrDefault(p[0], nil), nil)
	next := ev.Iterate(v)
	for {
		item, ok := next()
		if !ok {
			return total
		}
		ev.Work(1)
		total = operator.Binary(ev, "+", total, get(item))
	}
}

func filterUnique(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("unique", a, []string{"case_sensitive", "attribute"}, 0)
	get := getter(ev, value.OrDefault(p[1], nil), nil)
	fold := p[0] == value.Missing || !value.Truth(p[0])
	seen := ev.NewDict()
	var next func() (value.Value, bool)
	return generator(ev, func() (value.Value, bool) {
		if next == nil {
			next = ev.Iterate(v)
		}
		for {
			item, ok := next()
			if !ok {
				return nil, false
			}
			ev.Work(1)
			k := get(item)
			if fold {
				k = ignoreCase(ev, k)
			}
			h := ev.Hash(k)
			if _, ok := seen.Get(h); !ok {
				ev.Put(seen, k, true)
				return item, true
			}
		}
	})
}
