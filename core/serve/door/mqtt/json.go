package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a request's JSON, beside its size.
const (
	maxDepth  = 32      // of nesting; tool schemas have a dozen levels
	maxValues = 1 << 16 // values of any kind
)

// fieldError is an error about one field of a request.
type fieldError struct {
	path string // "messages[0].content"; "": the whole
	why  string
}

func (e *fieldError) Error() string {
	if e.path == "" {
		return e.why
	}
	return e.path + ": " + e.why
}

// in puts a path before the error's own.
func (e *fieldError) in(parent string) *fieldError {
	switch {
	case e.path == "":
		e.path = parent
	case strings.HasPrefix(e.path, "["):
		e.path = parent + e.path
	default:
		e.path = parent + "." + e.path
	}
	return e
}

func bad(path, format string, args ...any) *fieldError {
	return &fieldError{path, fmt.Sprintf(format, args...)}
}

// checkJSON proves that b is one JSON value that the walkers below can take apart: well-formed UTF-8, within the bounds,
// and without repeated keys, of which decoders take the first or the last as they like.
func checkJSON(b []byte) *fieldError {
	if len(bytes.TrimSpace(b)) == 0 {
		return bad("", "the payload is empty")
	}
	if !utf8.Valid(b) {
		return bad("", "the payload is not UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil {
		if se, ok := errors.AsType[*json.SyntaxError](err); ok {
			return bad("", "the payload is not JSON: %v, at byte %d", se, se.Offset)
		}
		return bad("", "the payload is not JSON: %v", err)
	}
	c := checker{walker: walker{b: b}}
	c.space()
	return c.value(0)
}

// walker steps through well-formed JSON.
type walker struct {
	b []byte
	i int
}

func (w *walker) space() {
	for w.i < len(w.b) && (w.b[w.i] == ' ' || w.b[w.i] == '\t' || w.b[w.i] == '\n' || w.b[w.i] == '\r') {
		w.i++
	}
}

// next skips one byte of punctuation and the space around it.
func (w *walker) next() {
	w.i++
	w.space()
}

// text skips a string and returns it with its quotes.
func (w *walker) text() []byte {
	start := w.i
	for w.i++; w.i < len(w.b) && w.b[w.i] != '"'; w.i++ {
		if w.b[w.i] == '\\' {
			w.i++
		}
	}
	w.i = min(w.i+1, len(w.b))
	return w.b[start:w.i]
}

// scalar skips a number or a word.
func (w *walker) scalar() {
	for w.i < len(w.b) && !strings.ContainsRune(",]}: \t\r\n", rune(w.b[w.i])) {
		w.i++
	}
}

// skip steps over one value of any kind and returns it. Its depth does not cost stack.
func (w *walker) skip() []byte {
	start, depth := w.i, 0
	for w.i < len(w.b) {
		switch w.b[w.i] {
		case '"':
			w.text()
		case '{', '[':
			depth++
			w.i++
		case '}', ']':
			depth--
			w.i++
		case ',', ':', ' ', '\t', '\r', '\n':
			w.i++
			continue
		default:
			w.scalar()
		}
		if depth == 0 {
			break
		}
	}
	return w.b[start:w.i]
}

// object calls f with each key and raw value, in order.
func object(raw []byte, f func(key string, raw []byte) *fieldError) *fieldError {
	w := walker{b: raw}
	w.space()
	if w.i >= len(raw) || raw[w.i] != '{' {
		return bad("", "wants an object, not %s", kindOf(raw))
	}
	for w.next(); w.i < len(raw) && raw[w.i] != '}'; {
		key := unquote(w.text())
		w.space()
		w.next() // ':'
		value := w.skip()
		if err := f(key, value); err != nil {
			return err
		}
		if w.space(); w.i < len(raw) && raw[w.i] == ',' {
			w.next()
		}
	}
	return nil
}

// array calls f with each index and raw value, in order.
func array(raw []byte, f func(i int, raw []byte) *fieldError) *fieldError {
	w := walker{b: raw}
	w.space()
	if w.i >= len(raw) || raw[w.i] != '[' {
		return bad("", "wants a list, not %s", kindOf(raw))
	}
	w.next()
	for i := 0; w.i < len(raw) && raw[w.i] != ']'; i++ {
		if err := f(i, w.skip()); err != nil {
			return err.in(fmt.Sprintf("[%d]", i))
		}
		if w.space(); w.i < len(raw) && raw[w.i] == ',' {
			w.next()
		}
	}
	return nil
}

// unquote decodes a JSON string.
func unquote(quoted []byte) string {
	if inner := quoted[1 : len(quoted)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return string(quoted) // not well-formed, which checkJSON has ruled out
	}
	return s
}

// kindOf names a value for a message.
func kindOf(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a text"
	case 't', 'f':
		return string(raw)
	case 'n':
		return "null"
	default:
		return "the number " + short(string(raw))
	}
}

// short keeps what a message quotes from a payload to a line's length.
func short(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// checker walks over every value once, for what encoding/json lets pass.
type checker struct {
	walker

	values int
}

func (c *checker) value(depth int) *fieldError {
	if depth > maxDepth {
		return bad("", "is nested deeper than %d levels", maxDepth)
	}
	if c.values++; c.values > maxValues {
		return bad("", "the payload holds more than %d values", maxValues)
	}
	switch c.b[c.i] {
	case '{':
		return c.object(depth)
	case '[':
		return c.array(depth)
	case '"':
		c.text()
	default:
		c.scalar()
	}
	return nil
}

func (c *checker) object(depth int) *fieldError {
	var seen map[string]struct{}
	for c.next(); c.b[c.i] != '}'; {
		key := unquote(c.text())
		if _, twice := seen[key]; twice {
			return bad(short(key), "is there twice")
		}
		if seen == nil {
			seen = map[string]struct{}{}
		}
		seen[key] = struct{}{}
		c.space()
		c.next() // ':'
		if err := c.value(depth + 1); err != nil {
			return err.in(short(key))
		}
		if c.space(); c.b[c.i] == ',' {
			c.next()
		}
	}
	c.i++
	return nil
}

func (c *checker) array(depth int) *fieldError {
	i := 0
	for c.next(); c.b[c.i] != ']'; i++ {
		if err := c.value(depth + 1); err != nil {
			return err.in(fmt.Sprintf("[%d]", i))
		}
		if c.space(); c.b[c.i] == ',' {
			c.next()
		}
	}
	c.i++
	return nil
}
