package http

import (
	"encoding/json"
	"testing"

	"edged/core/serve/dispatch"
)

// seeds are bodies of every path: each parser must bear those of the others.
var seeds = []string{
	`{"model":"tiny",` + hello + `,"max_tokens":64.0,"stream":true,"stream_options":{"include_usage":true},"stop":["a"],"seed":-1,"logit_bias":{"1":2}}`,
	`{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","index":0,"function":{"name":"f","arguments":"{\"a\": [1]}"}}]},{"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"x","volatile":null}]}],"tools":[{"type":"function","function":{"name":"f"}}]}`,
	`{"prompt":[[1,2]],"logprobs":5}`, `{"prompt":["a"],"echo":false}`,
	`{"input":["a"],"encoding_format":"base64"}`, `{"query":"a","documents":["b",{"text":"c"}],"top_n":1}`,
	`{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"x"}],"instructions":"s","tools":[{"type":"function","name":"f"}],"text":{"format":{"type":"json_schema","name":"a","schema":{}}}}`,
	`{"model":"tiny","prompt":"a","system":"b","options":{"num_ctx":8192,"mirostat":0,"num_predict":-1},"format":{"type":"object"},"keep_alive":"5m","think":false,"chat_template_kwargs":{ }}`,
	`{"model":"tiny","chat_template_kwargs":{"enable_thinking":true},` + hello + `,"reasoning_effort":"none"}`,
}

// fuzz gives bytes to a parser. What it takes must be JSON where the journal and the template will read it as JSON.
func fuzz(f *testing.F, parse func(d *Door, body []byte) *dispatch.Request) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	d := &Door{o: Options{Node: models()}}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 64<<10 {
			t.Skip()
		}
		req := parse(d, body)
		if req == nil {
			return
		}
		for name, raw := range map[string]json.RawMessage{"chat": req.Chat, "tools": req.Tools, "vars": req.Vars, "format": req.Options.ResponseFormat, "choice": req.Options.ToolChoice} {
			if len(raw) > 0 && !json.Valid(raw) {
				t.Errorf("%s of %s is %s", name, body, raw)
			}
		}
		if limit := 64*len(body) + 4096; len(req.Chat)+len(req.Tools)+len(req.Vars) > limit {
			t.Errorf("%d bytes became %d", len(body), len(req.Chat)+len(req.Tools)+len(req.Vars))
		}
	})
}

func FuzzChatBody(f *testing.F) {
	fuzz(f, func(d *Door, body []byte) *dispatch.Request {
		if a, err := d.chatBody(body); err == nil {
			return a.req
		}
		return nil
	})
}

func FuzzCompletionBody(f *testing.F) {
	fuzz(f, func(d *Door, body []byte) *dispatch.Request {
		if a, err := d.completionBody(body); err == nil {
			return a.req
		}
		return nil
	})
}

func FuzzResponsesBody(f *testing.F) {
	fuzz(f, func(d *Door, body []byte) *dispatch.Request {
		if a, err := d.responsesBody(body); err == nil {
			return a.req
		}
		return nil
	})
}

func FuzzEmbeddingsBody(f *testing.F) {
	fuzz(f, func(d *Door, body []byte) *dispatch.Request {
		_, _ = d.embeddingsBody(body)
		return nil
	})
}

func FuzzRerankBody(f *testing.F) {
	fuzz(f, func(d *Door, body []byte) *dispatch.Request {
		_, _ = d.rerankBody(body)
		return nil
	})
}

func FuzzOllamaChatBody(f *testing.F) {
	fuzz(f, func(d *Door, body []byte) *dispatch.Request {
		if a, err := d.ollamaChatBody(body); err == nil {
			return a.req
		}
		return nil
	})
}

func FuzzOllamaGenerateBody(f *testing.F) {
	fuzz(f, func(d *Door, body []byte) *dispatch.Request {
		if a, err := d.ollamaGenerateBody(body); err == nil {
			return a.req
		}
		return nil
	})
}

func FuzzOllamaEmbedBody(f *testing.F) {
	fuzz(f, func(d *Door, body []byte) *dispatch.Request {
		_, _ = d.ollamaEmbedBody("input")(body)
		_, _ = d.namedBody(body)
		return nil
	})
}
