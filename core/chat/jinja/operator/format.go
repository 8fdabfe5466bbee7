package operator

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"edged/core/chat/jinja/value"
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

func align(ev *value.Evaluation, s string, p *spec) string {
	switch p.align {
	case '<':
		return Pad(ev, s, p.width, p.fill, false, true)
	case '^':
		n := p.width - int64(ev.Count(s))
		if n <= 0 {
			return s
		}
		ev.Alloc(int64(len(s)))
		return ev.Repeat(p.fill, n/2) + s + ev.Repeat(p.fill, n-n/2)
	}
	return Pad(ev, s, p.width, p.fill, true, false)
}

// formatMethod is str.format and str.format_map.
func formatMethod(ev *value.Evaluation, s string, safe bool, name string, a *value.Args) string {
	named := a.Named
	pos := a.Pos
	if name == "format_map" {
		ev.NoNames(name, a)
		if len(a.Pos) != 1 {
			ev.Fail("TypeError", "format_map() takes exactly one argument (%d given)", len(a.Pos))
		}
		pos = nil
		d, ok := a.Pos[0].(*value.Dict)
		if !ok {
			ev.Fail("TypeError", "format_map() wants a dict")
		}
		for _, e := range d.Entries {
			if k, ok := value.Text(e.Key); ok {
				ev.Alloc(48)
				named = append(named, value.Keyword{Name: k, Value: e.Value})
			}
		}
	}
	f := &formatter{ev: ev, pos: pos, named: named, safe: safe}
	return f.format(s, 2)
}

// formatter is one call of str.format.
type formatter struct {
	ev    *value.Evaluation
	pos   []value.Value
	named []value.Keyword
	safe  bool
	auto  int  // the next automatic number
	mode  byte // 'a' automatic, 'm' by number, 0 not known
}

func (f *formatter) format(s string, depth int) string {
	ev := f.ev
	if depth < 0 {
		ev.Fail("ValueError", "Max string recursion exceeded")
	}
	ev.Work(len(s) / 16)
	w := ev.NewWriter()
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			w.Add(s)
			break
		}
		w.Add(s[:i])
		if i+1 < len(s) && s[i+1] == s[i] {
			w.Add(s[i : i+1])
			s = s[i+2:]
			continue
		}
		if s[i] == '}' {
			ev.Fail("ValueError", "Single '}' encountered in format string")
		}
		s = s[i+1:]
		end := f.end(s)
		w.Add(f.field(s[:end], depth))
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
	f.ev.Fail("ValueError", "expected '}' before end of string")
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
			ev.Fail("ValueError", "unexpected '%c' in field name", s[i])
		case s[i] == ':':
			name, format = s[:i], s[i+1:]
		case s[i] == '!':
			name = s[:i]
			rest := s[i+1:]
			if rest == "" || len(rest) > 1 && rest[1] != ':' {
				ev.Fail("ValueError", "expected ':' after conversion specifier")
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
		v = ev.Str(v)
	case 'r':
		v = ev.Repr(v)
	case 'a':
		v = asciiRepr(ev, ev.Repr(v))
	default:
		ev.Fail("ValueError", "Unknown conversion specifier %c", conversion)
	}
	if strings.ContainsAny(format, "{}") {
		format = f.format(format, depth-1)
	}
	if f.safe {
		if m, ok := v.(value.Markup); ok {
			if format != "" {
				ev.Fail("ValueError", "Unsupported format specification for Markup.")
			}
			return string(m)
		}
		return string(ev.Escape(formatValue(ev, v, format)))
	}
	return formatValue(ev, v, format)
}

// get finds the value of a field: its number or name, and what is asked of it.
func (f *formatter) get(name string) value.Value {
	ev := f.ev
	first := name
	if i := strings.IndexAny(name, ".["); i >= 0 {
		first = name[:i]
	}
	rest := name[len(first):]
	var v value.Value
	n, err := strconv.Atoi(first)
	switch {
	case first == "":
		if f.mode == 'm' {
			ev.Fail("ValueError", "cannot switch from manual field specification to automatic field numbering")
		}
		f.mode = 'a'
		n = f.auto
		f.auto++
		fallthrough
	case err == nil && first[0] >= '0' && first[0] <= '9':
		if first != "" {
			if f.mode == 'a' {
				ev.Fail("ValueError", "cannot switch from automatic field numbering to manual field specification")
			}
			f.mode = 'm'
		}
		if n >= len(f.pos) {
			ev.Fail("IndexError", "Replacement index %d out of range for positional args tuple", n)
		}
		v = f.pos[n]
	default:
		v = value.Missing
		for _, k := range f.named {
			if k.Name == first {
				v = k.Value
			}
		}
		if v == value.Missing {
			ev.Fail("KeyError", "%s", ev.Repr(first))
		}
	}
	for rest != "" {
		ev.Work(1)
		switch rest[0] {
		case '.':
			rest = rest[1:]
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				ev.Fail("ValueError", "Empty attribute in format string")
			}
			v = Attr(ev, v, rest[:end])
			rest = rest[end:]
		case '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				ev.Fail("ValueError", "Missing ']' in format string")
			}
			key := rest[1:end]
			if key == "" {
				ev.Fail("ValueError", "Empty attribute in format string")
			}
			if n, err := strconv.Atoi(key); err == nil && key[0] >= '0' && key[0] <= '9' {
				v = Item(ev, v, int64(n))
			} else {
				v = Item(ev, v, key)
			}
			rest = rest[end+1:]
		default:
			ev.Fail("ValueError", "Only '.' or '[' may follow ']' in format field specifier")
		}
	}
	return v
}

