package jinja

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// value is one of Python's values as a template can meet them:
//
//	nil         None
//	bool        bool
//	int64       int that fits, always: *big.Int holds no such number
//	*big.Int    int
//	float64     float
//	string      str, in UTF-8
//	markup      str that is marked safe (markupsafe.Markup)
//	*list, *tuple, *dict, *span (range), *view (of a dict), *namespace
//	*undefined  jinja2.Undefined
//	*iterator   a generator or another iterator: it can be read once
//	*callable   a function or a bound method
//	*macro, *loop, *cycler, *joiner
//
// Values are never changed but namespaces (and what an iterator has left), so they are shared freely.
type value = any

type (
	markup string
	list   struct{ items []value }
	tuple  struct {
		items []value
		group bool // of groupby: its items are grouper and list too
	}
	span struct{ start, stop, step, n int64 }
	view struct {
		d    *dict
		what string // keys, values or items
	}
	namespace struct{ d *dict }
	undefined struct {
		message string // empty: made of the others
		name    value
		of      value
		has     bool // of counts
		unsafe  bool
	}
	iterator struct {
		name string
		step func() (value, bool)
	}
	callable struct {
		name string
		call func(ev *evaluator, a *args) value
	}
	// absent stands where Jinja has no value yet: it is never seen by a template.
	absent struct{}
)

var missing value = absent{} //nolint:gochecknoglobals // a sentinel

// dict keeps the order in which keys came. Nothing is ever taken out.
type dict struct {
	entries []dictEntry
	index   map[any]int // from some size on
}

type dictEntry struct {
	key, val value
	hash     any // equal for equal keys
}

// indexed is how many entries a dict may have without an index.
const indexed = 8

// bigKey and tupleKey are hashes of numbers beyond int64 and of tuples.
type (
	bigKey   string
	tupleKey string
	undefKey struct{}
	nanKey   struct{ p *float64 }
)

func (d *dict) find(hash any) int {
	if d.index != nil {
		if i, ok := d.index[hash]; ok {
			return i
		}
		return -1
	}
	for i := range d.entries {
		if d.entries[i].hash == hash {
			return i
		}
	}
	return -1
}

func (d *dict) get(hash any) (value, bool) {
	if i := d.find(hash); i >= 0 {
		return d.entries[i].val, true
	}
	return nil, false
}

func (d *dict) text(key string) (value, bool) { return d.get(key) }

func (d *dict) set(key value, hash any, val value) {
	if i := d.find(hash); i >= 0 {
		d.entries[i].val = val
		return
	}
	d.entries = append(d.entries, dictEntry{key, val, hash})
	switch {
	case d.index != nil:
		d.index[hash] = len(d.entries) - 1
	case len(d.entries) > indexed:
		d.index = make(map[any]int, 2*len(d.entries))
		for i := range d.entries {
			d.index[d.entries[i].hash] = i
		}
	}
}

func (d *dict) setText(key string, val value) { d.set(key, key, val) }

// Sizes in bytes as they are counted before something is made.
const (
	sizeValue = 16
	sizeList  = 48
	sizeEntry = 128
	sizeDict  = 96
	sizeIter  = 160
)

func (ev *evaluator) newList(items []value) *list {
	ev.alloc(sizeList)
	return &list{items}
}

// room makes space for n values.
func (ev *evaluator) room(n int) []value {
	ev.alloc(sizeValue * int64(n))
	return make([]value, 0, n)
}

// push appends to a list that is being made.
func (ev *evaluator) push(items []value, v value) []value {
	if len(items) == cap(items) {
		ev.alloc(2 * sizeValue * int64(len(items)+1))
	}
	return append(items, v)
}

func (ev *evaluator) pair(a, b value) *tuple {
	ev.alloc(sizeList + 2*sizeValue)
	return &tuple{items: []value{a, b}}
}

func (ev *evaluator) newDict() *dict {
	ev.alloc(sizeDict)
	return &dict{}
}

func (ev *evaluator) put(d *dict, key, val value) {
	ev.alloc(sizeEntry)
	d.set(key, ev.hash(key), val)
}

// hash is what a key is found by. Values that cannot be keys end the rendering.
func (ev *evaluator) hash(v value) any {
	h, ok := ev.hashOf(v)
	if !ok {
		ev.fail("TypeError", "unhashable type: '%s'", typeName(v))
	}
	return h
}

