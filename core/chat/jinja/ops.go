package jinja

import (
	"math"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"
)

// binary computes a op b.
func (ev *evaluator) binary(op string, a, b value) value {
	if u, ok := a.(*undefined); ok {
		ev.used(u)
	}
	if isNumber(a) && isNumber(b) {
		return ev.power(op, a, b)
	}
	if s, ok := a.(string); ok && op == "%" {
		return ev.percent(s, b, nil)
	}
	if s, ok := a.(markup); ok && op == "%" {
		return markup(ev.percent(string(s), b, ev.escape))
	}
	if u, ok := b.(*undefined); ok {
		ev.used(u)
	}
	switch op {
	case "+":
		if v, ok := ev.add(a, b); ok {
			return v
		}
	case "*":
		if v, ok := ev.times(a, b); ok {
			return v
		}
	case "-":
		ev.viewDifference(a)
	}
	if op == "**" {
		op = "** or pow()"
	}
	ev.fail("TypeError", "unsupported operand type(s) for %s: '%s' and '%s'", op, typeName(a), typeName(b))
	return nil
}

// power is arithmetic with the case of a whole number to a negative power.
func (ev *evaluator) power(op string, a, b value) value {
	if op == "**" {
		if _, isFloat := b.(float64); !isFloat && compareNumbers(b, int64(0)) < 0 {
			return ev.floats(op, ev.float(a), ev.float(b))
		}
	}
	return ev.arithmetic(op, a, b)
}

func (ev *evaluator) viewDifference(a value) {
	if v, ok := a.(*view); ok && v.what != "values" {
		ev.fail("TypeError", "sets are not known here")
	}
}

func (ev *evaluator) add(a, b value) (value, bool) {
	if x, ok := text(a); ok {
		y, ok := text(b)
		if !ok {
			return nil, false
		}
		_, safeA := a.(markup)
		_, safeB := b.(markup)
		switch {
		case safeA && !safeB:
			y = string(ev.escape(y))
		case safeB && !safeA:
			x = string(ev.escape(x))
		}
		ev.alloc(int64(len(x) + len(y)))
		if safeA || safeB {
			return markup(x + y), true
		}
		return x + y, true
	}
	switch x := a.(type) {
	case *list:
		if y, ok := b.(*list); ok {
			items := ev.room(len(x.items) + len(y.items))
			ev.work(cap(items) / 64)
			return ev.newList(append(append(items, x.items...), y.items...)), true
		}
	case *tuple:
		if y, ok := b.(*tuple); ok {
			items := ev.room(len(x.items) + len(y.items))
			ev.work(cap(items) / 64)
			ev.alloc(sizeList)
			return &tuple{items: append(append(items, x.items...), y.items...)}, true
		}
	}
	return nil, false
}

func (ev *evaluator) times(a, b value) (value, bool) {
	if isNumber(a) {
		a, b = b, a
	}
	if _, isFloat := b.(float64); isFloat {
		return nil, false
	}
	n, ok := index(b)
	if !ok {
		return nil, false
	}
	if _, isBig := b.(*big.Int); isBig {
		switch a.(type) {
		case string, markup, *list, *tuple:
			ev.fail("OverflowError", "cannot fit 'int' into an index-sized integer")
		}
	}
	n = max(n, 0)
	switch x := a.(type) {
	case string:
		return ev.repeat(x, n), true
	case markup:
		return markup(ev.repeat(string(x), n)), true
	case *list:
		return ev.newList(ev.repeatItems(x.items, n)), true
	case *tuple:
		ev.alloc(sizeList)
		return &tuple{items: ev.repeatItems(x.items, n)}, true
	}
	return nil, false
}

// repeat is s * n.
func (ev *evaluator) repeat(s string, n int64) string {
	if n <= 0 || s == "" {
		return ""
	}
	ev.product(int64(len(s)), n)
	return strings.Repeat(s, int(n))
}

// product counts a * b bytes, which may not fit a number.
func (ev *evaluator) product(a, b int64) {
	if a > 0 && b > ev.maxBytes/a {
		ev.alloc(ev.maxBytes + 1)
	}
	ev.alloc(a * b)
	ev.work(int(a * b / 256))
}

func (ev *evaluator) repeatItems(items []value, n int64) []value {
	if len(items) == 0 || n <= 0 {
		return nil
	}
	ev.product(sizeValue*int64(len(items)), n)
	return slices.Repeat(items, int(n))
}

