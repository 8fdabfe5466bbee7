package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/serve/inbox"
)

func TestOneRequest(t *testing.T) {
	in(t, nil, func(b *bench) {
		t := b.t
		r := ask("a", "hello")
		b.submit(t, r)
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		last := b.s.last(t, "a")
		if last.Error != nil || last.Finish != "length" || last.Choices[0].Text != undisturbed(r, 10) {
			t.Fatalf("last: %+v", last)
		}
		if last.Node != "node" || last.Model != "fake" || last.Seed != 7 || last.Usage.PromptTokens != 5 {
			t.Errorf("last: %+v", last)
		}
		events := b.s.events["a"]
		if events[0].Accepted == nil || events[1].Prefill == nil || events[2].Delta == nil {
			t.Errorf("the first events are %+v", events[:3])
		}
		// 10 tokens in 100 ms: the first delta at once, then at most one every 50 ms.
		deltas := 0
		for _, ev := range events {
			if ev.Delta != nil {
				deltas++
			}
		}
		if deltas < 2 || deltas > 4 {
			t.Errorf("%d deltas", deltas)
		}
		if last.Timings.FirstToken != 10*time.Millisecond {
			t.Errorf("first token after %v", last.Timings.FirstToken)
		}
	})
}

func TestQuietRequestsGetNoDeltas(t *testing.T) {
	in(t, nil, func(b *bench) {
		t := b.t
		b.submit(t, with(ask("a", "hello"), func(r *Request) { r.Stream = false }))
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(b.s.events["a"]); n != 2 || b.s.last(t, "a").Error != nil {
			t.Errorf("%d events", n)
		}
	})
}

func TestSlowTokensLeaveWithoutAnotherToPushThem(t *testing.T) {
	in(t, func(_ *Config, p *plugins) { p.tick = 30 * time.Millisecond }, func(b *bench) {
		t := b.t
		b.p.killer = func(_ uint64, _ backend.Request, step int) bool {
			if step == 2 {
				b.p.tick = time.Hour
			}
			return false
		}
		b.submit(t, with(ask("a", "x"), func(r *Request) { r.Options.MaxTokens = new(4) }))
		time.Sleep(time.Minute)
		synctest.Wait()
		got := 0
		for _, ev := range b.s.events["a"] {
			if ev.Delta != nil {
				got += len(ev.Delta.Text)
			}
		}
		if got != 3 {
			t.Errorf("after a minute the deltas hold %d tokens, want 3", got)
		}
	})
}

func TestSeveralChoices(t *testing.T) {
	in(t, nil, func(b *bench) {
		t := b.t
		b.submit(t, with(ask("n", "x"), func(r *Request) { r.Options.N = 3 }))
		b.submit(t, with(ask("best", "x"), func(r *Request) { r.Options.N, r.Options.BestOf = 1, 4 }))
		time.Sleep(time.Second)
		synctest.Wait()
		for id, n := range map[string]int{"n": 3, "best": 1} {
			last := b.s.last(t, id)
			if last.Error != nil || len(last.Choices) != n {
				t.Fatalf("%s: %+v", id, last)
			}
			texts := make([]string, n)
			for _, ev := range b.s.events[id] {
				if ev.Delta != nil {
					texts[ev.Delta.Index] += ev.Delta.Text
				}
			}
			if id == "best" {
				if strings.Join(texts, "") != "" {
					t.Errorf("best_of streamed %q, of which most is not the answer", texts)
				}
				continue
			}
			for i, c := range last.Choices {
				if texts[i] != c.Text {
					t.Errorf("%s: choice %d: deltas %q, text %q", id, i, texts[i], c.Text)
				}
			}
		}
	})
}

