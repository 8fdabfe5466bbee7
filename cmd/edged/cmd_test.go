package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/protocol/backend"
)

// command runs a command line and returns what it wrote and its exit code.
func command(t *testing.T, in string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = execute(t.Context(), streams{in: strings.NewReader(in), out: &o, err: &e}, args)
	return o.String(), e.String(), code
}

func TestExitCodes(t *testing.T) {
	missing := t.TempDir() + "/none"
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", 0, ""},
		{"version", 0, ""},
		{"version --json", 0, ""},
		{"generate --help", 0, ""},
		{"nonsense", 2, "unknown command"},
		{"generate --nonsense", 2, "unknown flag"},
		{"generate --max-tokens x", 2, "max-tokens"},
		{"generate", 2, "--prompt"},
		{"generate --prompt a --ids 1", 2, "give one of"},
		{"generate --prompt a", 2, "--model is missing"},
		{"generate --ids 1,x --model m", 2, `"x" is not a token id`},
		{"generate --ids -1 --model m", 2, "not a token id"},
		{"generate --ids 1 --chat --model m", 2, "--chat"},
		{"generate --prompt a --output xml --model m", 2, `"xml" is none of text, ids, json`},
		{"generate --prompt a --temperature -1 --model m", 2, "temperature"},
		{"generate --prompt a --seed -1 --model m", 2, "--seed"},
		{"generate --prompt a --logit-bias 5 --model m", 2, "ID=BIAS"},
		{"generate --prompt a --precision exact --kv f16 --model m", 2, "contradicts"},
		{"generate --prompt a --model " + missing, 1, "no such file"},
		{"generate --prompt a --model . --adapter x=y", 2, "not a scale"},
		{"generate --prompt a --model . --adapter " + missing, 1, "no such file"},
		{"tokenize --model m", 2, "give one of"},
		{"tokenize text", 2, "--model is missing"},
		{"tokenize --model m --batch x --pieces", 2, "pieces"},
		{"tokenize --model m --ids --pieces text", 2, "ids pieces"},
		{"detokenize --model m", 2, "give one of"},
		{"detokenize 1,2", 2, "--model is missing"},
		{"detokenize --model m 1,x", 2, "\"x\" is not a token id"},
		{"render --input x", 2, "--model or --template"},
		{"render --template x", 2, "--input"},
		{"render --template x --ids --input y", 2, "--ids needs --model"},
		{"render --template " + missing + " --input y", 1, "no such file"},
		{"score --model m", 2, "--file"},
		{"generate --prompt a --model m --num-beams 65", 2, "num_beams"},
		{"generate --prompt a --model m --early-stopping soon", 2, "true, false, never"},
		{"embed --model m", 2, "--batch is missing"},
		{"embed --model m --batch x --pooling odd", 2, "mean, cls, last"},
		{"rerank --model m", 2, "--batch is missing"},
		{"rerank --batch x", 2, "--model is missing"},
		{"rerank --model m --batch x --adapter y", 2, "--adapter"},
		{"fill --model m", 2, "--batch is missing"},
		{"fill --model m --batch x --top 0", 2, "--top"},
		{"quantize a b", 2, "--type is missing"},
		{"quantize a b --type q9", 2, "Q4_K_M"},
		{"quantize a --type q4_0", 2, "2 arg"},
		{"quantize a b --type q4_0 --tensor-type x", 2, "PATTERN=TYPE"},
		{"quantize a b --type q4_0 --tensor-type x=iq2_xs", 2, "types that are written"},
		{"quantize " + missing + " b --type q4_0", 1, "no such file"},
		{"quantize . b --type q4_0", 1, "is a folder"},
		{"ask --var a=b text", 2, "belongs to --prompt-name"},
		{"ask --prompt-name x --var a text", 2, "is not NAME=VALUE"},
		{"ask --prompt-name x --var a=1 --var a=2 text", 2, "given twice"},
		{"ask --prompt-name a/b text", 2, "--prompt-name"},
		{"ask --node @ text", 2, "--node"},
		{"ask --node a@b text", 2, "with @ before it for a group"},
		{"ask --model /a/b.gguf text", 2, "not a path"},
		{"status --node @house", 2, "name one of its nodes"},
		{"models --node @house", 2, "name one of its nodes"},
		{"adapters --node @house", 2, "name one of its nodes"},
		{"run --config " + missing, 1, missing},
		{"check --config " + missing, 1, ""},
		{"adapters remove ..", 2, "cannot be the name"},
		{"run extra", 2, "extra"},
	} {
		t.Run(c.args, func(t *testing.T) {
			_, errs, code := command(t, "", strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(errs, c.says) {
				t.Errorf("code %d, want %d; stderr %q, want %q in it", code, c.code, errs, c.says)
			}
			if code == 1 && strings.Count(errs, "\n") > 1 {
				t.Errorf("more than one sentence: %q", errs)
			}
		})
	}
}

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
	if err := encoder(&b).Encode(result(ev, backend.Request{Logprobs: true})); err != nil {
		t.Fatal(err)
	}
	want := `{"ids":[4,5],"text":"a<b","finish_reason":"stop","usage":{"prompt_tokens":3,"cached_tokens":0,"completion_tokens":2},` +
		`"logprobs":[{"id":4,"logprob":-0.5,"top":[{"id":4,"logprob":-0.5}]},{"id":5,"logprob":-1,"top":[]}]}` + "\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	b.Reset()
	if err := encoder(&b).Encode(result(&backend.Event{Choices: []backend.Choice{{Finish: "length"}}}, backend.Request{})); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), `{"ids":[],"text":"","finish_reason":"length"`) || strings.Contains(b.String(), "logprobs") {
		t.Error(b.String())
	}
}

func TestBatchLines(t *testing.T) {
	f := generateFlags{settings: settings{MaxTokens: 7, Temperature: 0.5, LogitBias: biases{1: 2}}}
	in := batchLine{settings: f.settings}
	if err := strict([]byte(`{"ids":[1,2],"max_tokens":3,"seed":18446744073709551615,"logprobs":4,"logit_bias":{"9":-1}}`), &in); err != nil {
		t.Fatal(err)
	}
	r := in.request(in.IDs, nil)
	if r.MaxTokens != 3 || r.Sampling.Temperature != 0.5 || r.Sampling.Seed != 1<<64-1 || r.TopLogprobs != 4 || !r.Logprobs || r.Sampling.LogitBias[9] != -1 {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{`{"nonsense":1}`, `{"ids":1}`, `{} {}`, `[`} {
		if err := strict([]byte(bad), &batchLine{}); err == nil {
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
