package value

import (
	"slices"
	"sort"
	"strings"
)

// Bind puts a call's arguments into the order of names; what is not given is missing. A name "" can be given by its
// place only. The first required ones have to be there.
func (ev *Evaluation) Bind(what string, a *Args, names []string, required int) []Value {
	out := make([]Value, len(names))
	for i := range out {
		out[i] = Missing
	}
	if len(a.Pos) > len(names) {
		ev.Fail("TypeError", "%s() takes at most %d arguments (%d given)", what, len(names), len(a.Pos))
	}
	copy(out, a.Pos)
	for _, k := range a.Named {
		i := slices.Index(names, k.Name)
		if i < 0 || k.Name == "" {
			ev.Fail("TypeError", "%s() got an unexpected keyword argument '%s'", what, k.Name)
		}
		if out[i] != Missing {
			ev.Fail("TypeError", "%s() got multiple values for argument '%s'", what, k.Name)
		}
		out[i] = k.Value
	}
	for i := range required {
		if out[i] == Missing {
			ev.Fail("TypeError", "%s() misses an argument: %d are required", what, required)
		}
	}
	return out
}

// NoNames ends the rendering where a call has named arguments.
func (ev *Evaluation) NoNames(what string, a *Args) {
	if len(a.Named) > 0 {
		ev.Fail("TypeError", "%s() takes no keyword arguments", what)
	}
}

// TextArg is an argument that has to be a text.
func (ev *Evaluation) TextArg(what string, v Value) string {
	s, ok := Text(v)
	if !ok {
		ev.Fail("TypeError", "%s: want a text, not %s", what, TypeName(v))
	}
	return s
}

// IntArg is an argument that has to be a whole number; one too large for int64 is clipped.
func (ev *Evaluation) IntArg(what string, v Value) int64 {
	if u, ok := v.(*Undefined); ok {
		ev.UseUndefined(u)
	}
	i, ok := Index(v)
	if !ok {
		ev.Fail("TypeError", "%s: want a whole number, not %s", what, TypeName(v))
	}
	return i
}

// OrDefault is an argument, or what stands for one that is missing.
func OrDefault(v, none Value) Value {
	if v == Missing {
		return none
	}
	return v
}

// SoftStr is jinja's soft_str: the text of a value, and whether it is safe.
func (ev *Evaluation) SoftStr(v Value) (string, bool) {
	if m, ok := v.(Markup); ok {
		return string(m), true
	}
	return ev.Str(v), false
}

// Marked is a text as it was: safe or not.
func Marked(s string, safe bool) Value {
	if safe {
		return Markup(s)
	}
	return s
}

var escapes = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;") //nolint:gochecknoglobals // a table

// Escape makes a text safe for HTML.
func (ev *Evaluation) Escape(v Value) Markup {
	if m, ok := v.(Markup); ok {
		return m
	}
	s := ev.Str(v)
	n := strings.Count(s, "&") + strings.Count(s, "<") + strings.Count(s, ">") + strings.Count(s, "'") + strings.Count(s, `"`)
	ev.Alloc(int64(len(s) + 4*n))
	ev.Work(len(s) / 16)
	return Markup(escapes.Replace(s))
}

// MarkSafe is Markup(v): the text of v, taken as safe.
func (ev *Evaluation) MarkSafe(v Value) Markup { return Markup(ev.Str(v)) }

// Sort orders n things stably and hands their order over.
func (ev *Evaluation) Sort(n int, less func(i, j int) bool, done func(order []int)) {
	ev.Alloc(int64(n) * 16)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return less(order[i], order[j]) })
	done(order)
}
