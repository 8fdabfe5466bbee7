package builtin

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"edged/core/chat/jinja/operator"
	"edged/core/chat/jinja/value"
)

func filterCenter(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("center", a, []string{"width"}, 0)
	s, safe := ev.SoftStr(v)
	return value.Marked(operator.Pad(ev, s, ev.IntArg("width", value.OrDefault(p[0], int64(80))), " ", true, true), safe)
}

func filterEscape(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("escape", a, nil, 0)
	return ev.Escape(v)
}

func filterForceEscape(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("forceescape", a, nil, 0)
	return ev.Escape(ev.Str(v))
}

func filterSafe(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("safe", a, nil, 0)
	return ev.MarkSafe(v)
}

func filterString(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("string", a, nil, 0)
	s, safe := ev.SoftStr(v)
	return value.Marked(s, safe)
}

func filterFormat(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	s, safe := ev.SoftStr(v)
	if len(a.Pos) > 0 && len(a.Named) > 0 {
		ev.Fail("FilterArgumentError", "can't handle positional and keyword arguments at the same time")
	}
	var with value.Value = &value.Tuple{Items: a.Pos}
	if len(a.Named) > 0 {
		d := ev.NewDict()
		for _, k := range a.Named {
			ev.Put(d, k.Name, k.Value)
		}
		with = d
	}
	if safe {
		return value.Markup(operator.Percent(ev, s, with, ev.Escape))
	}
	return operator.Percent(ev, s, with, nil)
}

func filterIndent(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("indent", a, []string{"width", "first", "blank"}, 0)
	if u, ok := v.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	s, ok := value.Text(v)
	if !ok {
		ev.Fail("TypeError", "indent: want a text, not %s", value.TypeName(v))
	}
	_, safe := v.(value.Markup)
	by, isText := value.Text(value.OrDefault(p[0], int64(4)))
	if !isText {
		by = ev.Repeat(" ", ev.IntArg("width", value.OrDefault(p[0], int64(4))))
	} else if safe {
		by = string(ev.Escape(p[0]))
	}
	if safe && isText {
		by, _ = value.Text(p[0])
	}
	ev.Alloc(int64(len(s)) + 1)
	lines := operator.SplitLines(ev, s+"\n", false)
	blank := p[2] != value.Missing && value.Truth(p[2])
	w := ev.NewWriter()
	if p[1] != value.Missing && value.Truth(p[1]) {
		w.Add(by)
	}
	for i, line := range lines {
		l := line.(string)
		if i > 0 {
			w.Add("\n")
			if blank || l != "" {
				w.Add(by)
			}
		}
		w.Add(l)
	}
	return value.Marked(w.String(), safe)
}

func filterReplace(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("replace", a, []string{"old", "new", "count"}, 2)
	count := int64(-1)
	if n := value.OrDefault(p[2], nil); n != nil {
		count = ev.IntArg("count", n)
	}
	if !ev.Autoescape() {
		return operator.Replace(ev, ev.Str(v), ev.Str(p[0]), ev.Str(p[1]), count)
	}
	_, safeOld := p[0].(value.Markup)
	_, safeNew := p[1].(value.Markup)
	s, safe := ev.SoftStr(v)
	if safeOld || safeNew && !safe {
		s, safe = string(ev.Escape(v)), true
	}
	old, _ := ev.SoftStr(p[0])
	with, _ := ev.SoftStr(p[1])
	if safe {
		with = string(ev.Escape(p[1]))
	}
	return value.Marked(operator.Replace(ev, s, old, with, count), safe)
}

func filterStripTags(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("striptags", a, nil, 0)
	return operator.StripTags(ev, ev.Str(v))
}

