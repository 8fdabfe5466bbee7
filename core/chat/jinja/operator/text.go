package operator

import (
	"html"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"

	"edged/core/chat/jinja/value"
)

// StripTags takes tags and comments out of a text, makes whitespace single blanks and resolves entities.
func StripTags(ev *value.Evaluation, s string) string {
	ev.Work(len(s) / 8)
	w := ev.NewWriter()
	pos := 0
	for {
		start := strings.IndexByte(s[pos:], '<')
		if start < 0 {
			break
		}
		start += pos
		mark, skip := ">", 0
		if strings.HasPrefix(s[start:], "<!--") {
			mark, skip = "-->", 4
		}
		if start+skip > len(s) {
			break
		}
		end := strings.Index(s[start+skip:], mark)
		if end < 0 {
			break
		}
		w.Add(s[pos:start])
		pos = start + skip + end + len(mark)
	}
	w.Add(s[pos:])
	s = w.String()
	ev.Alloc(2 * int64(len(s)))
	return unescape(ev, strings.Join(strings.FieldsFunc(s, value.IsSpace), " "))
}

func unescape(ev *value.Evaluation, s string) string {
	ev.Work(len(s) / 8)
	ev.Alloc(int64(len(s)))
	return html.UnescapeString(s)
}

// textMethod finds a method of str. Those of a safe text give safe texts.
func textMethod(ev *value.Evaluation, s string, safe bool, name string) (value.Value, bool) {
	if name == "format" || name == "format_map" {
		return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
			return value.Marked(formatMethod(ev, s, safe, name, a), safe)
		}), true
	}
	call := textMethodNamed(name)
	if call == nil {
		if safe && (name == "striptags" || name == "unescape") {
			return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
				ev.Bind(name, a, nil, 0)
				if name == "striptags" {
					return StripTags(ev, s)
				}
				return unescape(ev, s)
			}), true
		}
		return nil, false
	}
	return method(ev, name, func(ev *value.Evaluation, a *value.Args) value.Value {
		v := call(ev, s, safe, name, a)
		if safe {
			v = mark(ev, v)
		}
		return v
	}), true
}

// mark makes the texts that a method gives safe.
func mark(ev *value.Evaluation, v value.Value) value.Value {
	switch t := v.(type) {
	case string:
		return value.Markup(t)
	case *value.List:
		items := ev.NewItems(len(t.Items))
		for _, item := range t.Items {
			items = append(items, mark(ev, item))
		}
		return &value.List{Items: items}
	case *value.Tuple:
		items := ev.NewItems(len(t.Items))
		for _, item := range t.Items {
			items = append(items, mark(ev, item))
		}
		return &value.Tuple{Items: items}
	}
	return v
}

type strMethod func(ev *value.Evaluation, s string, safe bool, name string, a *value.Args) value.Value

