package jinja

import (
	"math"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type filterFunc func(ev *evaluator, v value, a *args) value

// filterCalled finds one of Jinja's filters, with transformers' own tojson; nil: there is none.
func filterCalled(name string) filterFunc {
	switch name {
	case "abs":
		return filterAbs
	case "attr":
		return filterAttr
	case "batch":
		return filterBatch
	case "capitalize":
		return textFilter("capitalize", capitalize)
	case "center":
		return filterCenter
	case "count":
		return filterLength
	case "d":
		return filterDefault
	case "default":
		return filterDefault
	case "dictsort":
		return filterDictsort
	case "e":
		return filterEscape
	case "escape":
		return filterEscape
	case "filesizeformat":
		return filterFileSize
	case "first":
		return filterFirst
	case "float":
		return filterFloat
	case "forceescape":
		return filterForceEscape
	case "format":
		return filterFormat
	case "groupby":
		return filterGroupBy
	case "indent":
		return filterIndent
	case "int":
		return filterInt
	case "items":
		return filterItems
	case "join":
		return filterJoin
	case "last":
		return filterLast
	case "length":
		return filterLength
	case "list":
		return filterList
	case "lower":
		return textFilter("lower", lower)
	case "map":
		return filterMap
	case "max":
		return extreme("max", 1)
	case "min":
		return extreme("min", -1)
	case "pprint":
		return filterPprint
	case "random":
		return filterRandom
	case "reject":
		return selecting("reject", true, false)
	case "rejectattr":
		return selecting("rejectattr", true, true)
	case "replace":
		return filterReplace
	case "reverse":
		return filterReverse
	case "round":
		return filterRound
	case "safe":
		return filterSafe
	case "select":
		return selecting("select", false, false)
	case "selectattr":
		return selecting("selectattr", false, true)
	case "slice":
		return filterSlice
	case "sort":
		return filterSort
	case "string":
		return filterString
	case "striptags":
		return filterStripTags
	case "sum":
		return filterSum
	case "title":
		return filterTitle
	case "tojson":
		return toJSON
	case "trim":
		return filterTrim
	case "truncate":
		return filterTruncate
	case "unique":
		return filterUnique
	case "upper":
		return textFilter("upper", upper)
	case "urlencode":
		return filterURLEncode
	case "urlize":
		return filterURLize
	case "wordcount":
		return filterWordCount
	case "wordwrap":
		return filterWordWrap
	case "xmlattr":
		return filterXMLAttr
	}
	return nil
}

// textFilter is a filter of a text without arguments; what is no text is taken as it prints.
func textFilter(name string, f func(*evaluator, string) string) filterFunc {
	return func(ev *evaluator, v value, a *args) value {
		ev.bind(name, a, nil, 0)
		s, safe := ev.soft(v)
		return marked(f(ev, s), safe)
	}
}

func filterAbs(ev *evaluator, v value, a *args) value {
	ev.bind("abs", a, nil, 0)
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	if !isNumber(v) {
		ev.fail("TypeError", "bad operand type for abs(): '%s'", typeName(v))
	}
	if f, ok := v.(float64); ok {
		return math.Abs(f)
	}
	if compareNumbers(v, int64(0)) < 0 {
		return ev.arithmetic("-", int64(0), v)
	}
	i, b, _ := whole(v)
	return normal(bigOf(i, b))
}

func filterAttr(ev *evaluator, v value, a *args) value {
	p := ev.bind("attr", a, []string{"name"}, 1)
	name, ok := text(p[0])
	if !ok {
		ev.fail("TypeError", "attribute name must be string, not '%s'", typeName(p[0]))
	}
	if u, isUndefined := v.(*undefined); isUndefined && !dunder(name) {
		ev.used(u)
	}
	if v, ok := ev.attribute(v, name); ok {
		return v
	}
	return &undefined{name: name, of: v, has: true}
}

func generator(ev *evaluator, step func() (value, bool)) value {
	ev.alloc(sizeIter)
	return &iterator{"generator", step}
}

func filterBatch(ev *evaluator, v value, a *args) value {
	p := ev.bind("batch", a, []string{"linecount", "fill_with"}, 1)
	var next func() (value, bool)
	var held value = missing
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

func filterCenter(ev *evaluator, v value, a *args) value {
	p := ev.bind("center", a, []string{"width"}, 0)
	s, safe := ev.soft(v)
	return marked(ev.padded(s, ev.wholeArg("width", or(p[0], int64(80))), " ", true, true), safe)
}

func filterLength(ev *evaluator, v value, a *args) value {
	ev.bind("length", a, nil, 0)
	n := ev.length(v)
	if n < 0 {
		ev.fail("TypeError", "object of type '%s' has no len()", typeName(v))
	}
	return int64(n)
}

func filterDefault(ev *evaluator, v value, a *args) value {
	p := ev.bind("default", a, []string{"default_value", "boolean"}, 0)
	_, undefined := v.(*undefined)
	if undefined || p[1] != missing && ev.truth(p[1]) && !ev.truth(v) {
		return or(p[0], "")
	}
	return v
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

func filterEscape(ev *evaluator, v value, a *args) value {
	ev.bind("escape", a, nil, 0)
	return ev.escape(v)
}

func filterForceEscape(ev *evaluator, v value, a *args) value {
	ev.bind("forceescape", a, nil, 0)
	return ev.escape(ev.str(v))
}

func filterSafe(ev *evaluator, v value, a *args) value {
	ev.bind("safe", a, nil, 0)
	return ev.markup(v)
}

func filterString(ev *evaluator, v value, a *args) value {
	ev.bind("string", a, nil, 0)
	s, safe := ev.soft(v)
	return marked(s, safe)
}

func filterFileSize(ev *evaluator, v value, a *args) value {
	p := ev.bind("filesizeformat", a, []string{"binary"}, 0)
	f := ev.toFloat(v)
	base, names := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if p[0] != missing && ev.truth(p[0]) {
		base, names = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	switch {
	case f == 1:
		return "1 Byte"
	case f < base:
		return ev.str(ev.truncate(f)) + " Bytes"
	}
	unit := base
	for i, name := range names {
		unit *= base
		if f < unit || i == len(names)-1 {
			return strconv.FormatFloat(base*f/unit, 'f', 1, 64) + " " + name
		}
	}
	return ""
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

// toFloat is float(v), which ends the rendering where it is none.
func (ev *evaluator) toFloat(v value) float64 {
	if f, ok := ev.asFloat(v); ok {
		return f
	}
	if s, ok := text(v); ok {
		ev.fail("ValueError", "could not convert string to float: %s", ev.repr(s))
	}
	ev.fail("TypeError", "float() argument must be a string or a real number, not '%s'", typeName(v))
	return 0
}

func (ev *evaluator) asFloat(v value) (float64, bool) {
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	if isNumber(v) {
		return ev.float(v), true
	}
	if s, ok := text(v); ok {
		ev.work(len(s) / 16)
		return parseFloat(s)
	}
	return 0, false
}

func filterFloat(ev *evaluator, v value, a *args) value {
	p := ev.bind("float", a, []string{"default"}, 0)
	if f, ok := ev.asFloat(v); ok {
		return f
	}
	return or(p[0], 0.0)
}

func filterInt(ev *evaluator, v value, a *args) value {
	p := ev.bind("int", a, []string{"default", "base"}, 0)
	none := or(p[0], int64(0))
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	if f, ok := v.(float64); ok {
		if math.IsNaN(f) {
			return none
		}
		return ev.truncate(f)
	}
	if i, b, ok := whole(v); ok {
		return normal(bigOf(i, b))
	}
	s, ok := text(v)
	if !ok {
		return none
	}
	base, isWhole := index(or(p[1], int64(10)))
	if !isWhole {
		base = 1 // none: the text is tried as a float
	}
	ev.work(len(s) / 4)
	ev.alloc(int64(len(s)))
	if base == 0 || base >= 2 && base <= 36 {
		if i, ok := parseInt(s, int(base)); ok {
			return i
		}
	}
	if f, ok := parseFloat(s); ok && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return ev.truncate(f)
	}
	return none
}

func filterFormat(ev *evaluator, v value, a *args) value {
	s, safe := ev.soft(v)
	if len(a.pos) > 0 && len(a.named) > 0 {
		ev.fail("FilterArgumentError", "can't handle positional and keyword arguments at the same time")
	}
	var with value = &tuple{items: a.pos}
	if len(a.named) > 0 {
		d := ev.newDict()
		for _, k := range a.named {
			ev.put(d, k.name, k.val)
		}
		with = d
	}
	if safe {
		return markup(ev.percent(s, with, ev.escape))
	}
	return ev.percent(s, with, nil)
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

func filterIndent(ev *evaluator, v value, a *args) value {
	p := ev.bind("indent", a, []string{"width", "first", "blank"}, 0)
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	s, ok := text(v)
	if !ok {
		ev.fail("TypeError", "indent: want a text, not %s", typeName(v))
	}
	_, safe := v.(markup)
	by, isText := text(or(p[0], int64(4)))
	if !isText {
		by = ev.repeat(" ", ev.wholeArg("width", or(p[0], int64(4))))
	} else if safe {
		by = string(ev.escape(p[0]))
	}
	if safe && isText {
		by, _ = text(p[0])
	}
	ev.alloc(int64(len(s)) + 1)
	lines := ev.lines(s+"\n", false)
	blank := p[2] != missing && ev.truth(p[2])
	w := &writer{ev: ev}
	if p[1] != missing && ev.truth(p[1]) {
		w.add(by)
	}
	for i, line := range lines {
		l := line.(string)
		if i > 0 {
			w.add("\n")
			if blank || l != "" {
				w.add(by)
			}
		}
		w.add(l)
	}
	return marked(w.String(), safe)
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

func (ev *evaluator) filterNamed(v value) filterFunc {
	name, _ := text(v)
	f := filterCalled(name)
	if f == nil {
		ev.fail("TemplateRuntimeError", "No filter named %s.", ev.repr(v))
	}
	return f
}

// selecting is select, reject, selectattr and rejectattr.
func selecting(name string, reject, attribute bool) filterFunc {
	return func(ev *evaluator, v value, a *args) value {
		var keep func(value) bool
		return lazy(ev, v, func(next func() (value, bool)) (value, bool) {
			if keep == nil {
				keep = condition(ev, name, a, reject, attribute)
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

func condition(ev *evaluator, name string, a *args, reject, attribute bool) func(value) bool {
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

func filterReplace(ev *evaluator, v value, a *args) value {
	p := ev.bind("replace", a, []string{"old", "new", "count"}, 2)
	count := int64(-1)
	if n := or(p[2], nil); n != nil {
		count = ev.wholeArg("count", n)
	}
	if !ev.autoescape {
		return ev.replace(ev.str(v), ev.str(p[0]), ev.str(p[1]), count)
	}
	_, safeOld := p[0].(markup)
	_, safeNew := p[1].(markup)
	s, safe := ev.soft(v)
	if safeOld || safeNew && !safe {
		s, safe = string(ev.escape(v)), true
	}
	old, _ := ev.soft(p[0])
	with, _ := ev.soft(p[1])
	if safe {
		with = string(ev.escape(p[1]))
	}
	return marked(ev.replace(s, old, with, count), safe)
}

func filterRound(ev *evaluator, v value, a *args) value {
	p := ev.bind("round", a, []string{"precision", "method"}, 0)
	method, _ := text(or(p[1], "common"))
	precision := or(p[0], int64(0))
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	switch method {
	case "common":
		if !isNumber(v) {
			ev.fail("TypeError", "type %s doesn't define __round__ method", typeName(v))
		}
		if precision == nil { // round(v, None): a whole number
			if f, ok := v.(float64); ok {
				return ev.truncate(math.RoundToEven(f))
			}
			precision = int64(0)
		}
		n := max(min(ev.wholeArg("precision", precision), 1000), -1000)
		if f, ok := v.(float64); ok {
			return ev.round(f, int(n))
		}
		return ev.roundWhole(v, n)
	case "ceil", "floor":
		scale := ev.binary("**", int64(10), precision)
		f := ev.binary("*", v, scale)
		if !isNumber(f) {
			ev.fail("TypeError", "must be real number, not %s", typeName(f))
		}
		if g, ok := f.(float64); ok {
			if method == "ceil" {
				f = ev.truncate(math.Ceil(g))
			} else {
				f = ev.truncate(math.Floor(g))
			}
		}
		return ev.arithmetic("/", f, scale)
	}
	ev.fail("FilterArgumentError", "method must be common, ceil or floor")
	return nil
}

// round is round(f, n): to the nearest, and to the even one of two that are as near.
func (ev *evaluator) round(f float64, n int) float64 {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0) || n > 322:
		return f
	case n < -308:
		return math.Copysign(0, f)
	case n >= 0:
		r, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', n, 64), 64)
		if err != nil {
			return f
		}
		return r
	}
	scale := math.Pow(10, float64(-n))
	return math.RoundToEven(f/scale) * scale
}

func (ev *evaluator) roundWhole(v value, n int64) value {
	i, b, _ := whole(v)
	if n >= 0 {
		return normal(bigOf(i, b))
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(-n), nil)
	x := bigOf(i, b)
	q, r := new(big.Int).DivMod(x, scale, new(big.Int))
	r.Mul(r, big.NewInt(2))
	if c := r.Cmp(scale); c > 0 || c == 0 && q.Bit(0) == 1 {
		q.Add(q, big.NewInt(1))
	}
	return normal(q.Mul(q, scale))
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

func filterStripTags(ev *evaluator, v value, a *args) value {
	ev.bind("striptags", a, nil, 0)
	return ev.striptags(ev.str(v))
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

func filterTitle(ev *evaluator, v value, a *args) value {
	ev.bind("title", a, nil, 0)
	s, _ := ev.soft(v)
	ev.work(len(s) / 4)
	w := &writer{ev: ev}
	first := true
	start := 0
	flush := func(end int) {
		part := s[start:end]
		if part != "" {
			n := runeLength(part)
			w.add(upper(ev, part[:n]))
			w.add(lower(ev, part[n:]))
		}
		start = end
	}
	separator := func(r rune) bool { return strings.ContainsRune("-({[<", r) || isSpace(r) }
	for i, r := range s {
		if sep := separator(r); first || sep != separator(previous(s, i)) {
			flush(i)
			first = false
		}
	}
	flush(len(s))
	return w.String()
}

func previous(s string, i int) rune {
	r, _ := utf8.DecodeLastRuneInString(s[:i])
	return r
}

func filterTrim(ev *evaluator, v value, a *args) value {
	p := ev.bind("trim", a, []string{"chars"}, 0)
	s, safe := ev.soft(v)
	return marked(strip(ev, s, p[0], true, true), safe)
}

func filterTruncate(ev *evaluator, v value, a *args) value {
	p := ev.bind("truncate", a, []string{"length", "killwords", "end", "leeway"}, 0)
	length := ev.wholeArg("length", or(p[0], int64(255)))
	end := or(p[2], "...")
	leeway := ev.wholeArg("leeway", or(or(p[3], int64(5)), nil2(p[3])))
	n := int64(ev.length(end))
	switch {
	case n < 0 || length < n:
		ev.fail("AssertionError", "expected length >= %d, got %d", n, length)
	case leeway < 0:
		ev.fail("AssertionError", "expected leeway >= 0, got %d", leeway)
	}
	size := ev.length(v)
	if size < 0 {
		ev.fail("TypeError", "object of type '%s' has no len()", typeName(v))
	}
	if int64(size) <= length || int64(size) <= length+leeway {
		return v
	}
	s, ok := text(v)
	if !ok {
		ev.fail("TypeError", "truncate: want a text, not %s", typeName(v))
	}
	_, safe := v.(markup)
	s = s[:byteIndex(s, int(length-n), size)]
	if p[1] == missing || !ev.truth(p[1]) {
		if i := strings.LastIndexByte(s, ' '); i >= 0 {
			s = s[:i]
		}
	}
	return ev.binary("+", marked(s, safe), end)
}

// nil2 is the default that None stands for too.
func nil2(v value) value {
	if v == nil {
		return int64(5)
	}
	return v
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

// urlQuote writes what may stand in a URL as it is and the rest as %XX.
func (ev *evaluator) urlQuote(v value, query bool) string {
	s := ev.str(v)
	w := &writer{ev: ev}
	ev.work(len(s) / 4)
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-~", c) >= 0 || c == '/' && !query:
			w.add(s[i : i+1])
		case c == ' ' && query:
			w.add("+")
		default:
			w.add("%" + strings.ToUpper(hex(rune(c), 2)))
		}
	}
	return w.String()
}

func filterURLEncode(ev *evaluator, v value, a *args) value {
	ev.bind("urlencode", a, nil, 0)
	_, isText := text(v)
	if isText || ev.iter(v) == nil {
		return ev.urlQuote(v, false)
	}
	next := ev.iterate(v)
	if d, ok := v.(*dict); ok {
		next = ev.iterate(&view{d, "items"})
	}
	return ev.joinItems("&", next, func(v value) string {
		kv := ev.unpack(v, 2)
		return ev.urlQuote(kv[0], true) + "=" + ev.urlQuote(kv[1], true)
	})
}

func filterWordCount(ev *evaluator, v value, a *args) value {
	ev.bind("wordcount", a, nil, 0)
	s, _ := ev.soft(v)
	ev.work(len(s) / 4)
	n := int64(0)
	inside := false
	for _, r := range s {
		word := r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r)
		if word && !inside {
			n++
		}
		inside = word
	}
	return n
}

var attrKey = regexp.MustCompile(`[ \t\n\r\f\v/>=]`)

func filterXMLAttr(ev *evaluator, v value, a *args) value {
	p := ev.bind("xmlattr", a, []string{"autospace"}, 0)
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	d, ok := v.(*dict)
	if !ok {
		ev.fail("AttributeError", "'%s' object has no attribute 'items'", typeName(v))
	}
	w := &writer{ev: ev}
	for _, e := range d.entries {
		if _, ok := e.val.(*undefined); ok || e.val == nil {
			continue
		}
		key := ev.textArg("attribute", e.key)
		if attrKey.MatchString(key) {
			ev.fail("ValueError", "Invalid character in attribute name: %s", ev.repr(key))
		}
		if len(w.b) > 0 || p[0] == missing || ev.truth(p[0]) {
			w.add(" ")
		}
		w.add(string(ev.escape(e.key)) + `="` + string(ev.escape(e.val)) + `"`)
	}
	return marked(w.String(), ev.autoescape)
}
