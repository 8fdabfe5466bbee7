package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// global finds the functions that every template has.
func (ev *evaluator) global(name string) (value, bool) {
	var call func(*evaluator, *args) value
	switch name {
	case "range":
		call = rangeOf
	case "dict":
		call = makeDict
	case "namespace":
		call = func(ev *evaluator, a *args) value {
			d := ev.dictOf("namespace", a)
			for _, e := range d.entries {
				if k, ok := text(e.key); ok && strings.HasPrefix(k, "_") {
					ev.fail("SecurityError", "Chat templates cannot store underscore-prefixed attributes on a namespace, but got %s. Please rename the attribute.", ev.repr(k))
				}
			}
			return &namespace{d}
		}
	case "cycler":
		call = func(ev *evaluator, a *args) value {
			ev.noNames("cycler", a)
			if len(a.pos) == 0 {
				ev.fail("RuntimeError", "at least one item has to be provided")
			}
			return &cycler{items: a.pos}
		}
	case "joiner":
		call = func(ev *evaluator, a *args) value {
			return &joiner{sep: or(ev.bind("joiner", a, []string{"sep"}, 0)[0], ", ")}
		}
	case "lipsum":
		call = func(ev *evaluator, _ *args) value {
			ev.fail("TypeError", "lipsum writes text by chance, which no chat template can mean")
			return nil
		}
	case "raise_exception":
		call = func(ev *evaluator, a *args) value {
			panic(&RaisedError{shorten(ev.str(ev.bind("raise_exception", a, []string{"message"}, 1)[0]))})
		}
	case "strftime_now":
		if ev.now == nil {
			return nil, false
		}
		call = func(ev *evaluator, a *args) value {
			return ev.strftime(ev.textArg("format", ev.bind("strftime_now", a, []string{"format"}, 1)[0]), ev.now())
		}
	default:
		return nil, false
	}
	if v, ok := ev.globals[name]; ok {
		return v, true
	}
	if ev.globals == nil {
		ev.globals = map[string]value{}
	}
	v := &callable{name, call}
	ev.globals[name] = v
	return v, true
}

func rangeOf(ev *evaluator, a *args) value {
	p := ev.bind("range", a, []string{"", "", ""}, 1)
	var n [3]int64
	for i, v := range p {
		if v == missing {
			continue
		}
		if u, ok := v.(*undefined); ok {
			ev.used(u)
		}
		j, big, ok := whole(v)
		if !ok {
			ev.fail("TypeError", "'%s' object cannot be interpreted as an integer", typeName(v))
		}
		if big != nil {
			ev.stop("a range of more than %d items", maxRange)
		}
		n[i] = j
	}
	start, stop, step := n[0], n[1], n[2]
	if p[1] == missing {
		start, stop = 0, n[0]
	}
	if p[2] == missing {
		step = 1
	}
	if step == 0 {
		ev.fail("ValueError", "range() arg 3 must not be zero")
	}
	count := uint64(0)
	switch {
	case step > 0 && start < stop:
		count = (uint64(stop)-uint64(start)-1)/uint64(step) + 1
	case step < 0 && start > stop:
		count = (uint64(start)-uint64(stop)-1)/-uint64(step) + 1
	}
	if count > maxRange {
		ev.stop("a range of more than %d items", maxRange)
	}
	ev.alloc(64)
	return &span{start, stop, step, int64(count)}
}

func makeDict(ev *evaluator, a *args) value { return ev.dictOf("dict", a) }

// dictOf is dict(mapping or pairs, **names).
func (ev *evaluator) dictOf(what string, a *args) *dict {
	if len(a.pos) > 1 {
		ev.fail("TypeError", "%s expected at most 1 argument, got %d", what, len(a.pos))
	}
	d := ev.newDict()
	if len(a.pos) == 1 {
		switch t := a.pos[0].(type) {
		case *dict:
			for _, e := range t.entries {
				ev.work(1)
				ev.put(d, e.key, e.val)
			}
		default:
			next := ev.iterate(t)
			for {
				item, ok := next()
				if !ok {
					break
				}
				kv := ev.unpack(item, 2)
				ev.put(d, kv[0], kv[1])
			}
		}
	}
	for _, k := range a.named {
		ev.put(d, k.name, k.val)
	}
	return d
}

// strftime formats as Python's datetime.strftime does with glibc in the C locale; unknown directives stay as they are.
func (ev *evaluator) strftime(format string, t time.Time) string {
	w := &writer{ev: ev}
	ev.work(len(format))
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			w.add(format[i : i+1])
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
		w.add(part)
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
