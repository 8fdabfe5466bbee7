package http

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edged/core/config"
	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
)

// fake is a dispatcher whose answers a test scripts.
type fake struct {
	refuse *dispatch.Error
	play   func(req *dispatch.Request, sink dispatch.Sink) // in a goroutine of its own

	mu        sync.Mutex
	requests  []*dispatch.Request
	cancelled chan string
}

func (f *fake) Submit(_ context.Context, req *dispatch.Request, sink dispatch.Sink) error {
	if f.refuse != nil {
		return f.refuse
	}
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.mu.Unlock()
	sink.Event(req, dispatch.Event{Attempt: 1, Accepted: &dispatch.Accepted{}})
	go f.play(req, sink)
	return nil
}

func (f *fake) Cancel(_, id string) bool {
	f.cancelled <- id
	return true
}

// last is the latest request.
func (f *fake) last(t *testing.T) *dispatch.Request {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) == 0 {
		t.Fatal("nothing was submitted")
	}
	return f.requests[len(f.requests)-1]
}

// offers is what the fake node has.
type offers []Model

func (o offers) Models() []Model { return o }

func (offers) Why(name string) string {
	if name == "cut" {
		return "it ends within its weights"
	}
	return ""
}

func models() offers {
	base := Model{
		Loaded: true,
		ID:     "tiny", Title: "Tiny of Tests", Arch: "llama", Format: "Q4_0", Digest: "abc", Context: 512, Trained: 1024, Parameters: 1_240_000_000, Bytes: 7,
		Template: "{{ tools }}", Since: time.Unix(1_700_000_000, 0),
	}
	pirate := base
	pirate.ID, pirate.Adapter = "pirate", "pirate"
	return offers{base, pirate}
}

// house is a door on a free port.
type house struct {
	t    *testing.T
	url  string
	fake *fake
	door *Door
}

func open(t *testing.T, set func(o *Options)) *house {
	t.Helper()
	f := &fake{cancelled: make(chan string, 16)}
	f.play = answers("Hello", " there")
	c := config.Default().HTTP
	c.Listen = "127.0.0.1:0"
	o := Options{Config: c, Name: "pi", Version: "test", Dispatcher: f, Node: models()}
	if set != nil {
		set(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d, err := Listen(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &house{t, "http://" + d.Addr(), f, d}
}

// answers plays texts as deltas, and then the answer.
func answers(texts ...string) func(*dispatch.Request, dispatch.Sink) {
	return says(func(l *dispatch.Last) {}, texts...)
}

// says is answers with an answer that is changed before it is sent.
func says(change func(l *dispatch.Last), texts ...string) func(*dispatch.Request, dispatch.Sink) {
	return func(req *dispatch.Request, s dispatch.Sink) {
		l := &dispatch.Last{Finish: "stop", Logprobs: req.Options.Logprobs, Usage: backend.Usage{PromptTokens: 7, CachedTokens: 3, CompletionTokens: 2}}
		s.Event(req, dispatch.Event{Attempt: 1, Prefill: &backend.Prefill{Done: 7, Of: 7}})
		for i := range max(req.Options.N, 1) {
			for _, text := range texts {
				if req.Stream {
					s.Event(req, dispatch.Event{Attempt: 1, Delta: &dispatch.Delta{Index: i, Text: text, Mark: "<call>"}})
				}
			}
			l.Choices = append(l.Choices, backend.Choice{Index: i, Text: strings.Join(texts, ""), Finish: "stop"})
		}
		change(l)
		s.Event(req, dispatch.Event{Attempt: 1, Last: l})
	}
}

// vectors answers an embed with a vector a text.
func vectors(req *dispatch.Request, s dispatch.Sink) {
	l := &dispatch.Last{Finish: "stop", Usage: backend.Usage{PromptTokens: len(req.Texts)}}
	for _, text := range req.Texts {
		l.Vectors = append(l.Vectors, []float32{float32(len(text)), 1})
	}
	s.Event(req, dispatch.Event{Attempt: 1, Last: l})
}

// do sends a request and returns the answer.
func (h *house) do(method, path, body string, header ...string) (*http.Response, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp, string(data)
}

// post sends a body that is to be answered, and returns the answer's JSON.
func (h *house) post(path, body string) map[string]any {
	h.t.Helper()
	resp, text := h.do(http.MethodPost, path, body)
	if resp.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: %s: %s", path, resp.Status, text)
	}
	return decode(h.t, text)
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// at walks down into decoded JSON: names and indexes, apart by dots.
func at(t *testing.T, v any, path string) any {
	t.Helper()
	for step := range strings.SplitSeq(path, ".") {
		switch node := v.(type) {
		case map[string]any:
			next, there := node[step]
			if !there {
				t.Fatalf("%s: there is no %s in %v", path, step, node)
			}
			v = next
		case []any:
			i := int(step[0] - '0')
			if i >= len(node) {
				t.Fatalf("%s: there are only %d in %v", path, len(node), node)
			}
			v = node[i]
		default:
			t.Fatalf("%s: %s of %v", path, step, v)
		}
	}
	return v
}

// events are the data of a stream of events. It checks that there is nothing else in it but what every client can read.
func events(t *testing.T, stream string, named bool) []string {
	t.Helper()
	var out []string
	for block := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		lines := strings.Split(block, "\n")
		if named && strings.HasPrefix(lines[0], "event: ") {
			lines = lines[1:]
		}
		data, ok := strings.CutPrefix(lines[0], "data: ")
		if !ok || len(lines) != 1 {
			t.Fatalf("a block of the stream is %q", block)
		}
		out = append(out, data)
	}
	return out
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func compact(t *testing.T, raw []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return out.String()
}
