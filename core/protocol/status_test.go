package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"edged/core/protocol"
)

func TestStatusRoundTrip(t *testing.T) {
	t.Parallel()
	seen := map[codes.Code]error{}
	for _, kind := range []error{
		protocol.ErrInvalid, protocol.ErrAdapterNotFound, protocol.ErrContextLength, protocol.ErrQueueFull, protocol.ErrNotLoaded,
		protocol.ErrUnsupported, protocol.ErrModel, protocol.ErrNoMemory, context.Canceled, context.DeadlineExceeded,
	} {
		sent := fmt.Errorf("engine: request r1: %w: because", kind)
		wire := protocol.ToStatus(sent)
		if other, ok := seen[status.Code(wire)]; ok {
			t.Errorf("%v and %v have the same code %v", kind, other, status.Code(wire))
		}
		seen[status.Code(wire)] = kind
		got := protocol.FromStatus(t.Context(), wire)
		if !errors.Is(got, kind) || got.Error() != sent.Error() {
			t.Errorf("%v came back as %v", sent, got)
		}
	}
	got := protocol.FromStatus(t.Context(), protocol.ToStatus(errors.New("engine: something else")))
	if got.Error() != "engine: something else" {
		t.Errorf("an unknown error came back as %v", got)
	}
	if protocol.ToStatus(nil) != nil || protocol.FromStatus(t.Context(), nil) != nil {
		t.Error("nil is not nil")
	}
}

func TestFromStatusTellsThreeThingsApart(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context //nolint:containedctx // a table of cases
		err  error
		want error
		not  error
	}{
		{"died", t.Context(), status.Error(codes.Unavailable, "error reading from server: EOF"), protocol.ErrPluginDied, context.Canceled},
		{"killed by us", t.Context(), status.Error(codes.Canceled, "grpc: the client connection is closing"), protocol.ErrPluginDied, context.Canceled},
		{"cancelled", cancelled, status.Error(codes.Canceled, "context canceled"), context.Canceled, protocol.ErrPluginDied},
		{"cancelled while it died", cancelled, status.Error(codes.Unavailable, "EOF"), context.Canceled, protocol.ErrPluginDied},
		{"the plugin gave up", t.Context(), status.Error(codes.Canceled, "engine: shutting down"), context.Canceled, protocol.ErrPluginDied},
		{"queue full", t.Context(), status.Error(codes.ResourceExhausted, "engine: queue full"), protocol.ErrQueueFull, protocol.ErrInvalid},
		{"message too large", t.Context(), status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"), protocol.ErrInvalid, protocol.ErrQueueFull},
		{"unknown method", t.Context(), status.Error(codes.Unimplemented, "unknown method Embed"), protocol.ErrUnsupported, nil},
	} {
		got := protocol.FromStatus(c.ctx, c.err)
		if !errors.Is(got, c.want) || (c.not != nil && errors.Is(got, c.not)) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if got := protocol.FromStatus(t.Context(), io.EOF); got == nil || errors.Is(got, io.EOF) {
		t.Errorf("a stream that ends early: %v", got)
	}
}

func TestSentencesAreFitToTravel(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"\xff\xfe broken", strings.Repeat("€", 5000), strings.Repeat("x", 1<<20)} {
		s, _ := status.FromError(protocol.ToStatus(errors.New(text)))
		if m := s.Message(); len(m) > 4200 || !utf8.ValidString(m) {
			t.Errorf("a message of %d bytes, valid %v", len(m), utf8.ValidString(m))
		}
	}
}
