package engine

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"edged/core/infer/kv"
	"edged/core/protocol/backend"
)

// fakeState is a slot of a fake whose sequences have a fixed state: what they go on from is here and nowhere else.
type fakeState struct {
	refs int
	raw  []byte // how many positions it is behind, what it is, and nothing
}

// makeStates makes the states of a fake.
func (f *fake) makeStates() {
	f.states = make([]fakeState, f.slots)
	for i := range f.states {
		f.states[i].raw = make([]byte, max(16, f.wide))
	}
}

func (x *fakeState) n() int { return int(binary.LittleEndian.Uint64(x.raw)) }

func (x *fakeState) set(n int, value uint64) {
	binary.LittleEndian.PutUint64(x.raw, uint64(n))
	binary.LittleEndian.PutUint64(x.raw[8:], value)
}

// at is the state behind n positions.
func (x *fakeState) at(t *testing.T, n int) uint64 {
	t.Helper()
	if x.n() != n || x.refs != 1 {
		t.Errorf("a sequence of %d positions goes on from a state of %d, which %d hold", n, x.n(), x.refs)
	}
	return binary.LittleEndian.Uint64(x.raw[8:])
}

func slotsOf(points []kv.Checkpoint) []int32 {
	var out []int32
	for _, c := range points {
		out = append(out, c.Slot)
	}
	return out
}

func (f *fake) Fixed() bool { return f.slots > 0 }

func (f *fake) ShareState(slot int32) {
	if slot >= 0 {
		if f.states[slot].refs == 0 {
			f.t.Errorf("state %d is shared and nobody holds it", slot)
		}
		f.states[slot].refs++
	}
}

func (f *fake) DropState(slot int32) {
	if slot < 0 {
		return
	}
	if f.states[slot].refs--; f.states[slot].refs < 0 {
		f.t.Errorf("state %d is dropped and nobody holds it", slot)
	}
}

func (f *fake) TotalStates() int { return f.slots }

func (f *fake) StateSize() int { return max(16, f.wide) }

func (f *fake) StateData(slot int32) []byte { return f.states[slot].raw }

func (f *fake) TakeState() int32 {
	own := slices.IndexFunc(f.states, func(x fakeState) bool { return x.refs == 0 })
	f.states[own].refs = 1
	f.states[own].set(0, 0)
	return int32(own)
}

func (f *fake) FreeStates() int {
	n := 0
	for i := range f.states {
		if f.states[i].refs == 0 {
			n++
		}
	}
	return n
}

func (s *fakeSeq) NeedState() bool {
	return s.m.Fixed() && (s.state < 0 || s.m.states[s.state].refs > 1)
}

func (s *fakeSeq) ownState() {
	if !s.NeedState() {
		return
	}
	own := s.m.TakeState()
	if s.state >= 0 {
		copy(s.m.states[own].raw, s.m.states[s.state].raw)
		s.m.DropState(s.state)
	}
	s.state = own
}

func (s *fakeSeq) Checkpoint() {
	if s.state < 0 || s.n == 0 || slices.ContainsFunc(s.points, func(c kv.Checkpoint) bool { return c.N == s.n }) {
		return
	}
	s.m.ShareState(s.state)
	s.points = append(s.points, kv.Checkpoint{N: s.n, Slot: s.state})
}

func (s *fakeSeq) Checkpoints() []kv.Checkpoint { return s.points }

func (s *fakeSeq) ForgetCheckpoints(n int) {
	s.points = slices.DeleteFunc(s.points, func(c kv.Checkpoint) bool {
		if c.N <= n {
			s.m.DropState(c.Slot)
		}
		return c.N <= n
	})
}

func (s *fakeSeq) rewind(n int) int {
	if !s.m.Fixed() {
		return n
	}
	s.points = slices.DeleteFunc(s.points, func(c kv.Checkpoint) bool {
		if c.N > n {
			s.m.DropState(c.Slot)
		}
		return c.N > n
	})
	s.m.DropState(s.state)
	if s.state = -1; len(s.points) == 0 {
		return 0
	}
	last := s.points[len(s.points)-1]
	s.state = last.Slot
	s.m.ShareState(s.state)
	return last.N
}

func (s *fakeSeq) Cut(n int) {
	s.ForgetCheckpoints(1 << 30)
	s.m.DropState(s.state)
	s.state = -1
	s.n = n
	keep := (n + s.m.size.Page - 1) / s.m.size.Page
	for _, p := range s.pages[keep:] {
		s.m.dropPage(p)
	}
	s.pages = s.pages[:keep]
}

func (s *fakeSeq) Resume(slot int32) {
	if n := s.m.states[slot].n(); n != s.n {
		s.m.t.Errorf("%d positions go on from the state of %d", s.n, n)
	}
	s.m.ShareState(slot)
	s.m.DropState(s.state)
	s.state = slot
}

