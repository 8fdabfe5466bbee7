package jinja

import (
	"slices"
	"strings"
	"unicode"
)

// filterWordWrap breaks lines as Python's textwrap does.
func filterWordWrap(ev *evaluator, v value, a *args) value {
	p := ev.bind("wordwrap", a, []string{"width", "break_long_words", "wrapstring", "break_on_hyphens"}, 0)
	s, ok := text(v)
	if !ok {
		if u, isUndefined := v.(*undefined); isUndefined {
			ev.used(u)
		}
		ev.fail("AttributeError", "'%s' object has no attribute 'splitlines'", typeName(v))
	}
	between := "\n"
	if b := or(p[2], nil); b != nil {
		between = ev.textArg("wrapstring", b)
	}
	w := &wrapper{
		ev: ev, breakLong: p[1] == missing || ev.truth(p[1]), hyphens: p[3] == missing || ev.truth(p[3]),
	}
	lines := ev.lines(s, false)
	if len(lines) > 0 {
		f, isFloat := or(p[0], int64(79)).(float64)
		switch {
		case isFloat && f <= 0:
			w.width = 0
		default:
			w.width = ev.wholeArg("width", or(p[0], int64(79)))
		}
		if w.width <= 0 {
			ev.fail("ValueError", "invalid width %d (must be > 0)", w.width)
		}
	}
	out := &writer{ev: ev}
	for i, line := range lines {
		if i > 0 {
			out.add(between)
		}
		for j, part := range w.wrap(line.(string)) {
			if j > 0 {
				out.add(between)
			}
			out.add(part)
		}
	}
	return out.String()
}

type wrapper struct {
	ev        *evaluator
	width     int64
	breakLong bool
	hyphens   bool
}

// wrap breaks one line into several.
func (w *wrapper) wrap(s string) []string {
	ev := w.ev
	ev.work(len(s))
	ev.alloc(40 * int64(len(s)))
	chunks := w.chunks([]rune(s))
	slices.Reverse(chunks) // the next one is the last
	blank := func(c []rune) bool { return !slices.ContainsFunc(c, func(r rune) bool { return !isSpace(r) }) }
	var lines []string
	for len(chunks) > 0 {
		ev.work(1)
		var line [][]rune
		size := int64(0)
		top := func() []rune { return chunks[len(chunks)-1] }
		pop := func() []rune {
			c := top()
			chunks = chunks[:len(chunks)-1]
			return c
		}
		if len(lines) > 0 && blank(top()) {
			pop()
		}
		for len(chunks) > 0 && size+int64(len(top())) <= w.width {
			size += int64(len(top()))
			line = append(line, pop())
		}
		if len(chunks) > 0 && int64(len(top())) > w.width {
			if end := w.width - size; w.breakLong {
				c := top()
				if w.hyphens {
					if h := lastHyphen(c[:end]); h > 0 {
						end = int64(h) + 1
					}
				}
				line = append(line, c[:end])
				chunks[len(chunks)-1] = c[end:]
			} else if len(line) == 0 {
				line = append(line, pop())
			}
		}
		if len(line) > 0 && blank(line[len(line)-1]) {
			line = line[:len(line)-1]
		}
		if len(line) > 0 {
			lines = append(lines, string(slices.Concat(line...)))
		}
	}
	return lines
}

// lastHyphen is the last hyphen that has something else before it.
func lastHyphen(c []rune) int {
	for i := len(c) - 1; i > 0; i-- {
		if c[i] == '-' {
			if slices.ContainsFunc(c[:i], func(r rune) bool { return r != '-' }) {
				return i
			}
			return -1
		}
	}
	return -1
}

// chunks cuts a text where it may be broken: around whitespace, behind hyphens, around dashes.
func (w *wrapper) chunks(s []rune) [][]rune {
	space := func(i int) bool { return i < len(s) && strings.ContainsRune("\t\n\v\f\r ", s[i]) }
	word := func(i int) bool {
		return i >= 0 && i < len(s) && (s[i] == '_' || unicode.IsLetter(s[i]) || unicode.IsNumber(s[i]))
	}
	letter := func(i int) bool { return word(i) && !unicode.Is(unicode.Nd, s[i]) }
	punct := func(i int) bool { return word(i) || i >= 0 && strings.ContainsRune(`!"'&.,?`, s[i]) }
	dash := func(i int) int { // where two or more hyphens before a word end, or 0
		if !punct(i - 1) {
			return 0
		}
		end := i
		for end < len(s) && s[end] == '-' {
			end++
		}
		if end-i >= 2 && word(end) {
			return end
		}
		return 0
	}
	var out [][]rune
	for i := 0; i < len(s); {
		end := i + 1
		switch {
		case space(i):
			for space(end) {
				end++
			}
		case !w.hyphens:
			for end < len(s) && !space(end) {
				end++
			}
		case dash(i) > 0:
			end = dash(i)
		default:
			for ; end < len(s) && !space(end) && dash(end) == 0; end++ {
				if s[end] != '-' || !letter(end-1) || !(letter(end-2) || end >= 3 && s[end-2] == '-' && letter(end-3)) {
					continue
				}
				if letter(end+1) && (letter(end+2) || end+2 < len(s) && s[end+2] == '-' && letter(end+3)) {
					end++
					break
				}
			}
		}
		out = append(out, s[i:end])
		i = end
	}
	return out
}

