package http

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
)

const hello = `"messages":[{"role":"user","content":"Hi"}]`

func TestChat(t *testing.T) {
	h := open(t, nil)
	for _, path := range []string{"/v1/chat/completions", "/chat/completions", "/v1/chat/completions/"} {
		v := h.post(path, `{"model":"tiny",`+hello+`}`)
		for _, want := range []struct {
			path  string
			value any
		}{
			{"object", "chat.completion"},
			{"model", "tiny"},
			{"choices.0.index", 0.0},
			{"choices.0.message.role", "assistant"},
			{"choices.0.message.content", "Hello there"},
			{"choices.0.finish_reason", "stop"},
			{"usage.prompt_tokens", 7.0},
			{"usage.completion_tokens", 2.0},
			{"usage.total_tokens", 9.0},
			{"usage.prompt_tokens_details.cached_tokens", 3.0},
		} {
			if got := at(t, v, want.path); got != want.value {
				t.Errorf("%s: %s is %v, want %v", path, want.path, got, want.value)
			}
		}
	}
	req := h.fake.last(t)
	if !req.Fleeting || req.Door != DoorName || req.Client != "http:127.0.0.1" || req.Stream {
		t.Errorf("the request is %+v", req)
	}
}

// TestFields proves what becomes of each field, nulls and numbers as clients write them among them.
func TestFields(t *testing.T) {
	h := open(t, nil)
	h.post("/v1/chat/completions", `{`+hello+`,"max_completion_tokens":64.0,"temperature":0,"top_p":0.5,"n":2,"stop":"END","seed":5,"presence_penalty":1,
		"frequency_penalty":-1,"logit_bias":{"5":1.5},"user":"somebody","metadata":{"a":"b"},"store":false,"tools":null,"tool_choice":"auto","stream":null,
		"top_k":3,"min_p":0.1,"repetition_penalty":1.1,"deadline_ms":5000,"priority":2,"parallel_tool_calls":false,"response_format":{"type":"json_object"},
		"reasoning_effort":"none","chat_template_kwargs":{"a":1},"service_tier":"auto","modalities":["text"]}`)
	req := h.fake.last(t)
	got, err := json.Marshal(req.Options)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"MaxTokens":64,"Temperature":0,"TopK":3,"TopP":0.5,"MinP":0.1,"RepeatPenalty":1.1,"PresencePenalty":1,"FrequencyPenalty":-1,"LogitBias":{"5":1.5},"Seed":5,"Stop":["END"],"N":2,"ResponseFormat":{"type":"json_object"},"Thinking":"off"}`
	if string(got) != want {
		t.Errorf("options\n%s\nwant\n%s", got, want)
	}
	if req.Deadline != 5*time.Second || req.Priority != 2 || string(req.Vars) != `{"a":1}` {
		t.Errorf("deadline %v, priority %d, variables %s", req.Deadline, req.Priority, req.Vars)
	}
	h.post("/v1/chat/completions", `{`+hello+`,"seed":-1,"stop":"","max_tokens":-1,"response_format":{"type":"text"}}`)
	if o := h.fake.last(t).Options; o.Seed != nil || o.Stop != nil || o.MaxTokens != nil || o.ResponseFormat != nil {
		t.Errorf("what asks for nothing is %+v", o)
	}
	if resp, _ := h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`}`); resp.Header.Get("X-Request-Id") != h.fake.last(t).ID {
		t.Errorf("the answer has the id %q", resp.Header.Get("X-Request-Id"))
	}
	h.post("/v1/chat/completions", `{"model":"pirate:latest",`+hello+`}`)
	if a := h.fake.last(t).Adapters; len(a) != 1 || a[0].Name != "pirate" || a[0].Scale != 1 {
		t.Errorf("the model pirate is %v", a)
	}
	h.post("/v1/chat/completions", `{"model":"pirate","adapter":[],`+hello+`}`)
	if a := h.fake.last(t).Adapters; a == nil || len(a) != 0 {
		t.Errorf("an adapter field beside the model pirate is %v", a)
	}
}

// TestRefused proves that what cannot be carried is refused by name, in OpenAI's form.
func TestRefused(t *testing.T) {
	h := open(t, nil)
	for _, test := range []struct{ path, body, message string }{
		{"/v1/chat/completions", ``, "the payload is empty"},
		{"/v1/chat/completions", `{`, "the payload is not JSON: unexpected end of JSON input, at byte 1"},
		{"/v1/chat/completions", `{}`, "messages: is missing"},
		{"/v1/chat/completions", `{"messages":[]}`, "messages: holds no message"},
		{"/v1/chat/completions", `{` + hello + `,"functions":[]}`, "functions: is not a field that this node can serve"},
		{"/v1/chat/completions", `{` + hello + `,"audio":{}}`, "audio: is not a field that this node can serve"},
		{"/v1/chat/completions", `{` + hello + `,"temperature":"hot"}`, "temperature: wants a number, not a text"},
		{"/v1/chat/completions", `{` + hello + `,"max_tokens":1,"max_completion_tokens":2}`, "max_completion_tokens: cannot stand beside max_tokens"},
		{"/v1/chat/completions", `{` + hello + `,"top_logprobs":2}`, "top_logprobs: needs logprobs to be true"},
		{"/v1/chat/completions", `{` + hello + `,"store":true}`, "store: nothing is stored here"},
		{"/v1/chat/completions", `{` + hello + `,"reasoning_effort":"much"}`, `reasoning_effort: "much" is none of "none", "minimal", "low", "medium", "high", "xhigh"`},
		{"/v1/chat/completions", `{` + hello + `,"tools":[{"type":"web_search"}]}`, `tools[0].type: "web_search" is not served, only "function"`},
		{"/v1/chat/completions", `{` + hello + `,"stream_options":{"x":1}}`, "stream_options.x: is not a field of stream_options"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`, `messages[0].content[0].type: "image_url" is not served, only "text"`},
		{"/v1/chat/completions", `{"messages":[{"role":"function","content":"x"}]}`, `messages[0].role: "function" is not served; answer a call with role "tool"`},
		{"/v1/completions", `{}`, "prompt: is missing"},
		{"/v1/completions", `{"prompt":["a","b"]}`, "prompt: holds 2 prompts, and a request has one: send the others beside it"},
		{"/v1/completions", `{"prompt":"a","echo":true}`, "echo: the prompt is not sent back"},
		{"/v1/completions", `{"prompt":"a","suffix":"b"}`, "suffix: what follows a gap cannot be served"},
		{"/v1/embeddings", `{}`, "input: is missing"},
		{"/v1/embeddings", `{"input":[[1,2]]}`, "input[0]: wants a text, not a list: token ids are of another vocabulary than this model's (with LangChain, set check_embedding_ctx_length=False)"},
		{"/v1/embeddings", `{"input":"a","dimensions":0}`, "dimensions: 0 is outside 1 to 1048576"},
		{"/v1/embeddings", `{"input":"a","encoding_format":"int8"}`, `encoding_format: "int8" is neither "float" nor "base64"`},
		{"/v1/rerank", `{"query":"a"}`, "documents: is missing"},
		{"/v1/rerank", `{"query":"a","documents":[]}`, "documents: holds no document"},
		{"/v1/rerank", `{"documents":["a"]}`, "query: is missing"},
		{"/v1/responses", `{}`, "input: is missing"},
		{"/v1/responses", `{"input":"a","previous_response_id":"x"}`, "previous_response_id: is not a field that this node can serve"},
		{"/v1/responses", `{"input":[{"type":"item_reference","id":"x"}]}`, `input[0].type: "item_reference" is not served`},
		{"/v1/responses", `{"input":"a","background":true}`, "background: a request lives as long as its connection"},
		{"/v1/responses", `{"input":"a","n":2}`, "n: is not a field that this node can serve"},
	} {
		resp, text := h.do(http.MethodPost, test.path, test.body)
		v := decode(t, text)
		if got := at(t, v, "error.message"); resp.StatusCode != http.StatusBadRequest || got != test.message {
			t.Errorf("%s %s:\n%d %v\nwant 400 %s", test.path, test.body, resp.StatusCode, got, test.message)
		}
		if at(t, v, "error.type") != "invalid_request_error" || at(t, v, "error.code") != "invalid_request" {
			t.Errorf("%s: %s", test.body, text)
		}
		if field, _, ok := strings.Cut(test.message, ": "); ok && !strings.Contains(field, " ") && at(t, v, "error.param") != field {
			t.Errorf("%s: param is %v, want %s", test.body, at(t, v, "error.param"), field)
		}
	}
	if n := len(h.fake.requests); n > 0 {
		t.Errorf("%d refused requests were submitted", n)
	}
}

