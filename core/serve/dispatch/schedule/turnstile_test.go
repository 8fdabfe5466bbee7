package schedule

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestTurnstile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewTurnstile(2)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("no longer wanted")
		var in []string
		enter := func(ctx context.Context, client string) {
			go func() {
				if err := s.Enter(ctx, client); err == nil {
					s.mu.Lock()
					in = append(in, client)
					s.mu.Unlock()
				} else if !errors.Is(err, why) {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		want := func(clients string) {
			t.Helper()
			synctest.Wait()
			if got := strings.Join(in, ""); got != clients {
				t.Errorf("got %s, want %s", got, clients)
			}
		}
		for range 4 {
			enter(t.Context(), "a")
		}
		want("a") // the other place is for somebody else
		enter(t.Context(), "b")
		want("ab")
		enter(ctx, "c")
		enter(t.Context(), "d")
		cancel(why)
		s.Leave("a")
		want("aba") // it holds none, and came first
		s.Leave("b")
		want("abad") // before a's third, though it came later
		s.Leave("d")
		want("abad")
		s.Leave("a")
		want("abada")
		s.Leave("a")
		want("abadaa")
		if s.Leave("a"); s.free != 2 || len(s.held) != 0 || len(s.waiting) != 0 {
			t.Errorf("afterwards: %d free, held %v, %d wait", s.free, s.held, len(s.waiting))
		}
	})
}
