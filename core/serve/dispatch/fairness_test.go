package dispatch

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

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
func TestTagsCountAsOneClient(t *testing.T) {
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
