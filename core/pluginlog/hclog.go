package pluginlog

import (
	"context"
	"fmt"
	"io"
	"log" //nolint:depguard // hclog.Logger returns one
	"log/slog"
	"slices"
	"strings"

	hclog "github.com/hashicorp/go-hclog"
)

// HCLog returns a logger for go-plugin that writes to l, no line above limit: what go-plugin calls an error, such as a
// plugin's exit, is for its caller to judge.
func HCLog(l *slog.Logger, limit slog.Level) hclog.Logger {
	return &adapter{log: l, limit: limit}
}

// adapter is an hclog.Logger over a slog.Logger. Names become the attribute "logger"; levels cannot be set through it.
type adapter struct {
	log     *slog.Logger
	limit   slog.Level
	name    string
	implied []any
}

var _ hclog.Logger = (*adapter)(nil)

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace:
		return slog.LevelDebug - 4
	case hclog.Debug, hclog.NoLevel:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	case hclog.Off:
		return slog.LevelError + 4
	}
	return slog.LevelInfo
}

func (a *adapter) Log(level hclog.Level, msg string, args ...any) {
	// hclog has no context: background is what there is.
	a.log.Log(context.TODO(), min(slogLevel(level), a.limit), msg, plain(args)...) //nolint:forbidigo,sloglint // the message is go-plugin's
}

func (a *adapter) Trace(msg string, args ...any) { a.Log(hclog.Trace, msg, args...) }
func (a *adapter) Debug(msg string, args ...any) { a.Log(hclog.Debug, msg, args...) }
func (a *adapter) Info(msg string, args ...any)  { a.Log(hclog.Info, msg, args...) }
func (a *adapter) Warn(msg string, args ...any)  { a.Log(hclog.Warn, msg, args...) }
func (a *adapter) Error(msg string, args ...any) { a.Log(hclog.Error, msg, args...) }

// plain turns hclog's lazy values into ones that slog prints.
func plain(args []any) []any {
	out := slices.Clone(args)
	for i, v := range out {
		switch v := v.(type) {
		case hclog.Format:
			if len(v) > 0 {
				out[i] = fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
			}
		case error:
			out[i] = v.Error()
		}
	}
	return out
}

func (a *adapter) enabled(level hclog.Level) bool {
	return a.log.Enabled(context.TODO(), min(slogLevel(level), a.limit)) //nolint:forbidigo // hclog has no context
}

func (a *adapter) IsTrace() bool { return a.enabled(hclog.Trace) }
func (a *adapter) IsDebug() bool { return a.enabled(hclog.Debug) }
func (a *adapter) IsInfo() bool  { return a.enabled(hclog.Info) }
func (a *adapter) IsWarn() bool  { return a.enabled(hclog.Warn) }
func (a *adapter) IsError() bool { return a.enabled(hclog.Error) }

func (a *adapter) ImpliedArgs() []any { return a.implied }

func (a *adapter) With(args ...any) hclog.Logger {
	c := *a
	c.log = a.log.With(plain(args)...)
	c.implied = append(slices.Clone(a.implied), args...)
	return &c
}

func (a *adapter) Name() string { return a.name }

func (a *adapter) Named(name string) hclog.Logger {
	if a.name != "" {
		name = a.name + "." + name
	}
	return a.ResetNamed(name)
}

// ResetNamed keeps the name for Name alone: go-plugin names its loggers after paths, which the caller's logger knows.
func (a *adapter) ResetNamed(name string) hclog.Logger {
	c := *a
	c.name = name
	return &c
}

func (a *adapter) SetLevel(hclog.Level) {}

func (a *adapter) GetLevel() hclog.Level {
	for _, l := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn, hclog.Error} {
		if a.enabled(l) {
			return l
		}
	}
	return hclog.Off
}

func (a *adapter) StandardLogger(o *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(a.StandardWriter(o), "", 0)
}

func (a *adapter) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{a} }

// lineWriter logs each Write as one message.
type lineWriter struct{ a *adapter }

func (w lineWriter) Write(p []byte) (int, error) {
	w.a.Info(strings.TrimRight(string(p), " \t\n"))
	return len(p), nil
}