func withStates(n int) option { return func(f *fake) { f.slots = n } }

// TestStatePrefixes: of a model with a fixed state, what an earlier request computed is found up to its checkpoints, and every answer is
// what it would have been. Pages have 8 tokens.
func TestStatePrefixes(t *testing.T) {
	e, _ := serve(t, withStates(40))
	seen := prompt(100, 1)
	for _, c := range []struct {
		name   string
		change func(*backend.Request)
		cached int
	}{
		{"cold", func(*backend.Request) {}, 0},
		{"the same: its last token is computed", func(*backend.Request) {}, 99},
		{"goes on", func(r *backend.Request) { r.PromptIDs = slices.Concat(seen, prompt(30, 9)) }, 99},
		{"turns off at the end", func(r *backend.Request) { r.PromptIDs = slices.Concat(seen[:97], prompt(30, 8)) }, 96},
		{"turns off between checkpoints", func(r *backend.Request) { r.PromptIDs = slices.Concat(seen[:44], prompt(30, 7)) }, 0},
		{"four choices", func(r *backend.Request) { r.N, r.Sampling = 4, backend.Sampling{Temperature: 1, Seed: 3} }, 99},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := backend.Request{ID: c.name, PromptIDs: seen, MaxTokens: 30, IgnoreEOS: true, Stream: true}
			c.change(&req)
			a := must(t, e, req)
			follows(t, req, a)
			if got := a.last.Usage.CachedTokens; got != c.cached {
				t.Errorf("%d tokens were cached, want %d", got, c.cached)
			}
		})
	}
	// The next turn of a conversation finds the answer before it.
	first := backend.Request{ID: "first", PromptIDs: prompt(45, 3), MaxTokens: 60, IgnoreEOS: true}
	a := must(t, e, first)
	next := first
	next.ID, next.PromptIDs = "next", slices.Concat(first.PromptIDs, a.last.Choices[0].IDs, prompt(20, 2))
	b := must(t, e, next)
	follows(t, next, b)
	if got, want := b.last.Usage.CachedTokens, 45+60-1; got != want {
		t.Errorf("%d tokens of the turn before were cached, want %d", got, want)
	}
}

// TestStateBorders: prompts that tell their borders, and such as part in an unknown place, are found from there on. Pages have 8 tokens.
func TestStateBorders(t *testing.T) {
	e, _ := serve(t, withStates(40))
	long := prompt(100, 1)
	ask := func(name string, shared, salt int, borders []int32, cached int) {
		t.Helper()
		r := backend.Request{ID: name, PromptIDs: slices.Concat(long[:shared], prompt(30, salt)), Borders: borders, MaxTokens: 9, IgnoreEOS: true}
		a := must(t, e, r)
		follows(t, r, a)
		if got := a.last.Usage.CachedTokens; got != cached {
			t.Errorf("%s: %d tokens were cached, want %d", name, got, cached)
		}
	}
	ask("first", 70, 11, []int32{45, 70, 96}, 0)
	ask("the same system message", 70, 12, []int32{45, 70, 96}, 70)
	ask("another time in it", 45, 13, []int32{45, 71}, 45)
	ask("borders that are none", 45, 14, []int32{-3, 0, 5, 45, 45, 40, 1 << 20}, 45)
	ask("it parts where nobody knew", 60, 15, nil, 45)
	ask("as the one before", 60, 16, nil, 60)
}

// TestStatesAtRandom lets requests with common beginnings meet over few pages and few states: they are set aside, forked, cancelled, and
// every answer is that of a request alone.
func TestStatesAtRandom(t *testing.T) {
	for _, shape := range [][2]int{{34, 3}, {60, 12}, {200, 40}} {
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			e, _ := serve(t, withPages(shape[0]), withStates(shape[1]), withSize(func(s *sizes) { s.Batch, s.Logits = 30, 6 }))
			done := make(chan reply)
			requests := make([]backend.Request, 40)
			for i := range requests {
				r := backend.Request{ID: strconv.Itoa(i), MaxTokens: 10 + i%17, IgnoreEOS: true, Stream: i%3 == 0, Logprobs: i%5 == 0}
				r.PromptIDs = slices.Concat(prompt(20+i%4*17, i%3), prompt(i%9, i))
				if i%6 == 1 {
					r.N, r.Sampling = 3, backend.Sampling{Temperature: 1, Seed: uint64(i)}
				}
				requests[i] = r
				go func() { done <- generate(t.Context(), e, r) }()
			}
			for range requests {
				<-done
			}
			for _, r := range requests { // once more, from what is kept
				r.ID = "again"
				follows(t, r, must(t, e, r))
			}
		})
	}
}