// formatValue is Python's format(v, spec).
func formatValue(ev *value.Evaluation, v value.Value, format string) string {
	if format == "" {
		return ev.Str(v)
	}
	if !value.IsNumber(v) {
		if _, ok := value.Text(v); !ok {
			ev.Fail("TypeError", "unsupported format string passed to %s.__format__", value.TypeName(v))
		}
	}
	s := parseSpec(ev, format)
	if t, ok := value.Text(v); ok {
		switch {
		case s.verb != 0 && s.verb != 's':
			ev.Fail("ValueError", "Unknown format code '%c' for object of type 'str'", s.verb)
		case s.sign != 0:
			ev.Fail("ValueError", "Sign not allowed in string format specifier")
		case s.alt:
			ev.Fail("ValueError", "Alternate form (#) not allowed in string format specifier")
		case s.align == '=':
			ev.Fail("ValueError", "'=' alignment not allowed in string format specifier")
		case s.group != 0:
			ev.Fail("ValueError", "Cannot specify '%c' with 's'.", s.group)
		case s.align == 0:
			s.align = '<'
		}
		return align(ev, Prefix(ev, t, s.precision), &s)
	}
	if s.align == 0 {
		s.align = '>'
	}
	if b, ok := v.(bool); ok {
		v = int64(value.BoolInt(b))
	}
	f, isFloat := v.(float64)
	switch s.verb {
	case 'd', 'b', 'o', 'x', 'X', 'c', 0, 'n':
		if isFloat && (s.verb != 0 && s.verb != 'n') {
			ev.Fail("ValueError", "Unknown format code '%c' for object of type 'float'", s.verb)
		}
		if !isFloat {
			return formatWhole(ev, v, &s)
		}
	case 'e', 'E', 'f', 'F', 'g', 'G', '%':
		f = ev.Float(v)
	default:
		ev.Fail("ValueError", "Unknown format code '%c' for object of type '%s'", s.verb, value.TypeName(v))
	}
	return formatReal(ev, f, &s)
}

func formatWhole(ev *value.Evaluation, v value.Value, s *spec) string {
	if s.precision >= 0 {
		ev.Fail("ValueError", "Precision not allowed in integer format specifier")
	}
	s.precision = -1
	switch s.verb {
	case 'c':
		i, _ := value.Index(v)
		if i < 0 || i > utf8.MaxRune {
			ev.Fail("OverflowError", "%%c arg not in range(0x110000)")
		}
		return align(ev, string(rune(i)), s)
	case 'b', 'o', 'x', 'X':
		if s.group == ',' {
			ev.Fail("ValueError", "Cannot specify ',' with '%c'.", s.verb)
		}
		return grouped(ev, based(ev, v, s.verb), prefix(s.verb, s.alt), s, 4)
	}
	return grouped(ev, ev.FormatInt(v), "", s, 3)
}

func formatReal(ev *value.Evaluation, f float64, s *spec) string {
	var digits string
	precision := s.precision
	switch s.verb {
	case 0:
		if precision < 0 {
			digits = value.FormatFloat(f)
			break
		}
		digits = floatText(ev, f, 'g', precision, s.alt)
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
		digits = floatText(ev, f*100, 'f', precision, s.alt) + "%"
	default:
		if precision < 0 {
			precision = 6
		}
		verb := s.verb
		if verb == 'n' {
			verb = 'g'
		}
		digits = floatText(ev, f, verb, precision, s.alt)
	}
	return grouped(ev, digits, "", s, 3)
}

// reprGeneral is the form without a verb: like g, but with a digit behind the point or an exponent.
func reprGeneral(f float64, precision int) string {
	s := strconv.FormatFloat(f, 'e', precision-1, 64)
	i := strings.IndexByte(s, 'e')
	return bareFraction(s[:i]) + s[i:]
}

// grouped puts separators between digits and fills up.
func grouped(ev *value.Evaluation, digits, pre string, s *spec, every int) string {
	if s.group == 0 {
		return number(ev, digits, pre, s, false)
	}
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	} else if s.sign != 0 {
		sign = string(s.sign)
	}
	end := strings.IndexFunc(digits, func(r rune) bool {
		return value.DigitValue(byte(r)) > 15 || r == '.' || r == 'e' && every == 3 || r == '%'
	})
	if end < 0 {
		end = len(digits)
	}
	head, tail := digits[:end], digits[end:]
	if s.align == '=' && s.fill == "0" {
		for n := 0; ; n++ {
			if int64(len(sign)+len(pre)+len(groups(head, every, s.group))+len(tail)) >= s.width {
				break
			}
			ev.Alloc(int64(len(head)) + 1)
			ev.Work(len(head) / 4)
			head = "0" + head
		}
		return sign + pre + groups(head, every, s.group) + tail
	}
	body := groups(head, every, s.group) + tail
	if s.align == '=' {
		n := s.width - int64(len(sign)+len(pre)+len(body))
		return sign + pre + ev.Repeat(s.fill, n) + body
	}
	return align(ev, sign+pre+body, s)
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
func parseSpec(ev *value.Evaluation, f string) spec {
	s := spec{fill: " ", precision: -1}
	isAlign := func(i int) bool { return i < len(f) && strings.IndexByte("<>=^", f[i]) >= 0 }
	if n := value.RuneLength(f); n > 0 && isAlign(n) {
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
				ev.Fail("ValueError", "Too many decimal digits in format string")
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
			ev.Fail("ValueError", "Format specifier missing precision")
		}
		s.precision = size()
	}
	if f != "" {
		s.verb = f[0]
		if len(f) > 1 {
			ev.Fail("ValueError", "Invalid format specifier")
		}
	}
	return s
}
