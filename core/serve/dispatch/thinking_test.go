package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/dispatch/thinking"
)

// TestWish: what a request says wins over its template variables, and those over the node's default.
func TestWish(t *testing.T) {
	d := &Defaults{Thinking: ThinkingOff, ThinkingBudget: 100}
	for _, c := range []struct {
		o    Options
		vars string
		want thinking.Setting
	}{
		{Options{}, "", thinking.Setting{Mode: ThinkingOff}},
		{Options{Thinking: ThinkingOn}, "", thinking.Setting{Mode: ThinkingOn, Budget: 100, Asked: true}},
		{Options{Thinking: ThinkingOn, ThinkingBudget: 7}, `{"thinking":false}`, thinking.Setting{Mode: ThinkingOn, Budget: 7, Asked: true}},
		{Options{}, `{"enable_thinking":true}`, thinking.Setting{Mode: ThinkingOn, Budget: 100}},
		{Options{Thinking: ThinkingOff}, `{"enable_thinking":true}`, thinking.Setting{Mode: ThinkingOff}},
	} {
		got := (&Request{Options: c.o, Vars: json.RawMessage(c.vars)}).thinkingSetting(d)
		if got != c.want {
			t.Errorf("%+v, %s: %+v", c.o, c.vars, got)
		}
	}
}

// bytewise is a tokenizer whose ids are the bytes of a text. It puts nothing before a line end.
func bytewise(template string) TokenizerLife {
	return TokenizerLife{Life: 1, Info: tokenizer.Info{ChatTemplate: template}, Tokenizer: &tokenizer.Fake{
		EncodeFunc: func(_ context.Context, texts []string, _ tokenizer.Flags) ([][]int32, error) {
			out := make([][]int32, len(texts))
			for i, text := range texts {
				for _, b := range []byte(text) {
					out[i] = append(out[i], int32(b))
				}
			}
			return out, nil
		},
		DecodeFunc: func(_ context.Context, ids []int32, _ bool) ([]byte, error) { return []byte(textOf(ids)), nil },
	}}
}

func textOf(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteByte(byte(id))
	}
	return b.String()
}

