package dispatch

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

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
