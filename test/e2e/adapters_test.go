package e2e

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	Kind       string `json:"kind"`
	Virtual    int    `json:"virtual_tokens"`
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

// softPrompt writes a soft prompt of so many virtual tokens for the demo model.
func softPrompt(t *testing.T, dir string, tokens int) {
	t.Helper()
	const width = 256
	header := fmt.Sprintf(`{"prompt_embeddings":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,%d]}}`, tokens, width, 4*tokens*width)
	data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	for i := range tokens * width {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(0.01*float32(i%7)))
	}
	err := errors.Join(
		os.Mkdir(dir, 0o700),
		os.WriteFile(filepath.Join(dir, "adapter_config.json"), fmt.Appendf(nil, `{"peft_type":"PROMPT_TUNING","num_virtual_tokens":%d,"token_dim":%d}`, tokens, width), 0o600),
		os.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), data, 0o600),
	)
	if err != nil {
		t.Fatal(err)
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
	softPrompt(t, filepath.Join(dir, "soft"), 5)
	if a := s.adapter("soft", active); a.Kind != "soft_prompt" || a.Virtual != 5 {
		t.Errorf("a soft prompt: %+v", a)
	}
	plain, _ := s.greet("plain", "deutsch")
	if last, _ := s.greet("soft", "soft"); last.Error != nil || last.Usage.Virtual != 5 || last.Usage.Prompt != plain.Usage.Prompt+5 || plain.Usage.Virtual != 0 {
		t.Errorf("with a soft prompt: %+v, and without: %+v", last, plain)
	}
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
	asked := s.ask(3, want)
	names := []string{"pirate", "deutsch"}
	var memory []int64
	for i := range swaps {
		swap(names[i%2], i+3)
		asked.check(t)
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
	total := asked.end(t)
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

// An asker asks x over and over.
type asker struct {
	stop     chan struct{}
	wg       sync.WaitGroup
	failures chan string
	mu       sync.Mutex
	total    int
}

// ask has clients ask until end. want is what may be said, by content.
func (s *service) ask(clients int, want map[string]string) *asker {
	a := &asker{stop: make(chan struct{}), failures: make(chan string, clients)}
	want = maps.Clone(want)
	for client := range clients {
		a.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-a.stop:
					return
				default:
				}
				if why := s.load(client, n, want); why != "" {
					a.failures <- why
					return
				}
				a.mu.Lock()
				a.total++
				a.mu.Unlock()
			}
		})
	}
	return a
}

func (a *asker) check(t *testing.T) {
	t.Helper()
	select {
	case why := <-a.failures:
		t.Fatal(why)
	default:
	}
}

// end waits for the answers that are due, and counts all.
func (a *asker) end(t *testing.T) int {
	t.Helper()
	close(a.stop)
	a.wg.Wait()
	a.check(t)
	return a.total
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
