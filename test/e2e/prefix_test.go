package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// result is what a client reads of a last event.
type result struct {
	Usage struct {
		Prompt int `json:"prompt_tokens"`
		Cached int `json:"cached_tokens"`
	} `json:"usage"`
	Embeddings [][]float64 `json:"embeddings"`
	Scores     []float64   `json:"scores"`
	Error      *struct{ Code, Message string }
}

// result waits for the last event of a request.
func (s *service) result(id string) result {
	s.t.Helper()
	all := s.until("edged/test/response/"+id, func(p string) bool { return strings.Contains(p, `"done":true`) })
	var r result
	if err := json.Unmarshal([]byte(all[len(all)-1]), &r); err != nil {
		s.t.Fatalf("%s: %v", id, err)
	}
	return r
}

// logged waits until the service has logged a text.
func (s *service) logged(text string) {
	s.t.Helper()
	file, ok := s.cmd.Stdout.(*os.File)
	if !ok {
		s.t.Fatal("the service has no log")
	}
	s.eventually("the log says "+text, func() bool {
		log, err := os.ReadFile(file.Name())
		return err == nil && strings.Contains(string(log), text)
	})
}

// eventually waits until something holds.
func (s *service) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(wait); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s", wait, what)
		}
	}
}

func TestEmbedAndScore(t *testing.T) {
	s := serve(t)
	ask := func(topic, id, payload string) result {
		t.Helper()
		s.publish("edged/test/"+topic, payload)
		return s.result(id)
	}
	one := ask("embed", "e", `{"id":"e","input":["kitchen light on","kitchen light off","porch"]}`)
	if len(one.Embeddings) != 3 || one.Error != nil {
		t.Fatalf("%d vectors, %+v", len(one.Embeddings), one.Error)
	}
	for i, v := range one.Embeddings {
		length := 0.0
		for _, x := range v {
			length += x * x
		}
		if length < 0.999 || length > 1.001 {
			t.Errorf("vector %d has the squared length %v", i, length)
		}
	}
	again := ask("embed", "f", `{"id":"f","input":"porch"}`)
	if !slices.Equal(again.Embeddings[0], one.Embeddings[2]) {
		t.Error("the same text has two vectors")
	}
	if e := ask("embed", "g", `{"id":"g","input":"porch","adapter":"pirate"}`).Error; e == nil || e.Code != "unsupported" {
		t.Errorf("an adapter: %+v", e)
	}
	if cut := ask("embed", "h", `{"id":"h","input":"`+strings.Repeat("word ", 2000)+`"}`); cut.Error != nil || cut.Usage.Prompt != 512 {
		t.Errorf("a long text: %d tokens, %+v", cut.Usage.Prompt, cut.Error)
	}
	if e := ask("embed", "i", `{"id":"i","truncate":false,"input":"`+strings.Repeat("word ", 2000)+`"}`).Error; e == nil || e.Code != "context_length_exceeded" {
		t.Errorf("a long text that may not be cut: %+v", e)
	}
	score := ask("score", "s", `{"id":"s","prompt":"The kitchen light is on."}`)
	if len(score.Scores) != score.Usage.Prompt-1 || len(score.Scores) < 4 {
		t.Errorf("%d scores for %d tokens", len(score.Scores), score.Usage.Prompt)
	}
	for _, p := range score.Scores {
		if p > 0 {
			t.Errorf("a log-probability of %v", p)
		}
	}
}

// TestPrefixesSurvive: the beginning of a prompt is read once in the life of a house: not after a restart, not after a crash;
// what is pinned is known to the first request.
func TestPrefixesSurvive(t *testing.T) {
	dir := t.TempDir()
	pinned := filepath.Join(dir, "pinned.txt")
	system := strings.TrimSpace(strings.Repeat("The kitchen light is on. The porch is cold. ", 12))
	if err := os.WriteFile(pinned, []byte(system), 0o600); err != nil {
		t.Fatal(err)
	}
	number := 0
	ask := func(s *service, system string) (cached, prompt int) {
		t.Helper()
		number++
		id := "p" + strconv.Itoa(number)
		s.publish("edged/test/request", fmt.Sprintf(`{"id":%q,"temperature":0,"max_tokens":4,"messages":[{"role":"system","content":%q},{"role":"user","content":"Question %d?"}]}`, id, system, number))
		last := s.result(id)
		if last.Error != nil {
			t.Fatalf("%+v", last.Error)
		}
		return last.Usage.Cached, last.Usage.Prompt
	}
	state := "state.dir=" + filepath.Join(dir, "state")
	other := "Now " + system
	s := serve(t, state, "prefix_cache.disk_tokens=64")
	if cached, _ := ask(s, other); cached > 32 {
		t.Errorf("%d tokens were cached before anybody sent them", cached)
	}
	// Pages are written behind the answer's back.
	pages := filepath.Join(dir, "state", "cache", "prefixes", "*.page")
	s.eventually("a page was written", func() bool {
		found, err := filepath.Glob(pages)
		return err == nil && len(found) >= 2
	})
	s.stop()

	s = serve(t, state, "prefix_cache.pinned="+pinned)
	if cached, prompt := ask(s, other); cached < 64 {
		t.Errorf("after a restart %d of %d tokens were cached", cached, prompt)
	}
	s.logged("prefix pinned")
	if cached, prompt := ask(s, system); cached < 96 {
		t.Errorf("of a pinned prefix %d of %d tokens were cached", cached, prompt)
	}
}
