package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/test/brokers"
)

// TestHTTP asks the daemon over HTTP: the same answer as over MQTT, as a stream too; a client that goes ends its request; and
// nothing of it is journalled.
func TestHTTP(t *testing.T) {
	port := brokers.FreePort(t)
	s := serve(t, fmt.Sprintf("http.listen=127.0.0.1:%d", port), "sampling.temperature=0", "mqtt.stats_interval=1s")
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	post := func(path, body string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	const ask = `"messages":[{"role":"user","content":"How warm is it in the kitchen?"}],"max_tokens":24,"seed":5`
	s.publish("edged/test/request", `{"id":"same",`+ask+`}`)
	events := s.last("edged/test/response/same")
	want := events[len(events)-1].Text

	var answer struct {
		Choices []struct {
			Message struct{ Content string }
		}
	}
	if err := json.NewDecoder(post("/v1/chat/completions", `{`+ask+`}`).Body).Decode(&answer); err != nil || len(answer.Choices) != 1 || answer.Choices[0].Message.Content != want {
		t.Errorf("over HTTP %+v, over MQTT %q: %v", answer, want, err)
	}
	joined := ""
	lines := bufio.NewScanner(post("/v1/chat/completions", `{"stream":true,`+ask+`}`).Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if ok && json.Unmarshal([]byte(data), &chunk) == nil && len(chunk.Choices) > 0 {
			joined += chunk.Choices[0].Delta.Content
		}
	}
	if joined != want {
		t.Errorf("the stream joins to %q, want %q", joined, want)
	}

	// A long answer whose client goes in the middle.
	resp := post("/v1/chat/completions", `{"messages":[{"role":"user","content":"Tell me a story."}],"stream":true,"max_tokens":400,"ignore_eos":true,"deadline_ms":60000}`)
	if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	s.until("edged/test/stats", func(p string) bool {
		var v struct{ Cancelled, Running int }
		return json.Unmarshal([]byte(p), &v) == nil && v.Cancelled == 1 && v.Running == 0
	})
	if err := filepath.WalkDir(filepath.Join(s.dir, "state/inbox"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "Tell me a story") || strings.Contains(string(data), `"http-`) {
			t.Errorf("%s holds a request of the HTTP door", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
