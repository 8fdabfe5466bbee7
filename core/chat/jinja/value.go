package jinja

import (
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

// unordered is what comparing with a NaN gives: no order is true.
const unordered = 2

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
