package jinja

import (
	"edged/core/chat/jinja/value"
	"edged/core/chat/jinja/variables"
)

// Marks say where a text came from what a rendering was given.
type Marks struct {
	Of    variables.Value // a list of dicts
	Turns []int           // bytes of the text that stood when a loop of the template came to one of them or had done with it, ascending
	Times []string        // what strftime_now gave
}

// maxTimes is how many times of day are told.
const maxTimes = 16

// watch begins to fill in marks.
func (ev *evaluator) watch(m *Marks) {
	if ev.marks = m; m == nil {
		return
	}
	m.Turns, m.Times, ev.watched = nil, nil, map[*value.Dict]bool{}
	items, _ := m.Of.Items()
	for _, item := range items {
		if d, ok := item.Seen().(*value.Dict); ok {
			ev.watched[d] = true
		}
	}
}

// turn notes that a loop has come to an item, or has done with it.
func (ev *evaluator) turn(item value.Value) {
	if ev.marks == nil || ev.out != ev.top {
		return
	}
	at := len(ev.out.b)
	if d, ok := item.(*value.Dict); ok && ev.watched[d] && (len(ev.marks.Turns) == 0 || ev.marks.Turns[len(ev.marks.Turns)-1] < at) {
		ev.marks.Turns = append(ev.marks.Turns, at)
	}
}

// timed makes strftime_now note what it gives.
func (ev *evaluator) timed(name string, f *value.Function) *value.Function {
	if ev.marks == nil || name != "strftime_now" {
		return f
	}
	noted := *f
	noted.Call = func(e *value.Evaluation, a *value.Args) value.Value {
		v := f.Call(e, a)
		if shown, ok := v.(string); ok && len(ev.marks.Times) < maxTimes {
			ev.marks.Times = append(ev.marks.Times, shown)
		}
		return v
	}
	return &noted
}
