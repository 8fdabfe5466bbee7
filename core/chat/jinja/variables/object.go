package variables

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"edged/core/chat/jinja/value"
)

// maxJSONDepth bounds how deep values given from outside may nest.
const maxJSONDepth = 200

// Value is a value of a template. Values are not changed by a rendering and may be shared.
type Value struct{ v value.Value }

// Object is a dict with text keys, in the order in which they were set: the variables of a rendering, for one.
type Object struct{ d value.Dict }

// Dict returns the dict that a rendering reads. It is shared, so it must not be changed.
func (o *Object) Dict() *value.Dict { return &o.d }

// Set sets a key; one that is there keeps its place.
func (o *Object) Set(key string, v Value) { o.d.SetText(key, v.v) }

// Get returns the value of a key.
func (o *Object) Get(key string) (Value, bool) {
	v, ok := o.d.Text(key)
	return Value{v}, ok
}

// All calls f for each key in order.
func (o *Object) All(f func(key string, v Value)) {
	for _, e := range o.d.Entries {
		f(e.Key.(string), Value{e.Value})
	}
}

// None is Python's None.
func None() Value { return Value{nil} }

// Bool is True or False.
func Bool(b bool) Value { return Value{b} }

// Text is a str: what is not UTF-8 in s is replaced.
func Text(s string) Value { return Value{strings.ToValidUTF8(s, "\uFFFD")} }

// Dict is the object itself, not a copy.
func Dict(o *Object) Value { return Value{&o.d} }

// List is a list of the values.
func List(of []Value) Value {
	l := &value.List{Items: make([]value.Value, len(of))}
	for i, v := range of {
		l.Items[i] = v.v
	}
	return Value{l}
}

// IsNone says whether the value is None.
func (v Value) IsNone() bool { return v.v == nil }

// Items returns the items of a list.
func (v Value) Items() ([]Value, bool) {
	l, ok := v.v.(*value.List)
	if !ok {
		return nil, false
	}
	out := make([]Value, len(l.Items))
	for i, item := range l.Items {
		out[i] = Value{item}
	}
	return out, true
}

// Object returns a dict whose keys are all texts, as FromJSON makes them. It is shared, so it must not be changed.
func (v Value) Object() (*Object, bool) {
	d, ok := v.v.(*value.Dict)
	if !ok {
		return nil, false
	}
	return &Object{*d}, true
}

// Seen returns the value as templates see it.
func (v Value) Seen() value.Value { return v.v }

// FromJSON reads one JSON value as Python's json.loads does: keys keep their order and the last of equal ones counts,
// whole numbers stay whole however large they are.
func FromJSON(raw []byte) (Value, error) {
	if !json.Valid(raw) { // names what is wrong; what follows relies on it
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return Value{}, err
		}
		return Value{}, errors.New("is not valid JSON")
	}
	d := decoder{s: string(raw)}
	v, err := d.value(0)
	return Value{v}, err
}

// decoder reads JSON that is known to be valid. Texts without escapes share its memory.
type decoder struct {
	s   string
	pos int
}

// next is the first byte of what comes next.
func (d *decoder) next() byte {
	for {
		switch c := d.s[d.pos]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			d.pos++
		default:
			return c
		}
	}
}

func (d *decoder) value(depth int) (value.Value, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
	}
	switch c := d.next(); c {
	case '[':
		d.pos++
		l := &value.List{}
		for d.next() != ']' {
			item, err := d.value(depth + 1)
			if err != nil {
				return nil, err
			}
			l.Items = append(l.Items, item)
		}
		d.pos++
		return l, nil
	case '{':
		d.pos++
		out := &value.Dict{}
		for d.next() != '}' {
			key, err := d.text()
			if err != nil {
				return nil, err
			}
			item, err := d.value(depth + 1)
			if err != nil {
				return nil, err
			}
			out.SetText(key, item)
		}
		d.pos++
		return out, nil
	case '"':
		return d.text()
	case 't':
		d.pos += len("true")
		return true, nil
	case 'f':
		d.pos += len("false")
		return false, nil
	case 'n':
		d.pos += len("null")
		return nil, nil
	}
	start := d.pos
	for d.pos < len(d.s) && strings.IndexByte("+-.eE0123456789", d.s[d.pos]) >= 0 {
		d.pos++
	}
	return jsonNumber(d.s[start:d.pos])
}

func (d *decoder) text() (string, error) {
	start := d.pos
	plain := true
	for d.pos++; d.s[d.pos] != '"'; d.pos++ {
		if d.s[d.pos] == '\\' {
			plain = false
			d.pos++
		}
	}
	d.pos++
	if s := d.s[start+1 : d.pos-1]; plain && utf8.ValidString(s) {
		return s, nil
	}
	var s string
	err := json.Unmarshal([]byte(d.s[start:d.pos]), &s)
	return s, err
}

func jsonNumber(s string) (value.Value, error) {
	if strings.ContainsAny(s, ".eE") {
		f, ok := value.ParseFloat(s)
		if !ok {
			return nil, fmt.Errorf("the number %.40s cannot be read", s)
		}
		return f, nil
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, nil
	}
	if len(s) > value.MaxDigits {
		return nil, fmt.Errorf("a number of %d digits: at most %d are taken", len(s), value.MaxDigits)
	}
	i, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return nil, fmt.Errorf("the number %.40s cannot be read", s)
	}
	return value.FromBig(i), nil
}
