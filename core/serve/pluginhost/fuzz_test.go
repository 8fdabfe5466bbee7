package pluginhost

import (
	"bytes"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"edged/core/pluginlog"
)

// A plugin's lines are outside bytes: whatever they are, reading one ends, and allocates in proportion to its length.
func FuzzEntry(f *testing.F) {
	var lines bytes.Buffer
	log := pluginlog.NewAt(&lines, slog.LevelDebug)
	log.Info("model is loaded", "path", "/m.gguf", "tokens", 7, "ratio", 1e-7, "at", []int{1, 2}, slog.Group("g", "x", true, "y", nil))
	for line := range bytes.Lines(lines.Bytes()) {
		f.Add(bytes.TrimSpace(line))
	}
	for _, line := range []string{
		``, `{}`, `{"@message":5}`, `{"@message":"x","@level":{"a":[1]},"@timestamp":7}`, `{"@message":"x","a":{"b":{"c":{"d":{"e":{}}}}}}`,
		`{"@message":"x","n":1e999,"m":-0,"o":18446744073709551616}`, `{"@message":"x"} trailing`, `{"":{"":{"":""}}}`, strings.Repeat(`{"a":`, 500), "1|1|unix|/x|grpc",
	} {
		f.Add([]byte(line))
	}
	discard := slog.NewJSONHandler(&strings.Builder{}, nil)
	f.Fuzz(func(t *testing.T, line []byte) {
		if len(line) > maxLine {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, ok := parseEntry(line)
		parseHandshake(string(line))
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(400*len(line)+64<<10) {
			t.Errorf("a line of %d bytes allocated %d", len(line), grown)
		}
		if !ok {
			return
		}
		if err := discard.Handle(t.Context(), r); err != nil {
			t.Error(err)
		}
	})
}
