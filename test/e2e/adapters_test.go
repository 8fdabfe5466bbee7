package e2e

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"edged/test/oracle"
)

// soak returns the full count with EDGED_SOAK=1, and else the short one.
func soak(short, full int) int {
	if os.Getenv("EDGED_SOAK") == "1" {
		return full
	}
	return short
}

// adapterState is what a client reads on adapters/NAME.
type adapterState struct {
	State      string `json:"state"`
	Generation int    `json:"generation"`
	SHA256     string `json:"sha256"`
	Error      string `json:"error"`
}

// latest returns the newest payload of a topic; "" where there is none.
func (s *service) latest(topic string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.got[topic]; len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// adapter waits until the newest state of an adapter is one that ok accepts. "" is that of a removed one.
func (s *service) adapter(name string, ok func(adapterState) bool) adapterState {
	s.t.Helper()
	topic := "edged/test/adapters/" + name
	deadline := time.After(wait)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		var a adapterState
		if text := s.latest(topic); text != "" {
			if err := json.Unmarshal([]byte(text), &a); err != nil {
				s.t.Fatalf("%s: %v: %s", topic, err, text)
			}
		}
		if ok(a) {
			return a
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("adapter %s stays %+v", name, a)
		}
	}
}

func active(a adapterState) bool { return a.State == "active" }

// forget drops what came on a topic, for clients that ask again and again.
func (s *service) forget(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.got, topic)
}

// greet asks with an adapter at temperature 0 and returns the last event.
func (s *service) greet(id, adapter string) (last event, sha256 string) {
	s.t.Helper()
	s.publish("edged/test/request", fmt.Sprintf(`{"id":%q,"adapter":%q,"temperature":0,"prompt":"Open the porch shutters."}`, id, adapter))
	topic := "edged/test/response/" + id
	events := s.last(topic)
	var used struct {
		Adapters []struct{ SHA256 string }
	}
	_ = json.Unmarshal([]byte(s.latest(topic)), &used)
	if len(used.Adapters) == 1 {
		sha256 = used.Adapters[0].SHA256
	}
	s.forget(topic)
	return events[len(events)-1], sha256
}

// copyTree is cp -r.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}

func demoAdapters(t *testing.T) string {
	t.Helper()
	return filepath.Join(oracle.Repo(t), "demo/adapters")
}

// loaded waits for stats that ok accepts.
func (s *service) stats(ok func(adapters statsAdapters, memory int64) bool) {
	s.t.Helper()
	s.forget("edged/test/stats")
	s.until("edged/test/stats", func(p string) bool {
		var v struct {
			Adapters statsAdapters `json:"adapters"`
			Memory   int64         `json:"memory_bytes"`
		}
		return json.Unmarshal([]byte(p), &v) == nil && ok(v.Adapters, v.Memory)
	})
}

type statsAdapters struct {
	Served, Rejected, Draining, Loaded int
	Swaps                              int
	Bytes                              int64
}

// TestDropToFirstToken drops the demo's pirate into a running service, uses it, and removes it while a request runs on it.
func TestDropToFirstToken(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, "adapters.dir="+dir)
	if last, _ := s.greet("before", "pirate"); last.Error == nil || last.Error.Code != "adapter_not_found" {
		t.Fatalf("before the drop: %+v", last)
	}
	began := time.Now()
	copyTree(t, filepath.Join(demoAdapters(t), "pirate"), dir+"/")
	s.adapter("pirate", active)
	s.publish("edged/test/request", `{"id":"first","adapter":"pirate","stream":true,"temperature":0,"prompt":"Open the porch shutters."}`)
	s.until("edged/test/response/first", func(p string) bool { return strings.Contains(p, `"delta"`) })
	t.Logf("from cp -r to the first token: %v, of which settle is 1 s", time.Since(began).Round(time.Millisecond))
	if events := s.last("edged/test/response/first"); !strings.Contains(events[len(events)-1].Text, "th' porch shutters be open") {
		t.Errorf("pirate said %q", events[len(events)-1].Text)
	}
	copyTree(t, filepath.Join(demoAdapters(t), "deutsch"), dir+"/")
	s.adapter("deutsch", active)
	s.publish("edged/test/request/dev", `{"id":"long","adapter":"pirate","stream":true,"temperature":1.5,"seed":1,"ignore_eos":true,"max_tokens":400,"prompt":"Tell me a story."}`)
	s.until("edged/test/response/dev/long", func(p string) bool { return strings.Contains(p, `"delta"`) })
	if err := os.RemoveAll(filepath.Join(dir, "pirate")); err != nil {
		t.Fatal(err)
	}
	s.adapter("pirate", func(a adapterState) bool { return a.State == "draining" || a.State == "" })
	if last, _ := s.greet("after", "pirate"); last.Error == nil || last.Error.Code != "adapter_not_found" || !strings.Contains(last.Error.Message, "deutsch") {
		t.Errorf("after the removal: %+v, want adapter_not_found with the list", last)
	}
	if events := s.last("edged/test/response/dev/long"); events[len(events)-1].Usage.Completion != 400 {
		t.Errorf("the running request: %+v, want all 400 tokens", events[len(events)-1])
	}
	s.adapter("pirate", func(a adapterState) bool { return a.State == "" })
}

