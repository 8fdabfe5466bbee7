package kv

import (
	"errors"
	"fmt"

	"edged/core/model/arch"
	"edged/core/model/mmap"
	"edged/quant/kernel"
)

// Options size a Pool.
type Options struct {
	Type    kernel.KVType // of keys and values
	Pages   int           // of kernel.BlockPositions positions
	Context int           // positions of one sequence
	States  int           // fixed states, see state.go; of a model without them it does not matter
}

// Pool holds the keys and values of all sequences, off the Go heap, in pages of BlockPositions positions. A
// page's parts of the layers and heads do not lie together: each (layer, KV head) has the parts of all pages
// side by side.
//
//	pool      (layers, KVHeads, pages, 2 [K, V]) sub-blocks
//	sub-block (BlockPositions, KeyDim or ValueDim), row-major by position
//
// Each layer has heads and sizes of its own.
//
// So what one head of a long sequence attends to is one stream, as far as its pages are neighbours, which
// they are until sequences of different lengths have come and gone. Whole pages one after the other, 8 KiB of
// each head in 1 MiB of a 1B model, were read at half the speed (Zen 4, 4096 positions: 20 ms against 10).
// Huge pages are not asked for: the first page of the pool would take one for every head.
//
// Sub-blocks start at multiples of 64 bytes where their size is one, which holds for f16 from 1 value per
// head up, and for all types from 32 values. A page belongs to every sequence that holds it; only an owner of
// a page that nobody else holds writes to it.
type Pool struct {
	opt     Options
	mem     []byte
	mapping *mmap.Mapping
	layers  []Layer
	refs    []int32 // (pages) holders of each page
	free    []int32 // stack of pages without holder
	kept    []bool  // (pages) one of the holders is the prefix cache
	idle    int     // kept pages without another holder

	states
}

// PagesFor is the number of pages that n positions take.
func PagesFor(n int) int { return (n + kernel.BlockPositions - 1) / kernel.BlockPositions }

// Layer is the part of one layer in every page.
type Layer struct {
	Heads                int
	KeyBytes, ValueBytes int // of a sub-block
	Stride               int // bytes between the parts of two neighbouring pages
	at                   int // where it begins
}

// geometry lists the layers of a Spec, and adds up the bytes of a page.
func geometry(spec *arch.Spec, t kernel.KVType) (layers []Layer, page int64) {
	for _, c := range arch.Memory(spec) {
		l := Layer{
			Heads: c.Heads, KeyBytes: kernel.BlockPositions * t.RowBytes(c.KeyDim), ValueBytes: kernel.BlockPositions * t.RowBytes(c.ValueDim),
		}
		l.Stride = l.KeyBytes + l.ValueBytes
		layers = append(layers, l)
		page += int64(l.Heads) * int64(l.Stride)
	}
	return layers, page
}

// PageBytes is the memory that a page takes of a Pool for this Spec.
func PageBytes(spec *arch.Spec, t kernel.KVType) int64 {
	_, n := geometry(spec, t)
	return (n + 63) &^ 63
}

// NewPool reserves the memory of o.Pages pages, which the system hands out as they are written to.
func NewPool(spec *arch.Spec, o Options) (*Pool, error) {
	size := PageBytes(spec, o.Type)
	mem, mapping, err := mmap.Reserve(size * int64(o.Pages))
	if err != nil {
		return nil, fmt.Errorf("%d KV pages of %d bytes: %w", o.Pages, size, err)
	}
	p := &Pool{
		opt: o, mem: mem, mapping: mapping,
		refs: make([]int32, o.Pages), free: make([]int32, o.Pages), kept: make([]bool, o.Pages),
	}
	p.layers, _ = geometry(spec, o.Type)
	at := 0
	for i := range p.layers {
		p.layers[i].at = at
		at += p.layers[i].Heads * o.Pages * p.layers[i].Stride
	}
	for i := range p.free {
		p.free[i] = int32(o.Pages - 1 - i) // low pages first: what is never used is never taken from the system
	}
	if err := p.reserve(spec, o.States); err != nil {
		return nil, errors.Join(err, mapping.Close())
	}
	return p, nil
}

// Close frees the memory.
func (p *Pool) Close() error { return errors.Join(p.mapping.Close(), p.states.close()) }

// Type is that of keys and values.
func (p *Pool) Type() kernel.KVType { return p.opt.Type }

// Mem is the memory of all pages.
func (p *Pool) Mem() []byte { return p.mem }

// Layer is the geometry of one layer, in the order of arch.Memory.
func (p *Pool) Layer(i int) *Layer { return &p.layers[i] }

// Offsets are the places of the K and V sub-blocks of (layer, KV head) of page 0 in Mem; those of page i are
// i strides behind.
func (p *Pool) Offsets(layer, head int) (k, v int) {
	l := &p.layers[layer]
	k = l.at + head*len(p.refs)*l.Stride
	return k, k + l.KeyBytes
}

// FreePages is the number of pages that neither a sequence nor the prefix cache holds.
func (p *Pool) FreePages() int { return len(p.free) }

// TotalPages is Options.Pages.
func (p *Pool) TotalPages() int { return len(p.refs) }

// copy makes page to hold what page from holds.
func (p *Pool) copy(to, from int32) {
	for layer := range p.layers {
		n := p.layers[layer].Stride
		for head := range p.layers[layer].Heads {
			k, _ := p.Offsets(layer, head)
			copy(p.mem[k+int(to)*n:k+int(to+1)*n], p.mem[k+int(from)*n:k+int(from+1)*n])
		}
	}
}

// take hands out a free page; the caller has made sure that there is one.
func (p *Pool) take() int32 {
	i := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.refs[i] = 1
	return i
}

// drop gives a holder's share of page i back.
func (p *Pool) drop(i int32) {
	switch p.refs[i]--; {
	case p.refs[i] == 0:
		p.free = append(p.free, i)
	case p.refs[i] == 1 && p.kept[i]:
		p.idle++
	}
}

// share adds a sequence to the holders of page i.
func (p *Pool) share(i int32) {
	if p.kept[i] && p.refs[i] == 1 {
		p.idle--
	}
	p.refs[i]++
}
