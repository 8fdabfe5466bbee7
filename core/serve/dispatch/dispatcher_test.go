package dispatch

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/protocol/backend"
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

func TestSlowTokensAreSentAlone(t *testing.T) {
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
