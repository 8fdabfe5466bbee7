package value

import (
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Value is one of Python's values as a template can meet them:
//
//	nil         None
//	bool        bool
//	int64       int that fits, always: *big.Int holds no such number
//	*big.Int    int
//	float64     float
//	string      str, in UTF-8
//	Markup      str that is marked safe (markupsafe.Markup)
//	*List, *Tuple, *Dict, *Range, *View (of a dict), *Namespace
//	*Undefined  jinja2.Undefined
//	*Iterator   a generator or another iterator: it can be read once
//	*Function   a function or a bound method
//	Instance    what other packages add: macros, loops, cyclers, joiners
//
// Values are never changed but namespaces (and what an iterator has left), so they are shared freely.
type Value = any

type (
	// Markup is a str that is marked safe: HTML, which is not escaped again.
	Markup string

	// List is a list.
	List struct{ Items []Value }

	// Tuple is a tuple.
	Tuple struct {
		Items []Value
		Group bool // of groupby: its items are grouper and list too
	}

	// Range is a range: N numbers from Start on.
	Range struct{ Start, Stop, Step, N int64 }

	// View is the result of a dict's keys, values or items.
	View struct {
		Dict *Dict
		Part string // keys, values or items
	}

	// Namespace is the result of the function namespace: an object whose attributes can be set.
	Namespace struct{ Dict *Dict }

	// Undefined stands for what is not there. It prints as nothing; most other uses end the rendering.
	Undefined struct {
		Message  string // empty: made of the others
		Name     Value
		Owner    Value
		HasOwner bool // of counts
		Unsafe   bool
	}

	// Iterator is a generator or another iterator: it can be read once.
	Iterator struct {
		Name string
		Step func() (Value, bool)
	}

	// Function is a function or a bound method.
	Function struct {
		Name string
		Call func(ev *Evaluation, a *Args) Value
	}

	// absent stands where Jinja has no value yet: it is never seen by a template.
	absent struct{}
)

// Instance is a value whose class is defined outside of this package.
type Instance interface {
	TypeName() string // its type's name in Python
	Attr(ev *Evaluation, name string) (Value, bool)
	Repr(w *Writer) // writes Python's repr()
}

// What an instance may also do.
type (
	// Callable can be called.
	Callable interface {
		Call(ev *Evaluation, a *Args) Value
	}

	// sized has a len(), by which it is true or false.
	sized interface{ Len() int }

	// Iterable is read item by item; each comes in a pair with the instance.
	Iterable interface{ Next() (Value, bool) }
)

// Missing is absent as a value.
var Missing Value = absent{} //nolint:gochecknoglobals // a sentinel

// Dict keeps the order in which keys came. Nothing is ever taken out.
type Dict struct {
	Entries []Entry
	index   map[any]int // from some size on
}

// Entry is a key of a dict and its value.
type Entry struct {
	Key, Value Value
	hash       any // equal for equal keys
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

func (d *Dict) find(hash any) int {
	if d.index != nil {
		if i, ok := d.index[hash]; ok {
			return i
		}
		return -1
	}
	for i := range d.Entries {
		if d.Entries[i].hash == hash {
			return i
		}
	}
	return -1
}

// Get finds a value by the hash of its key.
func (d *Dict) Get(hash any) (Value, bool) {
	if i := d.find(hash); i >= 0 {
		return d.Entries[i].Value, true
	}
	return nil, false
}

// Text finds the value of a key that is a text.
func (d *Dict) Text(key string) (Value, bool) { return d.Get(key) }

func (d *Dict) set(key Value, hash any, val Value) {
	if i := d.find(hash); i >= 0 {
		d.Entries[i].Value = val
		return
	}
	d.Entries = append(d.Entries, Entry{key, val, hash})
	switch {
	case d.index != nil:
		d.index[hash] = len(d.Entries) - 1
	case len(d.Entries) > indexed:
		d.index = make(map[any]int, 2*len(d.Entries))
		for i := range d.Entries {
			d.index[d.Entries[i].hash] = i
		}
	}
}

// SetText sets the value of a key that is a text. Its bytes are not counted.
func (d *Dict) SetText(key string, val Value) { d.set(key, key, val) }

// Sizes in bytes as they are counted before something is made.
const (
	SizeValue = 16  // one more value in a list
	SizeList  = 48  // a list or a tuple
	SizeEntry = 128 // one more key in a dict
	sizeDict  = 96  // a dict
	SizeIter  = 160 // an iterator or a loop
)

// NewList makes a list of items, whose bytes are counted already.
func (ev *Evaluation) NewList(items []Value) *List {
	ev.Alloc(SizeList)
	return &List{items}
}

// NewItems makes space for n values.
func (ev *Evaluation) NewItems(n int) []Value {
	ev.Alloc(SizeValue * int64(n))
	return make([]Value, 0, n)
}

// Append appends to a list that is being made.
func (ev *Evaluation) Append(items []Value, v Value) []Value {
	if len(items) == cap(items) {
		ev.Alloc(2 * SizeValue * int64(len(items)+1))
	}
	return append(items, v)
}

// Pair makes a tuple of two.
func (ev *Evaluation) Pair(a, b Value) *Tuple {
	ev.Alloc(SizeList + 2*SizeValue)
	return &Tuple{Items: []Value{a, b}}
}

// NewDict makes an empty dict.
func (ev *Evaluation) NewDict() *Dict {
	ev.Alloc(sizeDict)
	return &Dict{}
}

// Put sets a key. One that has no hash ends the rendering.
func (ev *Evaluation) Put(d *Dict, key, val Value) {
	ev.Alloc(SizeEntry)
	d.set(key, ev.Hash(key), val)
}

// Hash returns the comparable form of v under which dicts store it as a key. Values that cannot be keys end
// the rendering.
func (ev *Evaluation) Hash(v Value) any {
	h, ok := ev.HashOf(v)
	if !ok {
		ev.Fail("TypeError", "unhashable type: '%s'", TypeName(v))
	}
	return h
}

// HashOf is Hash that returns false for what cannot be a key.
func (ev *Evaluation) HashOf(v Value) (any, bool) {
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
	case Markup:
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
		ev.Work(t.BitLen())
		ev.Alloc(int64(t.BitLen() / 4))
		return bigKey(t.Text(62)), true
	case *Tuple:
		ev.Enter()
		var b strings.Builder
		for _, item := range t.Items {
			h, ok := ev.HashOf(item)
			if !ok {
				return nil, false
			}
			switch h := h.(type) {
			case string:
				ev.Alloc(2 * int64(len(h)))
				b.WriteString("s" + strconv.Itoa(len(h)) + ":" + h)
			case tupleKey:
				ev.Alloc(2 * int64(len(h)))
				b.WriteString("t" + strconv.Itoa(len(h)) + ":" + string(h))
			case bigKey:
				ev.Alloc(2 * int64(len(h)))
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
		ev.Leave()
		return tupleKey(b.String()), true
	case *List, *Dict, *View, *Range:
		if s, ok := v.(*Range); ok {
			return *s, true
		}
		if s, ok := v.(*View); ok && s.Part == "values" {
			return v, true
		}
		return nil, false
	case *Undefined:
		return undefKey{}, true
	}
	return v, true
}

// TypeName is the name of a value's type in Python.
func TypeName(v Value) string {
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
	case Markup:
		return "Markup"
	case *List:
		return "list"
	case *Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	case *Range:
		return "range"
	case *View:
		return "dict_" + t.Part
	case *Namespace:
		return "TemplateNamespace"
	case *Undefined:
		return "Undefined"
	case *Iterator:
		return "generator"
	case Instance:
		return t.TypeName()
	}
	return "function"
}

// Truth is Python's bool().
func Truth(v Value) bool {
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
	case Markup:
		return t != ""
	case *List:
		return len(t.Items) > 0
	case *Tuple:
		return len(t.Items) > 0
	case *Dict:
		return len(t.Entries) > 0
	case *Range:
		return t.N > 0
	case *View:
		return len(t.Dict.Entries) > 0
	case *Undefined:
		return false
	case sized:
		return t.Len() > 0
	}
	return true
}

// Text is the string of a str, safe or not.
func Text(v Value) (string, bool) {
	switch t := v.(type) {
	case string:
		return t, true
	case Markup:
		return string(t), true
	}
	return "", false
}

// NewUndefined makes an undefined value with a sentence of its own.
func NewUndefined(message string) *Undefined { return &Undefined{Message: message} }

// sentence returns the error message for the use of an undefined value.
func (ev *Evaluation) sentence(u *Undefined) string {
	name, isText := Text(u.Name)
	switch {
	case u.Message != "":
		return u.Message
	case !u.HasOwner:
		return ev.Repr(u.Name)[1:len(ev.Repr(u.Name))-1] + " is undefined"
	case !isText:
		return objectName(u.Owner) + " has no element " + ev.Repr(u.Name)
	}
	return "'" + objectName(u.Owner) + "' has no attribute '" + name + "'"
}

func objectName(v Value) string {
	switch v.(type) {
	case nil:
		return "None"
	case *Namespace:
		return "namespace object"
	}
	return TypeName(v) + " object"
}

// unordered is the result of a comparison with a NaN, for which no order holds.
const unordered = 2

// Keyword is a named argument.
type Keyword struct {
	Name  string
	Value Value
}

// Args holds the positional and named arguments of a call.
type Args struct {
	Pos   []Value
	Named []Keyword
}

// Take takes a named argument out of the others.
func (a *Args) Take(name string) (Value, bool) {
	for i, k := range a.Named {
		if k.Name == name {
			a.Named = slices.Delete(slices.Clone(a.Named), i, i+1)
			return k.Value, true
		}
	}
	return nil, false
}