// TestEncoders: what an encoder is not for is refused with the path that asks for what it is for.
func TestEncoders(t *testing.T) {
	list := append(models(), []Model{
		{ID: "embedder", Model: "embedder", Kind: "encoder", Tasks: []string{backend.TaskEmbed}},
		{ID: "ranker", Model: "ranker", Kind: "encoder", Tasks: []string{backend.TaskRank}},
		{ID: "bare", Model: "bare", Kind: "encoder", Tasks: []string{"fill"}},
	}...)
	h := open(t, func(o *Options) { o.Node = list })
	embeds := " is an encoder, which generates no text; it makes embeddings, at POST /v1/embeddings (Ollama's clients: /api/embed)"
	for _, c := range []struct{ path, body, want string }{
		{"/v1/chat/completions", `{"model":"embedder",` + hello + `}`, "model: embedder" + embeds},
		{"/v1/completions", `{"model":"embedder","prompt":"a"}`, "model: embedder" + embeds},
		{"/v1/responses", `{"model":"embedder","input":"a"}`, "model: embedder" + embeds},
		{"/api/chat", `{"model":"embedder",` + hello + `}`, "model: embedder" + embeds},
		{"/v1/chat/completions", `{"model":"ranker",` + hello + `}`, "model: ranker is an encoder, which generates no text; it ranks documents, at POST /v1/rerank"},
		{"/v1/chat/completions", `{"model":"bare",` + hello + `}`, "model: bare is an encoder, which generates no text"},
		{"/v1/embeddings", `{"model":"ranker","input":"a"}`, "model: ranker is an encoder, which makes no embeddings; it ranks documents, at POST /v1/rerank"},
		{"/api/embed", `{"model":"ranker","input":"a"}`, "model: ranker is an encoder, which makes no embeddings; it ranks documents, at POST /v1/rerank"},
		{"/v1/embeddings", `{"model":"bare","input":"a"}`, "model: bare is an encoder, which makes no embeddings: its files name no pooling"},
	} {
		resp, text := h.do(http.MethodPost, c.path, c.body)
		v, where := decode(t, text), "error.message"
		if strings.HasPrefix(c.path, "/api/") {
			where = "error"
		} else if at(t, v, "error.param") != "model" || at(t, v, "error.code") != "unsupported" {
			t.Errorf("%s %s: %s", c.path, c.body, text)
		}
		if resp.StatusCode != http.StatusBadRequest || at(t, v, where) != c.want {
			t.Errorf("%s %s:\n%d %v\nwant 400 %s", c.path, c.body, resp.StatusCode, at(t, v, where), c.want)
		}
	}
	if n := len(h.fake.requests); n > 0 {
		t.Errorf("%d refused requests were submitted", n)
	}
	if resp, text := h.do(http.MethodPost, "/api/show", `{"model":"embedder"}`); resp.StatusCode != http.StatusOK {
		t.Errorf("an encoder is looked at: %s", text)
	}
	h.fake.play = vectors
	h.post("/v1/embeddings", `{"model":"embedder","input":"a"}`)
}

