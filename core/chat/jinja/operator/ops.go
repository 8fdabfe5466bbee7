package operator

import (
	"math"
	"math/big"
	"strings"

	"edged/core/chat/jinja/value"
)

// Binary computes a op b.
func Binary(ev *value.Evaluation, op string, a, b value.Value) value.Value {
	if u, ok := a.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	if value.IsNumber(a) && value.IsNumber(b) {
		return power(ev, op, a, b)
	}
	if s, ok := a.(string); ok && op == "%" {
		return Percent(ev, s, b, nil)
	}
	if s, ok := a.(value.Markup); ok && op == "%" {
		return value.Markup(Percent(ev, string(s), b, ev.Escape))
	}
	if u, ok := b.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	switch op {
	case "+":
		if v, ok := add(ev, a, b); ok {
			return v
		}
	case "*":
		if v, ok := times(ev, a, b); ok {
			return v
		}
	case "-":
		viewDifference(ev, a)
	}
	if op == "**" {
		op = "** or pow()"
	}
	ev.Fail("TypeError", "unsupported operand type(s) for %s: '%s' and '%s'", op, value.TypeName(a), value.TypeName(b))
	return nil
}

// power is arithmetic with the case of a whole number to a negative power.
func power(ev *value.Evaluation, op string, a, b value.Value) value.Value {
	if op == "**" {
		if _, isFloat := b.(float64); !isFloat && value.CompareNumbers(b, int64(0)) < 0 {
			return ev.FloatArithmetic(op, ev.Float(a), ev.Float(b))
		}
	}
	return ev.Arithmetic(op, a, b)
}

func viewDifference(ev *value.Evaluation, a value.Value) {
	if v, ok := a.(*value.View); ok && v.Part != "values" {
		ev.Fail("TypeError", "sets are not known here")
	}
}

func add(ev *value.Evaluation, a, b value.Value) (value.Value, bool) {
	if x, ok := value.Text(a); ok {
		y, ok := value.Text(b)
		if !ok {
			return nil, false
		}
		_, safeA := a.(value.Markup)
		_, safeB := b.(value.Markup)
		switch {
		case safeA && !safeB:
			y = string(ev.Escape(y))
		case safeB && !safeA:
			x = string(ev.Escape(x))
		}
		ev.Alloc(int64(len(x) + len(y)))
		if safeA || safeB {
			return value.Markup(x + y), true
		}
		return x + y, true
	}
	switch x := a.(type) {
	case *value.List:
		if y, ok := b.(*value.List); ok {
			items := ev.NewItems(len(x.Items) + len(y.Items))
			ev.Work(cap(items) / 64)
			return ev.NewList(append(append(items, x.Items...), y.Items...)), true
		}
	case *value.Tuple:
		if y, ok := b.(*value.Tuple); ok {
			items := ev.NewItems(len(x.Items) + len(y.Items))
			ev.Work(cap(items) / 64)
			ev.Alloc(value.SizeList)
			return &value.Tuple{Items: append(append(items, x.Items...), y.Items...)}, true
		}
	}
	return nil, false
}

func times(ev *value.Evaluation, a, b value.Value) (value.Value, bool) {
	if value.IsNumber(a) {
		a, b = b, a
	}
	if _, isFloat := b.(float64); isFloat {
		return nil, false
	}
	n, ok := value.Index(b)
	if !ok {
		return nil, false
	}
	if _, isBig := b.(*big.Int); isBig {
		switch a.(type) {
		case string, value.Markup, *value.List, *value.Tuple:
			ev.Fail("OverflowError", "cannot fit 'int' into an index-sized integer")
		}
	}
	n = max(n, 0)
	switch x := a.(type) {
	case string:
		return ev.Repeat(x, n), true
	case value.Markup:
		return value.Markup(ev.Repeat(string(x), n)), true
	case *value.List:
		return ev.NewList(ev.RepeatItems(x.Items, n)), true
	case *value.Tuple:
		ev.Alloc(value.SizeList)
		return &value.Tuple{Items: ev.RepeatItems(x.Items, n)}, true
	}
	return nil, false
}