// TestThinkingPlan: what stands behind the prompt, and what the backend is told.
func TestThinkingPlan(t *testing.T) {
	const qwen = `{{- '<|im_start|>assistant\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}`
	const harmony = `<|start|>assistant<|channel|>analysis<|message|>`
	const schema = `{"type":"json_object"}`
	for name, c := range map[string]struct {
		template, prompt string
		o                Options
		tools            string
		defaults         Defaults
		behind           string // of the prompt
		want             *backend.Thinking
		close, then      string
	}{
		"off, closed by the template": {
			template: qwen, prompt: "a<think>\n\n</think>\n\n", o: Options{Thinking: ThinkingOff},
			want: &backend.Thinking{Open: "<think>", Close: "</think>", Never: true},
		},
		"off, and the template opens one": {
			template: qwen, prompt: "a<think>\n", o: Options{Thinking: ThinkingOff}, behind: "\n</think>\n\n",
			want: &backend.Thinking{Open: "<think>", Close: "</think>", Never: true},
		},
		"as the template does it": {template: qwen, prompt: "a<think>\n"},
		"off by default": {
			template: qwen, prompt: "a<think>\n", defaults: Defaults{Thinking: ThinkingOff}, behind: "\n</think>\n\n",
			want: &backend.Thinking{Open: "<think>", Close: "</think>", Never: true},
		},
		"on": {template: qwen, prompt: "a", o: Options{Thinking: ThinkingOn}, want: &backend.Thinking{Open: "<think>", Close: "</think>"}},
		"a budget": {
			template: qwen, prompt: "a", o: Options{Thinking: ThinkingOn, ThinkingBudget: 9}, close: "\n</think>\n\n", then: "\n\n",
			want: &backend.Thinking{Open: "<think>", Close: "</think>", Budget: 9},
		},
		"a budget by default, within a thought": {
			template: qwen, prompt: "a<think>\n", defaults: Defaults{Thinking: ThinkingOn, ThinkingBudget: 9}, close: "\n</think>\n\n", then: "\n\n",
			want: &backend.Thinking{Open: "<think>", Close: "</think>", Budget: 9, Begun: true},
		},
		"on, with a form": {
			template: qwen, prompt: "a", o: Options{Thinking: ThinkingOn, ResponseFormat: json.RawMessage(schema)}, behind: "<think>\n",
			close: "\n</think>\n\n", then: "\n\n", want: &backend.Thinking{Open: "<think>", Close: "</think>", Begun: true},
		},
		"off, of a family of messages": {
			template: harmony, prompt: "a<|start|>assistant", o: Options{Thinking: ThinkingOff}, behind: "<|channel|>final<|message|>",
			want: &backend.Thinking{Open: "<|channel|>analysis", Close: "<|end|>", Again: "<|start|>assistant", Never: true},
		},
		"off, of a family of messages, with tools": {
			template: harmony, prompt: "a<|start|>assistant", o: Options{Thinking: ThinkingOff}, tools: `[{"name":"f"}]`,
			want: &backend.Thinking{Open: "<|channel|>analysis", Close: "<|end|>", Again: "<|start|>assistant", Never: true},
		},
		"a form, of a family of messages": {
			template: harmony, prompt: "a<|start|>assistant", o: Options{Thinking: ThinkingOn, ThinkingBudget: 9, ResponseFormat: json.RawMessage(schema)},
			behind: "<|channel|>analysis<|message|>", close: "\n<|end|><|start|>assistant<|channel|>final<|message|>", then: "<|start|>assistant<|channel|>final<|message|>",
			want: &backend.Thinking{Open: "<|channel|>analysis", Close: "<|end|>", Again: "<|start|>assistant", Begun: true, Budget: 9},
		},
		"a chain of thought": {
			template: "{{ messages }}", prompt: "a", o: Options{AnswerAfter: "Answer:"}, defaults: Defaults{Thinking: ThinkingOn, ThinkingBudget: 3},
			close: "\nAnswer:", want: &backend.Thinking{Open: "Answer:", Close: "Answer:", Begun: true, Must: true, Budget: 3},
		},
		"a chain of thought in the place of the family's own": {
			template: qwen, prompt: "a<think>\n", o: Options{AnswerAfter: "Answer:", Thinking: ThinkingOn, ThinkingBudget: 5}, behind: "\n</think>\n\n",
			close: "\nAnswer:", want: &backend.Thinking{Open: "Answer:", Close: "Answer:", Begun: true, Must: true, Budget: 5},
		},
		"a family without thoughts":                   {template: "{{ messages }}", prompt: "a", o: Options{Thinking: ThinkingOff}},
		"on by default, of a family without thoughts": {template: "{{ messages }}", prompt: "a", defaults: Defaults{Thinking: ThinkingOn, ThinkingBudget: 3}},
		"a switch without marks":                      {template: "{{ enable_thinking }}", prompt: "a", o: Options{Thinking: ThinkingOn}},
	} {
		t.Run(name, func(t *testing.T) {
			j := &job{req: &Request{Options: c.o, Tools: json.RawMessage(c.tools)}, prompt: []int32{1}, opened: thinking.CloseMark(c.prompt)}
			if err := j.think(t.Context(), bytewise(c.template), j.req.thinkingSetting(&c.defaults), c.prompt); err != nil {
				t.Fatal(err)
			}
			if got := textOf(j.prompt[1:]); got != c.behind {
				t.Errorf("behind the prompt stands %q", got)
			}
			if thinking.CloseMark(c.prompt+c.behind) != "" != (j.opened != "") && c.o.AnswerAfter == "" {
				t.Errorf("the prompt ends with %q, and what closes its thought is %q", c.prompt+c.behind, j.opened)
			}
			if c.want != nil && c.close != "" {
				for _, b := range []byte(c.close) {
					c.want.CloseIDs = append(c.want.CloseIDs, int32(b))
				}
				for _, b := range []byte(c.then) {
					c.want.ThenIDs = append(c.want.ThenIDs, int32(b))
				}
			}
			if d := cmp.Diff(c.want, j.thinking); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestThinkingIsRefused(t *testing.T) {
	for want, c := range map[string]struct {
		template string
		o        Options
	}{
		"this model does not think":   {"{{ messages }}", Options{Thinking: ThinkingOn}},
		"which a budget needs":        {"{{ enable_thinking }}", Options{Thinking: ThinkingOn, ThinkingBudget: 5}},
		"an answer with a form would": {"{{ enable_thinking }}", Options{Thinking: ThinkingOn, Grammar: `root ::= "a"`}},
	} {
		j := &job{req: &Request{Options: c.o}, prompt: []int32{1}}
		err := j.think(t.Context(), bytewise(c.template), j.req.thinkingSetting(&Defaults{}), "a")
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeUnsupported || !strings.Contains(e.Message, want) || !strings.HasPrefix(e.Message, "thinking: ") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