// TestErrorParam: the field of an error is one of the request, and not the part of a plugin that refuses.
func TestErrorParam(t *testing.T) {
	h := open(t, nil)
	for message, want := range map[string]any{"engine: the model is small": nil, "tokenizer: this model is mute": nil, "thinking: never": "thinking"} {
		h.fake.refuse = &dispatch.Error{Code: dispatch.CodeUnsupported, Message: message}
		if _, text := h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`}`); at(t, decode(t, text), "error.param") != want {
			t.Errorf("%s: %s", message, text)
		}
	}
}

// TestErrors proves the status of each of dispatch's errors, and what tells clients when to try again.
func TestErrors(t *testing.T) {
	h := open(t, nil)
	for _, test := range []struct {
		err           dispatch.Error
		status        int
		retry, should string
	}{
		{dispatch.Error{Code: dispatch.CodeQueueFull, Retry: 90 * time.Second}, 429, "60", ""},
		{dispatch.Error{Code: dispatch.CodeQueueFull}, 429, "1", ""},
		{dispatch.Error{Code: dispatch.CodeQueueFull, Retry: 1500 * time.Millisecond}, 429, "2", ""},
		{dispatch.Error{Code: dispatch.CodeContextLength}, 400, "", ""},
		{dispatch.Error{Code: dispatch.CodeUnsupported}, 400, "", ""},
		{dispatch.Error{Code: dispatch.CodeAdapterNotFound}, 404, "", ""},
		{dispatch.Error{Code: dispatch.CodeDeadline}, 504, "", "false"},
		{dispatch.Error{Code: dispatch.CodeBackendUnavailable}, 503, "1", ""},
		{dispatch.Error{Code: dispatch.CodeShuttingDown}, 503, "1", ""},
		{dispatch.Error{Code: dispatch.CodeQuarantined}, 422, "", ""},
		{dispatch.Error{Code: dispatch.CodeInternal}, 500, "", "false"},
	} {
		e := test.err
		e.Message = "why"
		for _, late := range []bool{false, true} {
			h.fake.refuse = &e
			if late { // an answer, before the stream has begun
				h.fake.refuse = nil
				h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
					s.Event(req, dispatch.Event{Attempt: 1, Last: &dispatch.Last{Error: &e}})
				}
			}
			for _, stream := range []string{"false", "true"} {
				resp, text := h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`,"stream":`+stream+`}`)
				if resp.StatusCode != test.status || resp.Header.Get("Retry-After") != test.retry || resp.Header.Get("X-Should-Retry") != test.should {
					t.Errorf("%s: %d, %v", e.Code, resp.StatusCode, resp.Header)
				}
				if at(t, decode(t, text), "error.code") != string(e.Code) {
					t.Errorf("%s: %s", e.Code, text)
				}
				resp, text = h.do(http.MethodPost, "/api/chat", `{"model":"tiny",`+hello+`,"stream":`+stream+`}`)
				if resp.StatusCode != test.status || strings.TrimSpace(text) != `{"error":"why"}` {
					t.Errorf("%s at Ollama's path: %d %s", e.Code, resp.StatusCode, text)
				}
			}
		}
	}
}

