package operator

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"edged/core/chat/jinja/value"
)

// Percent is Python's format % value. Where safe is not nil, texts are escaped by it.
func Percent(ev *value.Evaluation, format string, v value.Value, safe func(value.Value) value.Markup) string {
	w := ev.NewWriter()
	ev.Work(len(format) / 16)
	items := []value.Value{v}
	t, isTuple := v.(*value.Tuple)
	if isTuple {
		items = t.Items
	}
	d, isMap := v.(*value.Dict)
	_, isList := v.(*value.List)
	_, isSpan := v.(*value.Range)
	used := 0
	take := func() value.Value {
		if used == len(items) {
			ev.Fail("TypeError", "not enough arguments for format string")
		}
		used++
		return items[used-1]
	}
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			break
		}
		w.Add(format[:i])
		format = format[i+1:]
		ev.Work(1)
		bare := strings.HasPrefix(format, "%")
		named := value.Missing
		if strings.HasPrefix(format, "(") {
			depth, end := 0, -1
			for j := range len(format) {
				switch format[j] {
				case '(':
					depth++
				case ')':
					depth--
				}
				if depth == 0 {
					end = j
					break
				}
			}
			if end < 0 {
				ev.Fail("ValueError", "incomplete format key")
			}
			if !isMap {
				ev.Fail("TypeError", "format requires a mapping")
			}
			key := format[1:end]
			val, ok := d.Text(key)
			if !ok {
				ev.Fail("KeyError", "%s", ev.Repr(key))
			}
			named = val
			format = format[end+1:]
		}
		s := spec{precision: -1, fill: " ", align: '>'}
		zero := false
	flags:
		for format != "" {
			switch format[0] {
			case '-':
				s.align = '<'
			case '+':
				s.sign = '+'
			case ' ':
				if s.sign == 0 {
					s.sign = ' '
				}
			case '#':
				s.alt = true
			case '0':
				zero = true
			default:
				break flags
			}
			format = format[1:]
		}
		size := func() int64 {
			if strings.HasPrefix(format, "*") {
				format = format[1:]
				n, ok := value.Index(take())
				if !ok {
					ev.Fail("TypeError", "* wants int")
				}
				return n
			}
			n := int64(0)
			for format != "" && format[0] >= '0' && format[0] <= '9' {
				if n = n*10 + int64(format[0]-'0'); n > math.MaxInt32 {
					ev.Fail("ValueError", "width too big")
				}
				format = format[1:]
			}
			return n
		}
		if s.width = size(); s.width < 0 {
			s.align, s.width = '<', -s.width
		}
		if strings.HasPrefix(format, ".") {
			format = format[1:]
			s.precision = max(size(), 0)
		}
		for format != "" && strings.IndexByte("hlL", format[0]) >= 0 {
			format = format[1:]
		}
		if format == "" {
			ev.Fail("ValueError", "incomplete format")
		}
		s.verb = format[0]
		_, n := utf8.DecodeRuneInString(format)
		verb := format[:n]
		format = format[n:]
		if s.verb == '%' && bare {
			w.Add("%")
			continue
		}
		if !strings.ContainsAny(verb, "diouxXeEfFgGcrsa") {
			ev.Fail("ValueError", "unsupported format character '%s'", verb)
		}
		item := named
		if named == value.Missing {
			item = take()
		}
		w.Add(percentItem(ev, &s, item, zero, safe))
	}
	w.Add(format)
	_, isUndefined := v.(*value.Undefined)
	if used < len(items) && !isMap && !isList && !isSpan && !isUndefined {
		ev.Fail("TypeError", "not all arguments converted during string formatting")
	}
	return w.String()
}

func percentItem(ev *value.Evaluation, s *spec, v value.Value, zero bool, safe func(value.Value) value.Markup) string {
	switch s.verb {
	case 's', 'r', 'a':
		var t string
		switch {
		case s.verb == 's' && safe != nil:
			t = string(safe(v))
		case s.verb == 's':
			t = ev.Str(v)
		default:
			t = ev.Repr(v)
			if s.verb == 'a' {
				t = asciiRepr(ev, t)
			}
			if safe != nil {
				t = string(safe(t))
			}
		}
		return align(ev, Prefix(ev, t, s.precision), s)
	case 'c':
		if t, ok := value.Text(v); ok && ev.Count(t) == 1 {
			return align(ev, t, s)
		}
		i, ok := value.Index(v)
		if !ok {
			ev.Fail("TypeError", "%%c requires int or char")
		}
		if i < 0 || i > utf8.MaxRune {
			ev.Fail("OverflowError", "%%c arg not in range(0x110000)")
		}
		return align(ev, string(rune(i)), s)
	}
	if u, ok := v.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	if !value.IsNumber(v) {
		ev.Fail("TypeError", "%%%c format: a real number is required, not %s", s.verb, value.TypeName(v))
	}
	if zero {
		s.fill = "0"
		if s.align != '<' {
			s.align = '='
		} else {
			s.fill = " "
		}
	}
	switch s.verb {
	case 'd', 'i', 'u':
		if f, ok := v.(float64); ok {
			v = Truncate(ev, f)
		}
		return number(ev, ev.FormatInt(v), "", s, true)
	case 'o', 'x', 'X':
		if f, ok := v.(float64); ok {
			ev.Fail("TypeError", "%%%c format: an integer is required, not float (%s)", s.verb, value.FormatFloat(f))
		}
		return number(ev, based(ev, v, s.verb), prefix(s.verb, s.alt), s, true)
	}
	f := ev.Float(v)
	precision := s.precision
	if precision < 0 {
		precision = 6
	}
	return number(ev, floatText(ev, f, s.verb, precision, s.alt), "", s, false)
}