func (ev *evaluator) hashOf(v value) (any, bool) {
	switch t := v.(type) {
	case nil:
		return absent{}, true
	case bool:
		if t {
			return int64(1), true
		}
		return int64(0), true
	case int64, string:
		return t, true
	case markup:
		return string(t), true
	case float64:
		if t == math.Trunc(t) && t >= -(1<<63) && t < 1<<63 {
			return int64(t), true
		}
		if math.IsNaN(t) {
			return nanKey{new(float64)}, true
		}
		if t == math.Trunc(t) && !math.IsInf(t, 0) {
			i, _ := new(big.Float).SetFloat64(t).Int(nil)
			return bigKey(i.Text(62)), true
		}
		return t, true
	case *big.Int:
		ev.work(t.BitLen())
		ev.alloc(int64(t.BitLen() / 4))
		return bigKey(t.Text(62)), true
	case *tuple:
		ev.down()
		var b strings.Builder
		for _, item := range t.items {
			h, ok := ev.hashOf(item)
			if !ok {
				return nil, false
			}
			switch h := h.(type) {
			case string:
				ev.alloc(2 * int64(len(h)))
				b.WriteString("s" + strconv.Itoa(len(h)) + ":" + h)
			case tupleKey:
				ev.alloc(2 * int64(len(h)))
				b.WriteString("t" + strconv.Itoa(len(h)) + ":" + string(h))
			case bigKey:
				ev.alloc(2 * int64(len(h)))
				b.WriteString("b" + string(h) + ";")
			case int64:
				b.WriteString("i" + strconv.FormatInt(h, 10) + ";")
			case float64:
				b.WriteString("f" + strconv.FormatFloat(h, 'g', -1, 64) + ";")
			case absent:
				b.WriteString("n;")
			default: // by identity: two such tuples are found only where they are one
				return v, true
			}
		}
		ev.up()
		return tupleKey(b.String()), true
	case *list, *dict, *view, *span:
		if s, ok := v.(*span); ok {
			return *s, true
		}
		if s, ok := v.(*view); ok && s.what == "values" {
			return v, true
		}
		return nil, false
	case *undefined:
		return undefKey{}, true
	}
	return v, true
}

// typeName is the name of a value's type in Python.
func typeName(v value) string {
	switch t := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case markup:
		return "Markup"
	case *list:
		return "list"
	case *tuple:
		return "tuple"
	case *dict:
		return "dict"
	case *span:
		return "range"
	case *view:
		return "dict_" + t.what
	case *namespace:
		return "TemplateNamespace"
	case *undefined:
		return "Undefined"
	case *iterator:
		return "generator"
	case *macro:
		return "Macro"
	case *loop:
		return "LoopContext"
	case *cycler:
		return "Cycler"
	case *joiner:
		return "Joiner"
	}
	return "function"
}

// truth is Python's bool().
func truth(v value) bool {
	switch t := v.(type) {
	case nil:
		return false
	case bool:
		return t
	case int64:
		return t != 0
	case *big.Int:
		return t.Sign() != 0
	case float64:
		return t != 0
	case string:
		return t != ""
	case markup:
		return t != ""
	case *list:
		return len(t.items) > 0
	case *tuple:
		return len(t.items) > 0
	case *dict:
		return len(t.entries) > 0
	case *span:
		return t.n > 0
	case *view:
		return len(t.d.entries) > 0
	case *undefined:
		return false
	case *loop:
		return t.length() > 0
	}
	return true
}

// text is the string of a str, safe or not.
func text(v value) (string, bool) {
	switch t := v.(type) {
	case string:
		return t, true
	case markup:
		return string(t), true
	}
	return "", false
}

// undef makes an undefined value with a sentence of its own.
func undef(message string) *undefined { return &undefined{message: message} }

// sentence is what is said when an undefined value is used.
func (ev *evaluator) sentence(u *undefined) string {
	name, isText := text(u.name)
	switch {
	case u.message != "":
		return u.message
	case !u.has:
		return ev.repr(u.name)[1:len(ev.repr(u.name))-1] + " is undefined"
	case !isText:
		return objectName(u.of) + " has no element " + ev.repr(u.name)
	}
	return "'" + objectName(u.of) + "' has no attribute '" + name + "'"
}

func objectName(v value) string {
	switch v.(type) {
	case nil:
		return "None"
	case *namespace:
		return "namespace object"
	}
	return typeName(v) + " object"
}

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

// equal is Python's ==.
func (ev *evaluator) equal(a, b value) bool {
	ev.work(1)
	switch x := a.(type) {
	case nil:
		return b == nil
	case string:
		y, ok := text(b)
		return ok && ev.same(x, y)
	case markup:
		y, ok := text(b)
		return ok && ev.same(string(x), y)
	case *undefined:
		_, ok := b.(*undefined)
		return ok
	case *list:
		y, ok := b.(*list)
		return ok && (x == y || ev.equalItems(x.items, y.items))
	case *tuple:
		y, ok := b.(*tuple)
		return ok && (x == y || ev.equalItems(x.items, y.items))
	case *dict:
		y, ok := b.(*dict)
		return ok && (x == y || ev.equalDicts(x, y))
	case *span:
		y, ok := b.(*span)
		return ok && x.n == y.n && (x.n == 0 || x.start == y.start && (x.n == 1 || x.step == y.step))
	case *view:
		y, ok := b.(*view)
		if !ok || x.what == "values" || y.what == "values" {
			return a == b
		}
		return len(x.d.entries) == len(y.d.entries) && ev.subset(x, y)
	}
	if isNumber(a) {
		return isNumber(b) && compareNumbers(a, b) == 0
	}
	return a == b
}

