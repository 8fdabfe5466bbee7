package http

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"edged/core/serve/dispatch"
)

// TestHomeAssistantOllama sends what Home Assistant's integration sends.
func TestHomeAssistantOllama(t *testing.T) {
	h := open(t, nil)
	resp, text := h.do(http.MethodGet, "/api/tags", "")
	v := decode(t, text)
	name := at(t, v, "models.0.model").(string)
	if resp.StatusCode != http.StatusOK || name != "tiny:latest" || at(t, v, "models.0.details.parameter_size") != "1.2B" || at(t, v, "models.1.name") != "pirate:latest" {
		t.Fatalf("%s", text)
	}
	h.fake.play = says(func(l *dispatch.Last) {
		l.Tools, l.Beside = [][]dispatch.ToolCall{{{Name: "HassTurnOn", Arguments: json.RawMessage(`{"area":"Hall"}`)}}}, []string{""}
	}, "<call>{}")
	const body = `{"model":"tiny:latest","stream":true,"format":null,"think":false,"keep_alive":-1,"options":{"num_ctx":8192},
		"tools":[{"type":"function","function":{"name":"HassTurnOn","parameters":{"type":"object","properties":{"area":{"type":"string"}}}}}],"messages":[`
	_, text = h.do(http.MethodPost, "/api/chat", body+`{"role":"system","content":"A house."},{"role":"user","content":"Light in the hall"}]}`)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 2 {
		t.Fatalf("%s", text)
	}
	call := decode(t, lines[0])
	if at(t, call, "message.tool_calls.0.function.arguments.area") != "Hall" || at(t, call, "done") != false {
		t.Errorf("%s", lines[0])
	}
	last := decode(t, lines[1])
	if at(t, last, "done") != true || at(t, last, "done_reason") != "stop" || at(t, last, "model") != "tiny:latest" || at(t, last, "eval_count") != 2.0 {
		t.Errorf("%s", lines[1])
	}
	h.fake.play = answers("It", " is on.")
	_, text = h.do(http.MethodPost, "/api/chat", body+`{"role":"user","content":"Light in the hall"},
		{"role":"assistant","content":"","tool_calls":[{"function":{"name":"HassTurnOn","arguments":{"area":"Hall"}}}]},{"role":"tool","content":"{\"ok\":true}","tool_name":"HassTurnOn"}]}`)
	joined := ""
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		joined += at(t, decode(t, line), "message.content").(string)
	}
	if joined != "It is on." {
		t.Errorf("%s", text)
	}
	const want = `[{"role":"user","content":"Light in the hall"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"HassTurnOn","arguments":{"area":"Hall"}}}]},{"role":"tool","content":"{\"ok\":true}","name":"HassTurnOn"}]`
	req := h.fake.last(t)
	if got := compact(t, req.Chat); got != want || req.Options.Thinking != dispatch.ThinkingOff {
		t.Errorf("the conversation is\n%s\nwant\n%s\nthinking %q", got, want, req.Options.Thinking)
	}
}

