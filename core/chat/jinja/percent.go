package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// percent is Python's format % value. Where safe is not nil, texts are escaped by it.
func (ev *evaluator) percent(format string, v value, safe func(value) markup) string {
	w := &writer{ev: ev}
	ev.work(len(format) / 16)
	items := []value{v}
	t, isTuple := v.(*tuple)
	if isTuple {
		items = t.items
	}
	d, isMap := v.(*dict)
	_, isList := v.(*list)
	_, isSpan := v.(*span)
	used := 0
	take := func() value {
		if used == len(items) {
			ev.fail("TypeError", "not enough arguments for format string")
		}
		used++
		return items[used-1]
	}
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			break
		}
		w.add(format[:i])
		format = format[i+1:]
		ev.work(1)
		bare := strings.HasPrefix(format, "%")
		named := missing
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
				ev.fail("ValueError", "incomplete format key")
			}
			if !isMap {
				ev.fail("TypeError", "format requires a mapping")
			}
			key := format[1:end]
			val, ok := d.text(key)
			if !ok {
				ev.fail("KeyError", "%s", ev.repr(key))
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
				n, ok := index(take())
				if !ok {
					ev.fail("TypeError", "* wants int")
				}
				return n
			}
			n := int64(0)
			for format != "" && format[0] >= '0' && format[0] <= '9' {
				if n = n*10 + int64(format[0]-'0'); n > math.MaxInt32 {
					ev.fail("ValueError", "width too big")
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
			ev.fail("ValueError", "incomplete format")
		}
		s.verb = format[0]
		_, n := utf8.DecodeRuneInString(format)
		verb := format[:n]
		format = format[n:]
		if s.verb == '%' && bare {
			w.add("%")
			continue
		}
		if !strings.ContainsAny(verb, "diouxXeEfFgGcrsa") {
			ev.fail("ValueError", "unsupported format character '%s'", verb)
		}
		item := named
		if named == missing {
			item = take()
		}
		w.add(ev.percentItem(&s, item, zero, safe))
	}
	w.add(format)
	_, isUndefined := v.(*undefined)
	if used < len(items) && !isMap && !isList && !isSpan && !isUndefined {
		ev.fail("TypeError", "not all arguments converted during string formatting")
	}
	return w.String()
}

func (ev *evaluator) percentItem(s *spec, v value, zero bool, safe func(value) markup) string {
	switch s.verb {
	case 's', 'r', 'a':
		var t string
		switch {
		case s.verb == 's' && safe != nil:
			t = string(safe(v))
		case s.verb == 's':
			t = ev.str(v)
		default:
			t = ev.repr(v)
			if s.verb == 'a' {
				t = ev.asciiRepr(t)
			}
			if safe != nil {
				t = string(safe(t))
			}
		}
		return ev.align(ev.cut(t, s.precision), s)
	case 'c':
		if t, ok := text(v); ok && ev.count(t) == 1 {
			return ev.align(t, s)
		}
		i, ok := index(v)
		if !ok {
			ev.fail("TypeError", "%%c requires int or char")
		}
		if i < 0 || i > utf8.MaxRune {
			ev.fail("OverflowError", "%%c arg not in range(0x110000)")
		}
		return ev.align(string(rune(i)), s)
	}
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	if !isNumber(v) {
		ev.fail("TypeError", "%%%c format: a real number is required, not %s", s.verb, typeName(v))
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
			v = ev.truncate(f)
		}
		return ev.number(ev.formatInt(v), "", s, true)
	case 'o', 'x', 'X':
		if f, ok := v.(float64); ok {
			ev.fail("TypeError", "%%%c format: an integer is required, not float (%s)", s.verb, formatFloat(f))
		}
		return ev.number(ev.based(v, s.verb), prefix(s.verb, s.alt), s, true)
	}
	f := ev.float(v)
	precision := s.precision
	if precision < 0 {
		precision = 6
	}
	return ev.number(ev.floatText(f, s.verb, precision, s.alt), "", s, false)
}

// truncate is int(f).
func (ev *evaluator) truncate(f float64) value {
	switch {
	case math.IsNaN(f):
		ev.fail("ValueError", "cannot convert float NaN to integer")
	case math.IsInf(f, 0):
		ev.fail("OverflowError", "cannot convert float infinity to integer")
	}
	i, _ := big.NewFloat(math.Trunc(f)).Int(nil)
	return normal(i)
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
func (ev *evaluator) based(v value, verb byte) string {
	i, b, _ := whole(v)
	n := bigOf(i, b)
	ev.alloc(int64(n.BitLen()) + 8)
	ev.work(n.BitLen() / 64)
	s := n.Text(map[byte]int{'b': 2, 'o': 8, 'x': 16, 'X': 16}[verb])
	if verb == 'X' {
		s = strings.ToUpper(s)
	}
	return s
}

// floatText writes a float as the verbs e, f and g do.
func (ev *evaluator) floatText(f float64, verb byte, precision int64, alt bool) string {
	upper := verb < 'a'
	verb |= 0x20
	if precision > math.MaxInt32 {
		ev.fail("ValueError", "precision too big")
	}
	ev.alloc(precision + 400)
	ev.work(int(precision / 8))
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

// number puts sign, prefix, groups and fill around digits. In % a precision is the least number of a whole number's digits.
func (ev *evaluator) number(digits, pre string, s *spec, least bool) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	} else if s.sign != 0 {
		sign = string(s.sign)
	}
	if least && s.precision > int64(len(digits)) {
		digits = ev.repeat("0", s.precision-int64(len(digits))) + digits
	}
	if s.align == '=' {
		if n := s.width - int64(len(sign)+len(pre)+len(digits)); n > 0 {
			digits = ev.repeat(s.fill, n) + digits
		}
		return sign + pre + digits
	}
	return ev.align(sign+pre+digits, s)
}

// cut keeps so many characters of a text.
func (ev *evaluator) cut(s string, most int64) string {
	if most < 0 || most >= int64(len(s)) {
		return s
	}
	return s[:byteIndex(s, int(most), ev.count(s))]
}

// asciiRepr escapes what is not ASCII.
func (ev *evaluator) asciiRepr(s string) string {
	if ascii(s) {
		return s
	}
	w := &writer{ev: ev}
	for _, r := range s {
		switch {
		case r < 0x80:
			w.add(string(r))
		case r < 0x100:
			w.add(`\x` + hex(r, 2))
		case r < 0x10000:
			w.add(`\u` + hex(r, 4))
		default:
			w.add(`\U` + hex(r, 8))
		}
	}
	return w.String()
}

func hex(r rune, width int) string {
	s := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", max(width-len(s), 0)) + s
}
