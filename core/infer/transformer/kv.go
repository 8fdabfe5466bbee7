package transformer

import (
	"fmt"
	"slices"

	"edged/core/model/arch"
	"edged/core/model/mmap"
	"edged/quant/kernel"
)

// arena holds the keys and values of all sequences, off the Go heap, in pages of BlockPositions positions. A page's parts of
// the layers and heads do not lie together: each (layer, KV head) has the parts of all pages side by side.
//
//	arena     (layers, KVHeads, pages, 2 [K, V]) sub-blocks
//	sub-block (BlockPositions, KeyDim or ValueDim), row-major by position
//
// Each layer has heads and sizes of its own.
//
// So what one head of a long sequence attends to is one stream, as far as its pages are neighbours, which they are until
// sequences of different lengths have come and gone. Whole pages one after the other, 8 KiB of each head in 1 MiB of a 1B
// model, were read at half the speed (Zen 4, 4096 positions: 20 ms against 10). Huge pages are not asked for: the first page
// of the pool would take one for every head.
//
// Sub-blocks start at multiples of 64 bytes where their size is one, which holds for f16 from 1 value per head up, and
// for all types from 32 values. A page belongs to every sequence that holds it; only an owner of a page that nobody else
// holds writes to it.
type arena struct {
	mem     []byte
	mapping *mmap.Mapping
	kind    kernel.KVType
	layers  []arenaLayer
	refs    []int32 // (pages) holders of each page
	free    []int32 // stack of pages without holder
	kept    []bool  // (pages) one of the holders is the prefix cache
	idle    int     // kept pages without another holder
}

// pagesFor is the number of pages that n positions take.
func pagesFor(n int) int { return (n + kernel.BlockPositions - 1) / kernel.BlockPositions }

// arenaLayer is the part of one layer.
type arenaLayer struct {
	heads                int
	keyBytes, valueBytes int // of a sub-block
	stride               int // distance between the parts of two neighbouring pages
	at                   int // where it begins
}

// geometry lists the layers of a Spec, and adds up the bytes of a page.
func geometry(spec *arch.Spec, t kernel.KVType) (layers []arenaLayer, page int64) {
	for _, c := range arch.Memory(spec) {
		l := arenaLayer{
			heads: c.Heads, keyBytes: kernel.BlockPositions * t.RowBytes(c.KeyDim), valueBytes: kernel.BlockPositions * t.RowBytes(c.ValueDim),
		}
		l.stride = l.keyBytes + l.valueBytes
		layers = append(layers, l)
		page += int64(l.heads) * int64(l.stride)
	}
	return layers, page
}

// pageBytes is the size of a page.
func pageBytes(spec *arch.Spec, t kernel.KVType) int64 {
	_, n := geometry(spec, t)
	return (n + 63) &^ 63
}

func newArena(spec *arch.Spec, o *Options) (*arena, error) {
	size := pageBytes(spec, o.KV)
	mem, mapping, err := reserveBytes(size * int64(o.KVPages))
	if err != nil {
		return nil, fmt.Errorf("%d KV pages of %d bytes: %w", o.KVPages, size, err)
	}
	a := &arena{
		mem: mem, mapping: mapping, kind: o.KV,
		refs: make([]int32, o.KVPages), free: make([]int32, o.KVPages), kept: make([]bool, o.KVPages),
	}
	a.layers, _ = geometry(spec, o.KV)
	at := 0
	for i := range a.layers {
		a.layers[i].at = at
		at += a.layers[i].heads * o.KVPages * a.layers[i].stride
	}
	for i := range a.free {
		a.free[i] = int32(o.KVPages - 1 - i) // low pages first: what is never used is never taken from the system
	}
	return a, nil
}

func (a *arena) close() error { return a.mapping.Close() }

// offsets are the places of the K and V sub-blocks of (layer, KV head) of page 0.
func (a *arena) offsets(layer, head int) (k, v int) {
	l := &a.layers[layer]
	k = l.at + head*len(a.refs)*l.stride
	return k, k + l.keyBytes
}

