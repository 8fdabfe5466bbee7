package dispatch

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

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
