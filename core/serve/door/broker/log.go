package broker

import (
	"context"
	"log/slog"
)

// quietHandler passes mochi's records on without what must not be in a log: whole packets, which hold payloads. Its
// everyday news ("attached listener", "added hook") becomes debug.
type quietHandler struct{ next slog.Handler }

// Enabled asks for the level that Handle would write.
func (h *quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, lowered(level))
}

// Handle rewrites one record.
func (h *quietHandler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, lowered(r.Level), "embedded broker", r.PC)
	if r.Message != "" {
		out.AddAttrs(slog.String("event", r.Message))
	}
	r.Attrs(func(a slog.Attr) bool {
		if a, ok := cleaned(a); ok {
			out.AddAttrs(a)
		}
		return true
	})
	return h.next.Handle(ctx, out)
}

// WithAttrs keeps attributes that may be kept.
func (h *quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	kept := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		if a, ok := cleaned(a); ok {
			kept = append(kept, a)
		}
	}
	return &quietHandler{next: h.next.WithAttrs(kept)}
}

// WithGroup opens a group.
func (h *quietHandler) WithGroup(name string) slog.Handler {
	return &quietHandler{next: h.next.WithGroup(name)}
}

func lowered(level slog.Level) slog.Level {
	if level == slog.LevelInfo {
		return slog.LevelDebug
	}
	return level
}

// cleaned drops what holds a packet, and renames mochi's error key to the project's.
func cleaned(a slog.Attr) (slog.Attr, bool) {
	switch a.Key {
	case "client", "remote", "listener", "hook", "version", "id", "protocol", "address", "keepalive", "recommended", "len":
		return a, true
	case "error":
		a.Key = "err"
		return a, true
	}
	return slog.Attr{}, false
}
