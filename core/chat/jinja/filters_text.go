package jinja

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

func filterCenter(ev *evaluator, v value, a *args) value {
	p := ev.bind("center", a, []string{"width"}, 0)
	s, safe := ev.soft(v)
	return marked(ev.padded(s, ev.wholeArg("width", or(p[0], int64(80))), " ", true, true), safe)
}

func filterEscape(ev *evaluator, v value, a *args) value {
	ev.bind("escape", a, nil, 0)
	return ev.escape(v)
}

func filterForceEscape(ev *evaluator, v value, a *args) value {
	ev.bind("forceescape", a, nil, 0)
	return ev.escape(ev.str(v))
}

func filterSafe(ev *evaluator, v value, a *args) value {
	ev.bind("safe", a, nil, 0)
	return ev.markup(v)
}

func filterString(ev *evaluator, v value, a *args) value {
	ev.bind("string", a, nil, 0)
	s, safe := ev.soft(v)
	return marked(s, safe)
}

func filterFormat(ev *evaluator, v value, a *args) value {
	s, safe := ev.soft(v)
	if len(a.pos) > 0 && len(a.named) > 0 {
		ev.fail("FilterArgumentError", "can't handle positional and keyword arguments at the same time")
	}
	var with value = &tuple{items: a.pos}
	if len(a.named) > 0 {
		d := ev.newDict()
		for _, k := range a.named {
			ev.put(d, k.name, k.val)
		}
		with = d
	}
	if safe {
		return markup(ev.percent(s, with, ev.escape))
	}
	return ev.percent(s, with, nil)
}

func filterIndent(ev *evaluator, v value, a *args) value {
	p := ev.bind("indent", a, []string{"width", "first", "blank"}, 0)
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	s, ok := text(v)
	if !ok {
		ev.fail("TypeError", "indent: want a text, not %s", typeName(v))
	}
	_, safe := v.(markup)
	by, isText := text(or(p[0], int64(4)))
	if !isText {
		by = ev.repeat(" ", ev.wholeArg("width", or(p[0], int64(4))))
	} else if safe {
		by = string(ev.escape(p[0]))
	}
	if safe && isText {
		by, _ = text(p[0])
	}
	ev.alloc(int64(len(s)) + 1)
	lines := ev.lines(s+"\n", false)
	blank := p[2] != missing && ev.truth(p[2])
	w := &writer{ev: ev}
	if p[1] != missing && ev.truth(p[1]) {
		w.add(by)
	}
	for i, line := range lines {
		l := line.(string)
		if i > 0 {
			w.add("\n")
			if blank || l != "" {
				w.add(by)
			}
		}
		w.add(l)
	}
	return marked(w.String(), safe)
}

func filterReplace(ev *evaluator, v value, a *args) value {
	p := ev.bind("replace", a, []string{"old", "new", "count"}, 2)
	count := int64(-1)
	if n := or(p[2], nil); n != nil {
		count = ev.wholeArg("count", n)
	}
	if !ev.autoescape {
		return ev.replace(ev.str(v), ev.str(p[0]), ev.str(p[1]), count)
	}
	_, safeOld := p[0].(markup)
	_, safeNew := p[1].(markup)
	s, safe := ev.soft(v)
	if safeOld || safeNew && !safe {
		s, safe = string(ev.escape(v)), true
	}
	old, _ := ev.soft(p[0])
	with, _ := ev.soft(p[1])
	if safe {
		with = string(ev.escape(p[1]))
	}
	return marked(ev.replace(s, old, with, count), safe)
}

func filterStripTags(ev *evaluator, v value, a *args) value {
	ev.bind("striptags", a, nil, 0)
	return ev.striptags(ev.str(v))
}

func filterTitle(ev *evaluator, v value, a *args) value {
	ev.bind("title", a, nil, 0)
	s, _ := ev.soft(v)
	ev.work(len(s) / 4)
	w := &writer{ev: ev}
	first := true
	start := 0
	flush := func(end int) {
		part := s[start:end]
		if part != "" {
			n := runeLength(part)
			w.add(upper(ev, part[:n]))
			w.add(lower(ev, part[n:]))
		}
		start = end
	}
	separator := func(r rune) bool { return strings.ContainsRune("-({[<", r) || isSpace(r) }
	for i, r := range s {
		if sep := separator(r); first || sep != separator(previous(s, i)) {
			flush(i)
			first = false
		}
	}
	flush(len(s))
	return w.String()
}