func TestModelNotFound(t *testing.T) {
	h := open(t, nil)
	resp, text := h.do(http.MethodPost, "/v1/chat/completions", `{"model":"gpt-4o",`+hello+`}`)
	v := decode(t, text)
	if resp.StatusCode != 404 || at(t, v, "error.code") != "model_not_found" || at(t, v, "error.param") != "model" ||
		at(t, v, "error.message") != `model "gpt-4o" is not served; there are: tiny, pirate` {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	for _, name := range []string{"tiny", "tiny:latest", "tiny.gguf", "Tiny of Tests"} {
		h.post("/v1/chat/completions", `{"model":"`+name+`",`+hello+`}`)
	}
}

// TestStream proves the order of chunks, and what each of them has.
func TestStream(t *testing.T) {
	h := open(t, nil)
	resp, text := h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`,"stream":true,"stream_options":{"include_usage":true}}`)
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	list := events(t, text, false)
	if list[len(list)-1] != "[DONE]" {
		t.Fatalf("the stream ends with %q", list[len(list)-1])
	}
	joined := ""
	for i, data := range list[:len(list)-1] {
		v := decode(t, data)
		for _, field := range []string{"id", "created", "model"} {
			at(t, v, field)
		}
		if at(t, v, "object") != "chat.completion.chunk" {
			t.Errorf("chunk %d: %s", i, data)
		}
		if i == len(list)-2 {
			if len(at(t, v, "choices").([]any)) != 0 || at(t, v, "usage.total_tokens") != 9.0 {
				t.Errorf("the chunk of usage is %s", data)
			}
			continue
		}
		delta := at(t, v, "choices.0.delta").(map[string]any)
		finish := at(t, v, "choices.0.finish_reason")
		at(t, v, "choices.0.index")
		switch {
		case i == 0:
			if delta["role"] != "assistant" || delta["content"] != "" || finish != nil {
				t.Errorf("the first chunk is %s", data)
			}
		case i == len(list)-3:
			if len(delta) != 0 || finish != "stop" {
				t.Errorf("the last chunk is %s", data)
			}
		default:
			joined += delta["content"].(string)
			if finish != nil {
				t.Errorf("chunk %d: %s", i, data)
			}
		}
	}
	if joined != "Hello there" {
		t.Errorf("the deltas join to %q", joined)
	}
	if _, text := h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`,"stream":true}`); strings.Contains(text, "usage") {
		t.Errorf("usage came unasked: %s", text)
	}
	_, text = h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`,"stream":true,"n":2}`)
	if n := strings.Count(text, `"role":"assistant"`); n != 2 || !strings.Contains(text, `"index":1`) {
		t.Errorf("two choices: %s", text)
	}
}

// TestNewAttempt proves that a client sees nothing of an attempt that began anew.
func TestNewAttempt(t *testing.T) {
	h := open(t, nil)
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		for _, d := range []struct {
			attempt int
			text    string
		}{{1, "Hel"}, {1, "lo"}, {2, "Hell"}, {2, "o there"}} {
			s.Event(req, dispatch.Event{Attempt: d.attempt, Delta: &dispatch.Delta{Text: d.text}})
		}
		s.Event(req, dispatch.Event{Attempt: 2, Last: &dispatch.Last{Finish: "stop", Choices: []backend.Choice{{Text: "Hello there", Finish: "stop"}}}})
	}
	_, text := h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`,"stream":true}`)
	joined := ""
	for _, data := range events(t, text, false) {
		if data != "[DONE]" {
			if c, ok := at(t, decode(t, data), "choices.0.delta").(map[string]any)["content"].(string); ok {
				joined += c
			}
		}
	}
	if joined != "Hello there" {
		t.Errorf("the deltas join to %q", joined)
	}
}

