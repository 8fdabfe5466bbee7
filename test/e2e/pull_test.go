package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edged/test/oracle"
)

// TestPull: a model comes from a hub under its name and is served; one that this node has no memory for, and one of a family that nobody
// serves, are refused after their headers. (How a hub behaves otherwise, core/serve/models/hub tries.)
func TestPull(t *testing.T) {
	model, err := os.ReadFile(filepath.Join(oracle.Repo(t), "demo", "gguf", "hearth-4m-q4_0.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"o/good": model, "o/odd": bytes.Replace(model, []byte("\x05\x00\x00\x00\x00\x00\x00\x00llama"), []byte("\x05\x00\x00\x00\x00\x00\x00\x00xxxxx"), 1)}
	var served atomic.Int64
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for repo, data := range files {
			switch {
			case strings.HasPrefix(r.URL.Path, "/api/models/"+repo+"/"):
				_ = json.NewEncoder(w).Encode(map[string]any{"sha": "abc", "siblings": []map[string]any{{"rfilename": "hearth-Q4_0.gguf", "size": len(data)}}})
			case r.URL.Path == "/"+repo+"/resolve/abc/hearth-Q4_0.gguf":
				count := &counting{ResponseWriter: w, n: &served}
				http.ServeContent(count, r, "", time.Time{}, bytes.NewReader(data))
			}
		}
	}))
	defer hub.Close()
	dir := t.TempDir()
	s := serve(t, "models.dir="+dir, "models.settle=50ms")
	out, stderr, code := edged(t, "pull", "--check", "--endpoint", hub.URL, "--dir", dir, "o/good")
	if last := strings.Split(strings.TrimSpace(out), "\n"); code != 0 || !strings.HasPrefix(last[len(last)-1], "nothing but headers was fetched, and they are not kept") {
		t.Errorf("--check: exit code %d: %s%s", code, out, stderr)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("--check leaves %v", left)
	}
	out, stderr, code = edged(t, "pull", "--endpoint", hub.URL, "--dir", dir, "--name", "mine", "o/good:Q4_0")
	if code != 0 || !strings.Contains(out, "mine: llama, decoder, Q4_0") || !strings.Contains(out, `name it in requests as "mine"`) {
		t.Fatalf("exit code %d: %s%s", code, out, stderr)
	}
	s.until("edged/test/models/mine", func(p string) bool { return strings.Contains(p, `"state":"available"`) })
	s.publish("edged/test/request/k", `{"id":"r1","model":"mine","prompt":"Turn on the","max_tokens":4}`)
	if e := s.last("edged/test/response/k/r1"); e[len(e)-1].Error != nil {
		t.Errorf("%+v", e)
	}
	for why, args := range map[string][]string{
		"of memory at least": {"--set", "backend.memory_limit=5 MiB", "o/good"},
		"xxxxx":              {"o/odd"},
	} {
		served.Store(0)
		_, stderr, code := edged(t, append([]string{"pull", "--endpoint", hub.URL, "--dir", dir, "--name", "other"}, args...)...)
		if code != 1 || !strings.Contains(stderr, "cannot be served here") || !strings.Contains(stderr, why) {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
		if n := served.Load(); n > 512<<10 {
			t.Errorf("%v: %d bytes were fetched of what cannot be served", args, n)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "other.gguf")); err == nil {
		t.Error("what cannot be served is there")
	}
}

// counting counts the bytes of an answer.
type counting struct {
	http.ResponseWriter

	n *atomic.Int64
}

func (c *counting) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.ResponseWriter.Write(b)
}