func (ev *evaluator) subset(x, y *view) bool {
	for i := range x.d.entries {
		if !ev.contains(y, x.at(ev, i)) {
			return false
		}
	}
	return true
}

func (ev *evaluator) same(x, y string) bool {
	if len(x) != len(y) {
		return false
	}
	ev.work(len(x) / 256)
	return x == y
}

func (ev *evaluator) equalItems(x, y []value) bool {
	if len(x) != len(y) {
		return false
	}
	ev.down()
	defer ev.up()
	for i := range x {
		if !ev.equal(x[i], y[i]) {
			return false
		}
	}
	return true
}

func (ev *evaluator) equalDicts(x, y *dict) bool {
	if len(x.entries) != len(y.entries) {
		return false
	}
	ev.down()
	defer ev.up()
	for _, e := range x.entries {
		v, ok := y.get(e.hash)
		if !ok || !ev.equal(e.val, v) {
			return false
		}
	}
	return true
}

// compare orders two values as Python's < does, and ends the rendering where it would not.
func (ev *evaluator) compare(a, b value, op string) int {
	ev.work(1)
	if isNumber(a) && isNumber(b) {
		return compareNumbers(a, b)
	}
	if x, ok := text(a); ok {
		if y, ok := text(b); ok {
			ev.work(min(len(x), len(y)) / 256)
			return strings.Compare(x, y)
		}
	}
	x, y := []value(nil), []value(nil)
	switch s := a.(type) {
	case *list:
		if t, ok := b.(*list); ok {
			x, y = s.items, t.items
			return ev.compareItems(x, y, op)
		}
	case *tuple:
		if t, ok := b.(*tuple); ok {
			return ev.compareItems(s.items, t.items, op)
		}
	case *undefined:
		ev.used(s)
	}
	if u, ok := b.(*undefined); ok {
		ev.used(u)
	}
	ev.fail("TypeError", "'%s' not supported between instances of '%s' and '%s'", op, typeName(a), typeName(b))
	return 0
}

// unordered is what comparing with a NaN gives: no order is true.
const unordered = 2

func (ev *evaluator) compareItems(x, y []value, op string) int {
	ev.down()
	defer ev.up()
	for i := range min(len(x), len(y)) {
		if !ev.equal(x[i], y[i]) {
			return ev.compare(x[i], y[i], op)
		}
	}
	return cmp.Compare(len(x), len(y))
}

// contains is Python's "item in of".
func (ev *evaluator) contains(of, item value) bool {
	ev.work(1)
	switch t := of.(type) {
	case *dict:
		_, ok := t.get(ev.hash(item))
		return ok
	case *view:
		switch t.what {
		case "keys":
			_, ok := t.d.get(ev.hash(item))
			return ok
		case "items":
			p, ok := item.(*tuple)
			if !ok || len(p.items) != 2 {
				return false
			}
			v, ok := t.d.get(ev.hash(p.items[0]))
			return ok && ev.equal(v, p.items[1])
		}
	case *span:
		i, ok := item.(int64)
		if b, isBool := item.(bool); isBool {
			i, ok = int64(b2i(b)), true
		}
		if f, isFloat := item.(float64); isFloat && f == math.Trunc(f) && math.Abs(f) < 1<<62 {
			i, ok = int64(f), true
		}
		if !ok {
			return false
		}
		d := i - t.start
		return d%t.step == 0 && d/t.step >= 0 && d/t.step < t.n
	case string, markup:
		s, _ := text(of)
		sub, ok := text(item)
		if !ok {
			ev.fail("TypeError", "'in <string>' requires string as left operand, not %s", typeName(item))
		}
		ev.work(len(s) / 64)
		return strings.Contains(s, sub)
	}
	next := ev.iter(of)
	if next == nil {
		ev.fail("TypeError", "argument of type '%s' is not iterable", typeName(of))
	}
	for {
		v, ok := next()
		if !ok {
			return false
		}
		if v == nil && item == nil || ev.equal(v, item) {
			return true
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// kwarg is a named argument.
type kwarg struct {
	name string
	val  value
}

// args are what a call is given.
type args struct {
	pos   []value
	named []kwarg
}

func (a *args) take(name string) (value, bool) {
	for i, k := range a.named {
		if k.name == name {
			a.named = slices.Delete(slices.Clone(a.named), i, i+1)
			return k.val, true
		}
	}
	return nil, false
}