// TestThoughts: what a model thinks has fields of its own, streamed and whole, OpenAI's and Ollama's.
func TestThoughts(t *testing.T) {
	h := open(t, nil)
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		if req.Stream {
			for _, d := range []dispatch.Delta{{Thought: "hm, "}, {Thought: "well", Text: "Y"}, {Text: "es"}} {
				s.Event(req, dispatch.Event{Attempt: 1, Delta: &d})
			}
		}
		s.Event(req, dispatch.Event{Attempt: 1, Last: &dispatch.Last{
			Finish: "stop", Choices: []backend.Choice{{Text: "Yes", Finish: "stop"}}, Thoughts: []string{"hm, well"}, Thought: 3,
			Usage: backend.Usage{CompletionTokens: 5},
		}})
	}
	_, text := h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`,"reasoning_effort":"low"}`)
	all := decode(t, text)
	if at(t, all, "choices.0.message.reasoning_content") != "hm, well" || at(t, all, "choices.0.message.content") != "Yes" ||
		at(t, all, "usage.completion_tokens_details.reasoning_tokens") != 3.0 || h.fake.last(t).Options.Thinking != dispatch.ThinkingOn {
		t.Error(text)
	}
	thought, said := "", ""
	_, text = h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`,"stream":true}`)
	for _, data := range events(t, text, false) {
		if data != "[DONE]" {
			delta := at(t, decode(t, data), "choices.0.delta").(map[string]any)
			a, _ := delta["reasoning_content"].(string)
			b, _ := delta["content"].(string)
			thought, said = thought+a, said+b
		}
	}
	if thought != "hm, well" || said != "Yes" {
		t.Errorf("thought %q, said %q: %s", thought, said, text)
	}
	_, text = h.do(http.MethodPost, "/api/chat", `{"model":"tiny",`+hello+`,"think":true,"stream":false}`)
	if all := decode(t, text); at(t, all, "message.thinking") != "hm, well" || at(t, all, "message.content") != "Yes" {
		t.Error(text)
	}
	if _, text = h.do(http.MethodPost, "/api/generate", `{"model":"tiny","prompt":"a"}`); strings.Count(text, `"thinking":`) == 0 || !strings.Contains(text, `"thinking":"hm, `) {
		t.Error(text)
	}
}

// TestFailureInStream proves that an error after the beginning is the data that every client raises.
func TestFailureInStream(t *testing.T) {
	h := open(t, nil)
	begun := make(chan struct{})
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		s.Event(req, dispatch.Event{Attempt: 1, Delta: &dispatch.Delta{Text: "Hel"}})
		<-begun
		s.Event(req, dispatch.Event{Attempt: 1, Last: &dispatch.Last{Error: &dispatch.Error{Code: dispatch.CodeInternal, Message: "broken"}}})
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/chat/completions", strings.NewReader(`{`+hello+`,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req) // returns with the stream's head
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	close(begun)
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v: %s", resp.StatusCode, err, text)
	}
	list := events(t, string(text), false)
	if v := decode(t, list[len(list)-1]); at(t, v, "error.message") != "broken" {
		t.Errorf("%s", text)
	}
}