// textMethodNamed finds a method of str, but format and format_map. It is a switch because tables cannot name
// what uses them.
func textMethodNamed(name string) strMethod {
	switch name {
	case "upper":
		return unaryText(func(ev *value.Evaluation, s string) value.Value { return Upper(ev, s) })
	case "lower":
		return unaryText(func(ev *value.Evaluation, s string) value.Value { return Lower(ev, s) })
	case "capitalize":
		return unaryText(func(ev *value.Evaluation, s string) value.Value { return Capitalize(ev, s) })
	case "title":
		return unaryText(func(ev *value.Evaluation, s string) value.Value { return title(ev, s) })
	case "swapcase":
		return unaryText(func(ev *value.Evaluation, s string) value.Value { return swapcase(ev, s) })
	case "casefold":
		return unaryText(func(ev *value.Evaluation, s string) value.Value {
			ev.Work(len(s) / 16)
			ev.Alloc(3 * int64(len(s)))
			return cases.Fold().String(s)
		})
	case "isalpha":
		return isAll(unicode.IsLetter)
	case "isdecimal":
		return isAll(func(r rune) bool { return unicode.Is(unicode.Nd, r) })
	case "isdigit":
		return isAll(IsDigit)
	case "isnumeric":
		return isAll(isNumeric)
	case "isalnum":
		return isAll(func(r rune) bool { return unicode.IsLetter(r) || isNumeric(r) })
	case "isspace":
		return isAll(value.IsSpace)
	case "isascii":
		return unaryText(func(ev *value.Evaluation, s string) value.Value { ev.Work(len(s) / 64); return ascii(s) })
	case "isidentifier":
		return unaryText(func(ev *value.Evaluation, s string) value.Value { ev.Work(len(s) / 16); return value.Identifier(s) })
	case "isprintable":
		return unaryText(func(ev *value.Evaluation, s string) value.Value {
			ev.Work(len(s) / 16)
			return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
		})
	case "islower":
		return unaryText(func(ev *value.Evaluation, s string) value.Value {
			ev.Work(len(s) / 16)
			return HasCase(s, IsLower, IsUpper)
		})
	case "isupper":
		return unaryText(func(ev *value.Evaluation, s string) value.Value {
			ev.Work(len(s) / 16)
			return HasCase(s, IsUpper, IsLower)
		})
	case "istitle":
		return unaryText(func(ev *value.Evaluation, s string) value.Value { ev.Work(len(s) / 16); return isTitle(s) })
	case "strip":
		return stripMethod(true, true)
	case "lstrip":
		return stripMethod(true, false)
	case "rstrip":
		return stripMethod(false, true)
	case "ljust":
		return pad(false, true)
	case "rjust":
		return pad(true, false)
	case "center":
		return pad(true, true)
	case "zfill":
		return func(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
			width := ev.IntArg("width", ev.Bind(name, a, []string{""}, 1)[0])
			n := int64(ev.Count(s))
			if width <= n {
				return s
			}
			sign := ""
			if s != "" && (s[0] == '-' || s[0] == '+') {
				sign, s = s[:1], s[1:]
			}
			ev.Alloc(int64(len(s)) + 1)
			return sign + ev.Repeat("0", width-n) + s
		}
	case "find":
		return find
	case "rfind":
		return find
	case "index":
		return find
	case "rindex":
		return find
	case "count":
		return find
	case "startswith":
		return affix
	case "endswith":
		return affix
	case "split":
		return split
	case "rsplit":
		return split
	case "partition":
		return partition
	case "rpartition":
		return partition
	case "splitlines":
		return func(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
			p := ev.Bind(name, a, []string{"keepends"}, 0)
			return ev.NewList(SplitLines(ev, s, p[0] != value.Missing && ev.IntArg("keepends", p[0]) != 0))
		}
	case "replace":
		return func(ev *value.Evaluation, s string, safe bool, name string, a *value.Args) value.Value {
			p := ev.Bind(name, a, []string{"", "", ""}, 2)
			old := ev.TextArg("old", p[0])
			var with string
			if safe {
				with = string(ev.Escape(p[1]))
			} else {
				with = ev.TextArg("new", p[1])
			}
			count := int64(-1)
			if p[2] != value.Missing {
				count = ev.IntArg("count", p[2])
			}
			return Replace(ev, s, old, with, count)
		}
	case "removeprefix":
		return func(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
			return strings.TrimPrefix(s, ev.TextArg("prefix", ev.Bind(name, a, []string{""}, 1)[0]))
		}
	case "removesuffix":
		return func(ev *value.Evaluation, s string, safe bool, name string, a *value.Args) value.Value {
			names := []string{""}
			if safe {
				names[0] = "suffix"
			}
			return strings.TrimSuffix(s, ev.TextArg("suffix", ev.Bind(name, a, names, 1)[0]))
		}
	case "join":
		return func(ev *value.Evaluation, s string, safe bool, name string, a *value.Args) value.Value {
			i := 0
			return Join(ev, s, ev.Iterate(ev.Bind(name, a, []string{""}, 1)[0]), func(v value.Value) string {
				if safe {
					return string(ev.Escape(v))
				}
				t, ok := value.Text(v)
				if !ok {
					ev.Fail("TypeError", "sequence item %d: expected str instance, %s found", i, value.TypeName(v))
				}
				i++
				return t
			})
		}
	case "expandtabs":
		return func(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
			size := ev.IntArg("tabsize", value.OrDefault(ev.Bind(name, a, []string{"tabsize"}, 0)[0], int64(8)))
			ev.Work(len(s) / 4)
			w := ev.NewWriter()
			column := int64(0)
			for _, r := range s {
				switch {
				case r == '\t':
					if size > 0 {
						n := size - column%size
						w.Add(ev.Repeat(" ", n))
						column += n
					}
					continue
				case r == '\n' || r == '\r':
					column = -1
				}
				column++
				w.Add(string(r))
			}
			return w.String()
		}
	case "maketrans":
		return func(ev *value.Evaluation, _ string, _ bool, name string, a *value.Args) value.Value {
			p := ev.Bind(name, a, []string{"", "", ""}, 1)
			d := ev.NewDict()
			if p[1] == value.Missing {
				from, ok := p[0].(*value.Dict)
				if !ok {
					ev.Fail("TypeError", "if you give only one argument to maketrans it must be a dict")
				}
				for _, e := range from.Entries {
					k := e.Key
					if s, ok := value.Text(k); ok {
						if ev.Count(s) != 1 {
							ev.Fail("ValueError", "string keys in translate table must be of length 1")
						}
						r, _ := utf8.DecodeRuneInString(s)
						k = int64(r)
					}
					ev.Put(d, k, e.Value)
				}
				return d
			}
			from, to := []rune(ev.TextArg(name, p[0])), []rune(ev.TextArg(name, p[1]))
			if len(from) != len(to) {
				ev.Fail("ValueError", "the first two maketrans arguments must have equal length")
			}
			for i, r := range from {
				ev.Put(d, int64(r), int64(to[i]))
			}
			if p[2] != value.Missing {
				for _, r := range ev.TextArg(name, p[2]) {
					ev.Put(d, int64(r), nil)
				}
			}
			return d
		}
	case "translate":
		return func(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
			table := ev.Bind(name, a, []string{""}, 1)[0]
			ev.Work(len(s) / 4)
			w := ev.NewWriter()
			for _, r := range s {
				v := Item(ev, table, int64(r))
				switch t := v.(type) {
				case nil:
				case *value.Undefined:
					w.Add(string(r))
				case int64:
					w.Add(string(rune(t)))
				default:
					w.Add(ev.TextArg(name, v))
				}
			}
			return w.String()
		}
	}
	return nil
}

