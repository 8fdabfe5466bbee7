package kv

import (
	"math/rand/v2"
	"slices"
	"testing"

	"edged/core/model/arch"
	"edged/quant/kernel"
)

// openStates makes a pool for a model of one attention and two operations with a state.
func openStates(t *testing.T, pages, states int) *Pool {
	t.Helper()
	s := &arch.Spec{Width: 4, Vocab: 8, Context: 256}
	s.Add(arch.Sub{Op: arch.ShortConv{Kernel: 3}})
	s.Add(arch.Sub{Op: arch.Attention{Heads: 1, KVHeads: 1, KeyDim: 16, ValueDim: 16}})
	s.Add(arch.Sub{Op: arch.ShortConv{Kernel: 5}})
	p, err := NewPool(s, Options{Type: kernel.KVF16, Pages: pages, Context: 200, States: states})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// compute is a fake operation with a state: it counts the tokens of a sequence, and mixes them.
func compute(s *Seq, tokens []int32) bool {
	if s.Need(len(tokens)) > s.p.FreePages() || s.NeedState() && s.p.FreeStates() == 0 {
		return false
	}
	s.Extend(len(tokens))
	a, b := s.p.State(s.StateSlot(), 0), s.p.State(s.StateSlot(), 1)
	for _, token := range tokens {
		a[7]++
		b[15] = float32((int(b[15])*7 + int(token) + 1) % 9973)
		s.Advance(1)
	}
	return true
}

// behind proves that a sequence has the state behind these tokens.
func behind(t *testing.T, s *Seq, tokens []int32) {
	t.Helper()
	if s.Len() != len(tokens) || len(s.pages) != PagesFor(s.n) {
		t.Fatalf("%d positions in %d pages, want %d", s.Len(), len(s.pages), len(tokens))
	}
	want := 0
	for _, token := range tokens {
		want = (want*7 + int(token) + 1) % 9973
	}
	if s.StateSlot() == noState {
		if len(tokens) > 0 {
			t.Fatalf("no state behind %d positions", len(tokens))
		}
		return
	}
	if n, got := s.p.State(s.StateSlot(), 0)[7], s.p.State(s.StateSlot(), 1)[15]; int(n) != len(tokens) || int(got) != want {
		t.Fatalf("the state is that of %g other positions, want %d", n, len(tokens))
	}
}

// TestTruncateReachesCheckpoints: a sequence with a state goes back to its last checkpoint, and from there on to the same state.
func TestTruncateReachesCheckpoints(t *testing.T) {
	p := openStates(t, 10, 8)
	text := make([]int32, 100)
	for i := range text {
		text[i] = int32(i * i % 13)
	}
	s := p.NewSeq()
	for _, n := range []int{10, 40, 41, 70} {
		compute(s, text[s.Len():n])
		if n != 41 {
			s.Checkpoint()
		}
	}
	if s.Rewinds() {
		t.Error("it says that it rewinds")
	}
	f := s.Fork()
	for _, x := range [][2]int{{90, 70}, {70, 70}, {69, 40}, {41, 40}, {40, 40}, {39, 10}, {9, 0}, {0, 0}} {
		if n := s.Truncate(x[0]); n != x[1] {
			t.Errorf("Truncate(%d) reached %d, want %d", x[0], n, x[1])
		}
		behind(t, s, text[:x[1]])
	}
	compute(s, text[:50])
	behind(t, s, text[:50])
	behind(t, f, text[:70])
	compute(f, text[70:])
	behind(t, f, text)
	s.Free()
	f.Free()
	f.Free()
	if p.FreeStates() != 8 || p.FreePages() != 10 {
		t.Errorf("%d states and %d pages are free at the end", p.FreeStates(), p.FreePages())
	}
}

// TestStateTreeAtRandom lets sequences with a state compute, fork, go back, keep, adopt and leave, over few pages and few states: each
// has the state of its own tokens at any time, the tree is sound, and slots add up.
func TestStateTreeAtRandom(t *testing.T) {
	for _, slots := range []int{4, 9, 30} {
		p := openStates(t, 30, slots)
		tree := NewTree(p, kernel.BlockPositions)
		rng := rand.New(rand.NewPCG(7, uint64(slots)))
		stems := make([][]int32, 3)
		for i := range stems {
			for range 190 {
				stems[i] = append(stems[i], rng.Int32N(3))
			}
		}
		copy(stems[1], stems[0][:75])
		var runs []*run
		saved, refused := 0, 0
		leave := func(i int) {
			runs[i].s.Free()
			runs = slices.Delete(runs, i, i+1)
		}
		for range 4000 {
			if len(runs) == 0 || rng.IntN(8) == 0 && len(runs) < 6 {
				runs = append(runs, &run{set: string(rune('a' + rng.IntN(2))), s: p.NewSeq(), text: slices.Clone(stems[rng.IntN(3)][:20+rng.IntN(170)])})
			}
			i := rng.IntN(len(runs))
			r := runs[i]
			switch rng.IntN(8) {
			case 0:
				saved += tree.Adopt(r.set, r.s, words(r.text), len(r.text)-1)
			case 1:
				r.s.Checkpoint()
				if tree.Keep(r.set, r.s, words(r.text), r.s.Len()) {
					tree.KeepRest(r.set, r.s, words(r.text), r.s.Len())
				}
				leave(i)
			case 2:
				r.s.Truncate(rng.IntN(r.s.Len() + 1))
			case 3:
				r.s.Checkpoint()
			default:
				more := r.text[r.s.Len():min(len(r.text), r.s.Len()+1+rng.IntN(50))]
				if short := r.s.Need(len(more)) - p.FreePages(); short > 0 {
					tree.Evict(short)
				}
				tree.EvictStates(1)
				if !compute(r.s, more) {
					refused++
					leave(i)
				} else if !tree.Keep(r.set, r.s, words(r.text), r.s.Len()) {
					leave(i)
				}
			}
			holders := make([]int32, slots)
			hold := func(slot int32) {
				if slot != noState {
					holders[slot]++
				}
			}
			for _, r := range runs {
				behind(t, r.s, r.text[:r.s.Len()])
				hold(r.s.state)
				for _, c := range r.s.points {
					hold(c.Slot)
				}
			}
			for n := range tree.nodes {
				if c := &tree.nodes[n]; c.kept {
					for _, x := range c.states {
						hold(x.Slot)
					}
				} else if len(c.states) > 0 {
					t.Fatal("a page that is no node has states")
				}
			}
			if !slices.Equal(holders, p.holders) {
				t.Fatalf("states are held by %v, counted as %v", holders, p.holders)
			}
			if err := tree.Sound(); err != nil {
				t.Fatal(err)
			}
		}
		if saved == 0 || slots < 5 && refused == 0 {
			t.Errorf("%d slots: %d positions were adopted, %d times there was no room: the test is too easy", slots, saved, refused)
		}
		for len(runs) > 0 {
			leave(0)
		}
		tree.Clear()
		if p.FreePages() != p.TotalPages() || p.FreeStates() != slots {
			t.Errorf("%d pages and %d states are free at the end", p.FreePages(), p.FreeStates())
		}
	}
}