// TestCalls proves the round trip of a tool: what a call is in an answer, in a stream, and when it comes back.
func TestCalls(t *testing.T) {
	const tools = `"tools":[{"type":"function","function":{"name":"lamp","parameters":{"type":"object"}}}]`
	h := open(t, nil)
	two := says(func(l *dispatch.Last) {
		call := func(on string) dispatch.ToolCall {
			return dispatch.ToolCall{Name: "lamp", Arguments: json.RawMessage(`{"on":` + on + `}`)}
		}
		l.Tools, l.Beside = [][]dispatch.ToolCall{{call("true"), call("false")}}, []string{"Now:"}
	}, "Now: ", "<ca", "ll>{}</call>")
	h.fake.play = two

	v := h.post("/v1/chat/completions", `{`+hello+`,`+tools+`}`)
	if at(t, v, "choices.0.finish_reason") != "tool_calls" || at(t, v, "choices.0.message.content") != "Now:" ||
		at(t, v, "choices.0.message.tool_calls.1.function.arguments") != `{"on":false}` || at(t, v, "choices.0.message.tool_calls.0.type") != "function" {
		t.Errorf("%v", v)
	}
	if id := at(t, v, "choices.0.message.tool_calls.0.id").(string); len(id) != 9 || id == at(t, v, "choices.0.message.tool_calls.1.id") {
		t.Errorf("the first call has the id %q", id)
	}
	v = h.post("/v1/chat/completions", `{`+hello+`,`+tools+`,"parallel_tool_calls":false}`)
	if n := len(at(t, v, "choices.0.message.tool_calls").([]any)); n != 1 {
		t.Errorf("%d calls where one was to be", n)
	}

	_, text := h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`,`+tools+`,"stream":true}`)
	if strings.Contains(text, "<ca") {
		t.Errorf("the text of a call is in the stream: %s", text)
	}
	var arguments [2]string
	content := ""
	for _, data := range events(t, text, false) {
		if data == "[DONE]" {
			continue
		}
		delta := at(t, decode(t, data), "choices.0.delta").(map[string]any)
		if c, ok := delta["content"].(string); ok {
			content += c
		}
		calls, ok := delta["tool_calls"].([]any)
		if !ok {
			continue
		}
		call := calls[0].(map[string]any)
		i := int(call["index"].(float64))
		function := call["function"].(map[string]any)
		if arguments[i] == "" && call["id"] != nil {
			if len(calls) != 1 || call["type"] != "function" || function["name"] != "lamp" || function["arguments"] != "" {
				t.Errorf("a call begins with %s", data)
			}
		} else if len(call) != 2 || len(function) != 1 {
			t.Errorf("a call goes on with %s", data)
		}
		arguments[i] += function["arguments"].(string)
	}
	if arguments != [2]string{`{"on":true}`, `{"on":false}`} || content != "Now:" {
		t.Errorf("arguments %q, content %q", arguments, content)
	}

	// Back, as clients send it: with nulls, an empty list, and arguments in a text.
	h.fake.play = answers("done")
	h.post("/v1/chat/completions", `{"messages":[{"role":"user","content":"Hi"},
		{"role":"assistant","content":null,"refusal":null,"annotations":[],"audio":null,"tool_calls":[{"id":"abc","type":"function","index":0,"function":{"name":"lamp","arguments":"{\"on\": true}"}}]},
		{"role":"tool","tool_call_id":"abc","content":"on"},{"role":"assistant","content":"It is on.","tool_calls":[]},{"role":"user","content":"Thanks"}],`+tools+`}`)
	const want = `[{"role":"user","content":"Hi"},{"role":"assistant","tool_calls":[{"id":"abc","type":"function","function":{"name":"lamp","arguments":{"on":true}}}],"content":""},` +
		`{"role":"tool","tool_call_id":"abc","content":"on"},{"role":"assistant","content":"It is on."},{"role":"user","content":"Thanks"}]`
	if got := compact(t, h.fake.last(t).Chat); got != want {
		t.Errorf("the conversation is\n%s\nwant\n%s", got, want)
	}
}

func TestLogprobs(t *testing.T) {
	h := open(t, nil)
	h.fake.play = says(func(l *dispatch.Last) {
		l.Choices[0].Logprobs = []backend.TokenLogprob{{ID: 1, Logprob: -0.5, Top: []backend.Alternative{{ID: 2, Logprob: -1}}}, {ID: 3, Logprob: -2}}
		l.Pieces = map[int32][]byte{1: []byte("Hé"), 2: []byte("x"), 3: {0xe2, 0x82}}
	}, "Hello")
	v := h.post("/v1/chat/completions", `{`+hello+`,"logprobs":true,"top_logprobs":1}`)
	if at(t, v, "choices.0.logprobs.content.0.token") != "Hé" || at(t, v, "choices.0.logprobs.content.0.bytes.1") != 195.0 ||
		at(t, v, "choices.0.logprobs.content.0.top_logprobs.0.token") != "x" || at(t, v, "choices.0.logprobs.content.1.token") != `bytes:\xe2\x82` {
		t.Errorf("%v", v)
	}
	if !h.fake.last(t).Pieces {
		t.Error("the tokens' bytes were not asked for")
	}
	v = h.post("/v1/completions", `{"prompt":"x","logprobs":1}`)
	if at(t, v, "choices.0.logprobs.tokens.0") != "Hé" || at(t, v, "choices.0.logprobs.text_offset.1") != 2.0 || at(t, v, "choices.0.logprobs.top_logprobs.0.x") != -1.0 {
		t.Errorf("%v", v)
	}
	_, text := h.do(http.MethodPost, "/v1/chat/completions", `{`+hello+`,"logprobs":true,"stream":true}`)
	if strings.Count(text, `"token":"Hé"`) != 1 {
		t.Errorf("%s", text)
	}
}