// filterPprint writes a value as Python's pprint.pformat does: within 80 columns, keys in order.
func filterPprint(ev *evaluator, v value, a *args) value {
	ev.bind("pprint", a, nil, 0)
	w := &writer{ev: ev}
	w.pretty(v, 0, 0, 1)
	return w.String()
}

// sortedDicts is a value whose dicts are in the order of their keys.
func (ev *evaluator) sortedDicts(v value) value {
	ev.down()
	defer ev.up()
	inner := func(items []value) []value {
		out := ev.room(len(items))
		for _, item := range items {
			out = append(out, ev.sortedDicts(item))
		}
		return out
	}
	switch t := v.(type) {
	case *list:
		return ev.newList(inner(t.items))
	case *tuple:
		ev.alloc(sizeList)
		return &tuple{items: inner(t.items)}
	case *dict:
		out := ev.newDict()
		ev.sort(len(t.entries), func(i, j int) bool { return ev.keyBefore(t.entries[i].key, t.entries[j].key) }, func(order []int) {
			for _, i := range order {
				ev.put(out, t.entries[i].key, ev.sortedDicts(t.entries[i].val))
			}
		})
		return out
	}
	return v
}

// keyBefore orders keys, and those that have no order by their types.
func (ev *evaluator) keyBefore(a, b value) bool {
	_, textA := text(a)
	_, textB := text(b)
	if isNumber(a) && isNumber(b) || textA && textB {
		return ev.compare(a, b, "<") < 0
	}
	return typeName(a) < typeName(b)
}

// pretty writes a value from a column on; so many columns stay free behind its last line.
func (w *writer) pretty(v value, indent, allowance, level int) {
	ev := w.ev
	ev.down()
	defer ev.up()
	one := ev.repr(ev.sortedDicts(v))
	if ev.count(one) <= 80-indent-allowance {
		w.add(one)
		return
	}
	lines := func(n int, end string, item func(i, indent, allowance int)) {
		for i := range n {
			if i > 0 {
				w.add(",\n")
				w.fill(" ", indent+1)
			}
			free := 1
			if i == n-1 {
				free = allowance + len(end)
			}
			item(i, indent+1, free)
		}
		w.add(end)
	}
	switch t := v.(type) {
	case *list:
		w.add("[")
		lines(len(t.items), "]", func(i, in, free int) { w.pretty(t.items[i], in, free, level+1) })
	case *tuple:
		w.add("(")
		end := ")"
		if len(t.items) == 1 {
			end = ",)"
		}
		lines(len(t.items), end, func(i, in, free int) { w.pretty(t.items[i], in, free, level+1) })
	case *dict:
		w.add("{")
		ev.sort(len(t.entries), func(i, j int) bool { return ev.keyBefore(t.entries[i].key, t.entries[j].key) }, func(order []int) {
			lines(len(order), "}", func(i, in, free int) {
				e := t.entries[order[i]]
				k := ev.repr(e.key)
				w.add(k)
				w.add(": ")
				w.pretty(e.val, in+ev.count(k)+2, free, level+1)
			})
		})
	case string:
		w.prettyText(t, one, indent, allowance, level)
	default:
		w.add(one)
	}
}

// prettyText writes a long text as several, broken behind whitespace.
func (w *writer) prettyText(s, one string, indent, allowance, level int) {
	ev := w.ev
	if level == 1 {
		indent++
		allowance++
	}
	most := 80 - indent
	var chunks []value
	lines := ev.lines(s, true)
	for i, l := range lines {
		line := l.(string)
		limit := most
		if i == len(lines)-1 {
			limit -= allowance
		}
		if r := ev.repr(line); ev.count(r) <= limit {
			chunks = ev.push(chunks, r)
			continue
		}
		current := ""
		for line != "" {
			n := strings.IndexFunc(line, isSpace)
			if n < 0 {
				n = len(line)
			}
			n = len(line) - len(trimLeft(line[n:]))
			part := line[:n]
			line = line[n:]
			limit = most
			if line == "" && i == len(lines)-1 {
				limit -= allowance
			}
			ev.alloc(int64(len(current) + len(part)))
			if candidate := current + part; ev.count(ev.repr(candidate)) <= limit {
				current = candidate
				continue
			}
			if current != "" {
				chunks = ev.push(chunks, ev.repr(current))
			}
			current = part
		}
		if current != "" {
			chunks = ev.push(chunks, ev.repr(current))
		}
	}
	if len(chunks) == 1 {
		w.add(one)
		return
	}
	if level == 1 {
		w.add("(")
	}
	for i, c := range chunks {
		if i > 0 {
			w.add("\n")
			w.fill(" ", indent)
		}
		w.add(c.(string))
	}
	if level == 1 {
		w.add(")")
	}
}
