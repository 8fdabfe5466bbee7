package service

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// overheard is a handler that keeps what plugins warn of: what is odd about a model's or an adapter's files.
// It may be used concurrently.
type overheard struct {
	mu   *sync.Mutex
	said *[]finding
	with []slog.Attr
}

func overhear() *overheard { return &overheard{mu: new(sync.Mutex), said: new([]finding)} }

// Enabled takes warnings and errors.
func (o *overheard) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// WithAttrs remembers what every record of a plugin has.
func (o *overheard) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &overheard{o.mu, o.said, append(slices.Clip(o.with), attrs...)}
}

// WithGroup does nothing: plugins' records have no groups.
func (o *overheard) WithGroup(string) slog.Handler { return o }

// Handle keeps a record as a finding: its note, where it has one, and otherwise its message with what it says of it.
func (o *overheard) Handle(_ context.Context, r slog.Record) error {
	f := finding{OK: true, Note: true, What: "model"}
	note, adapter, more := "", "", ""
	each := func(a slog.Attr) bool {
		switch a.Key {
		case "note":
			note = a.Value.String()
		case "adapter":
			adapter = a.Value.String()
		case "plugin", "path", "time", "timestamp":
		default:
			more += ", " + a.Key + " " + a.Value.String()
		}
		return true
	}
	for _, a := range o.with {
		each(a)
	}
	r.Attrs(each)
	if f.Detail = note; note == "" {
		f.Detail = r.Message
		if more != "" {
			f.Detail += ": " + strings.TrimPrefix(more, ", ")
		}
	}
	if adapter != "" {
		f.What, f.Detail = "adapter", adapter+": "+f.Detail
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	*o.said = append(*o.said, f)
	return nil
}

// findings returns the findings collected so far, without duplicates.
func (o *overheard) findings() []finding {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []finding
	seen := map[finding]bool{}
	for _, f := range *o.said {
		if !seen[f] {
			seen[f] = true
			out = append(out, f)
		}
	}
	return out
}
