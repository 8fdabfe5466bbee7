package kv

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"edged/quant/kernel"
)

// words is a History of a list.
type words []int32

func (w words) Token(i int) int32 { return w[i] }

// run is a sequence of a tree's test, with the tokens that it has computed.
type run struct {
	set  string
	s    *Seq
	text []int32
}

// TestTreeAtRandom lets sequences with common beginnings adopt, compute, keep and leave, over few pages: each holds the positions of
// its own tokens at any time, the tree is sound, and pages add up.
func TestTreeAtRandom(t *testing.T) {
	for _, mask := range []uint64{^uint64(0), 7} {
		t.Run(fmt.Sprintf("mask %x", mask), func(t *testing.T) {
			p := open(t, 24)
			tree := NewTree(p, kernel.BlockPositions)
			tree.Collide(mask)
			rng := rand.New(rand.NewPCG(5, mask))
			stems := make([][]int32, 4)
			for i := range stems {
				for range 190 {
					stems[i] = append(stems[i], rng.Int32N(3))
				}
			}
			copy(stems[1], stems[0][:70])
			copy(stems[2], stems[0][:40])
			var runs []*run
			saved := 0
			for range 3000 {
				if len(runs) == 0 || rng.IntN(8) == 0 && len(runs) < 6 {
					runs = append(runs, &run{set: string(rune('a' + rng.IntN(2))), s: p.NewSeq(), text: slices.Clone(stems[rng.IntN(4)][:20+rng.IntN(170)])})
				}
				i := rng.IntN(len(runs))
				r := runs[i]
				switch rng.IntN(5) {
				case 0:
					saved += tree.Adopt(r.set, r.s, words(r.text), len(r.text)-1)
				case 1:
					tree.KeepRest(r.set, r.s, words(r.text), r.s.Len())
					r.s.Free()
					runs = slices.Delete(runs, i, i+1)
					continue
				default:
					more := r.text[r.s.Len():min(len(r.text), r.s.Len()+1+rng.IntN(50))]
					if short := r.s.Need(len(more)) - p.FreePages(); short > 0 {
						tree.Evict(short)
					}
					if !grow(r.s, more) {
						r.s.Free() // preempted
						r.s = p.NewSeq()
						continue
					}
					if !tree.Keep(r.set, r.s, words(r.text), r.s.Len()) {
						r.s.Free()
						runs = slices.Delete(runs, i, i+1)
					}
				}
				for _, r := range runs {
					r.s.holds(t, r.text[:r.s.Len()])
				}
				if err := tree.Sound(); err != nil {
					t.Fatal(err)
				}
			}
			if saved == 0 {
				t.Error("nothing was adopted")
			}
			for _, r := range runs {
				r.s.Free()
			}
			tree.Clear()
			if p.FreePages() != p.TotalPages() || tree.Roots() > 0 {
				t.Errorf("%d of %d pages are free at the end, %d roots", p.FreePages(), p.TotalPages(), tree.Roots())
			}
		})
	}
}

// TestTreeAllocatesNothing: in the steady state of a full pool, keeping, finding and giving back costs no garbage.
func TestTreeAllocatesNothing(t *testing.T) {
	p := open(t, 14)
	tree := NewTree(p, kernel.BlockPositions)
	text := make(words, 6*kernel.BlockPositions)
	history := History(text)
	turn, s := int32(0), p.NewSeq()
	step := func() {
		turn++
		for i := range text {
			text[i] = (turn % 7) + int32(i)*(turn%3)
		}
		s.Truncate(0)
		tree.Adopt("", s, history, len(text))
		if short := s.Need(len(text)-s.Len()) - p.FreePages(); short > 0 {
			tree.Evict(short)
		}
		n := len(text) - s.Len()
		s.Extend(n)
		s.Advance(n)
		tree.Keep("", s, history, s.Len())
	}
	for range 200 {
		step()
	}
	if n := testing.AllocsPerRun(300, step); n > 0 {
		t.Errorf("%v allocations for 6 pages", n)
	}
}
