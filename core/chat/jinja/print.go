package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// writer makes a text whose bytes are counted before they are there.
type writer struct {
	ev *evaluator
	b  []byte
}

func (w *writer) add(s string) {
	if need := len(w.b) + len(s); need > cap(w.b) {
		size := max(need, 2*cap(w.b), 64)
		w.ev.alloc(int64(size))
		b := make([]byte, len(w.b), size)
		copy(b, w.b)
		w.b = b
	}
	w.b = append(w.b, s...)
}

func (w *writer) fill(s string, n int) {
	w.ev.alloc(int64(len(s)) * int64(max(n, 0)))
	w.add(strings.Repeat(s, max(n, 0)))
}

func (w *writer) String() string {
	w.ev.alloc(int64(len(w.b)))
	return string(w.b)
}

// str is Python's str().
func (ev *evaluator) str(v value) string {
	switch t := v.(type) {
	case string:
		return t
	case markup:
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
		return formatFloat(t)
	case *undefined:
		return ""
	}
	return ev.repr(v)
}

// repr is Python's repr().
func (ev *evaluator) repr(v value) string {
	w := &writer{ev: ev}
	w.repr(v)
	return w.String()
}

func (w *writer) repr(v value) {
	ev := w.ev
	ev.down()
	defer ev.up()
	switch t := v.(type) {
	case string:
		w.quote(t)
	case markup:
		w.add("Markup(")
		w.quote(string(t))
		w.add(")")
	case *list:
		w.items("[", t.items, "]")
	case *tuple:
		end := ")"
		if len(t.items) == 1 {
			end = ",)"
		}
		w.items("(", t.items, end)
	case *dict:
		w.dict(t)
	case *view:
		w.add("dict_" + t.what + "([")
		for i := range t.d.entries {
			if i > 0 {
				w.add(", ")
			}
			w.repr(t.at(ev, i))
		}
		w.add("])")
	case *namespace:
		w.add("<Namespace ")
		w.dict(t.d)
		w.add(">")
	case *span:
		if t.step == 1 {
			w.add(fmt.Sprintf("range(%d, %d)", t.start, t.stop))
		} else {
			w.add(fmt.Sprintf("range(%d, %d, %d)", t.start, t.stop, t.step))
		}
	case *undefined:
		w.add("Undefined")
	case int64:
		w.add(strconv.FormatInt(t, 10))
	case *macro:
		if t.m.anonymous {
			w.add("<Macro anonymous>")
			break
		}
		w.add("<Macro ")
		w.quote(t.m.name)
		w.add(">")
	case *loop:
		w.add(fmt.Sprintf("<LoopContext %d/%d>", t.index0+1, t.length()))
	case *callable:
		w.add("<function " + t.name + ">")
	case *iterator:
		w.add("<" + t.name + " object>")
	case *cycler, *joiner:
		w.add("<jinja2.utils." + typeName(v) + " object>")
	default:
		if isNumber(v) {
			if _, isBool := v.(bool); !isBool {
				if f, isFloat := v.(float64); isFloat {
					w.add(formatFloat(f))
				} else {
					w.add(ev.formatInt(v))
				}
				return
			}
		}
		w.add(ev.str(v))
	}
}

func (w *writer) items(open string, items []value, end string) {
	w.add(open)
	for i, item := range items {
		if i > 0 {
			w.add(", ")
		}
		w.repr(item)
	}
	w.add(end)
}

func (w *writer) dict(d *dict) {
	w.add("{")
	for i, e := range d.entries {
		if i > 0 {
			w.add(", ")
		}
		w.repr(e.key)
		w.add(": ")
		w.repr(e.val)
	}
	w.add("}")
}

// quote writes a text as Python does: in single quotes unless it holds those and no double ones.
func (w *writer) quote(s string) {
	w.ev.work(len(s) / 4)
	q := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = `"`
	}
	w.add(q)
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
			w.add(s[done:i])
			w.add(esc)
			done = i + n
		}
		i += n
	}
	w.add(s[done:])
	w.add(q)
}

// jsonForm says how tojson writes.
type jsonForm struct {
	item, key string
	indent    string
	lines     bool
	ascii     bool
	sorted    bool
}

