package dispatch

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/infer/grammar"
	"edged/core/serve/inbox"
)

// TestFleeting proves that a fleeting request leaves nothing in the journal, however it ends.
func TestFleeting(t *testing.T) {
	store := durable{inbox.NewMemory(inbox.Limits{})}
	in(t, func(c *Config, p *plugins) { c.Inbox = store; c.Limits.Grace = 0 }, func(b *bench) {
		b.submit(t, with(ask("a", "x"), func(r *Request) { r.Fleeting = true }))
		b.submit(t, with(ask("b", "y"), func(r *Request) { r.Fleeting = true; n := 1000; r.Options.MaxTokens = &n }))
		synctest.Wait()
		if n := len(store.Unfinished()); n != 0 {
			t.Fatalf("%d requests are journalled", n)
		}
		time.Sleep(time.Second)
		if l := b.s.last(t, "a"); l.Error != nil {
			t.Errorf("a: %v", l.Error)
		}
		b.stop()
		// A durable inbox would keep b for the next start; nobody will wait for it there.
		if l := b.s.last(t, "b"); l.Error == nil || l.Error.Code != CodeShuttingDown {
			t.Errorf("b ended with %+v, want %s", l.Error, CodeShuttingDown)
		}
		if found := store.Lookup(inbox.Key{ID: "a"}, [32]byte{1}); found.Status != inbox.Unknown {
			t.Errorf("the inbox knows a fleeting request as %v", found.Status)
		}
	})
}

// TestRaw proves that a raw prompt passes a template by.
func TestRaw(t *testing.T) {
	in(t, func(c *Config, p *plugins) { p.template = "{{ messages }}" }, func(b *bench) {
		b.submit(t, with(ask("raw", "as it is"), func(r *Request) { r.Raw = true }))
		b.submit(t, ask("chat", "as a message"))
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.Equal(b.p.encoded, []string{"as it is"}) || len(b.p.chats) != 1 {
			t.Errorf("encoded %q and %d conversations", b.p.encoded, len(b.p.chats))
		}
		b.refused(t, with(ask("tools", "x"), func(r *Request) { r.Raw = true; r.Tools = json.RawMessage(`[{}]`) }), CodeInvalidRequest)
	})
}

// TestCallsBeside proves that deltas say what a call begins with, and that the last event says what stands beside calls.
func TestCallsBeside(t *testing.T) {
	in(t, func(c *Config, p *plugins) {
		p.template = "{{ tools }}"
		p.calls = []ToolCall{{Name: "lamp", Arguments: json.RawMessage(`{}`)}}
		p.callForm = grammar.After("<call>", "root", "root ::= \"{}\"\n")
	}, func(b *bench) {
		b.submit(t, with(ask("a", "x"), func(r *Request) { r.Tools = json.RawMessage(`[{"function":{"name":"lamp"}}]`) }))
		time.Sleep(time.Second)
		l := b.s.last(t, "a")
		if len(l.Tools) != 1 || !slices.Equal(l.Beside, []string{"beside"}) {
			t.Errorf("tools %v, beside %q", l.Tools, l.Beside)
		}
		marks := 0
		for _, ev := range b.s.events["a"] {
			if ev.Delta != nil {
				if marks++; ev.Delta.Mark != "<call>" {
					t.Errorf("a delta has the mark %q", ev.Delta.Mark)
				}
			}
		}
		if marks == 0 {
			t.Error("no delta came")
		}
	})
}

// TestPieces proves that the bytes of all tokens come that log-probabilities name, and only where asked for.
func TestPieces(t *testing.T) {
	in(t, nil, func(b *bench) {
		b.submit(t, with(ask("with", "x"), func(r *Request) { r.Options.Logprobs, r.Pieces = true, true }))
		b.submit(t, with(ask("without", "x"), func(r *Request) { r.Options.Logprobs = true }))
		time.Sleep(time.Second)
		l := b.s.last(t, "with")
		for _, step := range l.Choices[0].Logprobs {
			if string(l.Pieces[step.ID]) != piece(step.ID) || string(l.Pieces[step.Top[0].ID]) != piece(step.Top[0].ID) {
				t.Errorf("token %d and its alternative have the pieces %q and %q", step.ID, l.Pieces[step.ID], l.Pieces[step.Top[0].ID])
			}
		}
		if p := b.s.last(t, "without").Pieces; p != nil {
			t.Errorf("pieces came unasked: %v", p)
		}
	})
}

// TestCancelAll proves that all requests of a client end, or all that there are, each with its text so far.
func TestCancelAll(t *testing.T) {
	in(t, func(c *Config, p *plugins) { p.tick = time.Second; c.Limits.Running = 2 }, func(b *bench) {
		for _, id := range []string{"a", "b", "c", "d"} {
			b.submit(t, with(ask(id, "x"), func(r *Request) {
				if r.Client = "one"; id > "b" {
					r.Client = "two"
				}
			}))
		}
		synctest.Wait()
		if n := b.CancelAll("one"); n != 2 {
			t.Errorf("%d requests of one client were cancelled", n)
		}
		synctest.Wait()
		if ended := len(b.s.ended()); ended != 2 {
			t.Errorf("%d have ended", ended)
		}
		if n := b.CancelAll(""); n != 2 {
			t.Errorf("%d others were cancelled", n)
		}
		synctest.Wait()
		for _, id := range []string{"a", "b", "c", "d"} {
			if l := b.s.last(t, id); l.Finish != finishCancelled {
				t.Errorf("%s ended with %+v", id, l)
			}
		}
	})
}

// TestDefaultAdapter proves that another default is that of the requests that come after it.
func TestDefaultAdapter(t *testing.T) {
	in(t, func(c *Config, p *plugins) { c.Defaults.Adapter = "x" }, func(b *bench) {
		b.refused(t, ask("a", "x"), CodeAdapterNotFound)
		b.SetDefaultAdapter("")
		b.submit(t, ask("b", "x"))
		b.SetDefaultAdapter("y")
		if e := b.refused(t, ask("c", "x"), CodeAdapterNotFound); b.DefaultAdapter() != "y" || e.Message != `adapter: "y" is not there: this node serves no adapters` {
			t.Errorf("%s, %q", e.Message, b.DefaultAdapter())
		}
		time.Sleep(time.Second)
		if l := b.s.last(t, "b"); l.Error != nil || len(l.Adapters) != 0 {
			t.Errorf("%+v", l)
		}
	})
}
