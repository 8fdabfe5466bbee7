package protocol

import (
	"context"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxSentence bounds an error's message on the wire, in bytes: it travels in a header.
const maxSentence = 4 << 10

// code gives the gRPC code of each sentinel; the table of tokenizer.proto.
func code(err error) (codes.Code, bool) {
	for _, p := range pairs() {
		if errors.Is(err, p.err) {
			return p.code, true
		}
	}
	return codes.Unknown, false
}

type pair struct {
	err  error
	code codes.Code
}

// pairs is one to one, so that a plugin in any language says which sentinel it means with the code alone.
func pairs() []pair {
	return []pair{
		{ErrInvalid, codes.InvalidArgument},
		{ErrAdapterNotFound, codes.NotFound},
		{ErrContextLength, codes.OutOfRange},
		{ErrQueueFull, codes.ResourceExhausted},
		{ErrNotLoaded, codes.FailedPrecondition},
		{ErrUnsupported, codes.Unimplemented},
		{ErrModel, codes.DataLoss},
		{ErrNoMemory, codes.Aborted},
	}
}

// ToStatus gives the error that a server method returns for err: a gRPC status with err's sentence. It returns nil for
// nil, and leaves an error alone that is a status already.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return err
	}
	c := codes.Unknown
	switch known, ok := code(err); {
	case ok:
		c = known
	case errors.Is(err, context.Canceled):
		c = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		c = codes.DeadlineExceeded
	}
	return status.Error(c, sentence(err.Error()))
}

// sentence makes a message fit to travel: valid UTF-8, bounded.
func sentence(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxSentence {
		return s
	}
	cut := maxSentence
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// remoteError is a plugin's sentence that errors.Is knows.
type remoteError struct {
	sentence string
	kind     error
}

func (e *remoteError) Error() string { return e.sentence }
func (e *remoteError) Unwrap() error { return e.kind }

// FromStatus gives the error that a client method returns for err, which a gRPC call under ctx gave. It tells
// three things apart: the caller cancelled (ctx's own error), the plugin died (ErrPluginDied), the call
// failed (the plugin's sentence, with its sentinel inside). It returns nil for nil.
func FromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// A plugin that dies while the caller cancels is a cancelled call: nobody waits for the answer.
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// The stream ended before its last message, with status OK.
		return errors.New("protocol: the plugin ended its answer early")
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	message := s.Message()
	switch s.Code() {
	case codes.Unavailable:
		return &remoteError{ErrPluginDied.Error() + ": " + message, ErrPluginDied}
	case codes.Canceled:
		// The caller did not cancel. gRPC says so when the connection was closed under the call, which is how a killed
		// plugin looks from here; a plugin that gives up a call of its own accord says so in a sentence of its own.
		if strings.HasPrefix(message, "grpc: ") || strings.Contains(message, "connection is closing") {
			return &remoteError{ErrPluginDied.Error() + ": the connection was closed", ErrPluginDied}
		}
		return &remoteError{message, context.Canceled}
	case codes.DeadlineExceeded:
		return &remoteError{message, context.DeadlineExceeded}
	case codes.ResourceExhausted:
		// gRPC's own refusal of a large message has the same code as a full queue; trying again would not help.
		if strings.HasPrefix(message, "grpc: ") {
			return &remoteError{"protocol: message too large: " + message, ErrInvalid}
		}
	}
	for _, p := range pairs() {
		if p.code == s.Code() {
			return &remoteError{message, p.err}
		}
	}
	return errors.New(message)
}
