package pluginlog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	hclog "github.com/hashicorp/go-hclog"

	"edged/core/pluginlog"
)

func lines(t *testing.T, b *bytes.Buffer) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range bytes.Lines(b.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out = append(out, m)
	}
	return out
}

func TestLines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := pluginlog.NewAt(&b, slog.LevelDebug)
	log.Info("model is loaded", "path", "/m.gguf", "tokens", 7, "err", errors.New("none"))
	log.With("a", 1).WithGroup("g").Warn("in a group", "time", "mine", "level", 3)
	log.Error("broken")
	log.Debug("detail", "level", "mine too", "time", 5)
	got := lines(t, &b)
	if len(got) != 4 {
		t.Fatalf("%d lines: %s", len(got), b.String())
	}
	for i, level := range []string{"info", "warn", "error", "debug"} {
		stamp, _ := got[i]["@timestamp"].(string)
		if _, err := time.Parse(pluginlog.TimeLayout, stamp); err != nil || got[i]["@level"] != level {
			t.Errorf("line %d: %v", i, got[i])
		}
		for _, key := range []string{"msg", slog.MessageKey} {
			if _, ok := got[i][key]; ok {
				t.Errorf("line %d has slog's own key %q", i, key)
			}
		}
	}
	if got[0]["@message"] != "model is loaded" || got[0]["path"] != "/m.gguf" || got[0]["tokens"] != 7.0 || got[0]["err"] != "none" {
		t.Errorf("line 0: %v", got[0])
	}
	if g, _ := got[1]["g"].(map[string]any); g["time"] != "mine" || g["level"] != 3.0 {
		t.Errorf("line 1: %v", got[1])
	}
	if got[3]["level"] != "mine too" || got[3]["time"] != 5.0 {
		t.Errorf("line 3: %v", got[3])
	}
}

func TestLevels(t *testing.T) {
	for name, want := range map[string]slog.Level{
		"": slog.LevelInfo, "debug": slog.LevelDebug, "TRACE": slog.LevelDebug, "Warn": slog.LevelWarn, "warning": slog.LevelWarn,
		"error": slog.LevelError, "nonsense": slog.LevelInfo,
	} {
		t.Setenv(pluginlog.EnvLevel, name)
		log := pluginlog.New()
		if !log.Enabled(t.Context(), want) || log.Enabled(t.Context(), want-1) {
			t.Errorf("%q is not %v", name, want)
		}
	}
	for level, want := range map[slog.Level]string{
		slog.LevelDebug - 4: "trace", slog.LevelDebug: "debug", slog.LevelInfo: "info", slog.LevelInfo + 1: "info", slog.LevelWarn: "warn", slog.LevelError + 4: "error",
	} {
		if got := pluginlog.LevelName(level); got != want {
			t.Errorf("%v is %q, want %q", level, got, want)
		}
	}
}

func TestHCLog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := pluginlog.HCLog(slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo})), slog.LevelInfo)
	named := l.Named("plugin").Named("stdio").With("id", 5)
	named.Error("plugin process exited", "error", errors.New("signal: killed"), "argv", []string{"a"}, "f", hclog.Fmt("%d%%", 3))
	l.Debug("not wanted")
	l.Log(hclog.Warn, "odd", "key without a value")
	if _, err := l.StandardWriter(nil).Write([]byte("a line\n")); err != nil {
		t.Error(err)
	}
	l.StandardLogger(nil).Print("another")
	got := lines(t, &b)
	if len(got) != 4 {
		t.Fatalf("%d lines: %s", len(got), b.String())
	}
	// The limit makes an info of go-plugin's error.
	if got[0]["level"] != "INFO" || got[0]["id"] != 5.0 || got[0]["error"] != "signal: killed" || got[0]["f"] != "3%" {
		t.Errorf("line 0: %v", got[0])
	}
	if got[2]["msg"] != "a line" || !strings.Contains(got[3]["msg"].(string), "another") {
		t.Errorf("lines 2 and 3: %v", got[2:])
	}
	if named.Name() != "plugin.stdio" || l.Name() != "" || len(named.ImpliedArgs()) != 2 {
		t.Errorf("name %q, implied %v", named.Name(), named.ImpliedArgs())
	}
	if l.IsTrace() || l.IsDebug() || !l.IsInfo() || !l.IsError() || l.GetLevel() != hclog.Info {
		t.Errorf("levels: %v", l.GetLevel())
	}
}
