package grammar

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// value is a JSON value whose objects keep the order of their keys.
type value struct {
	kind   byte // 'o', 'a', 's', 'n', 't', 'f', '0'
	keys   []string
	fields map[string]*value
	items  []*value
	text   string // of a string; of a number, its digits
	class  int    // of values that are equal, see schemaReader.class; 0: not known
}

// maxValues bounds the values of one JSON text: each takes about 150 bytes.
const maxValues = 1 << 16

// readValue reads a whole JSON text.
func readValue(raw []byte) (*value, error) {
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

func decodeValue(dec *json.Decoder, depth int, left *int) (*value, error) {
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
		return &value{kind: 's', text: t}, nil
	case json.Number:
		return &value{kind: 'n', text: t.String()}, nil
	case bool:
		if t {
			return &value{kind: 't'}, nil
		}
		return &value{kind: 'f'}, nil
	case json.Delim:
		return decodeDelim(dec, t, depth, left)
	}
	return &value{kind: '0'}, nil
}

func decodeDelim(dec *json.Decoder, d json.Delim, depth int, left *int) (*value, error) {
	v := &value{kind: 'a'}
	if d == '{' {
		v = object()
	}
	for dec.More() {
		key := ""
		if v.kind == 'o' {
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
		if v.kind == 'o' {
			v.set(key, sub)
		} else {
			v.items = append(v.items, sub)
		}
	}
	_, err := dec.Token()
	return v, err
}

func object() *value { return &value{kind: 'o', fields: map[string]*value{}} }

func (v *value) set(key string, sub *value) {
	if _, ok := v.fields[key]; !ok {
		v.keys = append(v.keys, key)
	}
	v.fields[key] = sub
}

// get is a field; nil where there is none.
func (v *value) get(key string) *value {
	if v == nil || v.kind != 'o' {
		return nil
	}
	return v.fields[key]
}

// write writes a value as generated JSON is written: on one line, with a space after each comma and colon.
func (v *value) write(b *strings.Builder) {
	switch v.kind {
	case 'o':
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(quote(k) + ": ")
			v.fields[k].write(b)
		}
		b.WriteByte('}')
	case 'a':
		b.WriteByte('[')
		for i, sub := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			sub.write(b)
		}
		b.WriteByte(']')
	case 's':
		b.WriteString(quote(v.text))
	case 'n':
		b.WriteString(v.text)
	case 't':
		b.WriteString("true")
	case 'f':
		b.WriteString("false")
	default:
		b.WriteString("null")
	}
}

func (v *value) String() string {
	var b strings.Builder
	v.write(&b)
	return b.String()
}
