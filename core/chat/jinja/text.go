package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// textMethod finds a method of str. Those of a safe text give safe texts.
func (ev *evaluator) textMethod(s string, safe bool, name string) (value, bool) {
	if name == "format" || name == "format_map" {
		return ev.method(name, func(ev *evaluator, a *args) value { return marked(ev.formatMethod(s, safe, name, a), safe) }), true
	}
	call := textMethodNamed(name)
	if call == nil {
		if safe && (name == "striptags" || name == "unescape") {
			return ev.method(name, func(ev *evaluator, a *args) value {
				ev.bind(name, a, nil, 0)
				if name == "striptags" {
					return ev.striptags(s)
				}
				return ev.unescape(s)
			}), true
		}
		return nil, false
	}
	return ev.method(name, func(ev *evaluator, a *args) value {
		v := call(ev, s, safe, name, a)
		if safe {
			v = ev.mark(v)
		}
		return v
	}), true
}

// mark makes the texts that a method gives safe.
func (ev *evaluator) mark(v value) value {
	switch t := v.(type) {
	case string:
		return markup(t)
	case *list:
		items := ev.room(len(t.items))
		for _, item := range t.items {
			items = append(items, ev.mark(item))
		}
		return &list{items}
	case *tuple:
		items := ev.room(len(t.items))
		for _, item := range t.items {
			items = append(items, ev.mark(item))
		}
		return &tuple{items: items}
	}
	return v
}

type textMethod func(ev *evaluator, s string, safe bool, name string, a *args) value