func TestCompletions(t *testing.T) {
	h := open(t, nil)
	for _, test := range []struct{ prompt, text string }{{`"Once"`, "Once"}, {`["Once"]`, "Once"}, {`[1,2]`, ""}, {`[[1,2]]`, ""}} {
		v := h.post("/v1/completions", `{"prompt":`+test.prompt+`}`)
		req := h.fake.last(t)
		if at(t, v, "object") != "text_completion" || at(t, v, "choices.0.text") != "Hello there" || req.Prompt != test.text || (test.text != "") != req.Raw || (test.text == "") != (len(req.IDs) == 2) {
			t.Errorf("%s: %v, %+v", test.prompt, v, req)
		}
	}
	_, text := h.do(http.MethodPost, "/v1/completions", `{"prompt":"Once","stream":true,"stream_options":{"include_usage":true}}`)
	list := events(t, text, false)
	joined := ""
	for _, data := range list[:len(list)-2] {
		joined += at(t, decode(t, data), "choices.0.text").(string)
	}
	if joined != "Hello there" || at(t, decode(t, list[len(list)-2]), "usage.total_tokens") != 9.0 {
		t.Errorf("%s", text)
	}
}

func TestEmbeddings(t *testing.T) {
	h := open(t, nil)
	h.fake.play = vectors
	v := h.post("/v1/embeddings", `{"model":"tiny","input":["a","bcd"],"encoding_format":"float","user":"x"}`)
	if at(t, v, "data.1.embedding.0") != 3.0 || at(t, v, "data.1.index") != 1.0 || at(t, v, "usage.prompt_tokens") != 2.0 {
		t.Errorf("%v", v)
	}
	v = h.post("/v1/embeddings", `{"input":"a","encoding_format":"base64"}`)
	raw, err := base64.StdEncoding.DecodeString(at(t, v, "data.0.embedding").(string))
	if err != nil || string(raw) != "\x00\x00\x80\x3f\x00\x00\x80\x3f" {
		t.Errorf("%q, %v", raw, err)
	}
	h.post("/v1/embeddings", `{"input":"a","dimensions":1,"task":"query","truncate":false}`)
	if req := h.fake.last(t); req.Dims != 1 || req.Task != "query" || !req.Whole {
		t.Errorf("asked for %+v", req)
	}
	h.post("/api/embed", `{"model":"tiny","input":"a","dimensions":2,"truncate":true}`)
	if req := h.fake.last(t); req.Dims != 2 || req.Whole {
		t.Errorf("asked for %+v", req)
	}
	// More than a request takes are computed in several.
	v = h.post("/v1/embeddings", `{"input":["`+strings.Repeat(`x","`, 300)+`y"]}`)
	if n := len(at(t, v, "data").([]any)); n != 301 || len(h.fake.last(t).Texts) != 45 {
		t.Errorf("%d vectors", n)
	}
}

// TestRerank: the best documents come first, more than one request takes are ranked in several, and a model that ranks nothing says so.
func TestRerank(t *testing.T) {
	h := open(t, nil)
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		l := &dispatch.Last{Finish: "stop", Usage: backend.Usage{PromptTokens: len(req.Texts)}}
		for i, text := range req.Texts {
			l.Ranks = append(l.Ranks, dispatch.Ranked{Index: i, Score: 0.5, Logit: float32(len(text))})
		}
		slices.SortStableFunc(l.Ranks, func(a, b dispatch.Ranked) int { return cmp.Compare(b.Logit, a.Logit) })
		s.Event(req, dispatch.Event{Attempt: 1, Last: l})
	}
	v := h.post("/v1/rerank", `{"model":"tiny","query":"abc","documents":["ab",{"text":"abcd"},"abc"],"top_n":2,"return_documents":true,"instruct":"fits"}`)
	if at(t, v, "results.0.index") != 1.0 || at(t, v, "results.1.index") != 2.0 || at(t, v, "results.0.document.text") != "abcd" || len(at(t, v, "results").([]any)) != 2 ||
		at(t, v, "results.0.relevance_score") != 0.5 || at(t, v, "results.0.logit") != 4.0 || at(t, v, "usage.prompt_tokens") != 3.0 {
		t.Errorf("%v", v)
	}
	if req := h.fake.last(t); req.Kind != dispatch.Rank || req.Query != "abc" || req.Instruct != "fits" || req.Texts[1] != "abcd" {
		t.Errorf("asked for %+v", req)
	}
	v = h.post("/v1/rerank", `{"query":"a","documents":["`+strings.Repeat(`x","`, 299)+`xyz","xy"]}`)
	results := at(t, v, "results").([]any)
	if len(results) != 301 || at(t, v, "results.0.index") != 299.0 || at(t, v, "results.1.index") != 300.0 || at(t, v, "results.2.index") != 0.0 || len(h.fake.last(t).Texts) != 45 {
		t.Errorf("%d results, of the last request %d", len(results), len(h.fake.last(t).Texts))
	}
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		s.Event(req, dispatch.Event{Attempt: 1, Last: &dispatch.Last{Error: &dispatch.Error{Code: dispatch.CodeUnsupported, Message: "ranking: no"}}})
	}
	if resp, text := h.do(http.MethodPost, "/v1/rerank", `{"query":"a","documents":["b"]}`); resp.StatusCode != http.StatusBadRequest || !strings.Contains(text, "ranking: no") {
		t.Errorf("%s %s", resp.Status, text)
	}
}