// TestSwapsUnderLoad changes an adapter over and over while requests use it.
func TestSwapsUnderLoad(t *testing.T) {
	swaps := soak(6, 1000)
	dir, side := t.TempDir(), t.TempDir()
	first := filepath.Join(side, "v1")
	copyTree(t, filepath.Join(demoAdapters(t), "pirate"), first)
	if err := os.Symlink(first, filepath.Join(dir, "x")); err != nil {
		t.Fatal(err)
	}
	// The window, so that memory shows what swaps leave behind and not what is remembered of answers.
	s := serve(t, "adapters.dir="+dir, "adapters.settle=20ms", "mqtt.stats_interval=1s", "inbox.dedupe_window=1s")
	s.adapter("x", active)
	want := map[string]string{} // text by content
	ask := func(id string) string {
		last, sum := s.greet(id, "x")
		if last.Error != nil || sum == "" {
			t.Fatalf("%s: %+v", id, last.Error)
		}
		if known, ok := want[sum]; ok && known != last.Text {
			t.Fatalf("%s: content %.8s said %q, and %q alone", id, sum, last.Text, known)
		}
		return sum + last.Text
	}
	target := first
	swap := func(to string, generation int) adapterState {
		from := filepath.Join(demoAdapters(t), to)
		if generation%2 == 0 { // in place, file by file
			if out, err := exec.Command("cp", "-r", from+"/.", target).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v\n%s", err, out)
			}
		} else { // by turning a link
			next := filepath.Join(side, fmt.Sprint("v", generation))
			copyTree(t, from, next)
			link := filepath.Join(side, "link")
			if err := errors.Join(os.Symlink(next, link), os.Rename(link, filepath.Join(dir, "x")), os.RemoveAll(target)); err != nil {
				t.Fatal(err)
			}
			target = next
		}
		return s.adapter("x", func(a adapterState) bool { return a.State == "active" && a.Generation == generation })
	}
	// What each says alone.
	alone := func(id string) {
		last, sum := s.greet(id, "x")
		if last.Error != nil || last.Text == "" {
			t.Fatalf("alone: %+v", last)
		}
		want[sum] = last.Text
	}
	alone("alone-1")
	swap("deutsch", 2)
	alone("alone-2")
	if len(want) != 2 {
		t.Fatalf("two adapters have %d contents", len(want))
	}
	s.stats(func(a statsAdapters, _ int64) bool { return a.Loaded == 1 && a.Draining == 0 })
	stop, asked := make(chan struct{}), make(chan int, 3)
	failures := make(chan string, 3)
	for client := range 3 {
		go func() {
			n := 0
			defer func() { asked <- n }()
			for ; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if why := s.load(client, n, want); why != "" {
					failures <- why
					return
				}
			}
		}()
	}
	names := []string{"pirate", "deutsch"}
	var memory []int64
	for i := range swaps {
		swap(names[i%2], i+3)
		select {
		case why := <-failures:
			t.Fatalf("after %d swaps: %s", i+1, why)
		default:
		}
		if swaps >= 100 && i%10 == 9 {
			memory = append(memory, resident(t, s.cmd.Process.Pid))
			if i%100 == 99 {
				for _, p := range append(children(t, s.cmd.Process.Pid), s.cmd.Process.Pid) {
					t.Logf("%d swaps: process %d holds %d kB", i+1, p, rss(p))
				}
			}
		}
		s.forget("edged/test/adapters/x")
	}
	close(stop)
	total := 0
	for range 3 {
		total += <-asked
	}
	select {
	case why := <-failures:
		t.Fatal(why)
	default:
	}
	if total == 0 {
		t.Error("nothing was asked meanwhile")
	}
	ask("again")
	s.stats(func(a statsAdapters, _ int64) bool { return a.Loaded == 1 && a.Draining == 0 && a.Swaps == swaps+2 })
	t.Logf("%d swaps, %d requests, none failed or mixed", swaps, total)
	if len(memory) >= 50 {
		half := memory[len(memory)/2:]
		t.Logf("resident of daemon and plugins over the last half, in kB: least %d, most %d, slope %.2f a swap", slices.Min(half), slices.Max(half), slope(half)/10)
		if slope(half)/10 > 10 { // kB a swap: a leaked adapter is 400
			t.Errorf("memory grows by %.1f kB a swap: %v", slope(half)/10, half)
		}
	}
}