// Attr is x.name: an attribute, or else the item of that name.
func Attr(ev *value.Evaluation, of value.Value, name string) value.Value {
	if u, ok := of.(*value.Undefined); ok {
		if IsDunder(name) {
			return unsafe(ev, of, name)
		}
		ev.UseUndefined(u)
	}
	if v, ok := Getattr(ev, of, name); ok {
		return v
	}
	if d, ok := of.(*value.Dict); ok {
		if v, ok := d.Text(name); ok {
			return v
		}
	}
	ev.Alloc(96)
	return &value.Undefined{Name: name, Owner: of, HasOwner: true}
}

// Getattr looks up an attribute as Python's getattr does, within the limits of the sandbox.
func Getattr(ev *value.Evaluation, of value.Value, name string) (value.Value, bool) {
	if strings.HasPrefix(name, "_") {
		if _, isNS := of.(*value.Namespace); !isNS && IsDunder(name) {
			return unsafe(ev, of, name), true
		}
		return nil, false
	}
	switch t := of.(type) {
	case string:
		return textMethod(ev, t, false, name)
	case value.Markup:
		return textMethod(ev, string(t), true, name)
	case *value.Dict:
		switch name {
		case "clear", "pop", "popitem", "setdefault", "update":
			return unsafe(ev, of, name), true
		}
		return dictMethod(ev, t, name)
	case *value.List:
		switch name {
		case "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort":
			return unsafe(ev, of, name), true
		case "copy":
			return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
				ev.Bind(name, a, nil, 0)
				return t
			}), true
		}
		return sequenceMethod(ev, t.Items, "list", name)
	case *value.Tuple:
		if t.Group {
			switch name {
			case "grouper":
				return t.Items[0], true
			case "list":
				return t.Items[1], true
			}
		}
		return sequenceMethod(ev, t.Items, "tuple", name)
	case *value.Range:
		switch name {
		case "start":
			return t.Start, true
		case "stop":
			return t.Stop, true
		case "step":
			return t.Step, true
		case "count", "index":
			return sequenceMethod(ev, ev.Items(t), "range", name)
		}
	case *value.Namespace:
		return t.Dict.Text(name)
	case value.Instance:
		return t.Attr(ev, name)
	case *value.Function:
		if t.Name == "dict" && name == "fromkeys" {
			return method(ev, name, fromKeys), true
		}
	case *value.View:
		if name == "isdisjoint" && t.Part != "values" {
			return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
				p := ev.Bind(name, a, []string{""}, 1)
				next := ev.Iterate(p[0])
				for {
					v, ok := next()
					if !ok {
						return true
					}
					if ev.Contains(t, v) {
						return false
					}
				}
			}), true
		}
	default:
		if value.IsNumber(of) {
			return numberMethod(ev, of, name)
		}
	}
	return nil, false
}

// IsDunder are names that every object of Python has.
func IsDunder(name string) bool {
	switch name {
	case "__class__", "__dict__", "__doc__", "__init__", "__new__", "__repr__", "__str__", "__eq__", "__ne__", "__lt__", "__le__",
		"__gt__", "__ge__", "__hash__", "__dir__", "__format__", "__getattribute__", "__setattr__", "__delattr__", "__reduce__",
		"__reduce_ex__", "__sizeof__", "__subclasshook__", "__init_subclass__", "__getstate__":
		return true
	}
	return false
}

func unsafe(ev *value.Evaluation, of value.Value, name string) value.Value {
	ev.Alloc(96)
	return &value.Undefined{
		Message:  "access to attribute '" + name + "' of '" + value.TypeName(of) + "' object is unsafe.",
		Name:     name,
		Owner:    of,
		HasOwner: true,
		Unsafe:   true,
	}
}

func method(ev *value.Evaluation, name string, call func(*value.Evaluation, *value.Args) value.Value) value.Value {
	ev.Alloc(96)
	return &value.Function{Name: name, Call: call}
}

