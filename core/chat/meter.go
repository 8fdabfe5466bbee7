package chat

import (
	"context"
	"errors"
	"fmt"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/ardanlabs/jinja"
)

// Names under which a rendering counts its steps. Variables of a caller cannot take them.
const (
	tickName  = "__edged_tick"
	enterName = "__edged_enter"
	leaveName = "__edged_leave"

	toJSONName = "__edged_tojson"
)

// heapMetric is what the heap holds now.
const heapMetric = "/memory/classes/heap/objects:bytes"

// meter counts what one rendering does, and stops it.
type meter struct {
	ctx     context.Context //nolint:containedctx // lives for one rendering and is called back by the template engine
	steps   int
	depth   int
	heap    uint64 // at the start
	sample  []metrics.Sample
	stopped error
	raised  *RaisedError
}

func newMeter(ctx context.Context) *meter {
	m := &meter{ctx: ctx, sample: []metrics.Sample{{Name: heapMetric}}}
	metrics.Read(m.sample)
	m.heap = m.sample[0].Value.Uint64()
	return m
}

// bind puts the meter and what the engine's own builtins do differently from Python into the variables.
func (m *meter) bind(vars map[string]jinja.Value, now time.Time) {
	type fn = func([]jinja.Value, map[string]jinja.Value) (jinja.Value, error)
	for name, f := range map[string]fn{
		tickName: func([]jinja.Value, map[string]jinja.Value) (jinja.Value, error) {
			return jinja.NewBool(false), m.tick()
		},
		enterName: func([]jinja.Value, map[string]jinja.Value) (jinja.Value, error) {
			return jinja.NewBool(false), m.enter()
		},
		leaveName: func([]jinja.Value, map[string]jinja.Value) (jinja.Value, error) {
			m.depth--
			return jinja.NewBool(false), nil
		},
		"range":           m.rangeOf,
		"raise_exception": m.raise,
		"strftime_now": func(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
			if len(args) != 1 || !args[0].IsString() {
				return jinja.Undefined(), errors.New("strftime_now: want one format")
			}
			if now.IsZero() {
				now = time.Now()
			}
			return jinja.NewString(strftime(args[0].AsString(), now)), nil
		},
		toJSONName: toJSON,
	} {
		vars[name] = jinja.NewCallable(name, f)
	}
}

func (m *meter) stop(format string, args ...any) error {
	m.stopped = fmt.Errorf("%w: "+format, append([]any{ErrRunaway}, args...)...)
	return m.stopped
}

// tick counts one loop turn, assignment or macro call.
func (m *meter) tick() error {
	m.steps++
	if m.steps > maxSteps {
		return m.stop("more than %d steps", maxSteps)
	}
	if m.steps%64 != 0 {
		return nil
	}
	if err := m.ctx.Err(); err != nil {
		m.stopped = err
		return err
	}
	metrics.Read(m.sample)
	if held := m.sample[0].Value.Uint64(); held > m.heap+maxHeap {
		return m.stop("more than %d MB of memory", maxHeap>>20)
	}
	return nil
}

func (m *meter) enter() error {
	m.depth++
	if m.depth > maxDepth {
		return m.stop("macros call each other more than %d deep", maxDepth)
	}
	return m.tick()
}

func (m *meter) raise(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	message := "no reason given"
	if len(args) > 0 {
		message = plain(args[0])
	}
	m.raised = &RaisedError{Message: valid(message)}
	return jinja.Undefined(), m.raised
}

func (m *meter) rangeOf(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	bounds := []int64{0, 0, 1}
	for i, a := range args {
		if !a.IsInt() || i > 2 {
			return jinja.Undefined(), errors.New("range: want one to three whole numbers")
		}
	}
	switch len(args) {
	case 1:
		bounds[1] = args[0].AsInt()
	case 2, 3:
		for i, a := range args {
			bounds[i] = a.AsInt()
		}
	default:
		return jinja.Undefined(), errors.New("range: want one to three whole numbers")
	}
	from, to, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		return jinja.Undefined(), errors.New("range: a step of 0")
	}
	items := []jinja.Value{}
	for i := from; (step > 0 && i < to) || (step < 0 && i > to); i += step {
		if len(items) == maxRange {
			return jinja.Undefined(), m.stop("a range of more than %d elements", maxRange)
		}
		items = append(items, jinja.NewInt(i))
	}
	return jinja.NewList(items), nil
}

// strftime formats as Python's datetime.strftime in the C locale does; unknown directives stay as they are.
func strftime(format string, t time.Time) string {
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan", 'd': "02", 'e': "_2", 'm': "01", 'y': "06", 'Y': "2006",
		'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'Z': "MST", 'z': "-0700", 'D': "01/02/06", 'F': "2006-01-02",
		'T': "15:04:05", 'R': "15:04", 'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05",
	}
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		unpadded := format[i] == '-' && i+1 < len(format) // glibc's %-d
		if unpadded {
			i++
		}
		var part string
		switch c := format[i]; c {
		case '%':
			part = "%"
		case 'f':
			part = fmt.Sprintf("%06d", t.Nanosecond()/1000)
		case 'j':
			part = fmt.Sprintf("%03d", t.YearDay())
		case 'u':
			part = strconv.Itoa((int(t.Weekday())+6)%7 + 1)
		case 'w':
			part = strconv.Itoa(int(t.Weekday()))
		case 's':
			part = strconv.FormatInt(t.Unix(), 10)
		case 'n':
			part = "\n"
		case 't':
			part = "\t"
		default:
			layout, known := layouts[c]
			if !known {
				part = "%" + string(c)
				break
			}
			part = t.Format(layout)
		}
		if unpadded {
			if trimmed := strings.TrimLeft(part, "0 "); trimmed != "" {
				part = trimmed
			}
		}
		out.WriteString(part)
	}
	return out.String()
}
