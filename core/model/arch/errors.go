package arch

import (
	"errors"
)

// Errors that callers can act on.
var (
	// ErrUnsupported means that the files are sound, but of a kind that edged does not serve.
	ErrUnsupported = errors.New("not supported")
	// ErrInvalid means that the files are damaged or contradict each other.
	ErrInvalid = errors.New("invalid file")
	// ErrMismatch means that files are sound and belong to another model.
	ErrMismatch = errors.New("does not fit the model")
)
