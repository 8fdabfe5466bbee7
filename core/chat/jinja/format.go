package jinja

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// spec is a format as % and str.format share it.
type spec struct {
	fill      string
	align     byte // '<', '>', '^', '=' or 0
	sign      byte // '+', ' ' or 0
	alt       bool
	width     int64
	group     byte
	precision int64 // -1: none
	verb      byte  // 0: none
}

func (ev *evaluator) align(s string, p *spec) string {
	switch p.align {
	case '<':
		return ev.padded(s, p.width, p.fill, false, true)
	case '^':
		n := p.width - int64(ev.count(s))
		if n <= 0 {
			return s
		}
		ev.alloc(int64(len(s)))
		return ev.repeat(p.fill, n/2) + s + ev.repeat(p.fill, n-n/2)
	}
	return ev.padded(s, p.width, p.fill, true, false)
}

// formatMethod is str.format and str.format_map.
func (ev *evaluator) formatMethod(s string, safe bool, name string, a *args) string {
	named := a.named
	pos := a.pos
	if name == "format_map" {
		ev.noNames(name, a)
		if len(a.pos) != 1 {
			ev.fail("TypeError", "format_map() takes exactly one argument (%d given)", len(a.pos))
		}
		pos = nil
		d, ok := a.pos[0].(*dict)
		if !ok {
			ev.fail("TypeError", "format_map() wants a dict")
		}
		for _, e := range d.entries {
			if k, ok := text(e.key); ok {
				ev.alloc(48)
				named = append(named, kwarg{k, e.val})
			}
		}
	}
	f := &formatter{ev: ev, pos: pos, named: named, safe: safe}
	return f.format(s, 2)
}

// formatter is one call of str.format.
type formatter struct {
	ev    *evaluator
	pos   []value
	named []kwarg
	safe  bool
	auto  int  // the next automatic number
	mode  byte // 'a' automatic, 'm' by number, 0 not known
}

func (f *formatter) format(s string, depth int) string {
	ev := f.ev
	if depth < 0 {
		ev.fail("ValueError", "Max string recursion exceeded")
	}
	ev.work(len(s) / 16)
	w := &writer{ev: ev}
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			w.add(s)
			break
		}
		w.add(s[:i])
		if i+1 < len(s) && s[i+1] == s[i] {
			w.add(s[i : i+1])
			s = s[i+2:]
			continue
		}
		if s[i] == '}' {
			ev.fail("ValueError", "Single '}' encountered in format string")
		}
		s = s[i+1:]
		end := f.end(s)
		w.add(f.field(s[:end], depth))
		s = s[end+1:]
	}
	return w.String()
}

// end finds the brace that closes a field.
func (f *formatter) end(s string) int {
	depth, bracket := 1, false
	for i := range len(s) {
		switch s[i] {
		case '[':
			bracket = bracket || depth == 1 && !strings.ContainsAny(s[:i], ":!")
		case ']':
			bracket = false
		case '{':
			if !bracket {
				depth++
			}
		case '}':
			if bracket {
				continue
			}
			if depth--; depth == 0 {
				return i
			}
		}
	}
	f.ev.fail("ValueError", "expected '}' before end of string")
	return 0
}

func (f *formatter) field(s string, depth int) string {
	ev := f.ev
	name, format, conversion := s, "", byte(0)
	bracket := false
	for i := range len(s) {
		switch {
		case s[i] == '[':
			bracket = true
		case s[i] == ']':
			bracket = false
		case bracket:
		case s[i] == '{' || s[i] == '}':
			ev.fail("ValueError", "unexpected '%c' in field name", s[i])
		case s[i] == ':':
			name, format = s[:i], s[i+1:]
		case s[i] == '!':
			name = s[:i]
			rest := s[i+1:]
			if rest == "" || len(rest) > 1 && rest[1] != ':' {
				ev.fail("ValueError", "expected ':' after conversion specifier")
			}
			conversion = rest[0]
			if len(rest) > 1 {
				format = rest[2:]
			}
		default:
			continue
		}
		if name != s || conversion != 0 || format != "" || !bracket && (s[i] == ':' || s[i] == '!') {
			break
		}
	}
	v := f.get(name)
	switch conversion {
	case 0:
	case 's':
		v = ev.str(v)
	case 'r':
		v = ev.repr(v)
	case 'a':
		v = ev.asciiRepr(ev.repr(v))
	default:
		ev.fail("ValueError", "Unknown conversion specifier %c", conversion)
	}
	if strings.ContainsAny(format, "{}") {
		format = f.format(format, depth-1)
	}
	if f.safe {
		if m, ok := v.(markup); ok {
			if format != "" {
				ev.fail("ValueError", "Unsupported format specification for Markup.")
			}
			return string(m)
		}
		return string(ev.escape(ev.formatValue(v, format)))
	}
	return ev.formatValue(v, format)
}

