package jsonvalue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Quote writes a text as JSON.
func Quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return `""` // a string always encodes
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Value is a JSON value whose objects keep the order of their keys.
type Value struct {
	Kind   byte // 'o' object, 'a' array, 's' string, 'n' number, 't' true, 'f' false, '0' null
	Keys   []string
	Fields map[string]*Value
	Items  []*Value
	Text   string // of a string; of a number, its digits
	Class  int    // of values that are equal, which package schema finds and keeps here; 0: not known
}

// maxNesting bounds how deep values may stand inside each other.
const maxNesting = 128

// maxValues bounds the values of one JSON text: each takes about 150 bytes.
const maxValues = 1 << 16

// Read reads a whole JSON text.
func Read(raw []byte) (*Value, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	left := maxValues
	v, err := decodeValue(dec, 0, &left)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	return v, nil
}

func decodeValue(dec *json.Decoder, depth int, left *int) (*Value, error) {
	if depth > maxNesting {
		return nil, errors.New("it nests too deep")
	}
	if *left--; *left < 0 {
		return nil, fmt.Errorf("it has more than %d values", maxValues)
	}
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case string:
		return &Value{Kind: 's', Text: t}, nil
	case json.Number:
		return &Value{Kind: 'n', Text: t.String()}, nil
	case bool:
		if t {
			return &Value{Kind: 't'}, nil
		}
		return &Value{Kind: 'f'}, nil
	case json.Delim:
		return decodeDelim(dec, t, depth, left)
	}
	return &Value{Kind: '0'}, nil
}

func decodeDelim(dec *json.Decoder, d json.Delim, depth int, left *int) (*Value, error) {
	v := &Value{Kind: 'a'}
	if d == '{' {
		v = NewObject()
	}
	for dec.More() {
		key := ""
		if v.Kind == 'o' {
			t, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key, _ = t.(string) // the decoder gives nothing else here
		}
		sub, err := decodeValue(dec, depth+1, left)
		if err != nil {
			return nil, err
		}
		if v.Kind == 'o' {
			v.Set(key, sub)
		} else {
			v.Items = append(v.Items, sub)
		}
	}
	_, err := dec.Token()
	return v, err
}

// NewObject is an object without fields.
func NewObject() *Value { return &Value{Kind: 'o', Fields: map[string]*Value{}} }

// Set sets a field of an object; one that is there keeps its place.
func (v *Value) Set(key string, sub *Value) {
	if _, ok := v.Fields[key]; !ok {
		v.Keys = append(v.Keys, key)
	}
	v.Fields[key] = sub
}

// Get is a field; nil where there is none.
func (v *Value) Get(key string) *Value {
	if v == nil || v.Kind != 'o' {
		return nil
	}
	return v.Fields[key]
}

// write writes a value as generated JSON is written: on one line, with a space after each comma and colon.
func (v *Value) write(b *strings.Builder) {
	switch v.Kind {
	case 'o':
		b.WriteByte('{')
		for i, k := range v.Keys {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(Quote(k) + ": ")
			v.Fields[k].write(b)
		}
		b.WriteByte('}')
	case 'a':
		b.WriteByte('[')
		for i, sub := range v.Items {
			if i > 0 {
				b.WriteString(", ")
			}
			sub.write(b)
		}
		b.WriteByte(']')
	case 's':
		b.WriteString(Quote(v.Text))
	case 'n':
		b.WriteString(v.Text)
	case 't':
		b.WriteString("true")
	case 'f':
		b.WriteString("false")
	default:
		b.WriteString("null")
	}
}

func (v *Value) String() string {
	var b strings.Builder
	v.write(&b)
	return b.String()
}
