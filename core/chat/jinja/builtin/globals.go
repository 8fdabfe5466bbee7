package builtin

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"edged/core/chat/jinja/value"
)

// Global makes one of the functions that every template has; nil: there is none of that name, or no clock for it.
func Global(name string, now func() time.Time) *value.Function {
	var call func(*value.Evaluation, *value.Args) value.Value
	switch name {
	case "range":
		call = rangeOf
	case "dict":
		call = makeDict
	case "namespace":
		call = func(ev *value.Evaluation, a *value.Args) value.Value {
			d := dictOf(ev, "namespace", a)
			for _, e := range d.Entries {
				if k, ok := value.Text(e.Key); ok && strings.HasPrefix(k, "_") {
					ev.Fail(
						"SecurityError",
						"Chat templates cannot store underscore-prefixed attributes on a namespace, but got %s. Please rename the attribute.",
						ev.Repr(k),
					)
				}
			}
			return &value.Namespace{Dict: d}
		}
	case "cycler":
		call = func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.NoNames("cycler", a)
			if len(a.Pos) == 0 {
				ev.Fail("RuntimeError", "at least one item has to be provided")
			}
			return &cycler{items: a.Pos}
		}
	case "joiner":
		call = func(ev *value.Evaluation, a *value.Args) value.Value {
			return &joiner{sep: value.OrDefault(ev.Bind("joiner", a, []string{"sep"}, 0)[0], ", ")}
		}
	case "lipsum":
		call = func(ev *value.Evaluation, _ *value.Args) value.Value {
			ev.Fail("TypeError", "lipsum writes text by chance, which no chat template can mean")
			return nil
		}
	case "raise_exception":
		call = func(ev *value.Evaluation, a *value.Args) value.Value {
			panic(&value.RaisedError{Message: value.Shorten(ev.Str(ev.Bind("raise_exception", a, []string{"message"}, 1)[0]))})
		}
	case "strftime_now":
		if now == nil {
			return nil
		}
		call = func(ev *value.Evaluation, a *value.Args) value.Value {
			return strftime(ev, ev.TextArg("format", ev.Bind("strftime_now", a, []string{"format"}, 1)[0]), now())
		}
	default:
		return nil
	}
	return &value.Function{Name: name, Call: call}
}

// maxRange is how many items a range may have.
const maxRange = 100_000

func rangeOf(ev *value.Evaluation, a *value.Args) value.Value {
	p := ev.Bind("range", a, []string{"", "", ""}, 1)
	var n [3]int64
	for i, v := range p {
		if v == value.Missing {
			continue
		}
		if u, ok := v.(*value.Undefined); ok {
			ev.UseUndefined(u)
		}
		j, big, ok := value.Int(v)
		if !ok {
			ev.Fail("TypeError", "'%s' object cannot be interpreted as an integer", value.TypeName(v))
		}
		if big != nil {
			ev.Stop("a range of more than %d items", maxRange)
		}
		n[i] = j
	}
	start, stop, step := n[0], n[1], n[2]
	if p[1] == value.Missing {
		start, stop = 0, n[0]
	}
	if p[2] == value.Missing {
		step = 1
	}
	if step == 0 {
		ev.Fail("ValueError", "range() arg 3 must not be zero")
	}
	count := uint64(0)
	switch {
	case step > 0 && start < stop:
		count = (uint64(stop)-uint64(start)-1)/uint64(step) + 1
	case step < 0 && start > stop:
		count = (uint64(start)-uint64(stop)-1)/-uint64(step) + 1
	}
	if count > maxRange {
		ev.Stop("a range of more than %d items", maxRange)
	}
	ev.Alloc(64)
	return &value.Range{Start: start, Stop: stop, Step: step, N: int64(count)}
}

func makeDict(ev *value.Evaluation, a *value.Args) value.Value { return dictOf(ev, "dict", a) }

// dictOf is dict(mapping or pairs, **names).
func dictOf(ev *value.Evaluation, what string, a *value.Args) *value.Dict {
	if len(a.Pos) > 1 {
		ev.Fail("TypeError", "%s expected at most 1 argument, got %d", what, len(a.Pos))
	}
	d := ev.NewDict()
	if len(a.Pos) == 1 {
		switch t := a.Pos[0].(type) {
		case *value.Dict:
			for _, e := range t.Entries {
				ev.Work(1)
				ev.Put(d, e.Key, e.Value)
			}
		default:
			next := ev.Iterate(t)
			for {
				item, ok := next()
				if !ok {
					break
				}
				kv := ev.Unpack(item, 2)
				ev.Put(d, kv[0], kv[1])
			}
		}
	}
	for _, k := range a.Named {
		ev.Put(d, k.Name, k.Value)
	}
	return d
}

