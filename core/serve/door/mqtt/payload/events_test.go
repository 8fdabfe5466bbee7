package payload

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

func answered() *dispatch.Last {
	return &dispatch.Last{
		Finish: "stop",
		Choices: []backend.Choice{
			{Index: 0, Text: "a <b> & \"c\"", Finish: "stop", Logprobs: []backend.TokenLogprob{{ID: 1, Logprob: -0.5, Top: []backend.Alternative{{ID: 1, Logprob: -0.5}, {ID: 7, Logprob: -2}}}}},
			{Index: 1, Text: "d", Finish: "length"},
		},
		Usage:    backend.Usage{PromptTokens: 12, CachedTokens: 4, CompletionTokens: 3, VirtualTokens: 2},
		Timings:  dispatch.Timings{Queue: 1500 * time.Microsecond, FirstToken: 20 * time.Millisecond, Prefill: 10 * time.Millisecond, Decode: 40 * time.Millisecond, PrefillTokens: 8, DecodeTokens: 3},
		Model:    "hearth",
		Adapters: []dispatch.UsedAdapter{{Name: "pirate", SHA256: "ab", Scale: 1}},
		Seed:     1<<53 - 1,
		Node:     "pi",
	}
}

// TestEvents: what is published for each event, and that the published schema describes it.
func TestEvents(t *testing.T) {
	position := dispatch.Accepted{Position: 0}
	several := answered()
	several.Logprobs = true
	several.Tools = [][]dispatch.ToolCall{{{Name: "f", Arguments: json.RawMessage(`{"x":1}`)}}, nil}
	embedded := answered()
	embedded.Choices, embedded.Finish, embedded.Vectors = nil, "", [][]float32{{0.5, -1}, {2, 3}}
	scored := answered()
	scored.Choices, scored.Finish, scored.Scores = nil, "", []float32{-1.5, -0.25}
	ranked := answered()
	ranked.Choices, ranked.Finish, ranked.Ranks = nil, "", []dispatch.Ranked{{Index: 1, Score: 0.5, Logit: 0}, {Index: 0, Score: 0.25, Logit: -1.5}}
	tail := `"usage":{"prompt_tokens":12,"cached_tokens":4,"completion_tokens":3,"virtual_tokens":2},"timings":{"queue_ms":1.5,"first_token_ms":20,"prefill_ms":10,"decode_ms":40,"prefill_tps":800,"decode_tps":50},"model":"hearth","adapters":[{"name":"pirate","sha256":"ab","scale":1}]`
	tests := []struct {
		name string
		req  dispatch.Request
		ev   dispatch.Event
		want string
	}{
		{"loading", dispatch.Request{}, dispatch.Event{Attempt: 1, Seq: 1, Loading: &dispatch.Loading{Model: "m"}}, `{"id":"r","attempt":1,"seq":1,"stage":"loading","waits_for":"m"}`},
		{"accepted", dispatch.Request{}, dispatch.Event{Attempt: 1, Accepted: &position}, `{"id":"r","attempt":1,"seq":0,"stage":"accepted","position":0}`},
		{"prefill", dispatch.Request{}, dispatch.Event{Attempt: 1, Seq: 1, Prefill: &backend.Prefill{Done: 0, Of: 7}}, `{"id":"r","attempt":1,"seq":1,"stage":"prefill","read":0,"of":7}`},
		{"delta", dispatch.Request{}, dispatch.Event{Attempt: 2, Seq: 3, Delta: &dispatch.Delta{Text: "a<b"}}, `{"id":"r","attempt":2,"seq":3,"delta":"a<b"}`},
		{"delta of a thought", dispatch.Request{}, dispatch.Event{Attempt: 1, Seq: 3, Delta: &dispatch.Delta{Thought: "hm"}}, `{"id":"r","attempt":1,"seq":3,"reasoning":"hm"}`},
		{
			"thought",
			dispatch.Request{},
			dispatch.Event{Attempt: 1, Last: &dispatch.Last{Finish: "stop", Node: "pi", Choices: []backend.Choice{{Text: "Yes", Finish: "stop"}}, Thoughts: []string{"hm"}, Thought: 2}},
			`{"id":"r","attempt":1,"seq":0,"reasoning":"hm","done":true,"text":"Yes","finish_reason":"stop","usage":{"prompt_tokens":0,"cached_tokens":0,"completion_tokens":0,"reasoning_tokens":2},"timings":{"queue_ms":0,"first_token_ms":0,"prefill_ms":0,"decode_ms":0,"prefill_tps":0,"decode_tps":0},"model":"","adapters":[],"seed":0,"node":"pi"}`,
		},
		{"delta of a choice", dispatch.Request{Options: dispatch.Options{N: 2}}, dispatch.Event{Attempt: 1, Seq: 3, Delta: &dispatch.Delta{Text: "a"}}, `{"id":"r","attempt":1,"seq":3,"delta":"a","index":0}`},
		{
			"answer",
			dispatch.Request{},
			dispatch.Event{Attempt: 1, Seq: 9, Last: answered()},
			`{"id":"r","attempt":1,"seq":9,"done":true,"text":"a <b> & \"c\"","finish_reason":"stop",` + tail + `,"seed":9007199254740991,"node":"pi"}`,
		},
		{
			"answers",
			dispatch.Request{Options: dispatch.Options{N: 2}},
			dispatch.Event{Attempt: 1, Last: several},
			`{"id":"r","attempt":1,"seq":0,"done":true,"text":"a <b> & \"c\"","finish_reason":"stop",` +
				`"tool_calls":[{"id":"call_0_0","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}],"logprobs":[{"id":1,"logprob":-0.5,"top":[{"id":1,"logprob":-0.5},{"id":7,"logprob":-2}]}],` +
				`"choices":[{"index":0,"text":"a <b> & \"c\"","finish_reason":"stop","tool_calls":[{"id":"call_0_0","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}],"logprobs":[{"id":1,"logprob":-0.5,"top":[{"id":1,"logprob":-0.5},{"id":7,"logprob":-2}]}]},{"index":1,"text":"d","finish_reason":"length"}],` +
				tail + `,"seed":9007199254740991,"node":"pi"}`,
		},
		{
			"nothing said",
			dispatch.Request{},
			dispatch.Event{Attempt: 1, Last: &dispatch.Last{Finish: "cancelled", Node: "pi"}},
			`{"id":"r","attempt":1,"seq":0,"done":true,"text":"","finish_reason":"cancelled","usage":{"prompt_tokens":0,"cached_tokens":0,"completion_tokens":0},"timings":{"queue_ms":0,"first_token_ms":0,"prefill_ms":0,"decode_ms":0,"prefill_tps":0,"decode_tps":0},"model":"","adapters":[],"seed":0,"node":"pi"}`,
		},
		{"embed", dispatch.Request{Kind: dispatch.Embed}, dispatch.Event{Attempt: 1, Last: embedded}, `{"id":"r","attempt":1,"seq":0,"done":true,"embeddings":[[0.5,-1],[2,3]],` + tail + `,"node":"pi"}`},
		{
			"embed packed",
			dispatch.Request{Kind: dispatch.Embed, Packed: true},
			dispatch.Event{Attempt: 1, Last: embedded},
			`{"id":"r","attempt":1,"seq":0,"done":true,"embeddings":["AAAAPwAAgL8=","AAAAQAAAQEA="],` + tail + `,"node":"pi"}`,
		},
		{"score", dispatch.Request{Kind: dispatch.Score}, dispatch.Event{Attempt: 1, Last: scored}, `{"id":"r","attempt":1,"seq":0,"done":true,"scores":[-1.5,-0.25],` + tail + `,"node":"pi"}`},
		{
			"rerank",
			dispatch.Request{Kind: dispatch.Rank},
			dispatch.Event{Attempt: 1, Last: ranked},
			`{"id":"r","attempt":1,"seq":0,"done":true,"results":[{"index":1,"score":0.5,"logit":0},{"index":0,"score":0.25,"logit":-1.5}],` + tail + `,"node":"pi"}`,
		},
		{
			"error",
			dispatch.Request{},
			dispatch.Event{Attempt: 1, Last: &dispatch.Last{Error: &dispatch.Error{Code: dispatch.CodeQueueFull, Message: "full", Retry: 1500 * time.Millisecond}}},
			`{"id":"r","attempt":1,"seq":0,"done":true,"error":{"code":"queue_full","message":"full","retry_after_ms":1500}}`,
		},
		{
			"not a number",
			dispatch.Request{Kind: dispatch.Score},
			dispatch.Event{Attempt: 1, Last: &dispatch.Last{Scores: []float32{float32(math.NaN())}}},
			`{"id":"r","attempt":1,"seq":0,"done":true,"error":{"code":"internal","message":"the answer cannot be written as JSON: json: unsupported value: NaN"}}`,
		},
		{
			"too large",
			dispatch.Request{},
			dispatch.Event{Attempt: 3, Seq: 5, Last: &dispatch.Last{Finish: "stop", Choices: []backend.Choice{{Text: strings.Repeat("x", 3000)}}}},
			`{"id":"r","attempt":3,"seq":5,"done":true,"error":{"code":"answer_too_large","message":"the answer has 3291 bytes, and mqtt.max_payload is 3000"}}`,
		},
	}
	s := schema(t, "event")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.req.ID = "r"
			e := EventOf(&test.req, test.ev)
			got := Encode(e, 3000)
			if string(got) != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if err := valid(s, string(got)); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
			var back Event
			if err := json.Unmarshal(got, &back); err != nil {
				t.Fatal(err)
			}
			if again, err := back.encode(); err != nil || string(again) != string(got) {
				t.Errorf("read and written again: %s, %v", again, err)
			}
		})
	}
}

