package kv

import (
	"slices"

	"edged/quant/kernel"
)

// Seq is the cached part of one sequence: what the pool holds of its first Len tokens.
type Seq struct {
	p     *Pool // nil: freed
	pages []int32
	n     int

	stretch int // how it is turned

	state  int32        // slot of the state of all n positions
	points []Checkpoint // by position
}

// NewSeq returns an empty sequence. It holds no page until its first Extend.
func (p *Pool) NewSeq() *Seq {
	return &Seq{p: p, pages: make([]int32, 0, PagesFor(p.opt.Context)), state: noState}
}

// Of is the pool that s lies in; nil: s was freed.
func (s *Seq) Of() *Pool { return s.p }

// Len is the number of cached positions.
func (s *Seq) Len() int { return s.n }

// Stretch says how the positions of an empty sequence are going to be turned. Where it is not empty, it must
// be truncated first.
func (s *Seq) Stretch(how int) {
	if s.n > 0 && how != s.stretch {
		panic("kv: Stretch: the sequence has positions that were turned in another way")
	}
	s.stretch = how
}

// Stretched returns the value given to Stretch; 0: none.
func (s *Seq) Stretched() int { return s.stretch }

// Pages is the number of pages that s holds, shared ones included.
func (s *Seq) Pages() int { return len(s.pages) }

// Page is the number of page i of s, 0 ≤ i < Pages.
func (s *Seq) Page(i int) int32 { return s.pages[i] }

// Table lists the numbers of all pages. It is valid until s changes, and not to be written to.
func (s *Seq) Table() []int32 { return s.pages }

// Truncate forgets all positions from n on, and returns Len: of a sequence with a fixed state that is the
// position of its last checkpoint at or before n, of others n. n above Len changes nothing.
func (s *Seq) Truncate(n int) int {
	if s.p == nil || n >= s.n {
		return s.n
	}
	n = max(n, 0)
	if s.p.Fixed() {
		n = s.rewind(n)
	}
	s.cut(n)
	return n
}

// cut gives the pages behind n positions back.
func (s *Seq) cut(n int) {
	s.n = n
	keep := PagesFor(s.n)
	for _, p := range slices.Backward(s.pages[keep:]) { // so that the next sequence finds them in ascending order, which is read faster
		s.p.drop(p)
	}
	s.pages = s.pages[:keep]
}

// Fork returns a sequence with the same positions. Both share the pages; whichever first writes to a page that is
// partly filled gets a copy of it then, so that Fork itself needs no free page.
func (s *Seq) Fork() *Seq {
	if s.p == nil {
		return &Seq{state: noState}
	}
	f := s.p.NewSeq()
	f.n, f.stretch, f.state = s.n, s.stretch, s.state
	s.p.ShareState(f.state)
	for _, c := range s.points {
		s.p.ShareState(c.Slot)
		f.points = append(f.points, c)
	}
	f.pages = append(f.pages, s.pages...)
	for _, p := range f.pages {
		s.p.share(p)
	}
	return f
}

// Free gives the pages back. s must not be extended afterwards; later calls do nothing.
func (s *Seq) Free() {
	if s.p != nil {
		s.Cut(0)
	}
	s.p = nil
}

// Need is the number of free pages that n more positions take.
func (s *Seq) Need(n int) int {
	pages := PagesFor(s.n+n) - len(s.pages)
	if s.shared() {
		pages++
	}
	return pages
}

// shared tells whether the next position lies in a page that somebody else holds too.
func (s *Seq) shared() bool {
	return s.n%kernel.BlockPositions != 0 && s.p.refs[s.pages[len(s.pages)-1]] > 1
}

// Extend takes the pages for n more positions, Need(n) of which must be free, and a state of its own, see
// NeedState. Len grows when they are filled, by Advance.
func (s *Seq) Extend(n int) {
	s.ownState()
	if s.shared() {
		last := &s.pages[len(s.pages)-1]
		own := s.p.take()
		s.p.copy(own, *last)
		s.p.drop(*last)
		*last = own
	}
	for len(s.pages) < PagesFor(s.n+n) {
		s.pages = append(s.pages, s.p.take())
	}
}

// Advance counts n positions that were filled.
func (s *Seq) Advance(n int) { s.n += n }

// Adopt appends a kept page to s, whose length must be a multiple of kernel.BlockPositions, and with it that many
// positions. It takes no free page.
func (s *Seq) Adopt(page int32) {
	if s.n%kernel.BlockPositions != 0 || !s.p.kept[page] || s.n+kernel.BlockPositions > s.p.opt.Context {
		panic("kv: Adopt: the page is not kept, or the sequence has no place for it")
	}
	s.p.share(page)
	s.pages = append(s.pages, page)
	s.n += kernel.BlockPositions
}

// Copy appends the first n positions of a kept page to s, 0 < n < kernel.BlockPositions, whose length must be
// a multiple of kernel.BlockPositions. It takes a free page, of which there must be one: what s would take
// for these positions anyway.
func (s *Seq) Copy(page int32, n int) {
	if s.n%kernel.BlockPositions != 0 || !s.p.kept[page] || n < 1 || n >= kernel.BlockPositions || s.n+n > s.p.opt.Context {
		panic("kv: Copy: the page is not kept, or the sequence has no place for that much of it")
	}
	own := s.p.take()
	s.p.copy(own, page)
	s.pages = append(s.pages, own)
	s.n += n
}

// Swap puts a kept page of equal content in the place of page i, which must be full, so that both need memory once.
func (s *Seq) Swap(i int, page int32) {
	if (i+1)*kernel.BlockPositions > s.n || !s.p.kept[page] {
		panic("kv: Swap: the page is not kept, or the one in its place is not full")
	}
	s.p.share(page) // first: it may be the same one
	s.p.drop(s.pages[i])
	s.pages[i] = page
}
