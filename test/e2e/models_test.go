package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"edged/test/oracle"
)

// copies puts the demo's model into a folder under several names.
func copies(t *testing.T, names ...string) (dir string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(oracle.Repo(t), "demo", "gguf", "hearth-4m-q4_0.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name+".gguf"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// modelState is what a client reads of ROOT/models/NAME.
type modelState struct {
	State string `json:"state"`
	Error string `json:"error"`
}

// twoFit is memory in which two of the demo's models are loaded.
const twoFit = "backend.memory_limit=40 MiB"

// backends are the processes of backends below edged.
func (s *service) backends() []int {
	var pids []int
	for _, pid := range children(s.t, s.cmd.Process.Pid) {
		if name, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.Contains(filepath.Base(name), "backend-") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lasts counts the requests that were answered.
func (s *service) lasts(topics []string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, topic := range topics {
		if slices.ContainsFunc(s.got[topic], func(p string) bool { return strings.Contains(p, `"done":true`) }) {
			n++
		}
	}
	return n
}

// answered waits until so many requests are answered.
func (s *service) answered(topics []string, n int) {
	s.t.Helper()
	deadline := time.After(5 * wait)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		got := s.lasts(topics)
		if got >= n {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("%d of %d requests are answered", got, n)
		}
	}
}

// A model whose headers are sound and that cannot be loaded all the same is told with its reason, and offered no more.
func TestModelThatDoesNotLoad(t *testing.T) {
	dir := copies(t, "a")
	for _, name := range []string{"config.json", "generation_config.json", "model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(oracle.Repo(t), "demo", "hf-nf4", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "mute"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "mute", name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, "model.path=", "models.dir="+dir, "models.default=a", "adapters.dir=")
	for i := range 2 {
		s.publish("edged/test/request/k", fmt.Sprintf(`{"id":"r%d","model":"mute","prompt":"Turn on the","max_tokens":3}`, i))
		events := s.last(fmt.Sprintf("edged/test/response/k/r%d", i))
		last := events[len(events)-1]
		if last.Error == nil || last.Error.Code != "model_not_found" || !strings.Contains(last.Error.Message, `"mute" cannot be served`) || !strings.Contains(last.Error.Message, "tokenizer") {
			t.Errorf("request %d: %+v", i, last.Error)
		}
	}
	s.until("edged/test/models/mute", func(p string) bool {
		var m modelState
		return json.Unmarshal([]byte(p), &m) == nil && m.State == "rejected" && strings.Contains(m.Error, "tokenizer")
	})
}

// Three models where two have room: 300 requests over them are answered, with the same text from each model, while backends and once the
// daemon are killed; each loading and unloading is told, and no more are loaded than have room.
func TestThreeModels(t *testing.T) {
	dir := copies(t, "a", "b", "c")
	s := serve(t, "model.path=", "models.dir="+dir, "models.default=a", "adapters.dir=", twoFit, "queue.size=400", "queue.per_client=100")
	names := []string{"a", "b", "c"}
	const requests = 300
	var topics []string
	for i := range requests {
		client, model := fmt.Sprint("k", i%6), names[i/2%3]
		s.publish("edged/test/request/"+client, fmt.Sprintf(`{"id":"r%d","model":%q,"prompt":"Turn on the","max_tokens":%d,"temperature":0.9,"seed":%d}`, i, model, 4+i%20, i%20))
		topics = append(topics, fmt.Sprintf("edged/test/response/%s/r%d", client, i))
	}
	killed := 0
	for done := 25; done < requests; done += 25 {
		s.answered(topics, done)
		if done == 150 {
			if err := s.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = s.cmd.Wait()
			before := s.wholeLog()
			s.cmd = start(t, exec.Command(s.cmd.Path, s.cmd.Args[1:]...))
			checkTold(t, before)
			continue
		}
		for _, pid := range s.backends() {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
				break
			}
		}
	}
	s.answered(topics, requests)
	texts := map[int]string{} // by seed, which the length follows
	waited := 0
	for i, topic := range topics {
		events := s.last(topic)
		last := events[len(events)-1]
		if last.Error != nil {
			t.Errorf("request %d: %v", i, *last.Error)
			continue
		}
		key := i % 20
		if texts[key] == "" {
			texts[key] = last.Text
		}
		if last.Text != texts[key] {
			t.Errorf("request %d: %q, and another model of the same weights says %q", i, last.Text, texts[key])
		}
		if slices.ContainsFunc(events, func(e event) bool { return e.Stage == "loading" }) {
			waited++
		}
	}
	if killed < 5 || waited == 0 {
		t.Errorf("%d backends were killed, and %d requests were told that they wait for a model", killed, waited)
	}
	loads := checkTold(t, s.wholeLog())
	t.Logf("%d backends killed, %d loads since the daemon's restart, %d requests waited for one", killed, loads, waited)
	if code := s.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// wholeLog is what the present process has logged.
func (s *service) wholeLog() string {
	s.t.Helper()
	log, ok := s.cmd.Stdout.(*os.File)
	if !ok {
		s.t.Fatal("its log is no file")
	}
	text, err := os.ReadFile(log.Name())
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

var told = regexp.MustCompile(`msg="model (loaded|unloaded)" model=([abc]) (bytes|why)=`)

// checkTold reads a log: each model is loaded and unloaded in turn, and no more than two at once. It returns the number of loads.
func checkTold(t *testing.T, log string) int {
	t.Helper()
	loaded, loads := map[string]bool{}, 0
	for _, m := range told.FindAllStringSubmatch(log, -1) {
		is := m[1] == "loaded"
		if loaded[m[2]] == is {
			t.Errorf("model %s was %s twice in a row", m[2], m[1])
		}
		if loaded[m[2]] = is; is {
			loads++
		} else {
			delete(loaded, m[2])
		}
		if len(loaded) > 2 {
			t.Errorf("three models are loaded where two have room")
		}
	}
	if loads < 3 {
		t.Errorf("%d loads were told", loads)
	}
	return loads
}

// What lies in the folder is told as it is: the broken with its reason, the too large with its figures, what comes and goes while the
// service runs; and a name that is not there is refused with those that are.
func TestModelsFolder(t *testing.T) {
	dir := copies(t, "a", "b")
	data, err := os.ReadFile(filepath.Join(dir, "a.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"cut.gguf": data[:len(data)/2], "junk.gguf": []byte("no model")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, "model.path=", "models.dir="+dir, "models.default=a", "adapters.dir=", "models.settle=50ms", "backend.memory_limit=60 MiB")
	state := func(name, want, reason string) {
		t.Helper()
		s.until("edged/test/models/"+name, func(p string) bool {
			var m modelState
			return json.Unmarshal([]byte(p), &m) == nil && m.State == want && strings.Contains(m.Error, reason)
		})
	}
	state("a", "loaded", "")
	state("b", "available", "")
	state("cut", "rejected", "cut.gguf")
	state("junk", "rejected", "junk.gguf")
	s.publish("edged/test/request/k", `{"id":"r1","model":"nobody","prompt":"x"}`)
	if e := s.last("edged/test/response/k/r1"); e[0].Error == nil || e[0].Error.Code != "model_not_found" || !strings.HasSuffix(e[0].Error.Message, "there are a, b") {
		t.Errorf("%+v", e)
	}
	s.publish("edged/test/request/k", `{"id":"r2","model":"cut","prompt":"x"}`)
	if e := s.last("edged/test/response/k/r2"); e[0].Error == nil || e[0].Error.Code != "model_not_found" || !strings.Contains(e[0].Error.Message, "cannot be served") {
		t.Errorf("%+v", e)
	}
	s.publish("edged/test/request/k", `{"id":"r3","model":"b","adapter":"pirate","prompt":"x"}`)
	if e := s.last("edged/test/response/k/r3"); e[0].Error == nil || e[0].Error.Code != "adapter_not_found" {
		t.Errorf("%+v", e)
	}

	// A model that comes in pieces is taken when it is whole.
	late := filepath.Join(dir, "late.gguf")
	if err := os.WriteFile(late, data[:1000], 0o600); err != nil {
		t.Fatal(err)
	}
	state("late", "settling", "late.gguf")
	if err := os.WriteFile(late, data, 0o600); err != nil {
		t.Fatal(err)
	}
	state("late", "available", "")
	s.publish("edged/test/request/k", `{"id":"r4","model":"late","prompt":"x","max_tokens":2}`)
	if e := s.last("edged/test/response/k/r4"); e[len(e)-1].Error != nil || e[len(e)-1].Model != "late" {
		t.Errorf("%+v", e)
	}
	s.publish("edged/test/request/k", `{"id":"r6","prompt":"x","max_tokens":2}`)
	if e := s.last("edged/test/response/k/r6"); e[len(e)-1].Model != "a" {
		t.Errorf("the default model is called as it is served: %+v", e)
	}
	out, _, code := edged(t, "models", "--node", "test", "--broker", fmt.Sprintf("tcp://127.0.0.1:%d", s.port))
	for _, line := range []string{"loaded    a: the default, llama, Q4_0", "loaded    late: llama", "available b: llama", "rejected  junk"} {
		if code != 0 || !strings.Contains(out, line) {
			t.Errorf("exit code %d, no line %q in\n%s", code, line, out)
		}
	}
	if err := os.Remove(late); err != nil {
		t.Fatal(err)
	}
	s.until("edged/test/models/late", func(p string) bool { return p == "" })
	s.publish("edged/test/request/k", `{"id":"r5","model":"late","prompt":"x"}`)
	if e := s.last("edged/test/response/k/r5"); e[0].Error == nil || e[0].Error.Code != "model_not_found" {
		t.Errorf("%+v", e)
	}
}
