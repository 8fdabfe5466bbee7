package dispatch

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/serve/inbox"
)

func TestRefusals(t *testing.T) {
	in(t, nil, func(b *bench) {
		t := b.t
		for _, c := range []struct {
			name   string
			change func(r *Request)
			code   Code
			says   string
		}{
			{"no id", func(r *Request) { r.ID = "" }, CodeInvalidRequest, "id:"},
			{"no prompt", func(r *Request) { r.Prompt = "" }, CodeInvalidRequest, "prompt:"},
			{"two prompts", func(r *Request) { r.Chat = json.RawMessage("[]") }, CodeInvalidRequest, "prompt:"},
			{"texts", func(r *Request) { r.Texts = []string{"a"} }, CodeInvalidRequest, "texts:"},
			{"priority", func(r *Request) { r.Priority = 11 }, CodeInvalidRequest, "priority:"},
			{"deadline", func(r *Request) { r.Deadline = -1 }, CodeInvalidRequest, "deadline_ms:"},
			{"negative id", func(r *Request) { r.Prompt, r.IDs = "", []int32{-1} }, CodeInvalidRequest, "ids:"},
			{"max_tokens", func(r *Request) { r.Options.MaxTokens = new(0) }, CodeInvalidRequest, "max_tokens:"},
			{"top_k", func(r *Request) { r.Options.TopK = new(-1) }, CodeInvalidRequest, "top_k:"},
			{"top_p", func(r *Request) { r.Options.TopP = new(float32(1.5)) }, CodeInvalidRequest, "top_p:"},
			{"temperature", func(r *Request) { r.Options.Temperature = new(float32(-1)) }, CodeInvalidRequest, "temperature:"},
			{"stop", func(r *Request) { r.Options.Stop = []string{""} }, CodeInvalidRequest, "stop:"},
			{"n", func(r *Request) { r.Options.N = 17 }, CodeInvalidRequest, "n:"},
			{"best_of", func(r *Request) { r.Options.N, r.Options.BestOf = 3, 2 }, CodeInvalidRequest, "best_of:"},
			{"top_logprobs", func(r *Request) { r.Options.TopLogprobs = 3 }, CodeInvalidRequest, "top_logprobs:"},
			{"logit_bias", func(r *Request) { r.Options.LogitBias = map[int32]float32{-3: 1} }, CodeInvalidRequest, "logit_bias:"},
			{"grammar", func(r *Request) { r.Options.Grammar = "root ::= nobody" }, CodeInvalidRequest, "grammar:"},
			{"response_format", func(r *Request) { r.Options.ResponseFormat = json.RawMessage(`{"type":"yaml"}`) }, CodeUnsupported, "response_format:"},
			{"schema", func(r *Request) {
				r.Options.ResponseFormat = json.RawMessage(`{"type":"json_schema","json_schema":{"schema":{"properties":{"a":{"divisibleBy":2}}}}}`)
			}, CodeUnsupported, "response_format: grammar: not supported: schema: the keyword properties.a.divisibleBy"},
			{"two forms", func(r *Request) {
				r.Options.ResponseFormat, r.Options.Grammar = json.RawMessage(`{"type":"json_object"}`), `root ::= "x"`
			}, CodeInvalidRequest, "grammar: cannot stand beside"},
			{"tool_choice", func(r *Request) { r.Options.ToolChoice = json.RawMessage(`"required"`) }, CodeInvalidRequest, "tool_choice: needs tools"},
			{"tool_choice of none", func(r *Request) {
				r.Tools, r.Options.ToolChoice = json.RawMessage(`[{"type":"function","function":{"name":"f"}}]`), json.RawMessage(`{"type":"function","function":{"name":"g"}}`)
			}, CodeInvalidRequest, "tool_choice: there is no tool \"g\""},
			{"tool_choice without tools", func(r *Request) { r.Options.ToolChoice = json.RawMessage(`"auto"`) }, CodeInvalidRequest, "tool_choice:"},
			{"adapter", func(r *Request) { r.Adapters = []AdapterRef{{Name: "x", Scale: 1}} }, CodeAdapterNotFound, "adapter:"},
		} {
			if e := b.refused(t, with(ask("a", "x"), c.change), c.code); !strings.HasPrefix(e.Message, c.says) {
				t.Errorf("%s: the message %q does not begin with %q", c.name, e.Message, c.says)
			}
		}
		if len(b.s.events) != 0 {
			t.Errorf("refused requests had events: %v", b.s.events)
		}
	})
}

func TestContextLength(t *testing.T) {
	in(t, func(_ *Config, p *plugins) { p.context = 8 }, func(b *bench) {
		t := b.t
		b.submit(t, ask("fits", "1234567"))
		b.submit(t, ask("long", "12345678"))
		time.Sleep(time.Second)
		synctest.Wait()
		if last := b.s.last(t, "fits"); last.Error != nil {
			t.Errorf("fits: %v", last.Error)
		}
		if last := b.s.last(t, "long"); last.Error == nil || last.Error.Code != CodeContextLength {
			t.Errorf("long: %+v", last)
		}
	})
}

func TestQueueFull(t *testing.T) {
	in(t, func(c *Config, _ *plugins) { c.Limits.Queued, c.Limits.Running, c.Limits.PerClient = 3, 1, 4 }, func(b *bench) {
		t := b.t
		for i := range 4 { // one runs, three wait
			b.submit(t, with(ask(strconv.Itoa(i), "x"), func(r *Request) { r.Client = strconv.Itoa(i) }))
			synctest.Wait()
		}
		if e := b.refused(t, ask("4", "x"), CodeQueueFull); e.Retry < time.Second || e.Retry > 5*time.Minute {
			t.Errorf("retry after %v", e.Retry)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for i := range 4 {
			if last := b.s.last(t, strconv.Itoa(i)); last.Error != nil {
				t.Errorf("%d: %v", i, last.Error)
			}
		}
		b.submit(t, ask("4", "x"))
		time.Sleep(time.Second)
	})
	in(t, func(c *Config, _ *plugins) { c.Limits.PerClient = 2 }, func(b *bench) {
		t := b.t
		b.submit(t, ask("0", "x"))
		b.submit(t, ask("1", "x"))
		b.refused(t, ask("2", "x"), CodeQueueFull)
		b.submit(t, with(ask("2", "x"), func(r *Request) { r.Client = "other" }))
		time.Sleep(time.Second)
	})
	in(t, func(c *Config, _ *plugins) { c.Inbox = inbox.NewMemory(inbox.Limits{Bytes: 2000}) }, func(b *bench) {
		t := b.t
		b.refused(t, ask("big", strings.Repeat("x", 3000)), CodeQueueFull)
		b.submit(t, ask("small", "x"))
		time.Sleep(time.Second)
	})
}

func TestAnswerTooLarge(t *testing.T) {
	in(t, func(c *Config, _ *plugins) { c.Limits.AnswerBytes = 1000 }, func(b *bench) {
		t := b.t
		b.submit(t, with(ask("a", "x"), func(r *Request) { r.Options.MaxTokens, r.Stream = new(900), false }))
		time.Sleep(time.Minute)
		synctest.Wait()
		if last := b.s.last(t, "a"); last.Error == nil || last.Error.Code != CodeTooLarge {
			t.Errorf("%+v", last)
		}
	})
}