// textMethodNamed finds a method of str, but format and format_map. It is a switch because tables cannot name what uses them.
func textMethodNamed(name string) textMethod {
	switch name {
	case "upper":
		return unaryText(func(ev *evaluator, s string) value { return upper(ev, s) })
	case "lower":
		return unaryText(func(ev *evaluator, s string) value { return lower(ev, s) })
	case "capitalize":
		return unaryText(func(ev *evaluator, s string) value { return capitalize(ev, s) })
	case "title":
		return unaryText(func(ev *evaluator, s string) value { return title(ev, s) })
	case "swapcase":
		return unaryText(func(ev *evaluator, s string) value { return swapcase(ev, s) })
	case "casefold":
		return unaryText(func(ev *evaluator, s string) value {
			ev.work(len(s) / 16)
			ev.alloc(3 * int64(len(s)))
			return cases.Fold().String(s)
		})
	case "isalpha":
		return isAll(unicode.IsLetter)
	case "isdecimal":
		return isAll(func(r rune) bool { return unicode.Is(unicode.Nd, r) })
	case "isdigit":
		return isAll(isDigit)
	case "isnumeric":
		return isAll(isNumeric)
	case "isalnum":
		return isAll(func(r rune) bool { return unicode.IsLetter(r) || isNumeric(r) })
	case "isspace":
		return isAll(isSpace)
	case "isascii":
		return unaryText(func(ev *evaluator, s string) value { ev.work(len(s) / 64); return ascii(s) })
	case "isidentifier":
		return unaryText(func(ev *evaluator, s string) value { ev.work(len(s) / 16); return identifier(s) })
	case "isprintable":
		return unaryText(func(ev *evaluator, s string) value {
			ev.work(len(s) / 16)
			return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
		})
	case "islower":
		return unaryText(func(ev *evaluator, s string) value { ev.work(len(s) / 16); return oneCase(s, isLower, isUpper) })
	case "isupper":
		return unaryText(func(ev *evaluator, s string) value { ev.work(len(s) / 16); return oneCase(s, isUpper, isLower) })
	case "istitle":
		return unaryText(func(ev *evaluator, s string) value { ev.work(len(s) / 16); return isTitle(s) })
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
		return func(ev *evaluator, s string, _ bool, name string, a *args) value {
			width := ev.wholeArg("width", ev.bind(name, a, []string{""}, 1)[0])
			n := int64(ev.count(s))
			if width <= n {
				return s
			}
			sign := ""
			if s != "" && (s[0] == '-' || s[0] == '+') {
				sign, s = s[:1], s[1:]
			}
			ev.alloc(int64(len(s)) + 1)
			return sign + ev.repeat("0", width-n) + s
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
		return func(ev *evaluator, s string, _ bool, name string, a *args) value {
			p := ev.bind(name, a, []string{"keepends"}, 0)
			return ev.newList(ev.lines(s, p[0] != missing && ev.wholeArg("keepends", p[0]) != 0))
		}
	case "replace":
		return func(ev *evaluator, s string, safe bool, name string, a *args) value {
			p := ev.bind(name, a, []string{"", "", ""}, 2)
			old := ev.textArg("old", p[0])
			var with string
			if safe {
				with = string(ev.escape(p[1]))
			} else {
				with = ev.textArg("new", p[1])
			}
			count := int64(-1)
			if p[2] != missing {
				count = ev.wholeArg("count", p[2])
			}
			return ev.replace(s, old, with, count)
		}
	case "removeprefix":
		return func(ev *evaluator, s string, _ bool, name string, a *args) value {
			return strings.TrimPrefix(s, ev.textArg("prefix", ev.bind(name, a, []string{""}, 1)[0]))
		}
	case "removesuffix":
		return func(ev *evaluator, s string, safe bool, name string, a *args) value {
			names := []string{""}
			if safe {
				names[0] = "suffix"
			}
			return strings.TrimSuffix(s, ev.textArg("suffix", ev.bind(name, a, names, 1)[0]))
		}
	case "join":
		return func(ev *evaluator, s string, safe bool, name string, a *args) value {
			i := 0
			return ev.joinItems(s, ev.iterate(ev.bind(name, a, []string{""}, 1)[0]), func(v value) string {
				if safe {
					return string(ev.escape(v))
				}
				t, ok := text(v)
				if !ok {
					ev.fail("TypeError", "sequence item %d: expected str instance, %s found", i, typeName(v))
				}
				i++
				return t
			})
		}
	case "expandtabs":
		return func(ev *evaluator, s string, _ bool, name string, a *args) value {
			size := ev.wholeArg("tabsize", or(ev.bind(name, a, []string{"tabsize"}, 0)[0], int64(8)))
			ev.work(len(s) / 4)
			w := &writer{ev: ev}
			column := int64(0)
			for _, r := range s {
				switch {
				case r == '\t':
					if size > 0 {
						n := size - column%size
						w.add(ev.repeat(" ", n))
						column += n
					}
					continue
				case r == '\n' || r == '\r':
					column = -1
				}
				column++
				w.add(string(r))
			}
			return w.String()
		}
	case "maketrans":
		return func(ev *evaluator, _ string, _ bool, name string, a *args) value {
			p := ev.bind(name, a, []string{"", "", ""}, 1)
			d := ev.newDict()
			if p[1] == missing {
				from, ok := p[0].(*dict)
				if !ok {
					ev.fail("TypeError", "if you give only one argument to maketrans it must be a dict")
				}
				for _, e := range from.entries {
					k := e.key
					if s, ok := text(k); ok {
						if ev.count(s) != 1 {
							ev.fail("ValueError", "string keys in translate table must be of length 1")
						}
						r, _ := utf8.DecodeRuneInString(s)
						k = int64(r)
					}
					ev.put(d, k, e.val)
				}
				return d
			}
			from, to := []rune(ev.textArg(name, p[0])), []rune(ev.textArg(name, p[1]))
			if len(from) != len(to) {
				ev.fail("ValueError", "the first two maketrans arguments must have equal length")
			}
			for i, r := range from {
				ev.put(d, int64(r), int64(to[i]))
			}
			if p[2] != missing {
				for _, r := range ev.textArg(name, p[2]) {
					ev.put(d, int64(r), nil)
				}
			}
			return d
		}
	case "translate":
		return func(ev *evaluator, s string, _ bool, name string, a *args) value {
			table := ev.bind(name, a, []string{""}, 1)[0]
			ev.work(len(s) / 4)
			w := &writer{ev: ev}
			for _, r := range s {
				v := ev.item(table, int64(r))
				switch t := v.(type) {
				case nil:
				case *undefined:
					w.add(string(r))
				case int64:
					w.add(string(rune(t)))
				default:
					w.add(ev.textArg(name, v))
				}
			}
			return w.String()
		}
	}
	return nil
}

func stripMethod(left, right bool) textMethod {
	return func(ev *evaluator, s string, _ bool, name string, a *args) value {
		return strip(ev, s, ev.bind(name, a, []string{""}, 0)[0], left, right)
	}
}

// isDigit and isNumeric are str.isdigit and str.isnumeric, as near as Go's tables go.
func isDigit(r rune) bool {
	return unicode.Is(unicode.Nd, r) || strings.ContainsRune("²³¹", r) || r >= 0x2070 && r <= 0x2089 && unicode.Is(unicode.No, r) ||
		r >= 0x2460 && r <= 0x2468 || r >= 0x2474 && r <= 0x247c || r >= 0x2488 && r <= 0x2490
}

func isNumeric(r rune) bool { return unicode.IsNumber(r) }

// unaryText is a method without arguments.
func unaryText(f func(ev *evaluator, s string) value) textMethod {
	return func(ev *evaluator, s string, _ bool, name string, a *args) value {
		ev.bind(name, a, nil, 0)
		return f(ev, s)
	}
}

// isAll is a method that asks every character.
func isAll(ok func(r rune) bool) textMethod {
	return unaryText(func(ev *evaluator, s string) value {
		ev.work(len(s) / 16)
		return s != "" && strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0
	})
}

func strip(ev *evaluator, s string, chars value, left, right bool) string {
	ev.work(len(s) / 64)
	in := isSpace
	if chars != missing && chars != nil {
		set := ev.textArg("strip", chars)
		ev.work(len(s) / 8 * max(min(len(set), 64)/8, 1))
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

// replace is str.replace; a negative count means all.
func (ev *evaluator) replace(s, old, with string, count int64) string {
	ev.work((len(s) + len(old)) / 32)
	n := int64(strings.Count(s, old)) // of "", one more than there are characters
	if count >= 0 {
		n = min(n, count)
	}
	if n == 0 {
		return s
	}
	ev.alloc(int64(len(s)))
	ev.product(int64(len(with)), n)
	return strings.Replace(s, old, with, int(n))
}

// fields splits at whitespace, at most so many times.
func (ev *evaluator) fields(s string, most int64, right bool) []value {
	ev.work(len(s) / 16)
	var out []value
	if right {
		for s = trimRight(s); s != ""; s = trimRight(s) {
			i := strings.LastIndexFunc(s, isSpace)
			if most == 0 || i < 0 {
				out = ev.push(out, s)
				break
			}
			_, n := utf8.DecodeRuneInString(s[i:])
			out = ev.push(out, s[i+n:])
			s = s[:i]
			most--
		}
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
		return out
	}
	for s = trimLeft(s); s != ""; s = trimLeft(s) {
		i := strings.IndexFunc(s, isSpace)
		if most == 0 || i < 0 {
			out = ev.push(out, s)
			break
		}
		out = ev.push(out, s[:i])
		s = s[i:]
		most--
	}
	return out
}

func (ev *evaluator) splitAt(s, sep string, most int64, right bool) []value {
	ev.work((len(s) + len(sep)) / 32)
	if sep == "" {
		ev.fail("ValueError", "empty separator")
	}
	var out []value
	if right {
		for most != 0 {
			i := strings.LastIndex(s, sep)
			if i < 0 {
				break
			}
			out = ev.push(out, s[i+len(sep):])
			s = s[:i]
			most--
		}
		out = ev.push(out, s)
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
		out = ev.push(out, s[:i])
		s = s[i+len(sep):]
		most--
	}
	return ev.push(out, s)
}

func split(ev *evaluator, s string, _ bool, name string, a *args) value {
	p := ev.bind(name, a, []string{"sep", "maxsplit"}, 0)
	most := int64(-1)
	if p[1] != missing {
		most = ev.wholeArg("maxsplit", p[1])
	}
	if p[0] == missing || p[0] == nil {
		return ev.newList(ev.fields(s, most, name == "rsplit"))
	}
	return ev.newList(ev.splitAt(s, ev.textArg("sep", p[0]), most, name == "rsplit"))
}

// lines splits at every line end that Python knows.
func (ev *evaluator) lines(s string, keep bool) []value {
	ev.work(len(s) / 16)
	var out []value
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
		out = ev.push(out, s[start:end])
		start = i
	}
	if start < len(s) {
		out = ev.push(out, s[start:])
	}
	return out
}

func lineEnd(r rune) bool {
	return r >= '\n' && r <= '\r' || r >= 0x1c && r <= 0x1e || r == 0x85 || r == 0x2028 || r == 0x2029
}

// pad fills a text up to a width: at its left, its right or both.
func pad(left, right bool) textMethod {
	return func(ev *evaluator, s string, safe bool, name string, a *args) value {
		p := ev.bind(name, a, []string{"", ""}, 1)
		fill := " "
		if p[1] != missing {
			fill = ev.textArg("fillchar", p[1])
			if safe {
				fill = string(ev.escape(p[1]))
			}
			if utf8.RuneCountInString(fill) != 1 {
				ev.fail("TypeError", "The fill character must be exactly one character long")
			}
		}
		return ev.padded(s, ev.wholeArg("width", p[0]), fill, left, right)
	}
}

func (ev *evaluator) padded(s string, width int64, fill string, left, right bool) string {
	n := int64(ev.count(s))
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
	ev.alloc(int64(len(s)))
	return ev.repeat(fill, before) + s + ev.repeat(fill, rest-before)
}

// find is find, index, rfind, rindex and count over a part of a text.
func find(ev *evaluator, s string, _ bool, name string, a *args) value {
	p := ev.bind(name, a, []string{"", "", ""}, 1)
	sub := ev.textArg(name, p[0])
	n := ev.count(s)
	from, to := ev.bounds(p[1], p[2], n)
	ev.work((len(s) + len(sub)) / 32)
	if from > to || from > n || p[1] != missing && p[1] != nil && ev.wholeArg(name, p[1]) > int64(n) {
		if name == "count" {
			return int64(0)
		}
		from, to, sub = 0, 0, "\x00none"
	}
	start, end := byteIndex(s, from, n), byteIndex(s, to, n)
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
			ev.fail("ValueError", "substring not found")
		}
		return int64(-1)
	}
	return int64(from + ev.count(part[:i]))
}