func dictMethod(ev *value.Evaluation, d *value.Dict, name string) (value.Value, bool) {
	switch name {
	case "keys", "values", "items":
		return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.Bind(name, a, nil, 0)
			ev.Alloc(48)
			return &value.View{Dict: d, Part: name}
		}), true
	case "get":
		return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
			p := ev.Bind(name, a, []string{"", ""}, 1)
			if v, ok := d.Get(ev.Hash(p[0])); ok {
				return v
			}
			if p[1] == value.Missing {
				return nil
			}
			return p[1]
		}), true
	case "copy":
		return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.Bind(name, a, nil, 0)
			return d
		}), true
	case "fromkeys":
		return method(ev, name, fromKeys), true
	}
	return nil, false
}

func fromKeys(ev *value.Evaluation, a *value.Args) value.Value {
	p := ev.Bind("fromkeys", a, []string{"", ""}, 1)
	if p[1] == value.Missing {
		p[1] = nil
	}
	d := ev.NewDict()
	next := ev.Iterate(p[0])
	for {
		k, ok := next()
		if !ok {
			return d
		}
		ev.Put(d, k, p[1])
	}
}

func sequenceMethod(ev *value.Evaluation, items []value.Value, kind, name string) (value.Value, bool) {
	switch name {
	case "count":
		return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
			p := ev.Bind(name, a, []string{""}, 1)
			n := int64(0)
			for _, item := range items {
				if ev.Equal(item, p[0]) {
					n++
				}
			}
			return n
		}), true
	case "index":
		return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
			p := ev.Bind(name, a, []string{"", "", ""}, 1)
			from, to := bounds(ev, p[1], p[2], len(items))
			for i := from; i < to; i++ {
				if ev.Equal(items[i], p[0]) {
					return int64(i)
				}
			}
			ev.Fail("ValueError", "%s is not in %s", ev.Repr(p[0]), kind)
			return nil
		}), true
	}
	return nil, false
}

// bounds clips a start and an end as Python's methods take them.
func bounds(ev *value.Evaluation, from, to value.Value, n int) (int, int) {
	clip := func(v value.Value, none int) int {
		if v == value.Missing || v == nil {
			return none
		}
		i, ok := value.Index(v)
		if !ok {
			ev.Fail("TypeError", "slice indices must be integers or None or have an __index__ method")
		}
		if i < 0 {
			i = max(i+int64(n), 0)
		}
		return int(min(i, int64(n)))
	}
	return clip(from, 0), clip(to, n)
}

func numberMethod(ev *value.Evaluation, of value.Value, name string) (value.Value, bool) {
	f, isFloat := of.(float64)
	i, b, _ := value.Int(of)
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
		return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.Bind(name, a, nil, 0)
			return plain
		}), true
	case "is_integer":
		if !isFloat { // from Python 3.12 on
			return nil, false
		}
		return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.Bind(name, a, nil, 0)
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
		return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.Bind(name, a, nil, 0)
			n := new(big.Int).Abs(value.Big(i, b))
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

// Item is x[key]: an item, or else the attribute of that name.
func Item(ev *value.Evaluation, of, key value.Value) value.Value {
	if u, ok := of.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	switch t := of.(type) {
	case *value.Dict:
		if h, ok := ev.HashOf(key); ok {
			if v, ok := t.Get(h); ok {
				return v
			}
		}
	default:
		if i, ok := value.Index(key); ok {
			if v, ok := at(ev, of, i); ok {
				return v
			}
		}
	}
	if name, ok := value.Text(key); ok {
		if v, ok := Getattr(ev, of, name); ok {
			return v
		}
	}
	ev.Alloc(96)
	return &value.Undefined{Name: key, Owner: of, HasOwner: true}
}

// at is the item of a sequence at a position, counted from its end where it is negative.
func at(ev *value.Evaluation, of value.Value, i int64) (value.Value, bool) {
	switch t := of.(type) {
	case *value.List:
		return pick(t.Items, i)
	case *value.Tuple:
		return pick(t.Items, i)
	case *value.Range:
		if i < 0 {
			i += t.N
		}
		if i < 0 || i >= t.N {
			return nil, false
		}
		return t.Start + i*t.Step, true
	}
	s, ok := value.Text(of)
	if !ok {
		return nil, false
	}
	n := int64(ev.Count(s))
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return nil, false
	}
	if int(n) != len(s) {
		ev.Work(int(i) / 8)
	}
	from := value.ByteIndex(s, int(i), int(n))
	c := s[from : from+value.RuneLength(s[from:])]
	if _, safe := of.(value.Markup); safe {
		return value.Markup(c), true
	}
	return c, true
}