// get finds the value of a field: its number or name, and what is asked of it.
func (f *formatter) get(name string) value {
	ev := f.ev
	first := name
	if i := strings.IndexAny(name, ".["); i >= 0 {
		first = name[:i]
	}
	rest := name[len(first):]
	var v value
	n, err := strconv.Atoi(first)
	switch {
	case first == "":
		if f.mode == 'm' {
			ev.fail("ValueError", "cannot switch from manual field specification to automatic field numbering")
		}
		f.mode = 'a'
		n = f.auto
		f.auto++
		fallthrough
	case err == nil && first[0] >= '0' && first[0] <= '9':
		if first != "" {
			if f.mode == 'a' {
				ev.fail("ValueError", "cannot switch from automatic field numbering to manual field specification")
			}
			f.mode = 'm'
		}
		if n >= len(f.pos) {
			ev.fail("IndexError", "Replacement index %d out of range for positional args tuple", n)
		}
		v = f.pos[n]
	default:
		v = missing
		for _, k := range f.named {
			if k.name == first {
				v = k.val
			}
		}
		if v == missing {
			ev.fail("KeyError", "%s", ev.repr(first))
		}
	}
	for rest != "" {
		ev.work(1)
		switch rest[0] {
		case '.':
			rest = rest[1:]
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				ev.fail("ValueError", "Empty attribute in format string")
			}
			v = ev.attr(v, rest[:end])
			rest = rest[end:]
		case '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				ev.fail("ValueError", "Missing ']' in format string")
			}
			key := rest[1:end]
			if key == "" {
				ev.fail("ValueError", "Empty attribute in format string")
			}
			if n, err := strconv.Atoi(key); err == nil && key[0] >= '0' && key[0] <= '9' {
				v = ev.item(v, int64(n))
			} else {
				v = ev.item(v, key)
			}
			rest = rest[end+1:]
		default:
			ev.fail("ValueError", "Only '.' or '[' may follow ']' in format field specifier")
		}
	}
	return v
}

// formatValue is Python's format(v, spec).
func (ev *evaluator) formatValue(v value, format string) string {
	if format == "" {
		return ev.str(v)
	}
	if !isNumber(v) {
		if _, ok := text(v); !ok {
			ev.fail("TypeError", "unsupported format string passed to %s.__format__", typeName(v))
		}
	}
	s := ev.parseSpec(format)
	if t, ok := text(v); ok {
		switch {
		case s.verb != 0 && s.verb != 's':
			ev.fail("ValueError", "Unknown format code '%c' for object of type 'str'", s.verb)
		case s.sign != 0:
			ev.fail("ValueError", "Sign not allowed in string format specifier")
		case s.alt:
			ev.fail("ValueError", "Alternate form (#) not allowed in string format specifier")
		case s.align == '=':
			ev.fail("ValueError", "'=' alignment not allowed in string format specifier")
		case s.group != 0:
			ev.fail("ValueError", "Cannot specify '%c' with 's'.", s.group)
		case s.align == 0:
			s.align = '<'
		}
		return ev.align(ev.cut(t, s.precision), &s)
	}
	if s.align == 0 {
		s.align = '>'
	}
	if b, ok := v.(bool); ok {
		v = int64(b2i(b))
	}
	f, isFloat := v.(float64)
	switch s.verb {
	case 'd', 'b', 'o', 'x', 'X', 'c', 0, 'n':
		if isFloat && (s.verb != 0 && s.verb != 'n') {
			ev.fail("ValueError", "Unknown format code '%c' for object of type 'float'", s.verb)
		}
		if !isFloat {
			return ev.formatWhole(v, &s)
		}
	case 'e', 'E', 'f', 'F', 'g', 'G', '%':
		f = ev.float(v)
	default:
		ev.fail("ValueError", "Unknown format code '%c' for object of type '%s'", s.verb, typeName(v))
	}
	return ev.formatReal(f, &s)
}

func (ev *evaluator) formatWhole(v value, s *spec) string {
	if s.precision >= 0 {
		ev.fail("ValueError", "Precision not allowed in integer format specifier")
	}
	s.precision = -1
	switch s.verb {
	case 'c':
		i, _ := index(v)
		if i < 0 || i > utf8.MaxRune {
			ev.fail("OverflowError", "%%c arg not in range(0x110000)")
		}
		return ev.align(string(rune(i)), s)
	case 'b', 'o', 'x', 'X':
		if s.group == ',' {
			ev.fail("ValueError", "Cannot specify ',' with '%c'.", s.verb)
		}
		return ev.grouped(ev.based(v, s.verb), prefix(s.verb, s.alt), s, 4)
	}
	return ev.grouped(ev.formatInt(v), "", s, 3)
}