func affix(ev *evaluator, s string, _ bool, name string, a *args) value {
	p := ev.bind(name, a, []string{"", "", ""}, 1)
	n := ev.count(s)
	from, to := ev.bounds(p[1], p[2], n)
	tooFar := p[1] != missing && p[1] != nil && ev.wholeArg(name, p[1]) > int64(n)
	part := ""
	if from <= to {
		part = s[byteIndex(s, from, n):byteIndex(s, to, n)]
	}
	has := func(v value) bool {
		sub := ev.textArg(name, v)
		ev.work(len(sub) / 64)
		if from > to || tooFar {
			return false
		}
		if name == "startswith" {
			return strings.HasPrefix(part, sub)
		}
		return strings.HasSuffix(part, sub)
	}
	if t, ok := p[0].(*tuple); ok {
		for _, v := range t.items {
			ev.work(1)
			if has(v) {
				return true
			}
		}
		return false
	}
	return has(p[0])
}

func partition(ev *evaluator, s string, _ bool, name string, a *args) value {
	p := ev.bind(name, a, []string{""}, 1)
	sep := ev.textArg("sep", p[0])
	if sep == "" {
		ev.fail("ValueError", "empty separator")
	}
	ev.work((len(s) + len(sep)) / 32)
	ev.alloc(sizeList + 3*sizeValue)
	if name == "rpartition" {
		if i := strings.LastIndex(s, sep); i >= 0 {
			return &tuple{items: []value{s[:i], sep, s[i+len(sep):]}}
		}
		return &tuple{items: []value{"", "", s}}
	}
	if before, after, ok := strings.Cut(s, sep); ok {
		return &tuple{items: []value{before, sep, after}}
	}
	return &tuple{items: []value{s, "", ""}}
}

// joinItems is sep.join(items).
func (ev *evaluator) joinItems(sep string, next func() (value, bool), item func(value) string) string {
	w := &writer{ev: ev}
	for i := 0; ; i++ {
		v, ok := next()
		if !ok {
			break
		}
		ev.work(1)
		if i > 0 {
			w.add(sep)
		}
		w.add(item(v))
	}
	return w.String()
}