// copy makes page to hold what page from holds.
func (a *arena) copy(to, from int32) {
	for layer := range a.layers {
		n := a.layers[layer].stride
		for head := range a.layers[layer].heads {
			k, _ := a.offsets(layer, head)
			copy(a.mem[k+int(to)*n:k+int(to+1)*n], a.mem[k+int(from)*n:k+int(from+1)*n])
		}
	}
}

// take hands out a free page; the caller has made sure that there is one.
func (a *arena) take() int32 {
	i := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	a.refs[i] = 1
	return i
}

// drop gives a holder's share of page i back.
func (a *arena) drop(i int32) {
	switch a.refs[i]--; {
	case a.refs[i] == 0:
		a.free = append(a.free, i)
	case a.refs[i] == 1 && a.kept[i]:
		a.idle++
	}
}

// FreePages is the number of KV pages that neither a sequence nor the prefix cache holds.
func (m *Model) FreePages() int { return len(m.kv.free) }

// TotalPages is Options.KVPages.
func (m *Model) TotalPages() int { return len(m.kv.refs) }

// Seq is the cached part of one sequence: the keys and values of its first Len tokens.
type Seq struct {
	m     *Model // nil: freed
	pages []int32
	n     int
	turn  uint64 // the batch that it was last part of

	stretch int // how it is turned, see Model.Stretch
	rows    int // thereof
}

// NewSeq returns an empty sequence. It holds no page until its first Forward.
func (m *Model) NewSeq() *Seq {
	return &Seq{m: m, pages: make([]int32, 0, pagesFor(m.opt.Context))}
}

// Len is the number of cached positions.
func (s *Seq) Len() int { return s.n }

// Stretch says how an empty sequence is going to be turned, see Model.Stretch. Where it is not empty, it must be truncated first.
func (s *Seq) Stretch(how int) {
	if s.n > 0 && how != s.stretch {
		panic("transformer: Stretch: the sequence has positions that were turned in another way")
	}
	s.stretch = how
}

// Stretched is what Stretch was told; 0: nothing.
func (s *Seq) Stretched() int { return s.stretch }

// Pages is the number of pages that s holds, shared ones included.
func (s *Seq) Pages() int { return len(s.pages) }

// Truncate forgets all positions from n on. n above Len changes nothing.
func (s *Seq) Truncate(n int) {
	if s.m == nil || n >= s.n {
		return
	}
	s.n = max(n, 0)
	keep := pagesFor(s.n)
	for _, p := range slices.Backward(s.pages[keep:]) { // so that the next sequence finds them in ascending order, which is read faster
		s.m.kv.drop(p)
	}
	s.pages = s.pages[:keep]
}

// Fork returns a sequence with the same positions. Both share the pages; whichever first writes to a page that is
// partly filled gets a copy of it then, so that Fork itself needs no free page.
func (s *Seq) Fork() *Seq {
	if s.m == nil {
		return &Seq{}
	}
	f := s.m.NewSeq()
	f.n, f.stretch = s.n, s.stretch
	f.pages = append(f.pages, s.pages...)
	for _, p := range f.pages {
		s.m.kv.share(p)
	}
	return f
}

// Free gives the pages back. s must not be used in Forward afterwards; later calls do nothing.
func (s *Seq) Free() {
	s.Truncate(0)
	s.m = nil
}

// need is the number of free pages that n more positions take.
func (s *Seq) need(n int) int {
	pages := pagesFor(s.n+n) - len(s.pages)
	if s.shared() {
		pages++
	}
	return pages
}

// shared tells whether the next position lies in a page that somebody else holds too.
func (s *Seq) shared() bool {
	return s.n%kernel.BlockPositions != 0 && s.m.kv.refs[s.pages[len(s.pages)-1]] > 1
}

// extend takes the pages for n more positions.
func (s *Seq) extend(n int) {
	kv := s.m.kv
	if s.shared() {
		last := &s.pages[len(s.pages)-1]
		own := kv.take()
		kv.copy(own, *last)
		kv.drop(*last)
		*last = own
	}
	for len(s.pages) < pagesFor(s.n+n) {
		s.pages = append(s.pages, kv.take())
	}
}
