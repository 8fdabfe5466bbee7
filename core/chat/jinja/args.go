package jinja

import (
	"slices"
	"sort"
	"strings"
	"unicode"
)

// bind puts a call's arguments into the order of names; what is not given is missing. A name "" can be given by its
// place only. The first required ones have to be there.
func (ev *evaluator) bind(what string, a *args, names []string, required int) []value {
	out := make([]value, len(names))
	for i := range out {
		out[i] = missing
	}
	if len(a.pos) > len(names) {
		ev.fail("TypeError", "%s() takes at most %d arguments (%d given)", what, len(names), len(a.pos))
	}
	copy(out, a.pos)
	for _, k := range a.named {
		i := slices.Index(names, k.name)
		if i < 0 || k.name == "" {
			ev.fail("TypeError", "%s() got an unexpected keyword argument '%s'", what, k.name)
		}
		if out[i] != missing {
			ev.fail("TypeError", "%s() got multiple values for argument '%s'", what, k.name)
		}
		out[i] = k.val
	}
	for i := range required {
		if out[i] == missing {
			ev.fail("TypeError", "%s() misses an argument: %d are required", what, required)
		}
	}
	return out
}

func (ev *evaluator) noNames(what string, a *args) {
	if len(a.named) > 0 {
		ev.fail("TypeError", "%s() takes no keyword arguments", what)
	}
}

// textArg is an argument that has to be a text.
func (ev *evaluator) textArg(what string, v value) string {
	s, ok := text(v)
	if !ok {
		ev.fail("TypeError", "%s: want a text, not %s", what, typeName(v))
	}
	return s
}

// wholeArg is an argument that has to be a whole number; one too large for int64 is clipped.
func (ev *evaluator) wholeArg(what string, v value) int64 {
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	i, ok := index(v)
	if !ok {
		ev.fail("TypeError", "%s: want a whole number, not %s", what, typeName(v))
	}
	return i
}

func or(v, none value) value {
	if v == missing {
		return none
	}
	return v
}

// soft is jinja's soft_str: the text of a value, and whether it is safe.
func (ev *evaluator) soft(v value) (string, bool) {
	if m, ok := v.(markup); ok {
		return string(m), true
	}
	return ev.str(v), false
}

// marked is a text as it was: safe or not.
func marked(s string, safe bool) value {
	if safe {
		return markup(s)
	}
	return s
}

var escapes = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;") //nolint:gochecknoglobals // a table

// escape makes a text safe for HTML.
func (ev *evaluator) escape(v value) markup {
	if m, ok := v.(markup); ok {
		return m
	}
	s := ev.str(v)
	n := strings.Count(s, "&") + strings.Count(s, "<") + strings.Count(s, ">") + strings.Count(s, "'") + strings.Count(s, `"`)
	ev.alloc(int64(len(s) + 4*n))
	ev.work(len(s) / 16)
	return markup(escapes.Replace(s))
}

// markup is Markup(v): the text of v, taken as safe.
func (ev *evaluator) markup(v value) markup { return markup(ev.str(v)) }

// sort orders n things stably and hands their order over.
func (ev *evaluator) sort(n int, less func(i, j int) bool, done func(order []int)) {
	ev.alloc(int64(n) * 16)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return less(order[i], order[j]) })
	done(order)
}

// asciiDigits turns the digits of other scripts into 0 to 9.
func asciiDigits(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if d := decimal(r); d >= 0 {
			return '0' + rune(d)
		}
		return r
	}, s)
}

// decimal is the value of a decimal digit of any script, -1 for others. Ranges of digits begin with a zero.
func decimal(r rune) int {
	if !unicode.Is(unicode.Nd, r) {
		return -1
	}
	for _, t := range unicode.Nd.R16 {
		if r >= rune(t.Lo) && r <= rune(t.Hi) {
			return int(r-rune(t.Lo)) % 10
		}
	}
	for _, t := range unicode.Nd.R32 {
		if r >= rune(t.Lo) && r <= rune(t.Hi) {
			return int(r-rune(t.Lo)) % 10
		}
	}
	return -1
}