// toJSON is the filter: json.dumps(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
func toJSON(ev *evaluator, v value, a *args) value {
	p := ev.bind("tojson", a, []string{"ensure_ascii", "indent", "separators", "sort_keys"}, 0)
	f := jsonForm{item: ", ", key: ": "}
	f.ascii = p[0] != missing && ev.truth(p[0])
	if s, ok := text(v); ok { // Python does not look at the other arguments then
		w := &writer{ev: ev}
		w.jsonText(s, f.ascii)
		return w.String()
	}
	f.sorted = p[3] != missing && ev.truth(p[3])
	if p[1] != missing && p[1] != nil {
		f.lines, f.item = true, ","
		if s, ok := text(p[1]); ok {
			f.indent = s
		} else {
			f.indent = ev.repeat(" ", ev.wholeArg("indent", p[1]))
		}
	}
	if p[2] != missing && p[2] != nil {
		two := ev.unpack(p[2], 2)
		item, ok1 := text(two[0])
		key, ok2 := text(two[1])
		if !ok1 || !ok2 {
			ev.fail("TypeError", "separators: want two texts")
		}
		f.item, f.key = item, key
	}
	w := &writer{ev: ev}
	w.json(v, &f, 0)
	return w.String()
}

func (w *writer) json(v value, f *jsonForm, depth int) {
	ev := w.ev
	ev.down()
	defer ev.up()
	switch t := v.(type) {
	case nil:
		w.add("null")
	case bool:
		w.add(strconv.FormatBool(t))
	case float64:
		w.add(jsonFloat(t))
	case string:
		w.jsonText(t, f.ascii)
	case markup:
		w.jsonText(string(t), f.ascii)
	case *list:
		w.jsonItems(t.items, f, depth)
	case *tuple:
		w.jsonItems(t.items, f, depth)
	case *dict:
		w.jsonDict(t, f, depth)
	default:
		if !isNumber(v) {
			ev.fail("TypeError", "Object of type %s is not JSON serializable", typeName(v))
		}
		w.add(ev.formatInt(v))
	}
}

func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return formatFloat(f)
}

func (w *writer) line(f *jsonForm, depth int) {
	if f.lines {
		w.add("\n")
		w.fill(f.indent, depth)
	}
}

func (w *writer) jsonItems(items []value, f *jsonForm, depth int) {
	if len(items) == 0 {
		w.add("[]")
		return
	}
	w.add("[")
	for i, item := range items {
		if i > 0 {
			w.add(f.item)
		}
		w.line(f, depth+1)
		w.json(item, f, depth+1)
	}
	w.line(f, depth)
	w.add("]")
}

func (w *writer) jsonDict(d *dict, f *jsonForm, depth int) {
	if len(d.entries) == 0 {
		w.add("{}")
		return
	}
	ev := w.ev
	entries := d.entries
	if f.sorted {
		ev.alloc(int64(len(entries)) * sizeEntry)
		entries = append([]dictEntry(nil), entries...)
		ev.sort(len(entries), func(i, j int) bool { return ev.compare(entries[i].key, entries[j].key, "<") == -1 }, func(order []int) {
			sorted := make([]dictEntry, len(order))
			for i, from := range order {
				sorted[i] = entries[from]
			}
			entries = sorted
		})
	}
	w.add("{")
	for i, e := range entries {
		if i > 0 {
			w.add(f.item)
		}
		w.line(f, depth+1)
		if s, ok := text(e.key); ok {
			w.jsonText(s, f.ascii)
		} else {
			switch k := e.key.(type) {
			case nil, bool, float64, int64:
				w.add(`"`)
				w.json(k, f, depth+1)
				w.add(`"`)
			default:
				if !isNumber(k) {
					ev.fail("TypeError", "keys must be str, int, float, bool or None, not %s", typeName(k))
				}
				w.add(`"` + ev.formatInt(k) + `"`)
			}
		}
		w.add(f.key)
		w.json(e.val, f, depth+1)
	}
	w.line(f, depth)
	w.add("}")
}

// jsonText writes a text with the escapes of Python's json: the quote, the backslash and the C0 controls.
func (w *writer) jsonText(s string, ascii bool) {
	w.ev.work(len(s) / 16)
	w.add(`"`)
	done := 0
	for i := 0; i < len(s); {
		r, n := rune(s[i]), 1
		if r >= 0x80 {
			r, n = utf8.DecodeRuneInString(s[i:])
		}
		esc := ""
		switch {
		case r == '"' || r == '\\':
			esc = `\` + string(r)
		case r == '\n':
			esc = `\n`
		case r == '\r':
			esc = `\r`
		case r == '\t':
			esc = `\t`
		case r == '\b':
			esc = `\b`
		case r == '\f':
			esc = `\f`
		case r < 0x20 || ascii && r > 0x7e && r < 0x10000:
			esc = fmt.Sprintf(`\u%04x`, r)
		case ascii && r >= 0x10000:
			esc = fmt.Sprintf(`\u%04x\u%04x`, 0xd800+((r-0x10000)>>10), 0xdc00+((r-0x10000)&0x3ff))
		}
		if esc != "" {
			w.add(s[done:i])
			w.add(esc)
			done = i + n
		}
		i += n
	}
	w.add(s[done:])
	w.add(`"`)
}