// attr is x.name: an attribute, or else the item of that name.
func (ev *evaluator) attr(of value, name string) value {
	if u, ok := of.(*undefined); ok {
		if dunder(name) {
			return ev.unsafe(of, name)
		}
		ev.used(u)
	}
	if v, ok := ev.attribute(of, name); ok {
		return v
	}
	if d, ok := of.(*dict); ok {
		if v, ok := d.text(name); ok {
			return v
		}
	}
	ev.alloc(96)
	return &undefined{name: name, of: of, has: true}
}

// attribute is what Python's getattr finds, as the sandbox lets it through.
func (ev *evaluator) attribute(of value, name string) (value, bool) {
	if strings.HasPrefix(name, "_") {
		if _, isNS := of.(*namespace); !isNS && dunder(name) {
			return ev.unsafe(of, name), true
		}
		return nil, false
	}
	switch t := of.(type) {
	case string:
		return ev.textMethod(t, false, name)
	case markup:
		return ev.textMethod(string(t), true, name)
	case *dict:
		switch name {
		case "clear", "pop", "popitem", "setdefault", "update":
			return ev.unsafe(of, name), true
		}
		return ev.dictMethod(t, name)
	case *list:
		switch name {
		case "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort":
			return ev.unsafe(of, name), true
		case "copy":
			return ev.method(name, func(ev *evaluator, a *args) value {
				ev.bind(name, a, nil, 0)
				return t
			}), true
		}
		return ev.sequenceMethod(t.items, "list", name)
	case *tuple:
		if t.group {
			switch name {
			case "grouper":
				return t.items[0], true
			case "list":
				return t.items[1], true
			}
		}
		return ev.sequenceMethod(t.items, "tuple", name)
	case *span:
		switch name {
		case "start":
			return t.start, true
		case "stop":
			return t.stop, true
		case "step":
			return t.step, true
		case "count", "index":
			return ev.sequenceMethod(ev.items(t), "range", name)
		}
	case *namespace:
		return t.d.text(name)
	case *macro:
		return t.attr(ev, name)
	case *loop:
		return t.attr(name)
	case *cycler:
		return t.attr(name)
	case *joiner:
		switch name {
		case "sep":
			return t.sep, true
		case "used":
			return t.used, true
		}
	case *callable:
		if t.name == "dict" && name == "fromkeys" {
			return ev.method(name, fromKeys), true
		}
	case *view:
		if name == "isdisjoint" && t.what != "values" {
			return ev.method(name, func(ev *evaluator, a *args) value {
				p := ev.bind(name, a, []string{""}, 1)
				next := ev.iterate(p[0])
				for {
					v, ok := next()
					if !ok {
						return true
					}
					if ev.contains(t, v) {
						return false
					}
				}
			}), true
		}
	default:
		if isNumber(of) {
			return ev.numberMethod(of, name)
		}
	}
	return nil, false
}

// dunder are names that every object of Python has.
func dunder(name string) bool {
	switch name {
	case "__class__", "__dict__", "__doc__", "__init__", "__new__", "__repr__", "__str__", "__eq__", "__ne__", "__lt__", "__le__",
		"__gt__", "__ge__", "__hash__", "__dir__", "__format__", "__getattribute__", "__setattr__", "__delattr__", "__reduce__",
		"__reduce_ex__", "__sizeof__", "__subclasshook__", "__init_subclass__", "__getstate__":
		return true
	}
	return false
}

func (ev *evaluator) unsafe(of value, name string) value {
	ev.alloc(96)
	return &undefined{message: "access to attribute '" + name + "' of '" + typeName(of) + "' object is unsafe.", name: name, of: of, has: true, unsafe: true}
}

func (ev *evaluator) method(name string, call func(*evaluator, *args) value) value {
	ev.alloc(96)
	return &callable{name, call}
}

func (ev *evaluator) dictMethod(d *dict, name string) (value, bool) {
	switch name {
	case "keys", "values", "items":
		return ev.method(name, func(ev *evaluator, a *args) value {
			ev.bind(name, a, nil, 0)
			ev.alloc(48)
			return &view{d, name}
		}), true
	case "get":
		return ev.method(name, func(ev *evaluator, a *args) value {
			p := ev.bind(name, a, []string{"", ""}, 1)
			if v, ok := d.get(ev.hash(p[0])); ok {
				return v
			}
			if p[1] == missing {
				return nil
			}
			return p[1]
		}), true
	case "copy":
		return ev.method(name, func(ev *evaluator, a *args) value {
			ev.bind(name, a, nil, 0)
			return d
		}), true
	case "fromkeys":
		return ev.method(name, fromKeys), true
	}
	return nil, false
}

