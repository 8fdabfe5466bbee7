package jinja

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"
)

// evaluator is one rendering.
type evaluator struct {
	ctx        context.Context //nolint:containedctx // lives for one rendering
	vars       *dict
	globals    map[string]value
	exported   map[string]value // what the template set at its top, for blocks
	now        func() time.Time
	out        *buffer
	line       int
	autoescape bool

	fuel      int64 // steps until the next look at the context
	steps     int64 // steps left behind that
	bytes     int64 // left
	maxSteps  int64
	maxBytes  int64
	maxOutput int
	depth     int
	macros    int
}

// buffer collects text: the template's, or that of a block that is captured.
type buffer struct{ b []byte }

// frame holds the variables of one call of a function.
type frame struct {
	slots  []value
	parent *frame
}

// lookEvery is how many steps pass between two looks at the context.
const lookEvery = 1024

func newEvaluator(ctx context.Context, in Input) *evaluator {
	ev := &evaluator{
		ctx: ctx, now: in.Now, out: &buffer{}, vars: &dict{},
		maxSteps: in.Limits.Steps, maxBytes: in.Limits.Bytes, maxOutput: in.Limits.Output,
	}
	if in.Variables != nil {
		ev.vars = &in.Variables.d
	}
	if ev.maxSteps == 0 {
		ev.maxSteps = 1_000_000
	}
	if ev.maxBytes == 0 {
		ev.maxBytes = 24 << 20
	}
	if ev.maxOutput == 0 {
		ev.maxOutput = 16 << 20
	}
	ev.steps, ev.bytes = ev.maxSteps, ev.maxBytes
	return ev
}

// fail ends the rendering as an exception of Python would.
func (ev *evaluator) fail(kind, format string, args ...any) {
	panic(&Error{kind, shorten(fmt.Sprintf(format, args...)), ev.line})
}

// shorten keeps a sentence to a length that can be shown.
func shorten(s string) string {
	const most = 2000
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// stop ends the rendering because of a limit.
func (ev *evaluator) stop(format string, args ...any) {
	panic(stopped{fmt.Errorf("%w: line %d: "+format, append([]any{ErrRunaway, ev.line}, args...)...)})
}

// check looks at the context and takes the next steps out of what is left.
func (ev *evaluator) check() {
	if err := ev.ctx.Err(); err != nil {
		panic(stopped{err})
	}
	if ev.steps+ev.fuel <= 0 {
		ev.stop("more than %d steps", ev.maxSteps)
	}
	ev.steps += ev.fuel
	ev.fuel = min(lookEvery, ev.steps)
	ev.steps -= ev.fuel
}

// work counts n steps more than one.
func (ev *evaluator) work(n int) {
	ev.fuel -= int64(n)
	if ev.fuel <= 0 {
		ev.check()
	}
}

// alloc counts bytes before they are made.
func (ev *evaluator) alloc(n int64) {
	if n > ev.bytes || n < 0 {
		ev.stop("more than %d MiB of values", ev.maxBytes>>20)
	}
	ev.bytes -= n
}

// down counts a level of depth and a step; up leaves it. What fails on the way ends the rendering, so nothing is undone.
func (ev *evaluator) down() {
	ev.fuel--
	if ev.fuel <= 0 {
		ev.check()
	}
	ev.depth++
	if ev.depth > maxDepth {
		ev.stop("nested deeper than %d levels", maxDepth)
	}
}

func (ev *evaluator) up() { ev.depth-- }

// write appends to what is collected now.
func (ev *evaluator) write(s string) {
	ev.room1(len(s))
	ev.out.b = append(ev.out.b, s...)
}

// room1 counts n more bytes of output.
func (ev *evaluator) room1(n int) {
	if need := len(ev.out.b) + n; need > cap(ev.out.b) {
		if need > ev.maxOutput {
			ev.stop("more than %d bytes of text", ev.maxOutput)
		}
		size := max(need, min(2*cap(ev.out.b), ev.maxOutput), 64)
		ev.alloc(int64(size))
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
	ev.alloc(int64(len(ev.out.b)))
	s := string(ev.out.b)
	ev.out = outer
	return s, how
}

func (ev *evaluator) frame(fn *function, parent *frame) *frame {
	ev.alloc(int64(fn.slots)*sizeValue + 64)
	f := &frame{slots: make([]value, fn.slots), parent: parent}
	for i := range f.slots {
		f.slots[i] = missing
	}
	return f
}

func (f *frame) at(r ref) *value {
	for range r.hops {
		f = f.parent
	}
	return &f.slots[r.slot]
}

// lookup finds a name outside the template's own variables.
func (ev *evaluator) lookup(name string) value {
	if v, ok := ev.exported[name]; ok {
		return v
	}
	if v, ok := ev.vars.text(name); ok {
		return v
	}
	if v, ok := ev.global(name); ok {
		return v
	}
	return missing
}

func (ev *evaluator) enterScope(s *scope, f *frame) {
	for i := range s.enter {
		e := &s.enter[i]
		ev.work(1)
		switch e.load.kind {
		case loadResolve:
			f.slots[e.slot] = ev.lookup(e.load.name)
		case loadAlias:
			f.slots[e.slot] = *f.at(e.of)
		case loadMissing:
			f.slots[e.slot] = missing
		}
	}
}

// run executes statements until one jumps.
func (ev *evaluator) run(body []stmt, f *frame) flow {
	for _, s := range body {
		ev.down()
		how := s.exec(ev, f)
		ev.up()
		if how != goOn {
			return how
		}
	}
	return goOn
}