func TestPlain(t *testing.T) {
	for _, test := range []struct {
		last *dispatch.Last
		want string
	}{
		{answered(), "a <b> & \"c\""},
		{&dispatch.Last{Error: &dispatch.Error{Code: dispatch.CodeInternal, Message: "m"}}, "error: internal: m"},
		{&dispatch.Last{}, ""},
		{&dispatch.Last{Choices: []backend.Choice{{Text: strings.Repeat("x", 200)}}}, "error: answer_too_large: the answer has 200 bytes, and mqtt.max_payload is 100"},
	} {
		if got := string(PlainText(test.last, 100)); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// TestStateSchemas: full and empty states are as the schema says.
func TestStateSchemas(t *testing.T) {
	temp, hot := 61.5, true
	for _, test := range []struct {
		name string
		v    any
	}{
		{"status", Status{
			API: 1, Node: "pi", State: StateReady, Version: "1", Since: "2026-11-01T10:00:00Z", Queue: StatusQueue{64, 8},
			Model:   &StatusModel{Name: "m", Arch: "llama", Format: "NF4", Hash: "00", Context: 512},
			Backend: &StatusBackend{Name: "neon", Version: "1", Kernels: "neon", Precision: "fast"}, Adapters: []StatusAdapter{{"p", 1, "ab"}},
		}},
		{"status", Status{API: 1, Node: "pi", State: StateDegraded, Reason: "r", Adapters: []StatusAdapter{}}},
		{"adapter", Adapter{State: AdapterActive, Generation: 2, SHA256: "ab", Kind: "lora", Rank: 8, Targets: []string{"q_proj"}, Bytes: 99}},
		{"adapter", Adapter{State: AdapterActive, Generation: 2, SHA256: "ab", Kind: "soft_prompt", Virtual: 20, Bytes: 99}},
		{"adapter", Adapter{State: AdapterRejected, Generation: 1, SHA256: "ab", Error: "why"}},
		{"adapter", Adapter{State: AdapterSettling, Error: "adapter_config.json is missing"}},
		{"adapter", Adapter{State: AdapterVerifying}},
		{"adapter", Adapter{State: AdapterDraining}},
		{"model", Model{State: ModelLoaded, Default: true, Kind: "decoder", Family: "llama", Title: "t", Format: "Q4_0", Context: 1, Parameters: 2, Bytes: 3, Needs: 4, Memory: 5}},
		{"model", Model{State: ModelRejected, Error: "why", Note: "another has its name"}},
		{"model", Model{State: ModelSettling}},
		{"model", Model{State: ModelAvailable}},
		{"model", Model{State: ModelLoading}},
		{"model", Model{State: ModelUnloading}},
		{"stats", Stats{
			Node: "pi", CPUTempC: &temp, Throttled: &hot, UnderVoltage: &hot, TokensPerS: 1.5,
			FirstToken: StatsHistogram{BoundsMS: []float64{50}, Counts: []uint64{1, 0}, SumMS: 20}, Backend: &StatsBackend{KVPages: 4, ThreadsDecode: 2},
		}},
		{"stats", Stats{Node: "pi", FirstToken: StatsHistogram{BoundsMS: []float64{}, Counts: []uint64{}}}},
		{"status", Status{
			API: 1, Node: "pi", State: StateReady, Version: "1", Since: "2026-11-01T10:00:00Z", Adapters: []StatusAdapter{},
			Power: &StatusPower{Reasons: []string{"under_voltage", "throttled"}, ThreadsDecode: 2, ThreadsTuned: 4},
		}},
		{"complaint", Complaint{Topic: "edged/pi/request", ID: "a", Error: Error{Code: dispatch.CodeIDConflict, Message: "m"}}},
		{"complaint", Complaint{Topic: "edged/pi/request", Error: Error{Code: dispatch.CodeInvalidRequest, Message: "m"}}},
	} {
		data, err := fields.Encode(test.v)
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(schema(t, test.name), string(data)); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	}
}

// Progress reads the same from a node of today and from one that said it in "done".
func TestProgressOfOlderNodes(t *testing.T) {
	for _, text := range []string{
		`{"id":"r","attempt":1,"seq":1,"stage":"prefill","read":32,"of":57}`, `{"id":"r","attempt":1,"seq":1,"stage":"prefill","done":32,"of":57}`,
	} {
		var e Event
		if err := json.Unmarshal([]byte(text), &e); err != nil || e.Done || e.DoneOf == nil || *e.DoneOf != (Of{Done: 32, Of: 57}) {
			t.Errorf("%s: %+v, %v", text, e, err)
		}
	}
}