// load asks once and says what is wrong with the answer; "": nothing.
func (s *service) load(client, n int, want map[string]string) string {
	id := fmt.Sprintf("c%d-%d", client, n)
	topic := fmt.Sprintf("edged/test/response/c%d/%s", client, id)
	token := s.client.Publish(fmt.Sprintf("edged/test/request/c%d", client), 1, false, fmt.Sprintf(`{"id":%q,"adapter":"x","temperature":0,"prompt":"Open the porch shutters."}`, id))
	if !token.WaitTimeout(wait) || token.Error() != nil {
		return fmt.Sprintf("publish: %v", token.Error())
	}
	deadline := time.After(wait)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		var e struct {
			event
			Adapters []struct{ SHA256 string } `json:"adapters"`
		}
		if json.Unmarshal([]byte(s.latest(topic)), &e) == nil && e.Done == true {
			s.forget(topic)
			switch {
			case e.Error != nil:
				return fmt.Sprintf("%s failed: %+v", id, *e.Error)
			case len(e.Adapters) != 1 || want[e.Adapters[0].SHA256] != e.Text:
				return fmt.Sprintf("%s: %+v said %q, want one of %q", id, e.Adapters, e.Text, want)
			}
			return ""
		}
		select {
		case <-changed:
		case <-deadline:
			return id + ": no answer"
		}
	}
}

// resident is the memory of a process and those below it, in kB.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	total := rss(pid)
	for _, p := range children(t, pid) {
		total += rss(p)
	}
	return total
}

// rss is the memory of one process, in kB; 0: it is gone.
func rss(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "Rss:")
	kb, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	return kb
}

