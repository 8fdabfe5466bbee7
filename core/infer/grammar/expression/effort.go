package expression

import (
	"context"
	"fmt"
)

// MaxEffort is how many steps reading one grammar may take. A step is what stands between two calls of spend:
// some tens of nanoseconds and bytes, so that all of them are about 100 ms and 40 MB on a desktop.
const MaxEffort = 2 << 20

// Effort is the remaining budget for reading a grammar. Work whose size an untrusted byte decides is charged to it.
type Effort struct {
	left int
	most int
	done <-chan struct{} // of the context
	why  func() error
	seen int // what was left when done was looked at last
}

func newEffort(ctx context.Context, steps int) *Effort {
	return &Effort{left: steps, most: steps, done: ctx.Done(), why: func() error { return context.Cause(ctx) }, seen: steps}
}

// Spend takes some steps. The errors are ErrEffort and the context's.
func (e *Effort) Spend(steps int) error {
	const often = 1 << 12 // steps between two looks at the context
	e.left -= steps
	if e.left < 0 {
		e.left = -1
		return fmt.Errorf("%w: to read it takes more than %d steps", ErrEffort, e.most)
	}
	if e.seen-e.left >= often {
		e.seen = e.left
		select {
		case <-e.done:
			return e.why()
		default:
		}
	}
	return nil
}
