package offline

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
)

func TestWindows(t *testing.T) {
	ids := make([]int32, 100)
	for i := range ids {
		ids[i] = int32(i)
	}
	for _, n := range []int{2, 3, 7, 10, 64, 99, 100, 200} {
		// Every id after the first is scored once.
		scored := map[int32]int{}
		for _, w := range windows(ids, n) {
			if len(w.list) > n {
				t.Fatalf("context %d: a window of %d", n, len(w.list))
			}
			for i := w.first; i < len(w.list)-1; i++ {
				scored[w.list[i+1]]++
				if before := i + 1; w.list[i+1] >= int32(n) && before < n/2 {
					t.Errorf("context %d: id %d has %d before it", n, w.list[i+1], before)
				}
			}
		}
		for id := int32(1); id < 100; id++ {
			if scored[id] != 1 {
				t.Errorf("context %d: id %d is scored %d times", n, id, scored[id])
			}
		}
		if scored[0] != 0 || len(scored) != 99 {
			t.Errorf("context %d: %d ids are scored", n, len(scored))
		}
	}
	got := llamaWindows(ids, 30, 7)
	if len(got) != 3 {
		t.Fatalf("%d windows of llama.cpp's kind", len(got))
	}
	for i, w := range got {
		if len(w.list) != 30 || w.list[0] != 7 || w.list[1] != int32(30*i+1) || w.first != 15 {
			t.Errorf("window %d: %+v", i, w)
		}
	}
	if ids[30] != 30 {
		t.Error("the ids were changed")
	}
}

func TestConversation(t *testing.T) {
	got, err := conversation([]byte(`{"z":1,"messages":[{"role":"user","content":"<a>"}],"b":{"y":1,"x":2},"tools":null,"add_generation_prompt":false,"now":"2024-01-01T00:00:00Z"}`))
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Messages) != `[{"role":"user","content":"<a>"}]` || got.Tools != nil || !got.NoPrompt {
		t.Errorf("%+v", got)
	}
	if want := `{"z":1,"b":{"y":1,"x":2},"now":"2024-01-01T00:00:00Z"}`; string(got.Variables) != want {
		t.Errorf("variables %s, want %s", got.Variables, want)
	}
	for in, want := range map[string]string{
		`"2026-01-02T03:04:05"`:    `"2026-01-02T03:04:05Z"`,
		`"2026-01-02T03:04:05.25"`: `"2026-01-02T03:04:05.25Z"`,
		`"2026-01-02"`:             `"2026-01-02T00:00:00Z"`,
		`12`:                       `12`,
		`"noon"`:                   `"noon"`,
	} {
		if got := zoned(json.RawMessage(in)); string(got) != want {
			t.Errorf("now %s became %s, want %s", in, got, want)
		}
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"messages":[]`, `{"messages":[]} x`, `{"messages":[],"add_generation_prompt":1}`} {
		if _, err := conversation([]byte(bad)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestResultJSON(t *testing.T) {
	ev := &backend.Event{Usage: backend.Usage{PromptTokens: 3, CompletionTokens: 2}, Choices: []backend.Choice{{
		IDs: []int32{4, 5}, Text: "a<b", Finish: "stop",
		Logprobs: []backend.TokenLogprob{{ID: 4, Logprob: -0.5, Top: []backend.Alternative{{ID: 4, Logprob: -0.5}}}, {ID: 5, Logprob: -1}},
	}}}
	var b bytes.Buffer
	if err := cli.Encoder(&b).Encode(result(ev, backend.Request{Logprobs: true})); err != nil {
		t.Fatal(err)
	}
	want := `{"ids":[4,5],"text":"a<b","finish_reason":"stop","usage":{"prompt_tokens":3,"cached_tokens":0,"completion_tokens":2},` +
		`"logprobs":[{"id":4,"logprob":-0.5,"top":[{"id":4,"logprob":-0.5}]},{"id":5,"logprob":-1,"top":[]}]}` + "\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	b.Reset()
	if err := cli.Encoder(&b).Encode(result(&backend.Event{Choices: []backend.Choice{{Finish: "length"}}}, backend.Request{})); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), `{"ids":[],"text":"","finish_reason":"length"`) || strings.Contains(b.String(), "logprobs") {
		t.Error(b.String())
	}
}

func TestBatchLines(t *testing.T) {
	f := generateFlags{settings: settings{MaxTokens: 7, Temperature: 0.5, LogitBias: biases{1: 2}}}
	in := batchLine{settings: f.settings}
	if err := cli.Strict([]byte(`{"ids":[1,2],"max_tokens":3,"seed":18446744073709551615,"logprobs":4,"logit_bias":{"9":-1}}`), &in); err != nil {
		t.Fatal(err)
	}
	r := in.request(in.IDs, nil)
	if r.MaxTokens != 3 || r.Sampling.Temperature != 0.5 || r.Sampling.Seed != 1<<64-1 || r.TopLogprobs != 4 || !r.Logprobs || r.Sampling.LogitBias[9] != -1 {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{`{"nonsense":1}`, `{"ids":1}`, `{} {}`, `[`} {
		if err := cli.Strict([]byte(bad), &batchLine{}); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func FuzzConversation(f *testing.F) {
	f.Add([]byte(`{"messages":[{"role":"user","content":"x"}],"a":{"b":[1,null]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := conversation(data)
		if err != nil {
			return
		}
		if !json.Valid(c.Messages) || len(c.Variables) > 0 && !json.Valid(c.Variables) {
			t.Errorf("%q gave invalid JSON: %q, %q", data, c.Messages, c.Variables)
		}
	})
}