// Truncate is int(f).
func Truncate(ev *value.Evaluation, f float64) value.Value {
	switch {
	case math.IsNaN(f):
		ev.Fail("ValueError", "cannot convert float NaN to integer")
	case math.IsInf(f, 0):
		ev.Fail("OverflowError", "cannot convert float infinity to integer")
	}
	i, _ := big.NewFloat(math.Trunc(f)).Int(nil)
	return value.FromBig(i)
}

func prefix(verb byte, alt bool) string {
	switch {
	case !alt:
	case verb == 'o' || verb == 'x' || verb == 'b':
		return "0" + string(verb)
	case verb == 'X':
		return "0X"
	}
	return ""
}

// based writes a whole number in base 2, 8 or 16.
func based(ev *value.Evaluation, v value.Value, verb byte) string {
	i, b, _ := value.Int(v)
	n := value.Big(i, b)
	ev.Alloc(int64(n.BitLen()) + 8)
	ev.Work(n.BitLen() / 64)
	s := n.Text(map[byte]int{'b': 2, 'o': 8, 'x': 16, 'X': 16}[verb])
	if verb == 'X' {
		s = strings.ToUpper(s)
	}
	return s
}

// floatText writes a float as the verbs e, f and g do.
func floatText(ev *value.Evaluation, f float64, verb byte, precision int64, alt bool) string {
	upper := verb < 'a'
	verb |= 0x20
	if precision > math.MaxInt32 {
		ev.Fail("ValueError", "precision too big")
	}
	ev.Alloc(precision + 400)
	ev.Work(int(precision / 8))
	var s string
	switch {
	case math.IsNaN(f):
		s = "nan"
	case math.IsInf(f, 0):
		s = "inf"
		if f < 0 {
			s = "-inf"
		}
	case verb == 'g':
		s = general(f, int(precision), alt)
	default:
		s = strconv.FormatFloat(f, verb, int(precision), 64)
		if alt && precision == 0 {
			if i := strings.IndexByte(s, 'e'); i >= 0 {
				s = s[:i] + "." + s[i:]
			} else {
				s += "."
			}
		}
	}
	if upper {
		s = strings.ToUpper(s)
	}
	return s
}

// general is the verb g: so many digits, in the form that is shorter.
func general(f float64, precision int, alt bool) string {
	precision = max(precision, 1)
	s := strconv.FormatFloat(f, 'e', precision-1, 64)
	i := strings.IndexByte(s, 'e')
	exp, err := strconv.Atoi(s[i+1:])
	if err != nil {
		return s
	}
	if exp < -4 || exp >= precision {
		mantissa := s[:i]
		if !alt {
			mantissa = bareFraction(mantissa)
		} else if precision == 1 {
			mantissa += "."
		}
		return mantissa + s[i:]
	}
	s = strconv.FormatFloat(f, 'f', precision-1-exp, 64)
	if !alt {
		s = bareFraction(s)
	} else if !strings.Contains(s, ".") {
		s += "."
	}
	return s
}

func bareFraction(s string) string {
	if strings.IndexByte(s, '.') < 0 {
		return s
	}
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// number puts sign, prefix, groups and fill around digits. In % a precision is the least number of a whole
// number's digits.
func number(ev *value.Evaluation, digits, pre string, s *spec, least bool) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	} else if s.sign != 0 {
		sign = string(s.sign)
	}
	if least && s.precision > int64(len(digits)) {
		digits = ev.Repeat("0", s.precision-int64(len(digits))) + digits
	}
	if s.align == '=' {
		if n := s.width - int64(len(sign)+len(pre)+len(digits)); n > 0 {
			digits = ev.Repeat(s.fill, n) + digits
		}
		return sign + pre + digits
	}
	return align(ev, sign+pre+digits, s)
}

// Prefix keeps so many characters of a text.
func Prefix(ev *value.Evaluation, s string, most int64) string {
	if most < 0 || most >= int64(len(s)) {
		return s
	}
	return s[:value.ByteIndex(s, int(most), ev.Count(s))]
}

// asciiRepr escapes what is not ASCII.
func asciiRepr(ev *value.Evaluation, s string) string {
	if ascii(s) {
		return s
	}
	w := ev.NewWriter()
	for _, r := range s {
		switch {
		case r < 0x80:
			w.Add(string(r))
		case r < 0x100:
			w.Add(`\x` + Hex(r, 2))
		case r < 0x10000:
			w.Add(`\u` + Hex(r, 4))
		default:
			w.Add(`\U` + Hex(r, 8))
		}
	}
	return w.String()
}

// Hex writes a number in base 16 with at least width digits.
func Hex(r rune, width int) string {
	s := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", max(width-len(s), 0)) + s
}