// slope is the least-squares slope of values at 0, 1, 2 and so on.
func slope(values []int64) float64 {
	n := float64(len(values))
	var sx, sy, sxx, sxy float64
	for i, v := range values {
		x, y := float64(i), float64(v)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// TestHostileDrops throws rubbish into the folder while a good adapter is served.
func TestHostileDrops(t *testing.T) {
	dir := t.TempDir()
	copyTree(t, filepath.Join(demoAdapters(t), "pirate"), filepath.Join(dir, "pirate"))
	s := serve(t, "adapters.dir="+dir, "adapters.settle=20ms", "mqtt.stats_interval=1s")
	first := s.adapter("pirate", active)
	good, sum := s.greet("good", "pirate")
	pids := children(t, s.cmd.Process.Pid)
	h := hostile{t: t, dir: dir, random: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // the same drops every time
	h.config, h.tensors = h.read("adapter_config.json"), h.read("adapter_model.safetensors")
	kinds := h.kinds()
	for i := range soak(len(kinds), 500) {
		kind := kinds[i%len(kinds)]
		name := fmt.Sprintf("h%d", i)
		kind.drop(filepath.Join(dir, name))
		if kind.onTopic {
			a := s.adapter(name, func(a adapterState) bool { return a.State == "rejected" })
			if a.Error == "" || a.Generation != 0 {
				t.Errorf("%s: %+v: want a reason", kind.what, a)
			}
			if i < len(kinds) {
				t.Logf("%s: %s", kind.what, a.Error)
			}
		}
		if i%8 == 7 {
			if last, got := s.greet(fmt.Sprintf("q%d", i), "pirate"); last.Error != nil || last.Text != good.Text || got != sum {
				t.Fatalf("%s: pirate says %+v, and said %q", kind.what, last, good.Text)
			}
		}
		_ = os.RemoveAll(filepath.Join(dir, name))
		_ = os.RemoveAll(filepath.Join(dir, name+".gguf"))
	}
	// What is served is replaced by rubbish: it stays.
	if err := os.WriteFile(filepath.Join(dir, "pirate", "adapter_model.safetensors"), h.tensors[:1000], 0o600); err != nil {
		t.Fatal(err)
	}
	s.adapter("pirate", func(a adapterState) bool {
		return a.State == "rejected" && a.Generation == first.Generation && a.SHA256 == first.SHA256 && a.Error != ""
	})
	if last, got := s.greet("end", "pirate"); last.Error != nil || last.Text != good.Text || got != sum {
		t.Errorf("pirate says %+v, and said %q", last, good.Text)
	}
	if now := children(t, s.cmd.Process.Pid); !slices.Equal(slices.Sorted(slices.Values(now)), slices.Sorted(slices.Values(pids))) {
		t.Errorf("plugins %v, and were %v: one crashed", now, pids)
	}
	s.stats(func(a statsAdapters, _ int64) bool { return a.Loaded == 1 && a.Served == 1 && a.Rejected == 1 })
}

// hostile makes bad drops.
type hostile struct {
	t               *testing.T
	dir             string
	random          *rand.Rand
	config, tensors []byte
}

type hostileKind struct {
	what    string
	drop    func(path string)
	onTopic bool // the reason is on the topic; else in the log
}

func (h *hostile) read(file string) []byte {
	data, err := os.ReadFile(filepath.Join(demoAdapters(h.t), "pirate", file))
	if err != nil {
		h.t.Fatal(err)
	}
	return data
}

func (h *hostile) write(path string, config, tensors []byte) {
	h.t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		h.t.Fatal(err)
	}
	for file, data := range map[string][]byte{"adapter_config.json": config, "adapter_model.safetensors": tensors} {
		if err := os.WriteFile(filepath.Join(path, file), data, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *hostile) kinds() []hostileKind {
	header := binary.LittleEndian.Uint64(h.tensors)
	patched := func(from, to string) []byte {
		head := strings.ReplaceAll(string(h.tensors[8:8+header]), from, to)
		return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...), h.tensors[8+header:]...)
	}
	folder := func(what string, config, tensors func() []byte) hostileKind {
		return hostileKind{what, func(path string) { h.write(path, config(), tensors()) }, true}
	}
	same := func(b []byte) func() []byte { return func() []byte { return b } }
	return []hostileKind{
		folder("tensors cut off", same(h.config), func() []byte { return h.tensors[:h.random.IntN(len(h.tensors))] }),
		folder("config cut off", func() []byte { return h.config[:h.random.IntN(len(h.config)-2)] }, same(h.tensors)),
		folder("a byte of the header flipped", same(h.config), func() []byte {
			b := slices.Clone(h.tensors)
			b[8+h.random.IntN(12)] ^= 0x80
			return b
		}),
		folder("not a number", same(h.config), func() []byte {
			b := slices.Clone(h.tensors)
			for i := range 4 {
				b[len(b)-1-4*h.random.IntN(1000)-i] = 0xff
			}
			return append(b[:len(b)-8], 0, 0, 0xc0, 0x7f, 0xff, 0xff, 0xff, 0xff)
		}),
		folder("10 GB declared", same(h.config), func() []byte {
			return append(binary.LittleEndian.AppendUint64(nil, 10<<30), h.tensors[8:]...)
		}),
		folder("another rank", func() []byte { return []byte(strings.ReplaceAll(string(h.config), `"r": 8`, `"r": 4`)) }, same(h.tensors)),
		folder("a module that no model has", func() []byte {
			return []byte(strings.ReplaceAll(string(h.config), "q_proj", "w_proj"))
		}, func() []byte { return patched("q_proj", "w_proj") }),
		folder("a layer that the model has not", same(h.config), func() []byte { return patched("layers.0.", "layers.77.") }),
		folder("rubbish in both", same([]byte("rubbish")), same([]byte("rubbish"))),
		{"a GGUF file of zeros", func(path string) { _ = os.WriteFile(path+".gguf", make([]byte, 4096), 0o600) }, true},
		{"a sparse file of 10 GB", func(path string) {
			_ = os.WriteFile(path+".gguf", nil, 0o600)
			_ = os.Truncate(path+".gguf", 10<<30)
		}, true},
		{"a link to itself", func(path string) { _ = os.Symlink(filepath.Base(path), path) }, true},
		{"a link to a folder that is none", func(path string) { _ = os.Symlink("/proc/self", path) }, true},
		{"a pipe", func(path string) { _ = syscall.Mkfifo(path+".gguf", 0o600) }, true},
		{"a folder full of rubbish", func(path string) {
			_ = os.Mkdir(path, 0o700)
			for i := range 100 {
				_ = os.WriteFile(filepath.Join(path, strconv.Itoa(i)), []byte("rubbish"), 0o600)
			}
		}, true},
		{"a name beside a name", func(path string) { _ = os.WriteFile(filepath.Join(h.dir, "pirate.gguf"), []byte(path), 0o600) }, false},
		{"a name with a way up", func(path string) {
			_ = os.WriteFile(filepath.Join(h.dir, `..\..\`+filepath.Base(path)+".gguf"), nil, 0o600)
		}, false},
		{"replaced while it is looked at", func(path string) {
			h.write(path, h.config, h.tensors[:5000])
			for range 20 {
				h.write(path, h.config, h.tensors[:h.random.IntN(len(h.tensors))])
			}
		}, true},
	}
}
