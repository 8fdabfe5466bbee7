package jinja

import (
	"context"
	"time"

	"edged/core/chat/jinja/builtin"
	"edged/core/chat/jinja/syntax"
	"edged/core/chat/jinja/value"
)

// evaluator is one rendering.
type evaluator struct {
	value.Evaluation

	vars      *value.Dict
	globals   map[string]*value.Function
	exported  map[string]value.Value // what the template set at its top, for blocks
	now       func() time.Time
	out       *buffer
	top       *buffer // out, while nothing is captured
	marks     *Marks  // nil: nobody asks
	watched   map[*value.Dict]bool
	maxOutput int
	macros    int
}

// buffer collects text: the template's, or that of a block that is captured.
type buffer struct{ b []byte }

// frame holds the variables of one call of a function.
type frame struct {
	slots  []value.Value
	parent *frame
}

func newEvaluator(ctx context.Context, in Input) *evaluator {
	steps, bytes := in.Limits.Steps, in.Limits.Bytes
	if steps == 0 {
		steps = 1_000_000
	}
	if bytes == 0 {
		bytes = 24 << 20
	}
	ev := &evaluator{
		Evaluation: value.NewEvaluation(ctx, steps, bytes),
		now:        in.Now,
		out:        &buffer{},
		vars:       &value.Dict{},
		maxOutput:  in.Limits.Output,
	}
	if in.Variables != nil {
		ev.vars = in.Variables.Dict()
	}
	if ev.maxOutput == 0 {
		ev.maxOutput = 16 << 20
	}
	ev.top = ev.out
	ev.watch(in.Marks)
	return ev
}

// write appends to what is collected now.
func (ev *evaluator) write(s string) {
	ev.room1(len(s))
	ev.out.b = append(ev.out.b, s...)
}

// room1 counts n more bytes of output.
func (ev *evaluator) room1(n int) {
	if need := len(ev.out.b) + n; need > cap(ev.out.b) {
		if need > ev.maxOutput {
			ev.Stop("more than %d bytes of text", ev.maxOutput)
		}
		size := max(need, min(2*cap(ev.out.b), ev.maxOutput), 64)
		ev.Alloc(int64(size))
		b := make([]byte, len(ev.out.b), size)
		copy(b, ev.out.b)
		ev.out.b = b
	}
}

// capture collects what run writes.
func (ev *evaluator) capture(run func() flow) (string, flow) {
	outer := ev.out
	ev.out = &buffer{}
	how := run()
	ev.Alloc(int64(len(ev.out.b)))
	s := string(ev.out.b)
	ev.out = outer
	return s, how
}

func (ev *evaluator) frame(fn *syntax.Function, parent *frame) *frame {
	ev.Alloc(int64(fn.Slots)*value.SizeValue + 64)
	f := &frame{slots: make([]value.Value, fn.Slots), parent: parent}
	for i := range f.slots {
		f.slots[i] = value.Missing
	}
	return f
}

func (f *frame) at(r syntax.Ref) *value.Value {
	for range r.Hops {
		f = f.parent
	}
	return &f.slots[r.Slot]
}

// lookup finds a name outside the template's own variables.
func (ev *evaluator) lookup(name string) value.Value {
	if v, ok := ev.exported[name]; ok {
		return v
	}
	if v, ok := ev.vars.Text(name); ok {
		return v
	}
	if f := ev.global(name); f != nil {
		return f
	}
	return value.Missing
}

// global finds a function that every template has; it is the same value each time.
func (ev *evaluator) global(name string) *value.Function {
	if f, ok := ev.globals[name]; ok {
		return f
	}
	f := builtin.Global(name, ev.now)
	if f == nil {
		return nil
	}
	if ev.globals == nil {
		ev.globals = map[string]*value.Function{}
	}
	ev.globals[name] = ev.timed(name, f)
	return ev.globals[name]
}

func (ev *evaluator) enterScope(s *syntax.Scope, f *frame) {
	for i := range s.Enter {
		e := &s.Enter[i]
		ev.Work(1)
		switch e.Load.Kind {
		case syntax.LoadResolve:
			f.slots[e.Slot] = ev.lookup(e.Load.Name)
		case syntax.LoadAlias:
			f.slots[e.Slot] = *f.at(e.Of)
		case syntax.LoadMissing:
			f.slots[e.Slot] = value.Missing
		}
	}
}

// run executes statements until one jumps.
func (ev *evaluator) run(body []syntax.Stmt, f *frame) flow {
	for _, s := range body {
		ev.Enter()
		how := ev.exec(s, f)
		ev.Leave()
		if how != goOn {
			return how
		}
	}
	return goOn
}
