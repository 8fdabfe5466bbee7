package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// maxNesting bounds how deep JSON values may nest.
const maxNesting = 100

// decode reads one JSON value and keeps the order of keys. Whole numbers stay whole, as Python's json does it.
func decode(raw json.RawMessage) (jinja.Value, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if err != nil {
		return v, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return v, errors.New("more than one JSON value")
	}
	return v, nil
}

func decodeValue(dec *json.Decoder, depth int) (jinja.Value, error) {
	none := jinja.None()
	if depth > maxNesting {
		return none, fmt.Errorf("nested deeper than %d levels", maxNesting)
	}
	token, err := dec.Token()
	if err != nil {
		return none, err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '[' {
			items := []jinja.Value{}
			for dec.More() {
				item, err := decodeValue(dec, depth+1)
				if err != nil {
					return none, err
				}
				items = append(items, item)
			}
			_, err := dec.Token()
			return jinja.NewList(items), err
		}
		dict := jinja.NewDict()
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return none, err
			}
			item, err := decodeValue(dec, depth+1)
			if err != nil {
				return none, err
			}
			dict.AsDict().Set(key.(string), item)
		}
		_, err := dec.Token()
		return dict, err
	case json.Number:
		if n, err := strconv.ParseInt(t.String(), 10, 64); err == nil {
			return jinja.NewInt(n), nil
		}
		f, err := t.Float64()
		if err != nil {
			return none, fmt.Errorf("the number %s is out of range", t)
		}
		return jinja.NewFloat(f), nil
	case string:
		return jinja.NewString(t), nil
	case bool:
		return jinja.NewBool(t), nil
	}
	return none, nil
}

// toJSON is the tojson filter as Hugging Face defines it: json.dumps(x, ensure_ascii=False, indent=…, separators=…,
// sort_keys=…).
func toJSON(args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error) {
	if len(args) == 0 {
		return jinja.Undefined(), errors.New("tojson: nothing to convert")
	}
	w := jsonWriter{item: ", ", key: ": ", indent: -1}
	indent := kwargs["indent"]
	if len(args) > 2 { // tojson(ensure_ascii, indent, …)
		indent = args[2]
	}
	if indent.IsInt() {
		w.indent, w.item = int(min(max(indent.AsInt(), 0), 16)), ","
	}
	if s := kwargs["separators"]; s.IsList() && s.AsList().Len() == 2 {
		w.item, w.key = plain(s.AsList().Items[0]), plain(s.AsList().Items[1])
	}
	if a := kwargs["ensure_ascii"]; a.IsBool() {
		w.ascii = a.AsBool()
	}
	if s := kwargs["sort_keys"]; s.IsBool() {
		w.sorted = s.AsBool()
	}
	if err := w.write(args[0], 0); err != nil {
		return jinja.Undefined(), err
	}
	return jinja.NewString(w.out.String()), nil
}

type jsonWriter struct {
	out       strings.Builder
	item, key string
	indent    int // -1: on one line
	ascii     bool
	sorted    bool
}

func (w *jsonWriter) newline(depth int) {
	if w.indent >= 0 {
		w.out.WriteByte('\n')
		w.out.WriteString(strings.Repeat(" ", w.indent*depth))
	}
}

func (w *jsonWriter) write(v jinja.Value, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("tojson: nested deeper than %d levels", maxNesting)
	}
	switch {
	case v.IsNone():
		w.out.WriteString("null")
	case v.IsBool():
		w.out.WriteString(strconv.FormatBool(v.AsBool()))
	case v.IsInt():
		w.out.WriteString(strconv.FormatInt(v.AsInt(), 10))
	case v.IsFloat():
		w.out.WriteString(pythonFloat(v.AsFloat()))
	case v.IsString():
		w.text(v.AsString())
	case v.IsList():
		items := v.AsList().Items
		if len(items) == 0 {
			w.out.WriteString("[]")
			return nil
		}
		w.out.WriteByte('[')
		for i, item := range items {
			if i > 0 {
				w.out.WriteString(w.item)
			}
			w.newline(depth + 1)
			if err := w.write(item, depth+1); err != nil {
				return err
			}
		}
		w.newline(depth)
		w.out.WriteByte(']')
	case v.IsDict():
		d := v.AsDict()
		if len(d.Keys) == 0 {
			w.out.WriteString("{}")
			return nil
		}
		w.out.WriteByte('{')
		keys := d.Keys
		if w.sorted {
			keys = slices.Sorted(slices.Values(keys))
		}
		for i, key := range keys {
			if i > 0 {
				w.out.WriteString(w.item)
			}
			w.newline(depth + 1)
			w.text(key)
			w.out.WriteString(w.key)
			if err := w.write(d.Data[key], depth+1); err != nil {
				return err
			}
		}
		w.newline(depth)
		w.out.WriteByte('}')
	default:
		return errors.New("tojson: an undefined value is not JSON")
	}
	return nil
}

// text writes a string with the escapes of Python's json encoder: the quote, the backslash and the C0 controls.
func (w *jsonWriter) text(s string) {
	w.out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			w.out.WriteByte('\\')
			w.out.WriteRune(r)
		case r == '\n':
			w.out.WriteString(`\n`)
		case r == '\r':
			w.out.WriteString(`\r`)
		case r == '\t':
			w.out.WriteString(`\t`)
		case r == '\b':
			w.out.WriteString(`\b`)
		case r == '\f':
			w.out.WriteString(`\f`)
		case r < 0x20, w.ascii && r > 0x7e && r < 0x10000:
			fmt.Fprintf(&w.out, `\u%04x`, r)
		case w.ascii && r >= 0x10000:
			r -= 0x10000
			fmt.Fprintf(&w.out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			w.out.WriteRune(r)
		}
	}
	w.out.WriteByte('"')
}

// pythonFloat formats as Python's repr: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
func pythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// plain is the text of a value as {{ }} prints it; Value.String quotes strings.
func plain(v jinja.Value) string {
	if v.IsString() {
		return v.AsString()
	}
	return v.String()
}

// valid replaces what is not UTF-8, so that no template has to cope with it.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
