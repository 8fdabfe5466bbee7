package value

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Writer makes a text whose bytes are counted before they are there.
type Writer struct {
	ev *Evaluation
	b  []byte
}

// NewWriter begins a text.
func (ev *Evaluation) NewWriter() *Writer { return &Writer{ev: ev} }

// Evaluation returns the evaluation that the written text is counted in.
func (w *Writer) Evaluation() *Evaluation { return w.ev }

// Len is how many bytes are written.
func (w *Writer) Len() int { return len(w.b) }

// Add writes a text.
func (w *Writer) Add(s string) {
	if need := len(w.b) + len(s); need > cap(w.b) {
		size := max(need, 2*cap(w.b), 64)
		w.ev.Alloc(int64(size))
		b := make([]byte, len(w.b), size)
		copy(b, w.b)
		w.b = b
	}
	w.b = append(w.b, s...)
}

// Fill writes a text n times.
func (w *Writer) Fill(s string, n int) {
	w.ev.Alloc(int64(len(s)) * int64(max(n, 0)))
	w.Add(strings.Repeat(s, max(n, 0)))
}

func (w *Writer) String() string {
	w.ev.Alloc(int64(len(w.b)))
	return string(w.b)
}

// Str is Python's str().
func (ev *Evaluation) Str(v Value) string {
	switch t := v.(type) {
	case string:
		return t
	case Markup:
		return string(t)
	case nil:
		return "None"
	case bool:
		if t {
			return "True"
		}
		return "False"
	case int64:
		return strconv.FormatInt(t, 10)
	case float64:
		return FormatFloat(t)
	case *Undefined:
		return ""
	}
	return ev.Repr(v)
}

// Repr is Python's repr().
func (ev *Evaluation) Repr(v Value) string {
	w := ev.NewWriter()
	w.repr(v)
	return w.String()
}

func (w *Writer) repr(v Value) {
	ev := w.ev
	ev.Enter()
	defer ev.Leave()
	switch t := v.(type) {
	case string:
		w.Quote(t)
	case Markup:
		w.Add("Markup(")
		w.Quote(string(t))
		w.Add(")")
	case *List:
		w.items("[", t.Items, "]")
	case *Tuple:
		end := ")"
		if len(t.Items) == 1 {
			end = ",)"
		}
		w.items("(", t.Items, end)
	case *Dict:
		w.dict(t)
	case *View:
		w.Add("dict_" + t.Part + "([")
		for i := range t.Dict.Entries {
			if i > 0 {
				w.Add(", ")
			}
			w.repr(t.At(ev, i))
		}
		w.Add("])")
	case *Namespace:
		w.Add("<Namespace ")
		w.dict(t.Dict)
		w.Add(">")
	case *Range:
		if t.Step == 1 {
			w.Add(fmt.Sprintf("range(%d, %d)", t.Start, t.Stop))
		} else {
			w.Add(fmt.Sprintf("range(%d, %d, %d)", t.Start, t.Stop, t.Step))
		}
	case *Undefined:
		w.Add("Undefined")
	case int64:
		w.Add(strconv.FormatInt(t, 10))
	case *Function:
		w.Add("<function " + t.Name + ">")
	case *Iterator:
		w.Add("<" + t.Name + " object>")
	case Instance:
		t.Repr(w)
	default:
		if IsNumber(v) {
			if _, isBool := v.(bool); !isBool {
				if f, isFloat := v.(float64); isFloat {
					w.Add(FormatFloat(f))
				} else {
					w.Add(ev.FormatInt(v))
				}
				return
			}
		}
		w.Add(ev.Str(v))
	}
}

func (w *Writer) items(open string, items []Value, end string) {
	w.Add(open)
	for i, item := range items {
		if i > 0 {
			w.Add(", ")
		}
		w.repr(item)
	}
	w.Add(end)
}

func (w *Writer) dict(d *Dict) {
	w.Add("{")
	for i, e := range d.Entries {
		if i > 0 {
			w.Add(", ")
		}
		w.repr(e.Key)
		w.Add(": ")
		w.repr(e.Value)
	}
	w.Add("}")
}

// Quote writes a text as Python does: in single quotes unless it holds those and no double ones.
func (w *Writer) Quote(s string) {
	w.ev.Work(len(s) / 4)
	q := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = `"`
	}
	w.Add(q)
	done := 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		esc := ""
		switch {
		case r == '\\' || s[i:i+n] == q:
			esc = `\` + string(r)
		case r == '\n':
			esc = `\n`
		case r == '\r':
			esc = `\r`
		case r == '\t':
			esc = `\t`
		case r < 0x20 || r == 0x7f || r > 0x7f && !unicode.IsPrint(r):
			switch {
			case r < 0x100:
				esc = fmt.Sprintf(`\x%02x`, r)
			case r < 0x10000:
				esc = fmt.Sprintf(`\u%04x`, r)
			default:
				esc = fmt.Sprintf(`\U%08x`, r)
			}
		}
		if esc != "" {
			w.Add(s[done:i])
			w.Add(esc)
			done = i + n
		}
		i += n
	}
	w.Add(s[done:])
	w.Add(q)
}
