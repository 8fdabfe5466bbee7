// Package e2e tests the built programs from outside: the real daemon with its plugin processes, a real mosquitto, the
// arm64 build under emulation. Everything runs on loopback and free ports, and ends with the test.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"edged/test/brokers"
	"edged/test/oracle"
)

// wait bounds every wait for something that is about to happen; it is generous because machines are shared.
const wait = 60 * time.Second

// build compiles the shipped programs for one platform, once, the way `make build` does.
var build = struct {
	sync.Mutex
	dirs map[string]string
	made []string
}{dirs: map[string]string{}}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range build.made {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// programs returns a folder with edged and plugins/ for arch: freshly built ones, or those of the folder that
// EDGED_TEST_PROGRAMS names for this machine.
func programs(t *testing.T, arch string) string {
	t.Helper()
	if dir := os.Getenv("EDGED_TEST_PROGRAMS"); dir != "" && arch == "amd64" {
		return dir
	}
	build.Lock()
	defer build.Unlock()
	if dir, ok := build.dirs[arch]; ok {
		return dir
	}
	dir, err := os.MkdirTemp("", "edged-e2e-") //nolint:usetesting // outlives the test that builds it
	if err != nil {
		t.Fatal(err)
	}
	build.made = append(build.made, dir)
	if err := os.Mkdir(filepath.Join(dir, "plugins"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-o", filepath.Join(dir, "edged"), "./cmd/edged"},
		{"-o", filepath.Join(dir, "plugins") + "/", "./plugins/tokenizer-bpe", "./plugins/backend-generic", "./plugins/backend-neon"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath"}, args...)...)
		cmd.Dir = oracle.Repo(t)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	build.dirs[arch] = dir
	return dir
}

// need returns the path of a program, or skips the test; with CI=true it fails.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
		if _, err := os.Stat(path); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed: run `make deps`", name)
			}
			t.Skipf("%s is not installed: run `make deps`", name)
		}
	}
	return path
}

// edged runs one command to its end and returns its output and exit code.
func edged(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs(t, "amd64"), "edged"), args...)
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// start runs a process that ends with the test at the latest, and shows its output when the test fails.
func start(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), text[max(0, len(text)-8000):])
		}
	})
	return cmd
}

// service is a running edged with a client of its broker.
type service struct {
	t       *testing.T
	cmd     *exec.Cmd
	dir     string // of its configuration and state/
	client  mqtt.Client
	port    int
	mu      sync.Mutex
	changed chan struct{}
	got     map[string][]string
}

// serve starts edged against a broker, mosquitto unless EDGED_TEST_BROKER names another, and waits until it is online.
func serve(t *testing.T, overrides ...string) *service {
	t.Helper()
	repo, port, state := oracle.Repo(t), brokers.Start(t, brokers.Kind()).Port, t.TempDir()
	conf := filepath.Join(state, "edged.toml")
	text := fmt.Sprintf("[node]\nname = \"test\"\n[mqtt]\nbroker = \"tcp://127.0.0.1:%d\"\n[model]\npath = %q\n[adapters]\ndir = %q\n[state]\ndir = %q\n",
		port, filepath.Join(repo, "demo/hf-nf4"), filepath.Join(repo, "demo/adapters"), filepath.Join(state, "state"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, dir: state, port: port, got: map[string][]string{}, changed: make(chan struct{})}
	opts := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID("tester").SetOrderMatters(true)
	s.client = mqtt.NewClient(opts)
	if token := s.client.Connect(); !token.WaitTimeout(wait) || token.Error() != nil {
		t.Fatalf("connect: %v", token.Error())
	}
	t.Cleanup(func() { s.client.Disconnect(100) })
	token := s.client.Subscribe("edged/#", 1, func(_ mqtt.Client, m mqtt.Message) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got[m.Topic()] = append(s.got[m.Topic()], string(m.Payload()))
		close(s.changed)
		s.changed = make(chan struct{})
	})
	if !token.WaitTimeout(wait) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	args := []string{"run", "--config", conf}
	for _, o := range overrides {
		args = append(args, "--set", o)
	}
	s.cmd = start(t, exec.Command(filepath.Join(programs(t, "amd64"), "edged"), args...))
	t.Cleanup(func() { s.stop() })
	s.until("edged/test/availability", func(p string) bool { return p == "online" })
	return s
}

// stop asks edged to end and returns its exit code.
func (s *service) stop() int {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		_ = s.cmd.Wait()
	}
	return s.cmd.ProcessState.ExitCode()
}

func (s *service) publish(topic, payload string) {
	s.t.Helper()
	if token := s.client.Publish(topic, 1, false, payload); !token.WaitTimeout(wait) || token.Error() != nil {
		s.t.Fatalf("publish %s: %v", topic, token.Error())
	}
}

// until waits for a payload on topic that ok accepts and returns everything that came on topic so far.
func (s *service) until(topic string, ok func(payload string) bool) []string {
	s.t.Helper()
	deadline := time.After(wait)
	for {
		s.mu.Lock()
		changed, all := s.changed, append([]string(nil), s.got[topic]...)
		s.mu.Unlock()
		if slices.ContainsFunc(all, ok) {
			return all
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("nothing fitting on %s within %v; there is %q", topic, wait, all)
		}
	}
}

// event is what a client reads of an event.
type event struct {
	ID      string `json:"id"`
	Attempt int    `json:"attempt"`
	Seq     int    `json:"seq"`
	Stage   string `json:"stage"`
	Delta   string `json:"delta"`
	Done    any    `json:"done"` // a count in prefill events, true in the last one
	Text    string `json:"text"`
	Finish  string `json:"finish_reason"`
	Model   string `json:"model"`
	Usage   struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Virtual    int `json:"virtual_tokens"`
	} `json:"usage"`
	Error *struct{ Code, Message string } `json:"error"`
}

// last waits for the last event of a request and returns all of its events, the last at the end.
func (s *service) last(topic string) []event {
	s.t.Helper()
	done := func(p string) bool {
		var e event
		return json.Unmarshal([]byte(p), &e) == nil && e.Done == true
	}
	var events []event
	for _, p := range s.until(topic, done) {
		var e event
		if err := json.Unmarshal([]byte(p), &e); err != nil {
			s.t.Fatalf("%s: %v: %s", topic, err, p)
		}
		events = append(events, e)
	}
	return events
}

// children returns the processes below pid.
func children(t *testing.T, pid int) []int {
	t.Helper()
	var pids []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) && fields[0] != "Z" {
			pids = append(pids, id)
		}
	}
	return pids
}