func fromKeys(ev *evaluator, a *args) value {
	p := ev.bind("fromkeys", a, []string{"", ""}, 1)
	if p[1] == missing {
		p[1] = nil
	}
	d := ev.newDict()
	next := ev.iterate(p[0])
	for {
		k, ok := next()
		if !ok {
			return d
		}
		ev.put(d, k, p[1])
	}
}

func (ev *evaluator) sequenceMethod(items []value, kind, name string) (value, bool) {
	switch name {
	case "count":
		return ev.method(name, func(ev *evaluator, a *args) value {
			p := ev.bind(name, a, []string{""}, 1)
			n := int64(0)
			for _, item := range items {
				if ev.equal(item, p[0]) {
					n++
				}
			}
			return n
		}), true
	case "index":
		return ev.method(name, func(ev *evaluator, a *args) value {
			p := ev.bind(name, a, []string{"", "", ""}, 1)
			from, to := ev.bounds(p[1], p[2], len(items))
			for i := from; i < to; i++ {
				if ev.equal(items[i], p[0]) {
					return int64(i)
				}
			}
			ev.fail("ValueError", "%s is not in %s", ev.repr(p[0]), kind)
			return nil
		}), true
	}
	return nil, false
}

// bounds clips a start and an end as Python's methods take them.
func (ev *evaluator) bounds(from, to value, n int) (int, int) {
	clip := func(v value, none int) int {
		if v == missing || v == nil {
			return none
		}
		i, ok := index(v)
		if !ok {
			ev.fail("TypeError", "slice indices must be integers or None or have an __index__ method")
		}
		if i < 0 {
			i = max(i+int64(n), 0)
		}
		return int(min(i, int64(n)))
	}
	return clip(from, 0), clip(to, n)
}

func (ev *evaluator) numberMethod(of value, name string) (value, bool) {
	f, isFloat := of.(float64)
	i, b, _ := whole(of)
	plain := of
	if _, isBool := of.(bool); isBool {
		plain = i
	}
	switch name {
	case "real":
		return plain, true
	case "imag":
		if isFloat {
			return 0.0, true
		}
		return int64(0), true
	case "conjugate":
		return ev.method(name, func(ev *evaluator, a *args) value {
			ev.bind(name, a, nil, 0)
			return plain
		}), true
	case "is_integer":
		if !isFloat { // from Python 3.12 on
			return nil, false
		}
		return ev.method(name, func(ev *evaluator, a *args) value {
			ev.bind(name, a, nil, 0)
			return f == math.Trunc(f) && !math.IsInf(f, 0)
		}), true
	case "numerator":
		if isFloat {
			return nil, false
		}
		return plain, true
	case "denominator":
		if isFloat {
			return nil, false
		}
		return int64(1), true
	case "bit_length", "bit_count":
		if isFloat {
			return nil, false
		}
		return ev.method(name, func(ev *evaluator, a *args) value {
			ev.bind(name, a, nil, 0)
			n := new(big.Int).Abs(bigOf(i, b))
			if name == "bit_length" {
				return int64(n.BitLen())
			}
			count := int64(0)
			for k := range n.BitLen() {
				count += int64(n.Bit(k))
			}
			return count
		}), true
	}
	return nil, false
}

// item is x[key]: an item, or else the attribute of that name.
func (ev *evaluator) item(of, key value) value {
	if u, ok := of.(*undefined); ok {
		ev.used(u)
	}
	switch t := of.(type) {
	case *dict:
		if h, ok := ev.hashOf(key); ok {
			if v, ok := t.get(h); ok {
				return v
			}
		}
	default:
		if i, ok := index(key); ok {
			if v, ok := ev.at(of, i); ok {
				return v
			}
		}
	}
	if name, ok := text(key); ok {
		if v, ok := ev.attribute(of, name); ok {
			return v
		}
	}
	ev.alloc(96)
	return &undefined{name: key, of: of, has: true}
}

// at is the item of a sequence at a position, counted from its end where it is negative.
func (ev *evaluator) at(of value, i int64) (value, bool) {
	switch t := of.(type) {
	case *list:
		return pick(t.items, i)
	case *tuple:
		return pick(t.items, i)
	case *span:
		if i < 0 {
			i += t.n
		}
		if i < 0 || i >= t.n {
			return nil, false
		}
		return t.start + i*t.step, true
	}
	s, ok := text(of)
	if !ok {
		return nil, false
	}
	n := int64(ev.count(s))
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return nil, false
	}
	if int(n) != len(s) {
		ev.work(int(i) / 8)
	}
	from := byteIndex(s, int(i), int(n))
	c := s[from : from+runeLength(s[from:])]
	if _, safe := of.(markup); safe {
		return markup(c), true
	}
	return c, true
}

