package schedule

import (
	"context"
	"slices"
	"sync"
)

// Turnstile bounds how much short work runs at once, and shares its places among clients: the client with the
// fewest places goes first, then the one that came first, and the last free place is for a client that has
// none. So one client's slow prompts do not make another's wait.
type Turnstile struct {
	mu      sync.Mutex
	free    int
	size    int
	held    map[string]int
	waiting []*ticket // in the order in which they came
}

type ticket struct {
	client string
	let    chan struct{}
}

// NewTurnstile makes a turnstile of so many places.
func NewTurnstile(size int) *Turnstile {
	return &Turnstile{free: size, size: size, held: map[string]int{}}
}

// Enter waits for a place, which Leave gives back. The error is the cause of ctx's end, and then there is no
// place to give back.
func (s *Turnstile) Enter(ctx context.Context, client string) error {
	t := &ticket{client, make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, t)
	s.admit()
	s.mu.Unlock()
	select {
	case <-t.let:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	i := slices.Index(s.waiting, t)
	if i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.mu.Unlock()
	if i < 0 { // it was let in just now
		s.Leave(client)
	}
	return context.Cause(ctx)
}

// Leave gives a client's place back.
func (s *Turnstile) Leave(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	if s.held[client]--; s.held[client] <= 0 {
		delete(s.held, client)
	}
	s.admit()
}

// admit gives free places to waiting callers, in order of their rank. s.mu must be held.
func (s *Turnstile) admit() {
	for s.free > 0 && len(s.waiting) > 0 {
		best := 0
		for i, t := range s.waiting {
			if s.held[t.client] < s.held[s.waiting[best].client] {
				best = i
			}
		}
		t := s.waiting[best]
		if s.size > 1 && s.free == 1 && s.held[t.client] > 0 {
			return
		}
		s.waiting = slices.Delete(s.waiting, best, best+1)
		s.free--
		s.held[t.client]++
		close(t.let)
	}
}