func (ev *evaluator) formatReal(f float64, s *spec) string {
	var digits string
	precision := s.precision
	switch s.verb {
	case 0:
		if precision < 0 {
			digits = formatFloat(f)
			break
		}
		digits = ev.floatText(f, 'g', precision, s.alt)
		if i := strings.IndexByte(digits, 'e'); i < 0 && !strings.ContainsAny(digits, ".ni") {
			if e := len(strings.TrimLeft(digits, "-")); int64(e) < max(precision, 1) {
				digits += ".0"
			} else {
				digits = reprGeneral(f, int(max(precision, 1)))
			}
		}
	case '%':
		if precision < 0 {
			precision = 6
		}
		digits = ev.floatText(f*100, 'f', precision, s.alt) + "%"
	default:
		if precision < 0 {
			precision = 6
		}
		verb := s.verb
		if verb == 'n' {
			verb = 'g'
		}
		digits = ev.floatText(f, verb, precision, s.alt)
	}
	return ev.grouped(digits, "", s, 3)
}

// reprGeneral is the form without a verb: like g, but with a digit behind the point or an exponent.
func reprGeneral(f float64, precision int) string {
	s := strconv.FormatFloat(f, 'e', precision-1, 64)
	i := strings.IndexByte(s, 'e')
	return bareFraction(s[:i]) + s[i:]
}

// grouped puts separators between digits and fills up.
func (ev *evaluator) grouped(digits, pre string, s *spec, every int) string {
	if s.group == 0 {
		return ev.number(digits, pre, s, false)
	}
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	} else if s.sign != 0 {
		sign = string(s.sign)
	}
	end := strings.IndexFunc(digits, func(r rune) bool { return digitValue(byte(r)) > 15 || r == '.' || r == 'e' && every == 3 || r == '%' })
	if end < 0 {
		end = len(digits)
	}
	head, tail := digits[:end], digits[end:]
	if s.align == '=' && s.fill == "0" {
		for n := 0; ; n++ {
			if int64(len(sign)+len(pre)+len(groups(head, every, s.group))+len(tail)) >= s.width {
				break
			}
			ev.alloc(int64(len(head)) + 1)
			ev.work(len(head) / 4)
			head = "0" + head
		}
		return sign + pre + groups(head, every, s.group) + tail
	}
	body := groups(head, every, s.group) + tail
	if s.align == '=' {
		n := s.width - int64(len(sign)+len(pre)+len(body))
		return sign + pre + ev.repeat(s.fill, n) + body
	}
	return ev.align(sign+pre+body, s)
}

func groups(digits string, every int, sep byte) string {
	var b strings.Builder
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%every == 0 {
			b.WriteByte(sep)
		}
		b.WriteByte(digits[i])
	}
	return b.String()
}

// parseSpec reads [[fill]align][sign][#][0][width][grouping][.precision][type].
func (ev *evaluator) parseSpec(f string) spec {
	s := spec{fill: " ", precision: -1}
	isAlign := func(i int) bool { return i < len(f) && strings.IndexByte("<>=^", f[i]) >= 0 }
	if n := runeLength(f); n > 0 && isAlign(n) {
		s.fill, s.align = f[:n], f[n]
		f = f[n+1:]
	} else if isAlign(0) {
		s.align = f[0]
		f = f[1:]
	}
	if f != "" && (f[0] == '+' || f[0] == '-' || f[0] == ' ') {
		if f[0] != '-' {
			s.sign = f[0]
		}
		f = f[1:]
	}
	f = strings.TrimPrefix(f, "z")
	if strings.HasPrefix(f, "#") {
		s.alt = true
		f = f[1:]
	}
	if strings.HasPrefix(f, "0") {
		if s.align == 0 {
			s.align = '='
		}
		if s.fill == " " {
			s.fill = "0"
		}
		f = f[1:]
	}
	size := func() int64 {
		n := int64(0)
		for f != "" && f[0] >= '0' && f[0] <= '9' {
			if n = n*10 + int64(f[0]-'0'); n > math.MaxInt32 {
				ev.fail("ValueError", "Too many decimal digits in format string")
			}
			f = f[1:]
		}
		return n
	}
	s.width = size()
	if f != "" && (f[0] == ',' || f[0] == '_') {
		s.group = f[0]
		f = f[1:]
	}
	if strings.HasPrefix(f, ".") {
		f = f[1:]
		if f == "" || f[0] < '0' || f[0] > '9' {
			ev.fail("ValueError", "Format specifier missing precision")
		}
		s.precision = size()
	}
	if f != "" {
		s.verb = f[0]
		if len(f) > 1 {
			ev.fail("ValueError", "Invalid format specifier")
		}
	}
	return s
}