func pick(items []value, i int64) (value, bool) {
	if i < 0 {
		i += int64(len(items))
	}
	if i < 0 || i >= int64(len(items)) {
		return nil, false
	}
	return items[i], true
}

// count is how many characters a text has.
func (ev *evaluator) count(s string) int {
	ev.work(len(s) / 32)
	return utf8.RuneCountInString(s)
}

func runeLength(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// byteIndex is where character i of a text of n characters begins.
func byteIndex(s string, i, n int) int {
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

// slice is x[from:to:step].
func (ev *evaluator) slice(of value, s *sliceExpr, f *frame, folded bool) value {
	part := func(e expr) value {
		if e == nil {
			return nil
		}
		return e.eval(ev, f)
	}
	from, to, by := part(s.from), part(s.to), part(s.step)
	if u, ok := of.(*undefined); ok {
		ev.used(u)
	}
	n := -1
	switch of.(type) {
	case string, markup, *list, *tuple, *span:
		n = ev.length(of)
		if folded && (!bound(from) || !bound(to) || !bound(by)) {
			return undef("a slice by something else than whole numbers")
		}
	case *dict:
		if folded {
			return undef("a dict has no slices")
		}
		ev.fail("TypeError", "unhashable type: 'slice'")
	default:
		if folded {
			return undef("'" + typeName(of) + "' has no slices")
		}
		ev.fail("TypeError", "'%s' object is not subscriptable", typeName(of))
	}
	start, stop, step, count := ev.span(from, to, by, int64(n))
	switch t := of.(type) {
	case *list:
		return ev.newList(ev.stride(t.items, start, step, count))
	case *tuple:
		ev.alloc(sizeList)
		return &tuple{items: ev.stride(t.items, start, step, count)}
	case *span:
		return &span{t.start + start*t.step, t.start + stop*t.step, t.step * step, count}
	}
	text, _ := text(of)
	cut := ev.strideText(text, n, start, step, count)
	if _, safe := of.(markup); safe {
		return markup(cut)
	}
	return cut
}

// bound says whether a value can be a slice's bound.
func bound(v value) bool {
	_, ok := index(v)
	return ok || v == nil
}

// span gives the first position, the end, the step and the number of items of a slice.
func (ev *evaluator) span(from, to, by value, n int64) (start, stop, step, count int64) {
	number := func(v value, none int64) int64 {
		if v == nil {
			return none
		}
		i, ok := index(v)
		if !ok {
			ev.fail("TypeError", "slice indices must be integers or None or have an __index__ method")
		}
		return i
	}
	step = number(by, 1)
	if step == 0 {
		ev.fail("ValueError", "slice step cannot be zero")
	}
	step = max(step, -1<<62)
	low, high := int64(0), n
	if step < 0 {
		low, high = -1, n-1
	}
	clip := func(v value, none int64) int64 {
		i := number(v, none)
		if v == nil {
			return none
		}
		if i < 0 {
			if i < -1<<62 {
				return low
			}
			i += n
		}
		return max(low, min(i, high))
	}
	if step > 0 {
		start = clip(from, 0)
		stop = clip(to, n)
		if stop > start {
			count = (stop-start-1)/step + 1
		}
		return start, stop, step, count
	}
	start = clip(from, n-1)
	stop = clip(to, -1)
	if start > stop {
		count = (start-stop-1)/(-step) + 1
	}
	return start, stop, step, count
}

func (ev *evaluator) stride(items []value, start, step, count int64) []value {
	if step == 1 {
		return items[start : start+count : start+count] // values are never changed, so they can be shared
	}
	ev.work(int(count) / 16)
	out := ev.room(int(count))
	for i := range count {
		out = append(out, items[start+i*step])
	}
	return out
}

func (ev *evaluator) strideText(s string, n int, start, step, count int64) string {
	if count == 0 {
		return ""
	}
	ev.work(len(s) / 16)
	if step == 1 {
		from := byteIndex(s, int(start), n)
		return s[from : from+byteIndex(s[from:], int(count), n-int(start))]
	}
	if n == len(s) {
		ev.alloc(count)
		b := make([]byte, count)
		for i := range count {
			b[i] = s[start+i*step]
		}
		return string(b)
	}
	ev.alloc(4*int64(n) + int64(len(s)))
	runes := []rune(s)
	var b strings.Builder
	b.Grow(min(len(s), int(count)*4))
	for i := range count {
		b.WriteRune(runes[start+i*step])
	}
	return b.String()
}