func stripMethod(left, right bool) strMethod {
	return func(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
		return Strip(ev, s, ev.Bind(name, a, []string{""}, 0)[0], left, right)
	}
}

// IsDigit and isNumeric are str.isdigit and str.isnumeric, as near as Go's tables go.
func IsDigit(r rune) bool {
	return unicode.Is(unicode.Nd, r) || strings.ContainsRune("²³¹", r) || r >= 0x2070 && r <= 0x2089 && unicode.Is(unicode.No, r) ||
		r >= 0x2460 && r <= 0x2468 || r >= 0x2474 && r <= 0x247c || r >= 0x2488 && r <= 0x2490
}

func isNumeric(r rune) bool { return unicode.IsNumber(r) }

// unaryText is a method without arguments.
func unaryText(f func(ev *value.Evaluation, s string) value.Value) strMethod {
	return func(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
		ev.Bind(name, a, nil, 0)
		return f(ev, s)
	}
}

// isAll is a method that asks every character.
func isAll(ok func(r rune) bool) strMethod {
	return unaryText(func(ev *value.Evaluation, s string) value.Value {
		ev.Work(len(s) / 16)
		return s != "" && strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0
	})
}

// Strip is str.strip, lstrip and rstrip: without chars (missing or None) it takes whitespace away.
func Strip(ev *value.Evaluation, s string, chars value.Value, left, right bool) string {
	ev.Work(len(s) / 64)
	in := value.IsSpace
	if chars != value.Missing && chars != nil {
		set := ev.TextArg("strip", chars)
		ev.Work(len(s) / 8 * max(min(len(set), 64)/8, 1))
		in = func(r rune) bool { return strings.ContainsRune(set, r) }
	}
	if left {
		s = strings.TrimLeftFunc(s, in)
	}
	if right {
		s = strings.TrimRightFunc(s, in)
	}
	return s
}