// TestHomeAssistantLlamaCpp sends what Home Assistant's integration sends, in its order.
func TestHomeAssistantLlamaCpp(t *testing.T) {
	h := open(t, nil)
	const key = "Bearer sk-0000000000000000000"
	resp, text := h.do(http.MethodGet, "/v1/models", "", "Authorization", key)
	if resp.StatusCode != http.StatusOK || at(t, decode(t, text), "data.0.id") != "tiny" {
		t.Fatalf("%s", text)
	}
	const probe = `{"model":"tiny","messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}],"tools":[{"type":"function","function":{"name":"ping","description":"d","parameters":{"type":"object","properties":{}}}}],"max_tokens":3,"stream":`
	for _, stream := range []string{"false", "true"} {
		if resp, text := h.do(http.MethodPost, "/v1/chat/completions", probe+stream+`}`, "Authorization", key); resp.StatusCode != http.StatusOK {
			t.Errorf("stream %s: %s", stream, text)
		}
	}
	resp, text = h.do(http.MethodPost, "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"u"}],"max_tokens":3000,"top_p":1.0,"temperature":0.7,"user":"01JABC","stream":true,
		"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false},"strict":true}}}`, "Authorization", key)
	if resp.StatusCode != http.StatusOK || h.fake.last(t).Options.ResponseFormat == nil {
		t.Errorf("%s", text)
	}
}

func TestOllama(t *testing.T) {
	h := open(t, nil)
	v := h.post("/api/generate", `{"model":"tiny","prompt":"Hi","system":"Be brief.","stream":false,"format":"json","options":{"num_predict":5,"temperature":0,"stop":[],"seed":-1,"mirostat":0}}`)
	req := h.fake.last(t)
	if at(t, v, "response") != "Hello there" || at(t, v, "done") != true || string(req.Options.ResponseFormat) != `{"type":"json_object"}` || *req.Options.MaxTokens != 5 {
		t.Errorf("%v %+v", v, req)
	}
	if got := compact(t, req.Chat); got != `[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]` {
		t.Errorf("%s", got)
	}
	h.post("/api/generate", `{"model":"tiny","prompt":"Hi","raw":true,"stream":false}`)
	if req := h.fake.last(t); !req.Raw || req.Prompt != "Hi" {
		t.Errorf("%+v", req)
	}
	before := len(h.fake.requests)
	for _, load := range []struct{ path, body string }{{"/api/chat", `{"model":"tiny","messages":[],"keep_alive":0}`}, {"/api/generate", `{"model":"tiny"}`}} {
		if v := h.post(load.path, load.body); at(t, v, "done_reason") != "load" {
			t.Errorf("%v", v)
		}
	}
	if len(h.fake.requests) != before {
		t.Error("a request to load was submitted")
	}
	v = h.post("/api/show", `{"name":"tiny"}`)
	if at(t, v, "capabilities.1") != "tools" || v["model_info"].(map[string]any)["llama.context_length"] != 512.0 {
		t.Errorf("%v", v)
	}
	_, text := h.do(http.MethodGet, "/api/ps", "")
	if v := decode(t, text); len(at(t, v, "models").([]any)) != 1 {
		t.Errorf("%s", text)
	}
	if v := h.post("/api/pull", `{"model":"tiny:latest"}`); at(t, v, "status") != "success" {
		t.Errorf("%v", v)
	}
	_, text = h.do(http.MethodGet, "/api/version", "")
	if v := decode(t, text); at(t, v, "edged") != "test" {
		t.Errorf("%s", text)
	}
	h.fake.play = vectors
	v = h.post("/api/embed", `{"model":"tiny","input":"abc","truncate":true,"keep_alive":"5m"}`)
	if at(t, v, "embeddings.0.0") != 3.0 {
		t.Errorf("%v", v)
	}
	v = h.post("/api/embeddings", `{"model":"tiny","prompt":"ab"}`)
	if at(t, v, "embedding.0") != 2.0 {
		t.Errorf("%v", v)
	}
}

func TestOllamaRefused(t *testing.T) {
	h := open(t, nil)
	for _, test := range []struct {
		path, body string
		status     int
		message    string
	}{
		{"/api/chat", `{` + hello + `}`, 400, "model: is missing"},
		{"/api/chat", `{"model":"llama3",` + hello + `}`, 404, `model "llama3" is not served; there are: tiny, pirate`},
		{"/api/chat", `{"model":"cut:latest",` + hello + `}`, 404, `model "cut:latest" is not served: it ends within its weights; there are: tiny, pirate`},
		{"/api/pull", `{"model":"llama3"}`, 404, `model "llama3" is not served; there are: tiny, pirate`},
		{"/api/chat", `{"model":"tiny",` + hello + `,"think":1}`, 400, `think: 1 is none of true, false, "low", "medium", "high"`},
		{"/api/chat", `{"model":"tiny",` + hello + `,"options":{"mirostat":2}}`, 400, "options.mirostat: cannot be served"},
		{"/api/chat", `{"model":"tiny",` + hello + `,"options":{"repeat_last_n":2}}`, 400, "options.repeat_last_n: is the node's: sampling.penalty_last_n"},
		{"/api/chat", `{"model":"tiny",` + hello + `,"options":{"x":2}}`, 400, "options.x: is not an option that this node can serve"},
		{"/api/chat", `{"model":"tiny","messages":[{"role":"user","content":"x","images":["aGk="]}]}`, 400, "messages[0].images: this model reads text only"},
		{"/api/generate", `{"model":"tiny","prompt":"x","suffix":"y"}`, 400, "suffix: cannot be served"},
		{"/api/generate", `{"model":"tiny","prompt":"x","context":[1]}`, 400, "context: cannot be served"},
		{"/api/nothing", `{}`, 404, "there is nothing at this path: docs/http.md lists what there is"},
	} {
		resp, text := h.do(http.MethodPost, test.path, test.body)
		if got := decode(t, text)["error"]; resp.StatusCode != test.status || got != test.message {
			t.Errorf("%s %s:\n%d %v\nwant %d %s", test.path, test.body, resp.StatusCode, got, test.status, test.message)
		}
	}
}