func pick(items []value.Value, i int64) (value.Value, bool) {
	if i < 0 {
		i += int64(len(items))
	}
	if i < 0 || i >= int64(len(items)) {
		return nil, false
	}
	return items[i], true
}

// Slice is x[from:to:step].
func Slice(ev *value.Evaluation, of, from, to, by value.Value, folded bool) value.Value {
	if u, ok := of.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	n := -1
	switch of.(type) {
	case string, value.Markup, *value.List, *value.Tuple, *value.Range:
		n = ev.Length(of)
		if folded && (!bound(from) || !bound(to) || !bound(by)) {
			return value.NewUndefined("a slice by something else than whole numbers")
		}
	case *value.Dict:
		if folded {
			return value.NewUndefined("a dict has no slices")
		}
		ev.Fail("TypeError", "unhashable type: 'slice'")
	default:
		if folded {
			return value.NewUndefined("'" + value.TypeName(of) + "' has no slices")
		}
		ev.Fail("TypeError", "'%s' object is not subscriptable", value.TypeName(of))
	}
	start, stop, step, count := SliceIndices(ev, from, to, by, int64(n))
	switch t := of.(type) {
	case *value.List:
		return ev.NewList(stride(ev, t.Items, start, step, count))
	case *value.Tuple:
		ev.Alloc(value.SizeList)
		return &value.Tuple{Items: stride(ev, t.Items, start, step, count)}
	case *value.Range:
		return &value.Range{Start: t.Start + start*t.Step, Stop: t.Start + stop*t.Step, Step: t.Step * step, N: count}
	}
	text, _ := value.Text(of)
	cut := StrideText(ev, text, n, start, step, count)
	if _, safe := of.(value.Markup); safe {
		return value.Markup(cut)
	}
	return cut
}

// bound says whether a value can be a slice's bound.
func bound(v value.Value) bool {
	_, ok := value.Index(v)
	return ok || v == nil
}

// SliceIndices gives the first position, the end, the step and the number of items of a slice.
func SliceIndices(ev *value.Evaluation, from, to, by value.Value, n int64) (start, stop, step, count int64) {
	number := func(v value.Value, none int64) int64 {
		if v == nil {
			return none
		}
		i, ok := value.Index(v)
		if !ok {
			ev.Fail("TypeError", "slice indices must be integers or None or have an __index__ method")
		}
		return i
	}
	step = number(by, 1)
	if step == 0 {
		ev.Fail("ValueError", "slice step cannot be zero")
	}
	step = max(step, -1<<62)
	low, high := int64(0), n
	if step < 0 {
		low, high = -1, n-1
	}
	clip := func(v value.Value, none int64) int64 {
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

func stride(ev *value.Evaluation, items []value.Value, start, step, count int64) []value.Value {
	if step == 1 {
		return items[start : start+count : start+count] // values are never changed, so they can be shared
	}
	ev.Work(int(count) / 16)
	out := ev.NewItems(int(count))
	for i := range count {
		out = append(out, items[start+i*step])
	}
	return out
}

// StrideText is the text of a slice of s, which has n characters.
func StrideText(ev *value.Evaluation, s string, n int, start, step, count int64) string {
	if count == 0 {
		return ""
	}
	ev.Work(len(s) / 16)
	if step == 1 {
		from := value.ByteIndex(s, int(start), n)
		return s[from : from+value.ByteIndex(s[from:], int(count), n-int(start))]
	}
	if n == len(s) {
		ev.Alloc(count)
		b := make([]byte, count)
		for i := range count {
			b[i] = s[start+i*step]
		}
		return string(b)
	}
	ev.Alloc(4*int64(n) + int64(len(s)))
	runes := []rune(s)
	var b strings.Builder
	b.Grow(min(len(s), int(count)*4))
	for i := range count {
		b.WriteRune(runes[start+i*step])
	}
	return b.String()
}
