package pluginhost_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/serve/pluginhost"
)

// records is a log that tests can look into.
type records struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *records) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(r, &slog.HandlerOptions{Level: level}))
}

func (r *records) all(t *testing.T) []map[string]any {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []map[string]any
	for line := range bytes.Lines(r.buf.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out = append(out, m)
	}
	return out
}

func start(t *testing.T, o pluginhost.Options) *pluginhost.Process {
	t.Helper()
	o.RunDir = runDir(t)
	p, err := pluginhost.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// runDir is a folder with a path short enough for sockets.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ph") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil && !zombie(pid) }

// zombie: a process whose parent was killed may wait for its reaper, which in a container may never come.
func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}

func gone(t *testing.T, pid int, within time.Duration) {
	t.Helper()
	for end := time.Now().Add(within); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("process %d is still there after %s", pid, within)
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	o := options(quiet(), "ok")
	p := start(t, o)
	d, err := p.Backend().Describe(t.Context())
	if err != nil || d.Name != "test" {
		t.Fatalf("describe: %+v, %v", d, err)
	}
	if d.Version != strconv.Itoa(p.Pid()) {
		t.Errorf("pid %d, the plugin says %s", p.Pid(), d.Version)
	}
	if p.Tokenizer() != nil || p.Name() != "backend-test" || p.Path() != o.Path {
		t.Errorf("tokenizer %v, name %s, path %s", p.Tokenizer(), p.Name(), p.Path())
	}
	if err := p.Health(t.Context()); err != nil {
		t.Errorf("health: %v", err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("a running process has an error: %v", err)
	}
	_, err = p.Backend().Load(t.Context(), backend.LoadRequest{Path: "/broken"}, nil)
	if !errors.Is(err, protocol.ErrModel) || err.Error() != "weights: /broken: cannot serve file: it is empty" {
		t.Errorf("load: %v", err)
	}
	p.Kill()
	p.Kill()
	<-p.Done()
	gone(t, p.Pid(), 0)
	if err := p.Err(); err != nil {
		t.Errorf("a stopped process has an error: %v", err)
	}
	if err := p.Health(t.Context()); !errors.Is(err, protocol.ErrPluginDied) {
		t.Errorf("health of a stopped process: %v", err)
	}
}

func TestSocketFolder(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	stale := filepath.Join(dir, "edged-plugin-2147483647-1", "plugin-dir1")
	if err := os.MkdirAll(stale, 0o700); err != nil {
		t.Fatal(err)
	}
	// An id is given again: this process has that of the one that made the folder, and did not start when that one did.
	if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("edged-plugin-%d.1-1", os.Getpid())), 0o700); err != nil {
		t.Fatal(err)
	}
	o := options(quiet(), "ok")
	o.RunDir = dir
	p, err := pluginhost.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v: want the folder of this process alone", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	p.Kill()
	if entries, err = os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	o.RunDir = filepath.Join(dir, strings.Repeat("long", 20))
	if err := os.Mkdir(o.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := pluginhost.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("a path that no socket can have: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("EDGED_MQTT_PASSWORD", "secret")
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/y")
	t.Setenv("MY_OWN", "kept")
	o := options(quiet(), "ok")
	o.Env = append(o.Env, "EXTRA=1")
	o.Command = []string{"env", "PREFIXED=1"}
	p := start(t, o)
	d, err := p.Backend().Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	env := d.Kernels
	for _, want := range []string{"EXTRA=1", "PREFIXED=1", "MY_OWN=kept", "EDGED_PLUGIN_LOG_LEVEL=error"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, kv := range env {
		for _, secret := range []string{"EDGED_MQTT_PASSWORD", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"} {
			if strings.HasPrefix(kv, secret) {
				t.Errorf("%s was passed on", kv)
			}
		}
	}
	if len(d.Features) != 1 {
		t.Errorf("arguments %q", d.Features)
	}
}

func TestCrash(t *testing.T) {
	t.Parallel()
	for mode, words := range map[string][]string{
		"panic": {"exit status 2", "it said: panic: kernel: row 7 is out of range"},
		"exit":  {"exit status 7"},
		"kill":  {"signal: killed"},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := start(t, options(quiet(), "ok"))
			err := p.Backend().Generate(t.Context(), backend.Request{ID: mode}, func(backend.Event) error {
				if mode == "kill" {
					return syscall.Kill(p.Pid(), syscall.SIGKILL)
				}
				return nil
			})
			if !errors.Is(err, protocol.ErrPluginDied) || errors.Is(err, context.Canceled) {
				t.Errorf("generate: %v", err)
			}
			<-p.Done()
			err = p.Err()
			if !errors.Is(err, protocol.ErrPluginDied) {
				t.Errorf("err: %v", err)
			}
			for _, w := range words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v does not say %q", err, w)
				}
			}
			p.Kill()
			if p.Err() == nil {
				t.Error("kill took the reason away")
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "backend-x")
	if err := os.WriteFile(script, []byte("\x7fELF nonsense"), 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	with := func(mode string, change func(*pluginhost.Options)) pluginhost.Options {
		o := options(quiet(), mode)
		o.StartTimeout = 5 * time.Second
		if change != nil {
			change(&o)
		}
		return o
	}
	for _, c := range []struct {
		name  string
		o     pluginhost.Options
		is    error
		words []string
	}{
		{"exits", with("exit before handshake", nil), nil, []string{"ended before its handshake (exit status 3)", "cannot find libfoo.so"}},
		{"silent", with("no handshake", func(o *pluginhost.Options) { o.StartTimeout = time.Second }), nil, []string{"no handshake within 1s", "hello there"}},
		{"version", with("version 2", nil), pluginhost.ErrVersion, []string{"speaks version 2", "wants 1", "update edged"}},
		{"another's socket", with("elsewhere", nil), nil, []string{"names the socket", "in the folder"}},
		{"another's socket, by a link", with("elsewhere by a link", nil), nil, []string{"names the socket"}},
		{"another's socket, by dots", with("elsewhere by dots", nil), nil, []string{"names the socket"}},
		{"a file for a socket", with("no socket", nil), nil, []string{"names the socket"}},
		{"network", with("tcp", nil), nil, []string{`listens on "tcp"`, "unix socket"}},
		{"not a program", with("", func(o *pluginhost.Options) { o.Path = script }), nil, []string{"exec format error", "another kind of machine"}},
		{"not pinned", with("ok", func(o *pluginhost.Options) {
			o.Pins = map[string]string{filepath.Base(o.Path): hex.EncodeToString(sum[:])}
		}), pluginhost.ErrChecksum, []string{"plugins.sha256 says"}},
		{"not among the pinned", with("ok", func(o *pluginhost.Options) { o.Pins = map[string]string{"backend-other": hex.EncodeToString(sum[:])} }), pluginhost.ErrChecksum, []string{"not among them"}},
		{"no such prefix", with("ok", func(o *pluginhost.Options) { o.Command = []string{"no-such-emulator"} }), nil, []string{"backend.command", "no-such-emulator"}},
		{"no such file", with("ok", func(o *pluginhost.Options) { o.Path = "/nowhere/backend-x" }), pluginhost.ErrNotFound, nil},
		{"kind", with("ok", func(o *pluginhost.Options) { o.Kind = "frontend" }), nil, []string{`"frontend"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.o.RunDir = runDir(t)
			p, err := pluginhost.Start(t.Context(), c.o)
			if err == nil {
				p.Kill()
				t.Fatal("it started")
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v does not say %q", err, w)
				}
			}
			if left, _ := os.ReadDir(c.o.RunDir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err := pluginhost.Start(ctx, options(quiet(), "no handshake"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

func TestChattyStart(t *testing.T) {
	t.Parallel()
	p := start(t, options(quiet(), "chatty start"))
	if err := p.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestByHand(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), modeVar+"=ok")
	out, err := cmd.CombinedOutput()
	if err == nil || bytes.Count(out, []byte("\n")) != 1 || !bytes.Contains(out, []byte("this is a plugin of edged")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestKillIsSure(t *testing.T) {
	t.Parallel()
	t.Run("a plugin that does not end", func(t *testing.T) {
		t.Parallel()
		o := options(quiet(), "slow end")
		o.StopTimeout = 300 * time.Millisecond
		p := start(t, o)
		p.Kill()
		gone(t, p.Pid(), 0)
	})
	t.Run("a stopped plugin", func(t *testing.T) {
		t.Parallel()
		o := options(quiet(), "ok")
		o.StopTimeout = 300 * time.Millisecond
		p := start(t, o)
		if err := syscall.Kill(p.Pid(), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		p.Kill()
		gone(t, p.Pid(), 0)
	})
	t.Run("what the plugin started", func(t *testing.T) {
		t.Parallel()
		o := options(quiet(), "ok")
		file := filepath.Join(t.TempDir(), "pid")
		o.Command = []string{"sh", "-c", `sleep 1000 & echo $! > ` + file + `; exec "$0"`}
		p := start(t, o)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		child, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		p.Kill()
		gone(t, child, time.Second)
	})
}

func TestLogForwarding(t *testing.T) {
	t.Parallel()
	var log records
	p := start(t, options(log.logger(slog.LevelInfo), "ok"))
	generate(t, p, "log")
	// What is printed comes over the connection, in its own time.
	find := func(message, key, value string) map[string]any {
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			for _, r := range log.all(t) {
				if text, _ := r[key].(string); r["msg"] == message && strings.HasPrefix(text, value) {
					return r
				}
			}
		}
		t.Fatalf("no record %q with %s=%s", message, key, value)
		return nil
	}
	r := find("adapter is slow", "adapter", "pirate")
	at, _ := r["at"].(map[string]any)
	if r["level"] != "WARN" || r["plugin"] != "backend-test" || r["rank"] != 16.0 || r["scale"] != 0.5 || at["layer"] != 3.0 {
		t.Errorf("record %v", r)
	}
	find("plugin wrote a line", "line", "a stray line")
	find("plugin wrote a line", "line", "a printed line")
	if long := find("plugin wrote a line", "line", "xxxx"); long["cut"] != true || len(long["line"].(string)) > 20_000 {
		t.Errorf("a long line of %d bytes, cut %v", len(long["line"].(string)), long["cut"])
	}
	for _, r := range log.all(t) {
		if r["msg"] == "not wanted" || r["level"] == "ERROR" {
			t.Errorf("record %v", r)
		}
	}
}

func TestHostileLog(t *testing.T) {
	t.Parallel()
	var log records
	p := start(t, options(log.logger(slog.LevelInfo), "ok"))
	generate(t, p, "hostile")
	generate(t, p, "flood")
	if err := p.Health(t.Context()); err != nil {
		t.Error(err)
	}
	p.Kill()
	all := log.all(t)
	if len(all) > 3000 {
		t.Errorf("%d records of a flood were kept", len(all))
	}
	dropped := 0.0
	for _, r := range all {
		if r["msg"] == "plugin logs too much, lines dropped" {
			n, _ := r["lines"].(float64)
			dropped += n
		}
	}
	if dropped < 15_000 {
		t.Errorf("%v lines were reported as dropped", dropped)
	}
}

func generate(t *testing.T, p *pluginhost.Process, id string) {
	t.Helper()
	if err := p.Backend().Generate(t.Context(), backend.Request{ID: id}, func(backend.Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// A process that left its plugin's group, and forgot where it came from, ends with the plugin, and with the daemon.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"kill", "kill all"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "pid")
			host := exec.Command(exe)
			host.Env = append(os.Environ(), modeVar+"=host", "TESTHOST_RUNDIR="+runDir(t), "TESTHOST_END="+end, "TESTHOST_LEFT="+file)
			out, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			defer host.Wait()
			defer host.Process.Kill()
			lines := bufio.NewScanner(out)
			for lines.Scan() && lines.Text() != "ended" {
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for field := range strings.FieldsSeq(string(text)) {
				pid, err := strconv.Atoi(field)
				if err != nil {
					t.Fatal(err)
				}
				defer syscall.Kill(pid, syscall.SIGKILL)
				gone(t, pid, 2*time.Second)
			}
		})
	}
}

// However the daemon dies, no plugin is left 2 s later. Each prefix defeats one of the nets that hold the plugin.
func TestPluginDiesWithTheDaemon(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{
		"plain":                            "",
		"through exec":                     "env\x1fX=1",
		"no parent-death signal, no stdin": "sh\x1f-c\x1f\"$0\" & wait",
		"no parent-death signal":           "sh\x1f-c\x1f\"$0\"; true",
		"stopped":                          "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			host := exec.Command(exe)
			host.Env = append(os.Environ(), modeVar+"=host", "TESTHOST_COMMAND="+prefix, "TESTHOST_RUNDIR="+runDir(t))
			out, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			defer host.Wait()
			defer host.Process.Kill()
			lines := bufio.NewScanner(out)
			if !lines.Scan() {
				t.Fatal("the host said nothing")
			}
			field, _, _ := strings.Cut(lines.Text(), " ")
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatalf("the host said %q", lines.Text())
			}
			if !lines.Scan() || lines.Text() != "ready" || !alive(pid) {
				t.Fatalf("the host said %q; plugin alive: %v", lines.Text(), alive(pid))
			}
			if name == "stopped" {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			if err := host.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			gone(t, pid, 2*time.Second)
		})
	}
}
