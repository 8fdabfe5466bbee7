package value

import (
	"errors"
	"fmt"
)

// ErrRunaway is wrapped by the error of a rendering that exceeded its limits.
var ErrRunaway = errors.New("the template does not end within its bounds")

// Error is an error of a template: the name of Python's exception, and its message.
type Error struct {
	Kind    string // TypeError, UndefinedError, TemplateSyntaxError, …
	Message string
	Line    int // 0: unknown
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Message)
	}
	return e.Message
}

// RaisedError is the template's own refusal, through raise_exception.
type RaisedError struct{ Message string }

func (e *RaisedError) Error() string { return e.Message }

// stopped carries an error that ends a rendering from outside: a limit or the context.
type stopped struct{ err error }

// Ended is the error of what a rendering panicked with: an *Error with its line, a *RaisedError, or what ended it from
// outside. It is nil for nil, and panics again with what is none of these.
func (ev *Evaluation) Ended(with any) error {
	switch r := with.(type) {
	case nil:
		return nil
	case *Error:
		if r.Line == 0 {
			r.Line = ev.line
		}
		return r
	case *RaisedError:
		return r
	case stopped:
		return r.err
	}
	panic(with)
}
