package kv

import (
	"math/rand/v2"
	"slices"
	"testing"

	"edged/core/model/arch"
	"edged/quant/kernel"
)

// spec has two attention layers of different heads and sizes.
func spec() *arch.Spec {
	s := &arch.Spec{Width: 32, Vocab: 8, Context: 256}
	s.Add(arch.Sub{Op: arch.Attention{Heads: 2, KVHeads: 1, KeyDim: 32, ValueDim: 16}})
	s.Add(arch.Sub{Op: arch.Attention{Heads: 2, KVHeads: 2, KeyDim: 8, ValueDim: 8}})
	return s
}

// open makes a pool of so many pages for sequences of up to 200 positions.
func open(t *testing.T, pages int) *Pool {
	t.Helper()
	p, err := NewPool(spec(), Options{Type: kernel.KVF16, Pages: pages, Context: 200})
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

// grow fills n more positions of s where the pool has the pages, each with a mark that depends on its token and those before it.
func grow(s *Seq, tokens []int32) bool {
	if s.Need(len(tokens)) > s.p.FreePages() {
		return false
	}
	s.Extend(len(tokens))
	for _, token := range tokens {
		before := byte(0)
		if s.n > 0 {
			before = *s.mark(s.n - 1)
		}
		s.Advance(1)
		*s.mark(s.n - 1) = before*31 + byte(token) + 1
	}
	return true
}

// mark is a byte of a position in the second layer's second head.
func (s *Seq) mark(i int) *byte {
	_, v := s.p.Offsets(1, 1)
	l := s.p.Layer(1)
	return &s.p.Mem()[v+int(s.pages[i/kernel.BlockPositions])*l.Stride+i%kernel.BlockPositions*16]
}

// holds proves that a sequence's positions are those of these tokens.
func (s *Seq) holds(t *testing.T, tokens []int32) {
	t.Helper()
	if len(tokens) != s.Len() {
		t.Fatalf("%d positions, want %d", s.Len(), len(tokens))
	}
	before := byte(0)
	for i, token := range tokens {
		before = before*31 + byte(token) + 1
		if *s.mark(i) != before {
			t.Fatalf("position %d holds what another sequence computed", i)
		}
	}
}

// TestPagesAddUp does random things to sequences and counts what each page's holders should be. What a sequence holds never
// changes behind its back.
func TestPagesAddUp(t *testing.T) {
	p := open(t, 20)
	rng := rand.New(rand.NewPCG(1, 1))
	var seqs []*Seq
	var texts [][]int32
	refused := 0
	for range 4000 {
		switch n := rng.IntN(10); {
		case len(seqs) == 0 || n == 0 && len(seqs) < 12:
			seqs, texts = append(seqs, p.NewSeq()), append(texts, nil)
		case n == 1 && len(seqs) < 12:
			i := rng.IntN(len(seqs))
			seqs, texts = append(seqs, seqs[i].Fork()), append(texts, slices.Clone(texts[i]))
		case n == 2:
			i := rng.IntN(len(seqs))
			seqs[i].Free()
			seqs, texts = slices.Delete(seqs, i, i+1), slices.Delete(texts, i, i+1)
		case n == 3:
			i := rng.IntN(len(seqs))
			seqs[i].Truncate(rng.IntN(seqs[i].Len() + 2))
			texts[i] = texts[i][:seqs[i].Len()]
		default:
			i := rng.IntN(len(seqs))
			more := make([]int32, min(rng.IntN(40), 200-seqs[i].Len()))
			for k := range more {
				more[k] = rng.Int32N(50)
			}
			if grow(seqs[i], more) {
				texts[i] = append(texts[i], more...)
			} else {
				refused++
			}
		}
		holders := make([]int32, p.TotalPages())
		for i, s := range seqs {
			if len(s.pages) != PagesFor(s.n) {
				t.Fatalf("%d pages for %d positions", len(s.pages), s.n)
			}
			for _, page := range s.pages {
				holders[page]++
			}
			s.holds(t, texts[i])
		}
		free := 0
		for page, n := range holders {
			if p.refs[page] != n {
				t.Fatalf("page %d has %d holders, counted as %d", page, n, p.refs[page])
			}
			if n == 0 {
				free++
			}
		}
		if free != p.FreePages() {
			t.Fatalf("%d pages free, %d on the list", free, p.FreePages())
		}
	}
	if refused == 0 {
		t.Error("the pool never ran out: the test is too easy")
	}
}

// TestKeptPagesAddUp: free, idle and held pages are all there are, whatever happens.
func TestKeptPagesAddUp(t *testing.T) {
	p := open(t, 16)
	rng := rand.New(rand.NewPCG(1, 2))
	var seqs []*Seq
	kept := map[int32]bool{}
	for range 2000 {
		switch n := rng.IntN(6); {
		case len(seqs) == 0 || n == 0:
			seqs = append(seqs, p.NewSeq())
		case n == 1:
			seqs = append(seqs, seqs[rng.IntN(len(seqs))].Fork())
		case n == 2:
			i := rng.IntN(len(seqs))
			seqs[i].Free()
			seqs = slices.Delete(seqs, i, i+1)
		case n == 3:
			s := seqs[rng.IntN(len(seqs))]
			s.Truncate(rng.IntN(s.Len() + 1))
		case n == 4:
			s := seqs[rng.IntN(len(seqs))]
			if i := rng.IntN(4); (i+1)*32 <= s.Len() && !kept[s.Page(i)] {
				p.Keep(s.Page(i))
				kept[s.Page(i)] = true
			}
			for page := range kept {
				switch {
				case rng.IntN(3) == 0:
					p.Forget(page)
					delete(kept, page)
				case s.Len()%32 == 0 && s.Len() < 128 && rng.IntN(3) == 0:
					s.Adopt(page)
				case s.Len()%32 == 0 && s.Len() < 128 && p.FreePages() > 0:
					s.Copy(page, 1+rng.IntN(31))
				}
			}
		default:
			s := seqs[rng.IntN(len(seqs))]
			grow(s, make([]int32, min(1+rng.IntN(40), 128-min(s.Len(), 128))))
		}
		held := map[int32]bool{}
		for _, s := range seqs {
			for _, page := range s.pages {
				held[page] = true
			}
		}
		idle := 0
		for page := range kept {
			if !held[page] {
				idle++
			}
			if p.Idle(page) == held[page] {
				t.Fatalf("page %d is idle: %v, held: %v", page, p.Idle(page), held[page])
			}
		}
		if p.IdlePages() != idle || p.FreePages()+idle+len(held) != p.TotalPages() {
			t.Fatalf("%d free, %d idle (counted %d), %d held of %d", p.FreePages(), p.IdlePages(), idle, len(held), p.TotalPages())
		}
	}
}