// Replace is str.replace; a negative count means all.
func Replace(ev *value.Evaluation, s, old, with string, count int64) string {
	ev.Work((len(s) + len(old)) / 32)
	n := int64(strings.Count(s, old)) // of "", one more than there are characters
	if count >= 0 {
		n = min(n, count)
	}
	if n == 0 {
		return s
	}
	ev.Alloc(int64(len(s)))
	ev.AllocProduct(int64(len(with)), n)
	return strings.Replace(s, old, with, int(n))
}

// fields splits at whitespace, at most so many times.
func fields(ev *value.Evaluation, s string, most int64, right bool) []value.Value {
	ev.Work(len(s) / 16)
	var out []value.Value
	if right {
		for s = value.TrimRight(s); s != ""; s = value.TrimRight(s) {
			i := strings.LastIndexFunc(s, value.IsSpace)
			if most == 0 || i < 0 {
				out = ev.Append(out, s)
				break
			}
			_, n := utf8.DecodeRuneInString(s[i:])
			out = ev.Append(out, s[i+n:])
			s = s[:i]
			most--
		}
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
		return out
	}
	for s = value.TrimLeft(s); s != ""; s = value.TrimLeft(s) {
		i := strings.IndexFunc(s, value.IsSpace)
		if most == 0 || i < 0 {
			out = ev.Append(out, s)
			break
		}
		out = ev.Append(out, s[:i])
		s = s[i:]
		most--
	}
	return out
}

func splitAt(ev *value.Evaluation, s, sep string, most int64, right bool) []value.Value {
	ev.Work((len(s) + len(sep)) / 32)
	if sep == "" {
		ev.Fail("ValueError", "empty separator")
	}
	var out []value.Value
	if right {
		for most != 0 {
			i := strings.LastIndex(s, sep)
			if i < 0 {
				break
			}
			out = ev.Append(out, s[i+len(sep):])
			s = s[:i]
			most--
		}
		out = ev.Append(out, s)
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
		return out
	}
	for most != 0 {
		i := strings.Index(s, sep)
		if i < 0 {
			break
		}
		out = ev.Append(out, s[:i])
		s = s[i+len(sep):]
		most--
	}
	return ev.Append(out, s)
}

func split(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
	p := ev.Bind(name, a, []string{"sep", "maxsplit"}, 0)
	most := int64(-1)
	if p[1] != value.Missing {
		most = ev.IntArg("maxsplit", p[1])
	}
	if p[0] == value.Missing || p[0] == nil {
		return ev.NewList(fields(ev, s, most, name == "rsplit"))
	}
	return ev.NewList(splitAt(ev, s, ev.TextArg("sep", p[0]), most, name == "rsplit"))
}

// SplitLines splits at every line end that Python knows.
func SplitLines(ev *value.Evaluation, s string, keep bool) []value.Value {
	ev.Work(len(s) / 16)
	var out []value.Value
	start := 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if !lineEnd(r) {
			i += n
			continue
		}
		end := i
		i += n
		if r == '\r' && i < len(s) && s[i] == '\n' {
			i++
		}
		if keep {
			end = i
		}
		out = ev.Append(out, s[start:end])
		start = i
	}
	if start < len(s) {
		out = ev.Append(out, s[start:])
	}
	return out
}

func lineEnd(r rune) bool {
	return r >= '\n' && r <= '\r' || r >= 0x1c && r <= 0x1e || r == 0x85 || r == 0x2028 || r == 0x2029
}

// pad is a method that fills a text up: ljust, rjust or center.
func pad(left, right bool) strMethod {
	return func(ev *value.Evaluation, s string, safe bool, name string, a *value.Args) value.Value {
		p := ev.Bind(name, a, []string{"", ""}, 1)
		fill := " "
		if p[1] != value.Missing {
			fill = ev.TextArg("fillchar", p[1])
			if safe {
				fill = string(ev.Escape(p[1]))
			}
			if utf8.RuneCountInString(fill) != 1 {
				ev.Fail("TypeError", "The fill character must be exactly one character long")
			}
		}
		return Pad(ev, s, ev.IntArg("width", p[0]), fill, left, right)
	}
}

