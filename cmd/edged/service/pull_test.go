package service

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestPullLooksHereFirst: what is wrong on this machine is found before the hub is asked.
func TestPullLooksHereFirst(t *testing.T) {
	var asked atomic.Int64
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	defer hub.Close()
	root := t.TempDir()
	file := filepath.Join(root, "file")
	for _, path := range []string{file, filepath.Join(root, "there.gguf")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no folder", []string{"--set", "models.dir=", "o/r"}, 1, "name a folder with --dir"},
		{"a file", []string{"--dir", file, "o/r"}, 1, file + " is no folder"},
		{"below a file", []string{"--dir", filepath.Join(file, "x"), "o/r"}, 1, "cannot be written"},
		{"not writable", []string{"--dir", "/proc/none", "o/r"}, 1, "cannot be written"},
		{"a bad name", []string{"--dir", root, "--name", "a b", "o/r"}, 2, "is no name of a model here"},
		{"a bad name with --check", []string{"--check", "--dir", root, "--name", "..", "o/r"}, 2, "is no name of a model here"},
		{"a name that is taken", []string{"--dir", root, "--name", "there", "o/r"}, 1, "is there already"},
		{"a token that is not there", []string{"--dir", root, "--token-file", filepath.Join(root, "none"), "o/r"}, 1, "--token-file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs, code := command(t, "", append([]string{"pull", "--endpoint", hub.URL}, c.args...)...)
			if code != c.code || !strings.Contains(errs, c.says) {
				t.Errorf("code %d: %s", code, errs)
			}
		})
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("the hub was asked %d times", n)
	}
	if left, _ := os.ReadDir(root); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}
