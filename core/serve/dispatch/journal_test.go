package dispatch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edged/core/serve/inbox"
)

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

func TestDurableInboxContinues(t *testing.T) {
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

func TestBrokenJournal(t *testing.T) {
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
