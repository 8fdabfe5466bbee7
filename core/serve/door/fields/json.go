// Package fields reads the JSON that every door takes: it proves that a payload is one bounded JSON value,
// walks over it, and decodes fields one by one, so that a refusal names the field and says what it wants. The
// fields that say how an answer is generated, messages, tools and adapters have the same form and the same
// bounds at every door, and stand here once.
//
// It must not know a protocol: what a door calls a field, and which ones it has, is the door's. Everything
// may be called concurrently.
package fields

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"edged/core/serve/dispatch"
)

// Bounds of a request's JSON, beside its size.
const (
	maxDepth  = 32      // of nesting; tool schemas have a dozen levels
	maxValues = 1 << 16 // values of any kind
)

// Error is an error about one field of a request.
type Error struct {
	path string // "messages[0].content"; "": the whole
	why  string
	code dispatch.Code // "": the request is wrong
}

// Code is the code of a request's refusal.
func (e *Error) Code() dispatch.Code {
	if e.code == "" {
		return dispatch.CodeInvalidRequest
	}
	return e.code
}

func (e *Error) Error() string {
	if e.path == "" {
		return e.why
	}
	return e.path + ": " + e.why
}

// In puts a path before the error's own.
func (e *Error) In(parent string) *Error {
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

// Bad is an error about the field at path; "": the whole.
func Bad(path, format string, args ...any) *Error {
	return &Error{path: path, why: fmt.Sprintf(format, args...)}
}

// Check proves that b is one JSON value that the walkers below can take apart: well-formed UTF-8, within the bounds,
// and without repeated keys, of which decoders take the first or the last as they like.
func Check(b []byte) *Error { return CheckText("the payload", b) }

// CheckText is Check of a text that is called by another name in its errors, such as "its text" or "the file".
func CheckText(what string, b []byte) *Error {
	if len(bytes.TrimSpace(b)) == 0 {
		return Bad("", "%s is empty", what)
	}
	if !utf8.Valid(b) {
		return Bad("", "%s is not UTF-8", what)
	}
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil {
		if se, ok := errors.AsType[*json.SyntaxError](err); ok {
			return Bad("", "%s is not JSON: %v, at byte %d", what, se, se.Offset)
		}
		return Bad("", "%s is not JSON: %v", what, err)
	}
	c := checker{walker: walker{b: b}, what: what}
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

// Object calls f with each key and raw value, in order.
func Object(raw []byte, f func(key string, raw []byte) *Error) *Error {
	w := walker{b: raw}
	w.space()
	if w.i >= len(raw) || raw[w.i] != '{' {
		return Bad("", "wants an object, not %s", KindOf(raw))
	}
	for w.next(); w.i < len(raw) && raw[w.i] != '}'; {
		key := Unquote(w.text())
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

// Array calls f with each index and raw value, in order.
func Array(raw []byte, f func(i int, raw []byte) *Error) *Error {
	w := walker{b: raw}
	w.space()
	if w.i >= len(raw) || raw[w.i] != '[' {
		return Bad("", "wants a list, not %s", KindOf(raw))
	}
	w.next()
	for i := 0; w.i < len(raw) && raw[w.i] != ']'; i++ {
		if err := f(i, w.skip()); err != nil {
			return err.In(fmt.Sprintf("[%d]", i))
		}
		if w.space(); w.i < len(raw) && raw[w.i] == ',' {
			w.next()
		}
	}
	return nil
}

// Unquote decodes a JSON string.
func Unquote(quoted []byte) string {
	if inner := quoted[1 : len(quoted)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return string(quoted) // not well-formed, which Check has ruled out
	}
	return s
}

// KindOf names a value for a message.
func KindOf(raw []byte) string {
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
		return "the number " + Short(string(raw))
	}
}

// Short keeps what a message quotes from a payload to a line's length.
func Short(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// Encode writes a value without the escapes that encoding/json adds for HTML, and without a line end.
func Encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// checker walks over every value once, for what encoding/json lets pass.
type checker struct {
	walker

	what   string // the text's name in errors
	values int
}

func (c *checker) value(depth int) *Error {
	if depth > maxDepth {
		return Bad("", "is nested deeper than %d levels", maxDepth)
	}
	if c.values++; c.values > maxValues {
		return Bad("", "%s holds more than %d values", c.what, maxValues)
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

func (c *checker) object(depth int) *Error {
	var seen map[string]struct{}
	for c.next(); c.b[c.i] != '}'; {
		key := Unquote(c.text())
		if _, twice := seen[key]; twice {
			return Bad(Short(key), "is there twice")
		}
		if seen == nil {
			seen = map[string]struct{}{}
		}
		seen[key] = struct{}{}
		c.space()
		c.next() // ':'
		if err := c.value(depth + 1); err != nil {
			return err.In(Short(key))
		}
		if c.space(); c.b[c.i] == ',' {
			c.next()
		}
	}
	c.i++
	return nil
}

func (c *checker) array(depth int) *Error {
	i := 0
	for c.next(); c.b[c.i] != ']'; i++ {
		if err := c.value(depth + 1); err != nil {
			return err.In(fmt.Sprintf("[%d]", i))
		}
		if c.space(); c.b[c.i] == ',' {
			c.next()
		}
	}
	c.i++
	return nil
}