func filterTitle(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("title", a, nil, 0)
	s, _ := ev.SoftStr(v)
	ev.Work(len(s) / 4)
	w := ev.NewWriter()
	first := true
	start := 0
	flush := func(end int) {
		part := s[start:end]
		if part != "" {
			n := value.RuneLength(part)
			w.Add(operator.Upper(ev, part[:n]))
			w.Add(operator.Lower(ev, part[n:]))
		}
		start = end
	}
	separator := func(r rune) bool { return strings.ContainsRune("-({[<", r) || value.IsSpace(r) }
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

func filterTrim(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("trim", a, []string{"chars"}, 0)
	s, safe := ev.SoftStr(v)
	return value.Marked(operator.Strip(ev, s, p[0], true, true), safe)
}

func filterTruncate(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("truncate", a, []string{"length", "killwords", "end", "leeway"}, 0)
	length := ev.IntArg("length", value.OrDefault(p[0], int64(255)))
	end := value.OrDefault(p[2], "...")
	leeway := ev.IntArg("leeway", value.OrDefault(value.OrDefault(p[3], int64(5)), nil2(p[3])))
	n := int64(ev.Length(end))
	switch {
	case n < 0 || length < n:
		ev.Fail("AssertionError", "expected length >= %d, got %d", n, length)
	case leeway < 0:
		ev.Fail("AssertionError", "expected leeway >= 0, got %d", leeway)
	}
	size := ev.Length(v)
	if size < 0 {
		ev.Fail("TypeError", "object of type '%s' has no len()", value.TypeName(v))
	}
	if int64(size) <= length || int64(size) <= length+leeway {
		return v
	}
	s, ok := value.Text(v)
	if !ok {
		ev.Fail("TypeError", "truncate: want a text, not %s", value.TypeName(v))
	}
	_, safe := v.(value.Markup)
	s = s[:value.ByteIndex(s, int(length-n), size)]
	if p[1] == value.Missing || !value.Truth(p[1]) {
		if i := strings.LastIndexByte(s, ' '); i >= 0 {
			s = s[:i]
		}
	}
	return operator.Binary(ev, "+", value.Marked(s, safe), end)
}

// urlQuote writes what may stand in a URL as it is and the rest as %XX.
func urlQuote(ev *value.Evaluation, v value.Value, query bool) string {
	s := ev.Str(v)
	w := ev.NewWriter()
	ev.Work(len(s) / 4)
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-~", c) >= 0 || c == '/' && !query:
			w.Add(s[i : i+1])
		case c == ' ' && query:
			w.Add("+")
		default:
			w.Add("%" + strings.ToUpper(operator.Hex(rune(c), 2)))
		}
	}
	return w.String()
}

func filterURLEncode(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("urlencode", a, nil, 0)
	_, isText := value.Text(v)
	if isText || ev.Iter(v) == nil {
		return urlQuote(ev, v, false)
	}
	next := ev.Iterate(v)
	if d, ok := v.(*value.Dict); ok {
		next = ev.Iterate(&value.View{Dict: d, Part: "items"})
	}
	return operator.Join(ev, "&", next, func(v value.Value) string {
		kv := ev.Unpack(v, 2)
		return urlQuote(ev, kv[0], true) + "=" + urlQuote(ev, kv[1], true)
	})
}

func filterWordCount(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("wordcount", a, nil, 0)
	s, _ := ev.SoftStr(v)
	ev.Work(len(s) / 4)
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

func filterXMLAttr(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("xmlattr", a, []string{"autospace"}, 0)
	if u, ok := v.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	d, ok := v.(*value.Dict)
	if !ok {
		ev.Fail("AttributeError", "'%s' object has no attribute 'items'", value.TypeName(v))
	}
	w := ev.NewWriter()
	for _, e := range d.Entries {
		if _, ok := e.Value.(*value.Undefined); ok || e.Value == nil {
			continue
		}
		key := ev.TextArg("attribute", e.Key)
		if attrKey.MatchString(key) {
			ev.Fail("ValueError", "Invalid character in attribute name: %s", ev.Repr(key))
		}
		if w.Len() > 0 || p[0] == value.Missing || value.Truth(p[0]) {
			w.Add(" ")
		}
		w.Add(string(ev.Escape(e.Key)) + `="` + string(ev.Escape(e.Value)) + `"`)
	}
	return value.Marked(w.String(), ev.Autoescape())
}
