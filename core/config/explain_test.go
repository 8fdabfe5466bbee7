package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/config"
)

// write makes a file of settings and the folders above it.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDropIns(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "config.toml")
	write(t, main, "[node]\nname = \"a\"\n[model]\npath = \"m.gguf\"\n[queue]\nsize = 3\n")
	write(t, filepath.Join(dir, "config.d", "20-later.toml"), "[node]\nname = \"c\"\n")
	write(t, filepath.Join(dir, "config.d", "10-first.toml"), "[node]\nname = \"b\"\n[draft]\nmodel = \"d.gguf\"\n")
	write(t, filepath.Join(dir, "config.d", ".20-later.toml.swp.toml"), "not TOML")
	write(t, filepath.Join(dir, "config.d", "notes.txt"), "not TOML")
	c, err := config.Load(main, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Node.Name != "c" || c.Queue.Size != 3 {
		t.Errorf("node.name = %q, queue.size = %d; want c of the last file and 3 of the first", c.Node.Name, c.Queue.Size)
	}
	if want := filepath.Join(dir, "d.gguf"); c.Draft.Model != want {
		t.Errorf("draft.model = %q, want %q: relative to config.toml's folder", c.Draft.Model, want)
	}
	write(t, filepath.Join(dir, "config.d", "30-bad.toml"), "[node]\nnmae = \"x\"\n")
	_, err = config.Load(main, nil, nil)
	if want := filepath.Join(dir, "config.d", "30-bad.toml") + ":2: unknown key node.nmae: did you mean node.name?"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "config.toml")
	write(t, main, "[node]\nname = \"a\"\n[sampling]\ntop_p = 0.9\n")
	extra := filepath.Join(dir, "config.d", "x.toml")
	write(t, extra, "\n[mqtt]\nreply_to_allow = [\"home/#\", \"a b\"]\n")
	list, err := config.Explain(main, []string{"queue.size=5"}, []string{"EDGED_LOG_LEVEL=warn"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]config.Setting{}
	for _, s := range list {
		got[s.Key] = s
	}
	for _, want := range []config.Setting{
		{Key: "node.name", Value: `"a"`, Origin: main + ":2"},
		{Key: "node.shutdown_grace", Value: `"20s"`},
		{Key: "mqtt.reply_to_allow", Value: `["home/#", "a b"]`, Origin: extra + ":3"},
		{Key: "mqtt.max_payload", Value: `"1 MiB"`},
		{Key: "sampling.top_p", Value: "0.9", Origin: main + ":4"},
		{Key: "queue.size", Value: "5", Origin: "--set queue.size"},
		{Key: "log.level", Value: `"warn"`, Origin: "environment variable EDGED_LOG_LEVEL"},
		{Key: "prefix_cache.pinned", Value: "[]"},
	} {
		if got[want.Key] != want {
			t.Errorf("got %+v, want %+v", got[want.Key], want)
		}
	}
	// What is printed can be read again, and means the same.
	var back []string
	for _, s := range list {
		value := s.Value
		if strings.HasPrefix(value, `"`) {
			value = strings.Trim(value, `"`)
		}
		back = append(back, s.Key+"="+value)
	}
	again, err := config.Explain("", back, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range again {
		if s.Value != list[i].Value {
			t.Errorf("%s = %s, read again %s", s.Key, list[i].Value, s.Value)
		}
	}
}
