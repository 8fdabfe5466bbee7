package value

import (
	"context"
	"fmt"
	"unicode/utf8"
)

// Evaluation tracks the remaining budget of one rendering and its place in the template. Everything that
// computes with values takes it first, and counts its work and its bytes before it does them. It belongs to
// one goroutine.
type Evaluation struct {
	ctx        context.Context //nolint:containedctx // lives for one rendering
	line       int
	autoescape bool

	fuel     int64 // steps until the next look at the context
	steps    int64 // steps left behind that
	bytes    int64 // left
	maxSteps int64
	maxBytes int64
	depth    int
}

// lookEvery is how many steps pass between two looks at the context.
const lookEvery = 1024

// maxDepth is how deep expressions, values and generators may stand inside each other.
const maxDepth = 4000

// NewEvaluation starts an evaluation of so many steps and bytes. It ends with the context.
func NewEvaluation(ctx context.Context, steps, bytes int64) Evaluation {
	return Evaluation{ctx: ctx, steps: steps, bytes: bytes, maxSteps: steps, maxBytes: bytes}
}

// SetLine says which line of the template is evaluated: errors name it.
func (ev *Evaluation) SetLine(line int) { ev.line = line }

// Line is the line that is evaluated.
func (ev *Evaluation) Line() int { return ev.line }

// Autoescape says whether what is printed is made safe for HTML.
func (ev *Evaluation) Autoescape() bool { return ev.autoescape }

// SetAutoescape sets whether what is printed is made safe for HTML.
func (ev *Evaluation) SetAutoescape(on bool) { ev.autoescape = on }

// Fail ends the rendering as an exception of Python would.
func (ev *Evaluation) Fail(kind, format string, args ...any) {
	panic(&Error{kind, Shorten(fmt.Sprintf(format, args...)), ev.line})
}

// Shorten keeps a sentence to a length that can be shown.
func Shorten(s string) string {
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

// Stop ends the rendering because of a limit.
func (ev *Evaluation) Stop(format string, args ...any) {
	panic(stopped{fmt.Errorf("%w: line %d: "+format, append([]any{ErrRunaway, ev.line}, args...)...)})
}

// Check looks at the context and takes the next steps out of what is left.
func (ev *Evaluation) Check() {
	if err := ev.ctx.Err(); err != nil {
		panic(stopped{err})
	}
	if ev.steps+ev.fuel <= 0 {
		ev.Stop("more than %d steps", ev.maxSteps)
	}
	ev.steps += ev.fuel
	ev.fuel = min(lookEvery, ev.steps)
	ev.steps -= ev.fuel
}

// Work counts n steps more than one.
func (ev *Evaluation) Work(n int) {
	ev.fuel -= int64(n)
	if ev.fuel <= 0 {
		ev.Check()
	}
}

// Alloc counts bytes before they are made.
func (ev *Evaluation) Alloc(n int64) {
	if n > ev.bytes || n < 0 {
		ev.Stop("more than %d MiB of values", ev.maxBytes>>20)
	}
	ev.bytes -= n
}

// Enter counts a level of depth and a step; Leave leaves it. What fails on the way ends the rendering, so
// nothing is undone.
func (ev *Evaluation) Enter() {
	ev.fuel--
	if ev.fuel <= 0 {
		ev.Check()
	}
	ev.depth++
	if ev.depth > maxDepth {
		ev.Stop("nested deeper than %d levels", maxDepth)
	}
}

// Leave undoes the depth that Enter counted.
func (ev *Evaluation) Leave() { ev.depth-- }