func TestPromptPaths(t *testing.T) {
	in(t, func(_ *Config, p *plugins) { p.template = "a template" }, func(b *bench) {
		t := b.t
		b.submit(t, with(ask("a", `say "hi"`), func(r *Request) { r.Vars = json.RawMessage(` {"z":1,"a":2}`) }))
		b.submit(t, with(ask("b", ""), func(r *Request) {
			r.Chat = json.RawMessage(`[{"role":"user","content":"x"}]`)
			r.Vars = json.RawMessage(`{"now":"2020-01-01T00:00:00Z"}`)
			r.Tools = json.RawMessage(`[{}]`)
			r.Options.ToolChoice = json.RawMessage(`"none"`)
		}))
		b.submit(t, with(ask("ids", ""), func(r *Request) { r.IDs = []int32{1, 2, 3} }))
		time.Sleep(time.Second)
		synctest.Wait()
		if last := b.s.last(t, "ids"); last.Usage.PromptTokens != 3 {
			t.Errorf("ids: %+v", last)
		}
		if len(b.p.chats) != 2 {
			t.Fatalf("chats: %+v", b.p.chats)
		}
		for _, c := range b.p.chats {
			switch string(c.Messages) {
			case `[{"content":"say \"hi\"","role":"user"}]`:
				if !strings.HasPrefix(string(c.Variables), `{"now":"`) || !strings.HasSuffix(string(c.Variables), `","z":1,"a":2}`) || !json.Valid(c.Variables) {
					t.Errorf("variables %s", c.Variables)
				}
			case `[{"role":"user","content":"x"}]`:
				if string(c.Variables) != `{"now":"2020-01-01T00:00:00Z"}` || c.Tools != nil {
					t.Errorf("variables %s, tools %s", c.Variables, c.Tools)
				}
			default:
				t.Errorf("messages %s", c.Messages)
			}
		}
	})
	in(t, nil, func(b *bench) {
		t := b.t
		b.submit(t, with(ask("a", ""), func(r *Request) { r.Chat = json.RawMessage(`[]`) }))
		synctest.Wait()
		if last := b.s.last(t, "a"); last.Error == nil || last.Error.Code != CodeUnsupported {
			t.Errorf("messages without a template: %+v", last)
		}
	})
}

func TestToolCalls(t *testing.T) {
	in(t, func(_ *Config, p *plugins) {
		p.template = "x"
		p.calls = []ToolCall{{Name: "f", Arguments: json.RawMessage(`{"a":1}`)}}
	}, func(b *bench) {
		t := b.t
		b.submit(t, with(ask("a", "x"), func(r *Request) { r.Tools = json.RawMessage(`[{}]`) }))
		b.submit(t, ask("b", "x"))
		time.Sleep(time.Second)
		synctest.Wait()
		if got := b.s.last(t, "a").Tools; len(got) != 1 || len(got[0]) != 1 || got[0][0].Name != "f" {
			t.Errorf("tools: %+v", got)
		}
		if got := b.s.last(t, "b").Tools; got != nil {
			t.Errorf("without tools: %+v", got)
		}
	})
}

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

func TestScoreAndEmbed(t *testing.T) {
	in(t, nil, func(b *bench) {
		t := b.t
		b.submit(t, with(ask("s", "four"), func(r *Request) { r.Kind = Score }))
		b.submit(t, with(ask("e", "four"), func(r *Request) { r.Kind = Embed }))
		synctest.Wait()
		if last := b.s.last(t, "s"); last.Error != nil || len(last.Scores) != 3 {
			t.Errorf("score: %+v", last)
		}
		if last := b.s.last(t, "e"); last.Error == nil || last.Error.Code != CodeUnsupported {
			t.Errorf("embed: %+v", last)
		}
	})
}

