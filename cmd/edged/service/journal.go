package service

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
)

// journal is the slog.Handler of a service under systemd: journald takes the level of a line from a number in
// front of it (sd-daemon(3)), so that `journalctl -p warning` and the colours work, and writes the time
// itself.
type journal struct {
	inner slog.Handler
	out   *journalWriter
}

// journalWriter puts the level before what the inner handler writes, which is one line.
type journalWriter struct {
	w io.Writer

	mu    sync.Mutex // held by Handle while inner writes
	level int
	line  bytes.Buffer
}

func newJournal(w io.Writer, inner func(io.Writer) slog.Handler) *journal {
	out := &journalWriter{w: w}
	return &journal{inner: inner(out), out: out}
}

func (j *journalWriter) Write(p []byte) (int, error) {
	j.line.Reset()
	fmt.Fprintf(&j.line, "<%d>", j.level)
	j.line.Write(p)
	if _, err := j.w.Write(j.line.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Enabled is slog.Handler's.
func (j *journal) Enabled(ctx context.Context, l slog.Level) bool { return j.inner.Enabled(ctx, l) }

// Handle is slog.Handler's.
func (j *journal) Handle(ctx context.Context, r slog.Record) error {
	j.out.mu.Lock()
	defer j.out.mu.Unlock()
	j.out.level = priority(r.Level)
	return j.inner.Handle(ctx, r)
}

// WithAttrs is slog.Handler's.
func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journal{j.inner.WithAttrs(attrs), j.out}
}

// WithGroup is slog.Handler's.
func (j *journal) WithGroup(name string) slog.Handler {
	return &journal{j.inner.WithGroup(name), j.out}
}

// priority is a level as syslog numbers it.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	default:
		return 7
	}
}

// toJournal reports whether w is the stream that systemd has connected to the journal: JOURNAL_STREAM names
// its device and inode, since the variable is inherited by programs whose streams are not.
func toJournal(w io.Writer, stream string) bool {
	f, ok := w.(*os.File)
	if !ok || stream == "" {
		return false
	}
	st, err := f.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", sys.Dev, sys.Ino)
}