func previous(s string, i int) rune {
	r, _ := utf8.DecodeLastRuneInString(s[:i])
	return r
}

func filterTrim(ev *evaluator, v value, a *args) value {
	p := ev.bind("trim", a, []string{"chars"}, 0)
	s, safe := ev.soft(v)
	return marked(strip(ev, s, p[0], true, true), safe)
}

func filterTruncate(ev *evaluator, v value, a *args) value {
	p := ev.bind("truncate", a, []string{"length", "killwords", "end", "leeway"}, 0)
	length := ev.wholeArg("length", or(p[0], int64(255)))
	end := or(p[2], "...")
	leeway := ev.wholeArg("leeway", or(or(p[3], int64(5)), nil2(p[3])))
	n := int64(ev.length(end))
	switch {
	case n < 0 || length < n:
		ev.fail("AssertionError", "expected length >= %d, got %d", n, length)
	case leeway < 0:
		ev.fail("AssertionError", "expected leeway >= 0, got %d", leeway)
	}
	size := ev.length(v)
	if size < 0 {
		ev.fail("TypeError", "object of type '%s' has no len()", typeName(v))
	}
	if int64(size) <= length || int64(size) <= length+leeway {
		return v
	}
	s, ok := text(v)
	if !ok {
		ev.fail("TypeError", "truncate: want a text, not %s", typeName(v))
	}
	_, safe := v.(markup)
	s = s[:byteIndex(s, int(length-n), size)]
	if p[1] == missing || !ev.truth(p[1]) {
		if i := strings.LastIndexByte(s, ' '); i >= 0 {
			s = s[:i]
		}
	}
	return ev.binary("+", marked(s, safe), end)
}

// urlQuote writes what may stand in a URL as it is and the rest as %XX.
func (ev *evaluator) urlQuote(v value, query bool) string {
	s := ev.str(v)
	w := &writer{ev: ev}
	ev.work(len(s) / 4)
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-~", c) >= 0 || c == '/' && !query:
			w.add(s[i : i+1])
		case c == ' ' && query:
			w.add("+")
		default:
			w.add("%" + strings.ToUpper(hex(rune(c), 2)))
		}
	}
	return w.String()
}

func filterURLEncode(ev *evaluator, v value, a *args) value {
	ev.bind("urlencode", a, nil, 0)
	_, isText := text(v)
	if isText || ev.iter(v) == nil {
		return ev.urlQuote(v, false)
	}
	next := ev.iterate(v)
	if d, ok := v.(*dict); ok {
		next = ev.iterate(&view{d, "items"})
	}
	return ev.joinItems("&", next, func(v value) string {
		kv := ev.unpack(v, 2)
		return ev.urlQuote(kv[0], true) + "=" + ev.urlQuote(kv[1], true)
	})
}

func filterWordCount(ev *evaluator, v value, a *args) value {
	ev.bind("wordcount", a, nil, 0)
	s, _ := ev.soft(v)
	ev.work(len(s) / 4)
	n := int64(0)
	inside := false
	for _, r := range s {
		word := r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r)
		if word && !inside {
			n++
		}
		inside = word
	}
	return n
}

var attrKey = regexp.MustCompile(`[ \t\n\r\f\v/>=]`)

func filterXMLAttr(ev *evaluator, v value, a *args) value {
	p := ev.bind("xmlattr", a, []string{"autospace"}, 0)
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	d, ok := v.(*dict)
	if !ok {
		ev.fail("AttributeError", "'%s' object has no attribute 'items'", typeName(v))
	}
	w := &writer{ev: ev}
	for _, e := range d.entries {
		if _, ok := e.val.(*undefined); ok || e.val == nil {
			continue
		}
		key := ev.textArg("attribute", e.key)
		if attrKey.MatchString(key) {
			ev.fail("ValueError", "Invalid character in attribute name: %s", ev.repr(key))
		}
		if len(w.b) > 0 || p[0] == missing || ev.truth(p[0]) {
			w.add(" ")
		}
		w.add(string(ev.escape(e.key)) + `="` + string(ev.escape(e.val)) + `"`)
	}
	return marked(w.String(), ev.autoescape)
}
