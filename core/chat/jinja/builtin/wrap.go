package builtin

import (
	"slices"
	"strings"
	"unicode"

	"edged/core/chat/jinja/operator"
	"edged/core/chat/jinja/value"
)

// filterWordWrap breaks lines as Python's textwrap does.
func filterWordWrap(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("wordwrap", a, []string{"width", "break_long_words", "wrapstring", "break_on_hyphens"}, 0)
	s, ok := value.Text(v)
	if !ok {
		if u, isUndefined := v.(*value.Undefined); isUndefined {
			ev.UseUndefined(u)
		}
		ev.Fail("AttributeError", "'%s' object has no attribute 'splitlines'", value.TypeName(v))
	}
	between := "\n"
	if b := value.OrDefault(p[2], nil); b != nil {
		between = ev.TextArg("wrapstring", b)
	}
	w := &wrapper{
		ev: ev, breakLong: p[1] == value.Missing || value.Truth(p[1]), hyphens: p[3] == value.Missing || value.Truth(p[3]),
	}
	lines := operator.SplitLines(ev, s, false)
	if len(lines) > 0 {
		f, isFloat := value.OrDefault(p[0], int64(79)).(float64)
		switch {
		case isFloat && f <= 0:
			w.width = 0
		default:
			w.width = ev.IntArg("width", value.OrDefault(p[0], int64(79)))
		}
		if w.width <= 0 {
			ev.Fail("ValueError", "invalid width %d (must be > 0)", w.width)
		}
	}
	out := ev.NewWriter()
	for i, line := range lines {
		if i > 0 {
			out.Add(between)
		}
		for j, part := range w.wrap(line.(string)) {
			if j > 0 {
				out.Add(between)
			}
			out.Add(part)
		}
	}
	return out.String()
}

type wrapper struct {
	ev        *value.Evaluation
	width     int64
	breakLong bool
	hyphens   bool
}

// wrap breaks one line into several.
func (w *wrapper) wrap(s string) []string {
	ev := w.ev
	ev.Work(len(s))
	ev.Alloc(40 * int64(len(s)))
	chunks := w.chunks([]rune(s))
	slices.Reverse(chunks) // the next one is the last
	blank := func(c []rune) bool { return !slices.ContainsFunc(c, func(r rune) bool { return !value.IsSpace(r) }) }
	var lines []string
	for len(chunks) > 0 {
		ev.Work(1)
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
