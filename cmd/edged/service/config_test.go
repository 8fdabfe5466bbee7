package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/config"
)

// TestConfigShowsWhence: what is printed names each origin, and is a configuration file itself.
func TestConfigShowsWhence(t *testing.T) {
	dir := t.TempDir()
	file, more := filepath.Join(dir, "config.toml"), filepath.Join(dir, "config.d", "9.toml")
	if err := os.Mkdir(filepath.Dir(more), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		file: "[node]\nname = \"attic\"\n[model]\npath = \"m.gguf\"\n",
		more: "[mqtt]\nreply_to_allow = [\"home/#\"]\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, errs, code := command(t, "", "config", "--config", file, "--set", "queue.size=3")
	want := `[node]
name = "attic"  # ` + file + `:2

[mqtt]
reply_to_allow = ["home/#"]  # ` + more + `:2

[model]
path = "` + dir + `/m.gguf"  # ` + file + `:4

[queue]
size = 3  # --set queue.size
`
	if out != want || errs != "" || code != 0 {
		t.Errorf("exit %d, %s, got\n%s\nwant\n%s", code, errs, out, want)
	}
	out, _, code = command(t, "", "config", "--all", "--config", file)
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	for _, key := range config.Keys() {
		if _, name, _ := strings.Cut(key, "."); !strings.Contains(out, "\n"+name+" = ") {
			t.Errorf("%s is not shown", key)
		}
	}
	again, err := config.Parse("", []byte(out), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again.Node.Name != "attic" || again.MQTT.KeepAlive != config.Default().MQTT.KeepAlive {
		t.Errorf("read again: %+v", again)
	}
}