func TestRepeats(t *testing.T) {
	in(t, nil, func(b *bench) {
		t := b.t
		b.submit(t, ask("a", "x"))
		time.Sleep(50 * time.Millisecond)
		b.submit(t, ask("a", "x")) // joins
		b.refused(t, with(ask("a", "y"), func(r *Request) { r.Hash = [32]byte{2} }), CodeIDConflict)
		other := newSink()
		if err := b.Submit(t.Context(), ask("a", "x"), other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		first := b.s.last(t, "a")
		if n := len(b.p.started); n != 1 {
			t.Fatalf("it was computed %d times", n)
		}
		if ev := other.events["a"]; ev[len(ev)-1].Last != first {
			t.Errorf("the other door got %+v", ev[len(ev)-1])
		}
		again := newSink()
		if err := b.Submit(t.Context(), ask("a", "x"), again); err != nil {
			t.Fatal(err)
		}
		if got := again.events["a"]; len(got) != 2 || got[0].Accepted == nil {
			t.Fatalf("a repeat of a finished request got %d events: it wants to be told accepted, and the last one", len(got))
		}
		if d := cmp.Diff(first, again.events["a"][1].Last); d != "" {
			t.Errorf("the stored last event differs: %s", d)
		}
		b.refused(t, with(ask("a", "y"), func(r *Request) { r.Hash = [32]byte{2} }), CodeIDConflict)
		b.submit(t, with(ask("a", "x"), func(r *Request) { r.Client = "other" })) // another client's id
		time.Sleep(11 * time.Minute)
		b.submit(t, with(ask("a", "y"), func(r *Request) { r.Hash = [32]byte{2} })) // after the window
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(b.p.started); n != 3 {
			t.Errorf("computed %d times, want 3", n)
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

func TestFairness(t *testing.T) {
	in(t, func(c *Config, _ *plugins) { c.Limits.Running = 1 }, func(b *bench) {
		t := b.t
		for i := range 6 {
			b.submit(t, with(ask(fmt.Sprintf("flood%d", i), "x"), func(r *Request) { r.Client = "flood" }))
		}
		synctest.Wait()
		for _, c := range []string{"b", "c"} {
			for i := range 2 {
				b.submit(t, with(ask(fmt.Sprintf("%s%d", c, i), "x"), func(r *Request) { r.Client = c }))
			}
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want := []string{"flood0", "b0", "c0", "flood1", "b1", "c1", "flood2", "flood3", "flood4", "flood5"}
		if d := cmp.Diff(want, b.s.ended()); d != "" {
			t.Errorf("order: %s", d)
		}
	})
}

// Choices count as places, and a client that has none gets one beside a full house.
func TestChoicesArePlaces(t *testing.T) {
	in(t, func(c *Config, p *plugins) { c.Limits.Running, p.tick = 8, 100*time.Millisecond }, func(b *bench) {
		t := b.t
		long := func(r *Request) { n := 100; r.Options.MaxTokens, r.Options.N = &n, 4 }
		for i := range 4 {
			b.submit(t, with(ask(fmt.Sprint("many", i), "x"), long))
		}
		synctest.Wait()
		if running := b.Stats().Running; running != 2 {
			t.Errorf("%d requests of four choices run in eight places", running)
		}
		n := 5
		b.submit(t, with(ask("few", "x"), func(r *Request) { r.Client, r.Options.MaxTokens = "other", &n }))
		time.Sleep(time.Second)
		synctest.Wait()
		if last := b.s.last(t, "few"); last.Error != nil {
			t.Errorf("the other client's: %+v", last)
		}
		if running := b.Stats().Running; running != 2 {
			t.Errorf("%d requests run afterwards", running)
		}
		time.Sleep(time.Minute)
	})
}

// However many tags somebody thinks up, a client with a name gets a place beside them.
func TestTagsAreOneCrowd(t *testing.T) {
	in(t, func(c *Config, p *plugins) { c.Limits.Running, c.Limits.Queued, p.tick = 4, 40, 100*time.Millisecond }, func(b *bench) {
		t := b.t
		long := 1000
		full := 0
		for i := range 30 {
			r := with(ask(fmt.Sprint("plain", i), "x"), func(r *Request) {
				r.Client, r.Plain, r.Options.MaxTokens = fmt.Sprint("tag", i), true, &long
			})
			if err := b.Submit(t.Context(), r, b.s); err != nil {
				full++
			}
		}
		if full != 10 {
			t.Errorf("%d of 30 plain questions found no place in half of 40", full)
		}
		n := 5
		b.submit(t, with(ask("named", "x"), func(r *Request) { r.Client, r.Options.MaxTokens = "named", &n }))
		time.Sleep(time.Second)
		synctest.Wait()
		if last := b.s.last(t, "named"); last.Error != nil {
			t.Errorf("the client with a name: %+v", last)
		}
		time.Sleep(time.Hour)
	})
}

func TestPrioritiesAge(t *testing.T) {
	in(t, func(c *Config, p *plugins) {
		c.Limits.Running, c.Limits.Ageing = 1, 10*time.Second
		p.tick = 100 * time.Millisecond // a second a request
	}, func(b *bench) {
		t := b.t
		b.submit(t, ask("first", "x"))
		synctest.Wait()
		b.submit(t, with(ask("low", "x"), func(r *Request) { r.Client = "low" }))
		for i := range 30 { // somebody always asks with a higher priority
			b.submit(t, with(ask(fmt.Sprintf("high%d", i), "x"), func(r *Request) { r.Client, r.Priority = "high", 2 }))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		place := -1
		order := b.s.ended()
		for i, id := range order {
			if id == "low" {
				place = i
			}
		}
		if place < 10 || place > 24 {
			t.Errorf("the low one came at place %d of %d", place, len(order))
		}
		time.Sleep(time.Minute)
	})
}

func TestManyAtOnceUpToTheLimit(t *testing.T) {
	in(t, func(c *Config, _ *plugins) { c.Limits.Running = 3 }, func(b *bench) {
		t := b.t
		for i := range 10 {
			b.submit(t, ask(strconv.Itoa(i), "x"))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if b.p.most != 3 {
			t.Errorf("%d ran at once", b.p.most)
		}
		for i := range 10 {
			if last := b.s.last(t, strconv.Itoa(i)); last.Error != nil {
				t.Errorf("%d: %v", i, last.Error)
			}
		}
		if s := b.Stats(); s.Finished != 10 || s.Waiting != 0 || s.Running != 0 || s.Tokens != 100 {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestDeadlines(t *testing.T) {
	in(t, func(c *Config, _ *plugins) {
		c.Limits.Running, c.Limits.Deadline, c.Limits.MaxDeadline = 1, 300*time.Millisecond, 500*time.Millisecond
	}, func(b *bench) {
		t := b.t
		tokens := func(n int) func(r *Request) { return func(r *Request) { r.Options.MaxTokens = &n } }
		b.submit(t, with(ask("runs", "x"), tokens(1000)))
		synctest.Wait()
		b.submit(t, with(ask("waits", "x"), func(r *Request) { r.Deadline = 100 * time.Millisecond }))
		b.submit(t, with(ask("cut", "x"), func(r *Request) { r.Deadline = time.Hour; tokens(1000)(r) }))
		time.Sleep(time.Second)
		synctest.Wait()
		for _, id := range []string{"runs", "waits", "cut"} {
			if last := b.s.last(t, id); last.Error == nil || last.Error.Code != CodeDeadline {
				t.Errorf("%s: %+v", id, last)
			}
		}
		b.submit(t, ask("after", "x"))
		time.Sleep(time.Second)
		synctest.Wait()
		if last := b.s.last(t, "after"); last.Error != nil {
			t.Errorf("after: %v", last.Error)
		}
	})
}

func TestCancel(t *testing.T) {
	in(t, func(c *Config, _ *plugins) { c.Limits.Running = 1 }, func(b *bench) {
		t := b.t
		long := ask("runs", "x")
		long.Options.MaxTokens = new(1000)
		b.submit(t, long)
		b.submit(t, ask("waits", "x"))
		time.Sleep(105 * time.Millisecond)
		if !b.Cancel("", "runs") || !b.Cancel("", "waits") {
			t.Error("Cancel does not know them")
		}
		synctest.Wait()
		last := b.s.last(t, "runs")
		if last.Error != nil || last.Finish != "cancelled" || last.Choices[0].Text != undisturbed(long, 10) || last.Usage.CompletionTokens != 10 {
			t.Errorf("runs: %+v", last)
		}
		if last := b.s.last(t, "waits"); last.Finish != "cancelled" || last.Choices[0].Text != "" {
			t.Errorf("waits: %+v", last)
		}
		if b.p.running != 0 {
			t.Error("the backend still works")
		}

		if b.Cancel("", "early") {
			t.Error("Cancel knows what was never asked")
		}
		time.Sleep(9 * time.Second)
		b.submit(t, ask("early", "x"))
		synctest.Wait()
		if last := b.s.last(t, "early"); last.Finish != "cancelled" {
			t.Errorf("overtaken by its cancel: %+v", last)
		}
		b.Cancel("", "stale")
		time.Sleep(11 * time.Second)
		b.submit(t, ask("stale", "x"))
		time.Sleep(time.Second)
		synctest.Wait()
		if last := b.s.last(t, "stale"); last.Finish != "length" {
			t.Errorf("after an old cancel: %+v", last)
		}
		for i := range 3 * maxRemembered {
			b.Cancel("", fmt.Sprint("nobody", i))
		}
		if len(b.admission.early) > maxRemembered {
			t.Errorf("%d cancels are remembered", len(b.admission.early))
		}
	})
}

func TestCrashGoesOnWithTheSameText(t *testing.T) {
	for _, at := range []int{0, 1, 5, 9} {
		t.Run(strconv.Itoa(at), func(t *testing.T) {
			in(t, nil, func(b *bench) {
				t := b.t
				b.p.killer = func(life uint64, req backend.Request, step int) bool { return life == 1 && req.ID == "a" && step == at }
				a, o := ask("a", "hello"), ask("b", "other")
				n := with(ask("n", "x"), func(r *Request) { r.Options.N = 2 })
				b.submit(t, a)
				b.submit(t, o)
				b.submit(t, n)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				for _, r := range []*Request{a, o, n} {
					last := b.s.last(t, r.ID)
					if last.Error != nil || last.Choices[0].Text != undisturbed(r, 10) {
						t.Errorf("%s: %+v, want %q", r.ID, last, undisturbed(r, 10))
					}
				}
				events := b.s.events["a"]
				if got := events[len(events)-1].Attempt; got != 2 {
					t.Errorf("attempt %d", got)
				}
				if s := b.Stats(); s.Crashes != 1 {
					t.Errorf("%d crashes counted", s.Crashes)
				}
			})
		})
	}
}

func TestOnlyTheKillerIsQuarantined(t *testing.T) {
	in(t, nil, func(b *bench) {
		t := b.t
		// It kills at its fourth token, always; the others only run beside it.
		b.p.killer = func(_ uint64, req backend.Request, step int) bool { return req.ID == "killer" && step == 3 }
		ids := []string{"b", "c", "d"}
		for _, id := range ids {
			b.submit(t, with(ask(id, id), func(r *Request) { r.Options.MaxTokens = new(40) }))
		}
		b.submit(t, ask("killer", "x"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if last := b.s.last(t, "killer"); last.Error == nil || last.Error.Code != CodeQuarantined {
			t.Errorf("killer: %+v", last)
		}
		for _, id := range ids {
			if last := b.s.last(t, id); last.Error != nil || last.Choices[0].Text != undisturbed(ask(id, id), 40) {
				t.Errorf("%s: %+v", id, last)
			}
		}
		b.submit(t, ask("after", "x"))
		time.Sleep(time.Second)
		synctest.Wait()
		if last := b.s.last(t, "after"); last.Error != nil {
			t.Errorf("after: %v", last.Error)
		}
	})
}

func TestSuspectsRunAlone(t *testing.T) {
	in(t, nil, func(b *bench) {
		t := b.t
		var worst int
		b.p.killer = func(life uint64, req backend.Request, step int) bool {
			if life == 2 && req.ID != "later" && step < 4+clearedAfter-1 {
				worst = max(worst, b.p.running)
			}
			return life == 1 && req.ID == "a" && step == 5
		}
		for _, id := range []string{"a", "b", "c"} {
			b.submit(t, with(ask(id, id), func(r *Request) { r.Options.MaxTokens = new(30) }))
		}
		time.Sleep(200 * time.Millisecond)
		b.submit(t, ask("later", "x"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if worst != 1 {
			t.Errorf("%d ran beside a suspect", worst)
		}
		for _, id := range []string{"a", "b", "c", "later"} {
			if last := b.s.last(t, id); last.Error != nil {
				t.Errorf("%s: %v", id, last.Error)
			}
		}
	})
}

func TestNoBackend(t *testing.T) {
	in(t, func(_ *Config, p *plugins) { p.down = errors.New("the backend crashed 5 times in a row") }, func(b *bench) {
		t := b.t
		b.submit(t, ask("a", "x"))
		synctest.Wait()
		if last := b.s.last(t, "a"); last.Error == nil || last.Error.Code != CodeBackendUnavailable || !strings.Contains(last.Error.Message, "5 times") {
			t.Errorf("%+v", last)
		}
	})
	for _, c := range []struct {
		err  error
		code Code
	}{
		{protocol.ErrInvalid, CodeInvalidRequest},
		{protocol.ErrContextLength, CodeContextLength},
		{protocol.ErrAdapterNotFound, CodeAdapterNotFound},
		{protocol.ErrUnsupported, CodeUnsupported},
		{protocol.ErrNotLoaded, CodeBackendUnavailable},
		{errors.New("what"), CodeInternal},
	} {
		in(t, func(_ *Config, p *plugins) { p.reject = fmt.Errorf("engine: %w", c.err) }, func(b *bench) {
			t := b.t
			b.submit(t, ask("a", "x"))
			synctest.Wait()
			if last := b.s.last(t, "a"); last.Error == nil || last.Error.Code != c.code {
				t.Errorf("%v: %+v", c.err, last)
			}
		})
	}
}

// A plugin's timer may fire before the job's own: that is the deadline, and no error of the plugin's.
func TestPluginSeesTheDeadlineFirst(t *testing.T) {
	for _, c := range []struct {
		deadline time.Duration
		code     Code
	}{{2 * time.Millisecond, CodeDeadline}, {time.Hour, CodeInternal}} {
		in(t, func(_ *Config, p *plugins) { p.reject = fmt.Errorf("engine: %w", context.DeadlineExceeded) }, func(b *bench) {
			t := b.t
			b.submit(t, with(ask("a", "x"), func(r *Request) { r.Deadline = c.deadline }))
			time.Sleep(time.Second)
			synctest.Wait()
			if last := b.s.last(t, "a"); last.Error == nil || last.Error.Code != c.code {
				t.Errorf("with a deadline of %v: %+v", c.deadline, last.Error)
			}
		})
	}
}

func TestShutdown(t *testing.T) {
	in(t, func(c *Config, _ *plugins) { c.Limits.Grace, c.Limits.Running = 500*time.Millisecond, 1 }, func(b *bench) {
		t := b.t
		tokens := func(n int) func(r *Request) { return func(r *Request) { r.Options.MaxTokens = &n } }
		b.submit(t, with(ask("short", "x"), tokens(20)))
		synctest.Wait()
		b.submit(t, with(ask("long", "x"), tokens(1000)))
		b.submit(t, ask("never", "x"))
		synctest.Wait()
		began := time.Now()
		b.stop()
		if took := time.Since(began); took != 500*time.Millisecond { // not before, not after
			t.Errorf("the end took %v, and the grace is 500 ms", took)
		}
		for id, failed := range map[string]bool{"short": false, "long": true, "never": true} {
			last := b.s.last(t, id)
			if (last.Error != nil) != failed || failed && last.Error.Code != CodeShuttingDown {
				t.Errorf("%s: %+v", id, last)
			}
		}
		b.refused(t, ask("after", "x"), CodeShuttingDown)
	})
}

func TestDurableInboxTakesUpWhatWasLeft(t *testing.T) {
	store := durable{inbox.NewMemory(inbox.Limits{})}
	left := ask("left", "hello")
	left.Options.MaxTokens = new(50)
	left.Door = "door"
	left.Adapters = []AdapterRef{{Name: "pirate", Scale: 0.5}}
	pins := &shelf{}
	in(t, func(c *Config, _ *plugins) { c.Inbox, c.Limits.Grace, c.Adapters = store, time.Millisecond, pins }, func(b *bench) {
		t := b.t
		b.submit(t, left)
		time.Sleep(100 * time.Millisecond)
		b.stop()
		for _, ev := range b.s.events["left"] {
			if ev.Last != nil {
				t.Errorf("a journalled request got the last event %+v", ev.Last)
			}
		}
	})
	in(t, func(c *Config, _ *plugins) { c.Inbox, c.Adapters = store, pins }, func(b *bench) {
		t := b.t
		if n, _ := b.Replay(t.Context(), map[string]Sink{"door": b.s}); n != 1 {
			t.Fatalf("%d were taken up", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		last := b.s.last(t, "left")
		if last.Error != nil || last.Choices[0].Text != undisturbed(left, 50) {
			t.Errorf("%+v", last)
		}
		if first := b.s.events["left"][0]; first.Attempt != 2 {
			t.Errorf("it is attempt %d", first.Attempt)
		}
		if d := cmp.Diff([]UsedAdapter{{Name: "pirate", SHA256: "sha-of-pirate", Scale: 0.5}}, last.Adapters); d != "" {
			t.Error(d)
		}
	})
	if pins.held != 0 || pins.asked[1] != "pirate@sha-of-pirate" {
		t.Errorf("pins: %+v", pins)
	}
}

func TestUnacknowledgedAnswersArePublishedAgain(t *testing.T) {
	dir := t.TempDir()
	var first Event
	open := func(t *testing.T) *inbox.Disk {
		t.Helper()
		store, report, err := inbox.OpenDisk(dir, inbox.Limits{})
		if err != nil || len(report.Damaged) != 0 {
			t.Fatal(err, report)
		}
		return store
	}
	store := open(t)
	in(t, func(c *Config, _ *plugins) { c.Inbox = store }, func(b *bench) {
		b.submit(b.t, with(ask("a", "x"), func(r *Request) { r.Door = "door" }))
		time.Sleep(time.Second)
		synctest.Wait()
		b.s.last(b.t, "a")
		first = b.s.events["a"][len(b.s.events["a"])-1]
	})
	for round, want := range []int{1, 1, 0} {
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		store = open(t)
		in(t, func(c *Config, _ *plugins) { c.Inbox = store }, func(b *bench) {
			if _, n := b.Replay(b.t.Context(), map[string]Sink{"door": b.s}); n != want {
				b.t.Fatalf("round %d: %d answers, want %d", round, n, want)
			}
			if want == 1 {
				if d := cmp.Diff(first, b.s.events["a"][0]); d != "" {
					b.t.Error(d)
				}
			}
			if round == 1 {
				if err := b.Published("", "a"); err != nil {
					b.t.Error(err)
				}
			}
		})
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// shelf is an Adapters that has any name.
type shelf struct {
	asked []string
	held  int
}

func (s *shelf) Pin(_, name, sha string) (Adapter, error) {
	s.asked = append(s.asked, name+"@"+sha)
	s.held++
	return &book{s, name}, nil
}

type book struct {
	s    *shelf
	name string
}

func (b *book) SHA256() string { return "sha-of-" + b.name }
func (b *book) Use(_ context.Context, life BackendLife) (string, error) {
	return fmt.Sprint(b.name, life.Life), nil
}
func (b *book) Release() { b.s.held-- }

func TestFullJournalRefusesAndForgets(t *testing.T) {
	pins := &shelf{}
	in(t, func(c *Config, _ *plugins) {
		c.Inbox, c.Adapters, c.Defaults.Adapter = brokenStore{inbox.NewMemory(inbox.Limits{})}, pins, "x"
	}, func(b *bench) {
		t := b.t
		b.refused(t, ask("a", "x"), CodeStorage)
		if b.s.has("a") || pins.held != 0 {
			t.Error("a refused request had events or holds an adapter")
		}
	})
}

type brokenStore struct{ *inbox.Memory }

func (brokenStore) Accept(context.Context, inbox.Record) error {
	return errors.New("no space left on device")
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
