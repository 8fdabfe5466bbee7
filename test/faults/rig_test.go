// Package faults kills, stops and floods the built programs under load, and fills their disk: whatever happens, every
// accepted request has exactly one last event, which is the undisturbed one, and the node is in service afterwards.
//
// The set is short by default; EDGED_SOAK=1 makes it long, EDGED_FAULT_ROUNDS and EDGED_FAULT_SEED set the number of rounds
// and where their random moments start. Tests print their counts.
package faults

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"edged/test/brokers"
	"edged/test/oracle"
)

// patience bounds every wait for something that is about to happen. Machines are shared; nothing waits so long that works.
const patience = 10 * time.Minute

// built is the folder with the programs under test.
var built string

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" && built != os.Getenv("EDGED_TEST_PROGRAMS") {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// programs builds edged and the plugins that the tests need, once, or takes those that EDGED_TEST_PROGRAMS names.
func programs(t *testing.T) string {
	t.Helper()
	if built == "" {
		built = os.Getenv("EDGED_TEST_PROGRAMS")
	}
	if built != "" {
		return built
	}
	dir, err := os.MkdirTemp("", "edged-faults-") //nolint:usetesting // outlives the test that builds it
	if err != nil {
		t.Fatal(err)
	}
	built = dir
	if err := os.Mkdir(filepath.Join(dir, "plugins"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-o", filepath.Join(dir, "edged"), "./cmd/edged"},
		{"-o", filepath.Join(dir, "plugins") + "/", "./plugins/tokenizer-bpe", "./plugins/backend-generic"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath"}, args...)...)
		cmd.Dir = oracle.Repo(t)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	return dir
}

// rig is a node on a broker, with a client that loads it.
type rig struct {
	t      *testing.T
	dir    string
	broker *brokers.Broker // nil: a test's own
	daemon *exec.Cmd
	log    string
	args   []string
	tmp    string       // for the sockets of plugins, whose paths must be short
	seen   map[int]bool // every process of a plugin that ever was
	*load
}

// newRig starts a broker and a node, and waits until the node is online. settings are of the form section.key=value.
func newRig(t *testing.T, settings ...string) *rig {
	t.Helper()
	r := prepare(t, settings...)
	r.start()
	r.online()
	return r
}

// prepare is newRig without the node.
func prepare(t *testing.T, settings ...string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), broker: brokers.Start(t, brokers.Kind()), seen: map[int]bool{}}
	r.configure(r.broker.URL(), settings...)
	r.load = newLoad(t, r.broker.URL())
	return r
}

func (r *rig) configure(url string, settings ...string) {
	r.t.Helper()
	repo := oracle.Repo(r.t)
	r.log = filepath.Join(r.dir, "log")
	conf := filepath.Join(r.dir, "edged.toml")
	text := fmt.Sprintf("[node]\nname = \"test\"\n[mqtt]\nbroker = %q\n[model]\npath = %q\n[backend]\nname = \"generic\"\n[adapters]\ndir = \"\"\n[state]\ndir = %q\n",
		url, filepath.Join(repo, "demo/hf-nf4"), filepath.Join(r.dir, "state"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.args = []string{"run", "--config", conf}
	for _, s := range settings {
		r.args = append(r.args, "--set", s)
	}
	bin := programs(r.t)
	tmp, err := os.MkdirTemp("", "ef-")
	if err != nil {
		r.t.Fatal(err)
	}
	r.tmp = tmp
	r.t.Cleanup(func() {
		defer os.RemoveAll(tmp)
		r.kill()
		if r.t.Failed() {
			text, _ := os.ReadFile(r.log)
			r.t.Logf("edged:\n%s", text[max(0, len(text)-12_000):])
		}
		if left := running(bin); len(left) > 0 {
			r.t.Errorf("orphans: %v", left)
		}
	})
}

// start starts the node.
func (r *rig) start() {
	r.t.Helper()
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.daemon = exec.Command(filepath.Join(programs(r.t), "edged"), r.args...)
	r.daemon.Stdout, r.daemon.Stderr = log, log
	r.daemon.Env = append(os.Environ(), "GOTRACEBACK=all", "TMPDIR="+r.tmp)
	if err := r.daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
}

// kill kills the node, waits for its end, and then for that of its plugins.
func (r *rig) kill() {
	if r.daemon == nil {
		return
	}
	for _, pid := range r.plugins() {
		r.seen[pid] = true
	}
	_ = r.daemon.Process.Kill()
	_ = r.daemon.Wait()
	r.daemon = nil
	r.orphans()
}

// stop asks the node to end, and fails unless it does with code 0.
func (r *rig) stop() {
	r.t.Helper()
	_ = r.daemon.Process.Signal(syscall.SIGTERM)
	if err := r.daemon.Wait(); err != nil {
		r.t.Errorf("after SIGTERM: %v", err)
	}
	r.daemon = nil
}

// logged reports whether the log has a text by now.
func (r *rig) logged(text string) bool {
	data, _ := os.ReadFile(r.log)
	return bytes.Contains(data, []byte(text))
}

// orphans waits until no plugin of an earlier life is left.
func (r *rig) orphans() {
	r.t.Helper()
	var current []int
	if r.daemon != nil {
		for _, pid := range r.plugins() {
			current = append(current, pid)
		}
	}
	for pid := range r.seen {
		if !slices.Contains(current, pid) {
			eventually(r.t, fmt.Sprintf("process %d ends", pid), func() bool { return program(pid) == "" })
			delete(r.seen, pid)
		}
	}
}

// plugins are the plugin processes of the node by their program's name.
func (r *rig) plugins() map[string]int {
	out := map[string]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || parent(pid) != r.daemon.Process.Pid {
			continue
		}
		if name := filepath.Base(program(pid)); strings.HasPrefix(name, "backend-") || strings.HasPrefix(name, "tokenizer-") {
			out[strings.Split(name, "-")[0]] = pid
		}
	}
	return out
}

// plugin waits until a plugin ("backend", "tokenizer") runs.
func (r *rig) plugin(kind string) int {
	r.t.Helper()
	var pid int
	eventually(r.t, "the "+kind+" runs", func() bool { pid = r.plugins()[kind]; return pid != 0 })
	r.seen[pid] = true
	return pid
}

// program is the file that a process runs; "" where there is no process or it has ended.
func program(pid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(path, " (deleted)")
}

func parent(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	id, _ := strconv.Atoi(fields[1])
	return id
}

// running waits for a while until no process runs a file of dir, and returns those that do.
func running(dir string) (left []string) {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left = left[:0]
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err == nil && strings.HasPrefix(program(pid), dir+"/") {
				left = append(left, fmt.Sprint(pid, " ", program(pid)))
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// use is what a process holds.
type use struct{ files, memory, peak int } // memory: resident, and the most that ever was, kB

func usage(t *testing.T, pid int) use {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	of := func(field string) int {
		_, rest, _ := strings.Cut(string(status), field)
		kb, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		return kb
	}
	return use{len(entries), of("VmRSS:"), of("VmHWM:")}
}

// goroutines ends the node by a signal that makes it print its goroutines, and counts them.
func (r *rig) goroutines() int {
	r.t.Helper()
	before, _ := os.ReadFile(r.log)
	for _, pid := range r.plugins() {
		r.seen[pid] = true
	}
	_ = r.daemon.Process.Signal(syscall.SIGQUIT)
	_ = r.daemon.Wait()
	r.daemon = nil
	r.orphans()
	after, err := os.ReadFile(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	n := bytes.Count(after[len(before):], []byte("\ngoroutine "))
	if n == 0 {
		r.t.Fatal("SIGQUIT printed no goroutines")
	}
	return n
}