// Pad fills a text up to a width: at its left, its right or both.
func Pad(ev *value.Evaluation, s string, width int64, fill string, left, right bool) string {
	n := int64(ev.Count(s))
	if width <= n {
		return s
	}
	rest := width - n
	before := int64(0)
	switch {
	case left && right:
		before = rest/2 + rest&width&1
	case left:
		before = rest
	}
	ev.Alloc(int64(len(s)))
	return ev.Repeat(fill, before) + s + ev.Repeat(fill, rest-before)
}

// find is find, index, rfind, rindex and count over a part of a text.
func find(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
	p := ev.Bind(name, a, []string{"", "", ""}, 1)
	sub := ev.TextArg(name, p[0])
	n := ev.Count(s)
	from, to := bounds(ev, p[1], p[2], n)
	ev.Work((len(s) + len(sub)) / 32)
	if from > to || from > n || p[1] != value.Missing && p[1] != nil && ev.IntArg(name, p[1]) > int64(n) {
		if name == "count" {
			return int64(0)
		}
		from, to, sub = 0, 0, "\x00none"
	}
	start, end := value.ByteIndex(s, from, n), value.ByteIndex(s, to, n)
	part := s[start:end]
	if name == "count" {
		return int64(strings.Count(part, sub))
	}
	i := strings.Index(part, sub)
	if name[0] == 'r' {
		i = strings.LastIndex(part, sub)
	}
	if i < 0 {
		if strings.HasSuffix(name, "index") {
			ev.Fail("ValueError", "substring not found")
		}
		return int64(-1)
	}
	return int64(from + ev.Count(part[:i]))
}

func affix(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
	p := ev.Bind(name, a, []string{"", "", ""}, 1)
	n := ev.Count(s)
	from, to := bounds(ev, p[1], p[2], n)
	tooFar := p[1] != value.Missing && p[1] != nil && ev.IntArg(name, p[1]) > int64(n)
	part := ""
	if from <= to {
		part = s[value.ByteIndex(s, from, n):value.ByteIndex(s, to, n)]
	}
	has := func(v value.Value) bool {
		sub := ev.TextArg(name, v)
		ev.Work(len(sub) / 64)
		if from > to || tooFar {
			return false
		}
		if name == "startswith" {
			return strings.HasPrefix(part, sub)
		}
		return strings.HasSuffix(part, sub)
	}
	if t, ok := p[0].(*value.Tuple); ok {
		for _, v := range t.Items {
			ev.Work(1)
			if has(v) {
				return true
			}
		}
		return false
	}
	return has(p[0])
}

func partition(ev *value.Evaluation, s string, _ bool, name string, a *value.Args) value.Value {
	p := ev.Bind(name, a, []string{""}, 1)
	sep := ev.TextArg("sep", p[0])
	if sep == "" {
		ev.Fail("ValueError", "empty separator")
	}
	ev.Work((len(s) + len(sep)) / 32)
	ev.Alloc(value.SizeList + 3*value.SizeValue)
	if name == "rpartition" {
		if i := strings.LastIndex(s, sep); i >= 0 {
			return &value.Tuple{Items: []value.Value{s[:i], sep, s[i+len(sep):]}}
		}
		return &value.Tuple{Items: []value.Value{"", "", s}}
	}
	if before, after, ok := strings.Cut(s, sep); ok {
		return &value.Tuple{Items: []value.Value{before, sep, after}}
	}
	return &value.Tuple{Items: []value.Value{s, "", ""}}
}

// Join is sep.join(items).
func Join(ev *value.Evaluation, sep string, next func() (value.Value, bool), item func(value.Value) string) string {
	w := ev.NewWriter()
	for i := 0; ; i++ {
		v, ok := next()
		if !ok {
			break
		}
		ev.Work(1)
		if i > 0 {
			w.Add(sep)
		}
		w.Add(item(v))
	}
	return w.String()
}
