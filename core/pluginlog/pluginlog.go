// Package pluginlog is the log of a plugin process: JSON lines on standard error that the daemon forwards as structured
// records, and the adapter through which go-plugin's own messages join a slog.Logger, on either side.
//
// It must not know what a plugin does. Loggers may be used concurrently.
package pluginlog

import (
	"io"
	"log/slog"
	"os"
	"strings"
)

// EnvLevel is the variable that holds the least level of the lines that the daemon will keep: "debug",
// "info", "warn" or "error". Without it: "info".
const EnvLevel = "EDGED_PLUGIN_LOG_LEVEL"

// The keys of a line that are not attributes; the rest of the object is.
const (
	KeyLevel     = "@level"     // "trace", "debug", "info", "warn", "error"
	KeyMessage   = "@message"   // one constant sentence
	KeyTimestamp = "@timestamp" // TimeLayout
)

// TimeLayout is how time stamps are written, for package time.
const TimeLayout = "2006-01-02T15:04:05.000000Z07:00"

// New returns the logger of a plugin's main: JSON lines on standard error, from the level that the daemon
// asked for. Call it before protocol.ServePlugin, which points os.Stderr elsewhere.
func New() *slog.Logger { return NewAt(os.Stderr, ParseLevel(os.Getenv(EnvLevel))) }

// NewAt returns a logger that writes such lines to w from level on.
func NewAt(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: rename}))
}

// ParseLevel reads a level's name, in either case; what it does not know is slog.LevelInfo.
func ParseLevel(name string) slog.Level {
	switch strings.ToLower(name) {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// LevelName is the name of a level as lines carry it.
func LevelName(level slog.Level) string {
	switch {
	case level < slog.LevelDebug:
		return "trace"
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warn"
	}
	return "error"
}

// rename turns slog's own three attributes into go-plugin's. An attribute of the caller that bears one of
// their names has another type of value or stands in a group, and stays.
func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		if a.Value.Kind() == slog.KindTime {
			return slog.String(KeyTimestamp, a.Value.Time().Format(TimeLayout))
		}
	case slog.LevelKey:
		if level, ok := a.Value.Any().(slog.Level); ok {
			return slog.String(KeyLevel, LevelName(level))
		}
	case slog.MessageKey:
		return slog.Attr{Key: KeyMessage, Value: a.Value}
	}
	return a
}
