package daemon_test

import (
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"edged/core/config"
)

// secret stands in a prompt, and in capitals in its answer.
const secret = "xyzzyplugh"

// debugLog runs a node at debug level, asks it in each way there is, and returns its log.
func debugLog(t *testing.T, c *config.Config) string {
	t.Helper()
	n := startWith(t, c, slog.LevelDebug)
	n.publish(t, "edged/n/ask", secret)
	n.until(t, "answer", func(topic string, payload []byte) bool {
		return topic == "edged/n/answer" && strings.Contains(strings.ToLower(string(payload)), secret)
	})
	n.publish(t, "edged/n/request", `{"id":"p1","prompt":"`+secret+`","max_tokens":40,"stream":true}`)
	if last, _ := n.answer(t, "p1"); last.Error != nil {
		t.Fatalf("%+v", last.Error)
	}
	n.publish(t, "edged/n/request", `{"id":"p2","messages":[{"role":"user","content":"`+secret+`"}],"max_tokens":40}`)
	n.answer(t, "p2")
	n.publish(t, "edged/n/request", `{"id":"p3","prompt":"`+secret+`","`+secret+`":1}`) // refused
	n.answer(t, "p3")
	n.publish(t, "edged/n/request", secret) // no JSON
	n.until(t, "complaint", func(topic string, _ []byte) bool { return topic == "edged/n/errors" })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	return strings.ToLower(n.log.String())
}

func TestLogHoldsNoPrompts(t *testing.T) {
	for line := range strings.SplitSeq(debugLog(t, configure(t)), "\n") {
		if strings.Contains(line, secret) {
			t.Errorf("the log shows what was asked or answered: %s", line)
		}
	}
	c := configure(t)
	c.Log.Prompts = true
	if !strings.Contains(debugLog(t, c), secret) {
		t.Error("with log.prompts the log does not show prompts: this test would notice nothing")
	}
}

// TestFilesAreNobodyElses: what a node writes can be read by its own user, and by its group at most, whatever the umask is.
func TestFilesAreNobodyElses(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	c := configure(t)
	n := start(t, c)
	n.publish(t, "edged/n/request", `{"id":"f","prompt":"abc","max_tokens":20}`)
	n.answer(t, "f")
	seen := 0
	check := func() {
		err := filepath.WalkDir(c.State.Dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || path == c.State.Dir {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			seen++
			if mode := info.Mode().Perm(); !info.IsDir() && mode&^0o640 != 0 || info.IsDir() && mode&^0o750 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	check()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	check()
	if seen < 4 {
		t.Errorf("only %d files and folders: where does the journal stand?", seen)
	}
}

// TestMetricsListener: the listener is there when it is asked for, says when the node is ready, and ends with it.
func TestMetricsListener(t *testing.T) {
	c := configure(t)
	c.Metrics.Listen = "127.0.0.1:0"
	n := start(t, c)
	_, rest, ok := strings.Cut(n.log.String(), `msg="metrics are served" address=`)
	if !ok {
		t.Fatalf("no address in the log\n%s", n.log)
	}
	address := "http://" + strings.Fields(rest)[0]
	get := func(path string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return http.DefaultClient.Do(req)
	}
	for _, path := range []string{"/readyz", "/healthz", "/metrics"} {
		resp, err := get(path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if resp, err := get("/healthz"); err == nil {
		_ = resp.Body.Close()
		t.Error("the listener outlives the node")
	}
}

// TestNoListenerWithoutMetrics: by default nothing listens but the embedded broker, on loopback.
func TestNoListenerWithoutMetrics(t *testing.T) {
	c := config.Default()
	if c.Metrics.Listen != "" || !config.Loopback(c.MQTT.Listen) {
		t.Errorf("defaults listen on %q and %q", c.Metrics.Listen, c.MQTT.Listen)
	}
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skip("no /proc/net")
	}
	start(t, configure(t))
	inodes := ownSockets(t)
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			f := strings.Fields(line)
			const listening = "0A"
			if len(f) < 10 || f[3] != listening || !inodes[f[9]] {
				continue
			}
			host, _, _ := strings.Cut(f[1], ":")
			if host != "0100007F" && host != "00000000000000000000000001000000" {
				t.Errorf("something listens on %s, which is not loopback", f[1])
			}
		}
	}
}

// ownSockets are the inodes of this process's sockets.
func ownSockets(t *testing.T) map[string]bool {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, l := range links {
		target, err := os.Readlink(l)
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			out[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return out
}