// strftime formats as Python's datetime.strftime does with glibc in the C locale; unknown directives stay as they are.
func strftime(ev *value.Evaluation, format string, t time.Time) string {
	w := ev.NewWriter()
	ev.Work(len(format))
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			w.Add(format[i : i+1])
			continue
		}
		i++
		flag := byte(0)
		if strings.IndexByte("-_0^", format[i]) >= 0 && i+1 < len(format) {
			flag = format[i]
			i++
		}
		part, ok := directive(format[i], t)
		if !ok {
			part, flag = format[i-1:i+1], 0
		}
		switch trimmed := strings.TrimLeft(part[:max(len(part)-1, 0)], "0 ") + part[max(len(part)-1, 0):]; flag {
		case '-':
			part = trimmed
		case '_':
			part = strings.Repeat(" ", len(part)-len(trimmed)) + trimmed
		case '0':
			part = strings.Repeat("0", len(part)-len(trimmed)) + trimmed
		case '^':
			part = strings.ToUpper(part)
		}
		w.Add(part)
	}
	return w.String()
}

var layouts = map[byte]string{ //nolint:gochecknoglobals // a table
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan", 'd': "02", 'e': "_2", 'm': "01", 'y': "06", 'Y': "2006",
	'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'D': "01/02/06", 'F': "2006-01-02", 'P': "pm",
	'T': "15:04:05", 'R': "15:04", 'r': "03:04:05 PM", 'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05",
}

func directive(c byte, t time.Time) (string, bool) {
	if layout, ok := layouts[c]; ok {
		return t.Format(layout), true
	}
	year, week := t.ISOWeek()
	switch c {
	case '%':
		return "%", true
	case 'f':
		return fmt.Sprintf("%06d", t.Nanosecond()/1000), true
	case 'j':
		return fmt.Sprintf("%03d", t.YearDay()), true
	case 'u':
		return strconv.Itoa((int(t.Weekday())+6)%7 + 1), true
	case 'w':
		return strconv.Itoa(int(t.Weekday())), true
	case 's':
		return strconv.FormatInt(t.Unix(), 10), true
	case 'G':
		return strconv.Itoa(year), true
	case 'g':
		return fmt.Sprintf("%02d", year%100), true
	case 'V':
		return fmt.Sprintf("%02d", week), true
	case 'U':
		return fmt.Sprintf("%02d", (t.YearDay()+6-int(t.Weekday()))/7), true
	case 'W':
		return fmt.Sprintf("%02d", (t.YearDay()+6-(int(t.Weekday())+6)%7)/7), true
	case 'C':
		return fmt.Sprintf("%02d", t.Year()/100), true
	case 'k':
		return fmt.Sprintf("%2d", t.Hour()), true
	case 'l':
		return fmt.Sprintf("%2d", (t.Hour()+11)%12+1), true
	case 'n':
		return "\n", true
	case 't':
		return "\t", true
	case 'z', 'Z': // the clock of transformers has no zone
		return "", true
	}
	return "", false
}

// cycler and joiner are what the functions of these names return.
type (
	cycler struct {
		items []value.Value
		pos   int
	}
	joiner struct {
		sep  value.Value
		used bool
	}
)

func (j *joiner) TypeName() string { return "Joiner" }

func (j *joiner) Repr(w *value.Writer) { w.Add("<jinja2.utils.Joiner object>") }

// Attr gives what separates, and whether it was asked before.
func (j *joiner) Attr(_ *value.Evaluation, name string) (value.Value, bool) {
	switch name {
	case "sep":
		return j.sep, true
	case "used":
		return j.used, true
	}
	return nil, false
}

// Call gives nothing at first, and what separates from then on.
func (j *joiner) Call(ev *value.Evaluation, a *value.Args) value.Value {
	ev.Bind("joiner", a, nil, 0)
	if !j.used {
		j.used = true
		return ""
	}
	return j.sep
}

func (c *cycler) TypeName() string { return "Cycler" }

func (c *cycler) Repr(w *value.Writer) { w.Add("<jinja2.utils.Cycler object>") }

// Attr gives the item that is current and what goes on.
func (c *cycler) Attr(_ *value.Evaluation, name string) (value.Value, bool) {
	switch name {
	case "current":
		return c.items[c.pos], true
	case "pos":
		return int64(c.pos), true
	case "items":
		return &value.Tuple{Items: c.items}, true
	case "next":
		return &value.Function{Name: "next", Call: func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.Bind("next", a, nil, 0)
			v := c.items[c.pos]
			c.pos = (c.pos + 1) % len(c.items)
			return v
		}}, true
	case "reset":
		return &value.Function{Name: "reset", Call: func(ev *value.Evaluation, a *value.Args) value.Value {
			ev.Bind("reset", a, nil, 0)
			c.pos = 0
			return nil
		}}, true
	}
	return nil, false
}
