package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"edged/core/protocol"
	"edged/core/serve/inbox"
)

// Causes of a cancelled job's context.
var (
	errCancelled = errors.New("dispatch: cancelled by its client")
	errDeadline  = errors.New("dispatch: deadline exceeded")
	errShutdown  = errors.New("dispatch: shutting down")
)

func fail(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// asError turns what a plugin or the journal said into what a client sees. Messages of plugins are sentences already.
func asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, protocol.ErrAdapterNotFound):
		return fail(CodeAdapterNotFound, "%v", err)
	case errors.Is(err, protocol.ErrContextLength):
		return fail(CodeContextLength, "%v", err)
	case errors.Is(err, protocol.ErrInvalid):
		return fail(CodeInvalidRequest, "%s", withoutSentinel(err, protocol.ErrInvalid))
	case errors.Is(err, protocol.ErrUnsupported):
		return fail(CodeUnsupported, "%s", withoutSentinel(err, protocol.ErrUnsupported))
	case errors.Is(err, protocol.ErrQueueFull), errors.Is(err, inbox.ErrFull):
		return fail(CodeQueueFull, "%v", err)
	case errors.Is(err, protocol.ErrPluginDied), errors.Is(err, protocol.ErrNotLoaded),
		errors.Is(err, protocol.ErrNoMemory), errors.Is(err, protocol.ErrModel):
		return fail(CodeBackendUnavailable, "%v", err)
	default:
		return fail(CodeInternal, "%v", err)
	}
}

// withoutSentinel is the text of an error without that of the sentinel that it begins with, since the error's
// code says the same.
func withoutSentinel(err, sentinel error) string {
	text := strings.TrimPrefix(err.Error(), "dispatch: ")
	if rest, ok := strings.CutPrefix(text, sentinel.Error()+": "); ok {
		return rest
	}
	return err.Error()
}

// skew is how much earlier than the job's own clock a plugin's may say that the deadline is over: the call
// carries what is left of it, and the plugin's timer may be the first to fire.
const skew = time.Second

// ended tells why a job's context ended; nil while it has not. err is the error of a call under it.
func ended(ctx context.Context, err error) error {
	if at, ok := ctx.Deadline(); ok && errors.Is(err, context.DeadlineExceeded) && time.Until(at) < skew {
		<-ctx.Done()
	}
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}
