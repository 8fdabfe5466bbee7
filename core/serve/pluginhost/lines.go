package pluginhost

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"edged/core/pluginlog"
)

// Limits on what a plugin may write. A plugin that floods its log must not fill the disk through the daemon's.
const (
	maxLine   = 16 << 10 // bytes of a line that are kept
	burst     = 1000     // lines at once
	perSecond = 50       // lines in the long run
	keepWords = 3        // last lines that an error quotes
	maxWords  = 300      // bytes of each of them
	maxDepth  = 4        // nesting of a structured value; what is deeper is its JSON text
)

// forwarder turns a plugin's lines into log records. Its methods may be called concurrently.
type forwarder struct {
	ctx context.Context //nolint:containedctx // carries values for handlers; the readers end with their pipes
	log *slog.Logger

	mu       sync.Mutex
	words    []string
	tokens   float64
	filled   time.Time
	dropped  int
	reported time.Time
}

func (f *forwarder) init(ctx context.Context, log *slog.Logger) {
	f.ctx, f.log, f.tokens, f.filled = ctx, log, burst, time.Now()
}

// level is the least level that the logger keeps, for the plugin's environment.
func (f *forwarder) level() string {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if f.log.Enabled(f.ctx, l) {
			return pluginlog.LevelName(l)
		}
	}
	return pluginlog.LevelName(slog.LevelError)
}

// read gives every line of r to take, without its end, cut at maxLine bytes. It ends with r.
func (f *forwarder) read(r io.Reader, take func(line []byte, cut bool)) {
	b := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := b.ReadSlice('\n')
		cut := errors.Is(err, bufio.ErrBufferFull)
		if len(line) > 0 {
			take(bytes.TrimRight(line, "\r\n"), cut)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = b.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

// entry logs a line of standard error: a record where it is one, else the text.
func (f *forwarder) entry(line []byte, cut bool) {
	if !cut {
		if r, ok := parseEntry(line); ok {
			if f.log.Enabled(f.ctx, r.Level) && f.admit() {
				_ = f.log.Handler().Handle(f.ctx, r)
			}
			return
		}
	}
	f.stray("stderr")(line, cut)
}

// stray logs a line that is no record: a crash, a library's message, something that the plugin's author printed.
func (f *forwarder) stray(stream string) func(line []byte, cut bool) {
	return func(line []byte, cut bool) {
		text := strings.TrimSpace(strings.ToValidUTF8(string(line), "\uFFFD"))
		if text == "" || f.log == nil {
			return
		}
		f.remember(text)
		if f.admit() {
			f.log.WarnContext(f.ctx, "plugin wrote a line", "stream", stream, "line", text, "cut", cut)
		}
	}
}

// remember keeps the first line of a crash and the last lines before the end.
func (f *forwarder) remember(text string) {
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.words) > 0 && isCrash(f.words[0]) {
		// A stack follows: its first line says it all.
		return
	}
	if isCrash(text) {
		f.words = f.words[:0]
	}
	f.words = append(f.words, text)
	if len(f.words) > keepWords {
		f.words = f.words[1:]
	}
}

func isCrash(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}

// lastWords is the end of a sentence about a plugin that is no more.
func (f *forwarder) lastWords() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.words) == 0 {
		return ""
	}
	return "; it said: " + strings.Join(f.words, " | ")
}

// admit takes a token from the bucket.
func (f *forwarder) admit() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.tokens = min(burst, f.tokens+perSecond*now.Sub(f.filled).Seconds())
	f.filled = now
	if f.tokens < 1 {
		f.dropped++
		return false
	}
	f.tokens--
	if now.Sub(f.reported) > time.Second {
		f.report(now)
	}
	return true
}

// report logs how many lines were dropped since the last report. f.mu is held.
func (f *forwarder) report(now time.Time) {
	if f.dropped > 0 {
		f.log.WarnContext(f.ctx, "plugin logs too much, lines dropped", "lines", f.dropped)
		f.dropped, f.reported = 0, now
	}
}

// close reports what is left to report.
func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report(time.Now())
}

// parseEntry reads a log line as package pluginlog writes it. Attributes keep their order.
func parseEntry(line []byte) (slog.Record, bool) {
	if len(line) == 0 || line[0] != '{' || !json.Valid(line) {
		return slog.Record{}, false
	}
	attrs, ok := object(line, 0)
	if !ok {
		return slog.Record{}, false
	}
	r := slog.Record{Time: time.Now(), Level: slog.LevelInfo}
	found := false
	for _, a := range attrs {
		switch text := a.Value.String(); a.Key {
		case pluginlog.KeyMessage:
			r.Message, found = text, true
		case pluginlog.KeyLevel:
			r.Level = pluginlog.ParseLevel(text)
		case pluginlog.KeyTimestamp:
			if t, err := time.Parse(pluginlog.TimeLayout, text); err == nil {
				r.Time = t
			}
		default:
			r.AddAttrs(a)
		}
	}
	return r, found
}

// object reads the members of a valid JSON object.
func object(data []byte, depth int) ([]slog.Attr, bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	var attrs []slog.Attr
	for d.More() {
		key, err := d.Token()
		name, isText := key.(string)
		if err != nil || !isText {
			return nil, false
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, false
		}
		attrs = append(attrs, slog.Attr{Key: name, Value: value(raw, depth+1)})
	}
	return attrs, true
}

// value reads a valid JSON value; objects become groups.
func value(raw json.RawMessage, depth int) slog.Value {
	switch raw[0] {
	case '{':
		if depth < maxDepth {
			if attrs, ok := object(raw, depth); ok && len(attrs) > 0 {
				return slog.GroupValue(attrs...)
			}
		}
	case '"':
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return slog.StringValue(s)
		}
	case 't', 'f':
		return slog.BoolValue(raw[0] == 't')
	case 'n':
		return slog.AnyValue(nil)
	case '[':
	default:
		var n json.Number
		if json.Unmarshal(raw, &n) == nil {
			if i, err := n.Int64(); err == nil {
				return slog.Int64Value(i)
			}
			if x, err := n.Float64(); err == nil {
				return slog.Float64Value(x)
			}
		}
	}
	return slog.StringValue(string(raw))
}

// lineSplitter is a Writer that gives whole lines to line, for what go-plugin brings over the connection.
type lineSplitter struct {
	line func(line []byte, cut bool)
	buf  []byte
}

func (w *lineSplitter) Write(p []byte) (int, error) {
	for _, c := range p {
		switch {
		case c == '\n':
			w.line(w.buf, len(w.buf) >= maxLine)
			w.buf = w.buf[:0]
		case len(w.buf) < maxLine:
			w.buf = append(w.buf, c)
		}
	}
	return len(p), nil
}
