package dispatch

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTurns states what leaves a conversation, and in which order.
func TestTurns(t *testing.T) {
	message := func(role, text string) json.RawMessage {
		return json.RawMessage(`{"role":"` + role + `","content":"` + text + `"}`)
	}
	conversation := []json.RawMessage{
		message("system", "s"), message("assistant", "hello"), message("user", "q1"), message("assistant", "a1"), message("tool", "t1"),
		message("user", "q2"), message("system", "s2"), message("assistant", "a2"), message("user", "q3"), message("assistant", "a3"),
	}
	names := func(messages []json.RawMessage) string {
		var out []string
		for _, raw := range messages {
			var m struct{ Content string }
			if err := json.Unmarshal(raw, &m); err != nil {
				t.Fatal(err)
			}
			out = append(out, m.Content)
		}
		return strings.Join(out, " ")
	}
	turns := turnsOf(conversation)
	if d := cmp.Diff([]turn{{2, 5}, {5, 8}}, turns, cmp.AllowUnexported(turn{})); d != "" {
		t.Error(d)
	}
	for n, want := range []string{"s hello q1 a1 t1 q2 s2 a2 q3 a3", "s hello q2 s2 a2 q3 a3", "s hello s2 q3 a3"} {
		left, dropped := without(conversation, turns[:n])
		if got := names(left); got != want || dropped != len(conversation)-len(left) {
			t.Errorf("%d turns: %q, %d dropped, want %q", n, got, dropped, want)
		}
	}
	if turnsOf(conversation[:2]) != nil || len(turnsOf(conversation[:4])) != 0 {
		t.Error("the last question leaves")
	}
}

// TestKeepSystem: a conversation that is too long loses as many turns as have to leave and no more, where it asks for that.
func TestKeepSystem(t *testing.T) {
	chat := func(turns int, last string) json.RawMessage {
		list := []string{`{"role":"system","content":"S"}`}
		for range turns {
			list = append(list, `{"role":"user","content":"0123456789"}`, `{"role":"assistant","content":"0123456789"}`)
		}
		list = append(list, `{"role":"user","content":"`+last+`"}`)
		return json.RawMessage("[" + strings.Join(list, ",") + "]")
	}
	ten := 10
	tokens := func(c json.RawMessage) int { return len(c) } // as the fake tokenizer has it
	in(t, func(_ *Config, p *plugins) {
		p.context = tokens(chat(2, "Q")) + ten
		p.template = "{{ messages }}"
	}, func(b *bench) {
		t := b.t
		for _, c := range []struct {
			id      string
			policy  string
			chat    json.RawMessage
			dropped int
			code    Code
		}{
			{"fits", PolicyKeepSystem, chat(2, "Q"), 0, ""},
			{"one more", PolicyKeepSystem, chat(3, "Q"), 2, ""},
			{"many more", PolicyKeepSystem, chat(30, "Q"), 56, ""},
			{"refused", PolicyError, chat(3, "Q"), 0, CodeContextLength},
			{"refused by default", "", chat(3, "Q"), 0, CodeContextLength},
			{"a question that is too long", PolicyKeepSystem, chat(3, strings.Repeat("Q", 500)), 0, CodeContextLength},
			{"no such policy", "guess", chat(1, "Q"), 0, CodeInvalidRequest},
		} {
			req := ask(strings.ReplaceAll(c.id, " ", "-"), "")
			req.Prompt, req.Chat = "", c.chat
			req.Options.ContextPolicy, req.Options.MaxTokens = c.policy, &ten
			if err := b.Submit(t.Context(), req, b.s); err != nil {
				if e, ok := errors.AsType[*Error](err); !ok || e.Code != c.code {
					t.Errorf("%s: %v", c.id, err)
				}
				continue
			}
			time.Sleep(time.Second)
			synctest.Wait()
			last := b.s.last(t, req.ID)
			switch {
			case c.code != "":
				if last.Error == nil || last.Error.Code != c.code {
					t.Errorf("%s: %+v, want %s", c.id, last, c.code)
				}
			case last.Error != nil || last.Dropped != c.dropped:
				t.Errorf("%s: %d messages left, want %d: %v", c.id, last.Dropped, c.dropped, last.Error)
			}
		}
	})
}
