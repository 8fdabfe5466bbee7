package builtin

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"edged/core/chat/jinja/value"
)

// jsonForm says how tojson writes.
type jsonForm struct {
	item, key string
	indent    string
	lines     bool
	ascii     bool
	sorted    bool
}

// toJSON is the filter: json.dumps(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
func toJSON(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("tojson", a, []string{"ensure_ascii", "indent", "separators", "sort_keys"}, 0)
	f := jsonForm{item: ", ", key: ": "}
	f.ascii = p[0] != value.Missing && value.Truth(p[0])
	if s, ok := value.Text(v); ok { // Python does not look at the other arguments then
		w := ev.NewWriter()
		jsonText(w, s, f.ascii)
		return w.String()
	}
	f.sorted = p[3] != value.Missing && value.Truth(p[3])
	if p[1] != value.Missing && p[1] != nil {
		f.lines, f.item = true, ","
		if s, ok := value.Text(p[1]); ok {
			f.indent = s
		} else {
			f.indent = ev.Repeat(" ", ev.IntArg("indent", p[1]))
		}
	}
	if p[2] != value.Missing && p[2] != nil {
		two := ev.Unpack(p[2], 2)
		item, ok1 := value.Text(two[0])
		key, ok2 := value.Text(two[1])
		if !ok1 || !ok2 {
			ev.Fail("TypeError", "separators: want two texts")
		}
		f.item, f.key = item, key
	}
	w := ev.NewWriter()
	json(w, v, &f, 0)
	return w.String()
}

func json(w *value.Writer, v value.Value, f *jsonForm, depth int) {
	ev := w.Evaluation()
	ev.Enter()
	defer ev.Leave()
	switch t := v.(type) {
	case nil:
		w.Add("null")
	case bool:
		w.Add(strconv.FormatBool(t))
	case float64:
		w.Add(jsonFloat(t))
	case string:
		jsonText(w, t, f.ascii)
	case value.Markup:
		jsonText(w, string(t), f.ascii)
	case *value.List:
		jsonItems(w, t.Items, f, depth)
	case *value.Tuple:
		jsonItems(w, t.Items, f, depth)
	case *value.Dict:
		jsonDict(w, t, f, depth)
	default:
		if !value.IsNumber(v) {
			ev.Fail("TypeError", "Object of type %s is not JSON serializable", value.TypeName(v))
		}
		w.Add(ev.FormatInt(v))
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
	return value.FormatFloat(f)
}

func line(w *value.Writer, f *jsonForm, depth int) {
	if f.lines {
		w.Add("\n")
		w.Fill(f.indent, depth)
	}
}

func jsonItems(w *value.Writer, items []value.Value, f *jsonForm, depth int) {
	if len(items) == 0 {
		w.Add("[]")
		return
	}
	w.Add("[")
	for i, item := range items {
		if i > 0 {
			w.Add(f.item)
		}
		line(w, f, depth+1)
		json(w, item, f, depth+1)
	}
	line(w, f, depth)
	w.Add("]")
}

func jsonDict(w *value.Writer, d *value.Dict, f *jsonForm, depth int) {
	if len(d.Entries) == 0 {
		w.Add("{}")
		return
	}
	ev := w.Evaluation()
	entries := d.Entries
	if f.sorted {
		ev.Alloc(int64(len(entries)) * value.SizeEntry)
		entries = append([]value.Entry(nil), entries...)
		ev.Sort(len(entries), func(i, j int) bool { return ev.Compare(entries[i].Key, entries[j].Key, "<") == -1 }, func(order []int) {
			sorted := make([]value.Entry, len(order))
			for i, from := range order {
				sorted[i] = entries[from]
			}
			entries = sorted
		})
	}
	w.Add("{")
	for i, e := range entries {
		if i > 0 {
			w.Add(f.item)
		}
		line(w, f, depth+1)
		if s, ok := value.Text(e.Key); ok {
			jsonText(w, s, f.ascii)
		} else {
			switch k := e.Key.(type) {
			case nil, bool, float64, int64:
				w.Add(`"`)
				json(w, k, f, depth+1)
				w.Add(`"`)
			default:
				if !value.IsNumber(k) {
					ev.Fail("TypeError", "keys must be str, int, float, bool or None, not %s", value.TypeName(k))
				}
				w.Add(`"` + ev.FormatInt(k) + `"`)
			}
		}
		w.Add(f.key)
		json(w, e.Value, f, depth+1)
	}
	line(w, f, depth)
	w.Add("}")
}

// jsonText writes a text with the escapes of Python's json: the quote, the backslash and the C0 controls.
func jsonText(w *value.Writer, s string, ascii bool) {
	w.Evaluation().Work(len(s) / 16)
	w.Add(`"`)
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
			w.Add(s[done:i])
			w.Add(esc)
			done = i + n
		}
		i += n
	}
	w.Add(s[done:])
	w.Add(`"`)
}