func TestResponses(t *testing.T) {
	h := open(t, nil)
	v := h.post("/v1/responses", `{"model":"tiny","input":"Hi","instructions":"Be brief.","max_output_tokens":9,"store":true,
		"text":{"format":{"type":"json_schema","name":"a","strict":true,"schema":{"type":"object"}}},"reasoning":{"effort":null},"truncation":"auto"}`)
	if at(t, v, "object") != "response" || at(t, v, "status") != "completed" || at(t, v, "output.0.content.0.text") != "Hello there" || at(t, v, "usage.input_tokens") != 7.0 || at(t, v, "instructions") != "Be brief." {
		t.Errorf("%v", v)
	}
	req := h.fake.last(t)
	if got := compact(t, req.Chat); got != `[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]` || *req.Options.MaxTokens != 9 ||
		string(req.Options.ResponseFormat) != `{"type":"json_schema","json_schema":{"name":"a","strict":true,"schema":{"type":"object"}}}` || req.Options.ContextPolicy != dispatch.PolicyKeepSystem {
		t.Errorf("%s %s", got, req.Options.ResponseFormat)
	}
	h.fake.play = says(func(l *dispatch.Last) {
		l.Tools, l.Beside = [][]dispatch.ToolCall{{{Name: "lamp", Arguments: json.RawMessage(`{"on":true}`)}}}, []string{""}
	}, "<call>")
	const body = `{"input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]},{"type":"function_call","call_id":"c","name":"lamp","arguments":"{}","id":"fc_1","status":"completed"},
		{"type":"function_call","call_id":"d","name":"lamp","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"on"},{"type":"function_call_output","call_id":"d","output":"on"}],
		"tools":[{"type":"function","name":"lamp","parameters":{"type":"object"},"strict":null}],"tool_choice":{"type":"function","name":"lamp"}`
	v = h.post("/v1/responses", body+`}`)
	if at(t, v, "output.0.type") != "function_call" || at(t, v, "output.0.arguments") != `{"on":true}` {
		t.Errorf("%v", v)
	}
	req = h.fake.last(t)
	const want = `[{"role":"user","content":"Hi"},{"role":"assistant","content":"","tool_calls":[{"id":"c","type":"function","function":{"name":"lamp","arguments":{}}},{"id":"d","type":"function","function":{"name":"lamp","arguments":{}}}]},` +
		`{"role":"tool","tool_call_id":"c","content":"on"},{"role":"tool","tool_call_id":"d","content":"on"}]`
	if got := compact(t, req.Chat); got != want || compact(t, req.Tools) != `[{"type":"function","function":{"name":"lamp","parameters":{"type":"object"}}}]` {
		t.Errorf("the conversation is\n%s\nwant\n%s\ntools %s", got, want, req.Tools)
	}
	_, text := h.do(http.MethodPost, "/v1/responses", body+`,"stream":true}`)
	var kinds []string
	for i, data := range events(t, text, true) {
		v := decode(t, data)
		if at(t, v, "sequence_number") != float64(i) {
			t.Errorf("event %d: %s", i, data)
		}
		kinds = append(kinds, strings.TrimPrefix(at(t, v, "type").(string), "response."))
	}
	if got := strings.Join(kinds, " "); got != "created in_progress output_item.added function_call_arguments.delta function_call_arguments.done output_item.done completed" {
		t.Errorf("events %s", got)
	}
	h.fake.play = says(func(l *dispatch.Last) { l.Finish = "length" }, "Hel", "lo")
	_, text = h.do(http.MethodPost, "/v1/responses", `{"input":"Hi","stream":true}`)
	list := events(t, text, true)
	last := decode(t, list[len(list)-1])
	if at(t, last, "type") != "response.incomplete" || at(t, last, "response.output.0.content.0.text") != "Hello" {
		t.Errorf("%s", text)
	}
}

// TestFormStreams proves that an answer that is held to a form streams also where tools are offered, since it is no call.
func TestFormStreams(t *testing.T) {
	h := open(t, nil)
	first := make(chan struct{})
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		s.Event(req, dispatch.Event{Attempt: 1, Delta: &dispatch.Delta{Text: `{"a":`, Mark: "<call>"}})
		<-first
		answers(`{"a":`, `1}`)(req, s)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/chat/completions", strings.NewReader(
		`{`+hello+`,"stream":true,"tools":[{"type":"function","function":{"name":"lamp"}}],"response_format":{"type":"json_object"}}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `{\"a\":`) {
			close(first) // it came before the answer was whole
			return
		}
	}
	t.Error("nothing came before the end")
}
