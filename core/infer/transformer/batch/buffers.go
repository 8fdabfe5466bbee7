package batch

import (
	"reflect"
	"slices"
	"unsafe"

	"edged/core/model/arch"
	"edged/core/model/mmap"
)

// The buffers of a Batch.
const (
	BufX = iota
	BufD
	BufE
	BufH
	BufQKV
	BufO
	BufGate
	BufUp
	bufCos
	bufSin
	BufLogits
	BufLora
	bufParts
	BufRouter
	BufGX
	BufGD
	BufToken
	BufStreams
	bufs
)

// HeadRows is the number of rows for which the head is computed at once: a row of logits is up to a megabyte.
const HeadRows = 32

// Sizes are the dimensions of a Batch's buffers and their lengths in float32 values.
type Sizes struct {
	Rows    int
	Width   int // hidden size
	Items   int // pieces of attention that have places for partial results
	Spans   int // of the longest sequence
	ropes   []arch.Rope
	used    int // experts of a row
	experts int // of a layer
	partial int // values of the largest partial result of attention
	ActCols int
	lens    [bufs]int64
}

// Rope makes room for the angles of a rotation that is not among those of other layers.
func (z *Sizes) Rope(r arch.Rope) {
	if slices.ContainsFunc(z.ropes, func(x arch.Rope) bool { return reflect.DeepEqual(x, r) }) {
		return
	}
	z.lens[bufCos] += int64(z.Rows) * int64(r.Dim/2)
	z.lens[bufSin] += int64(z.Rows) * int64(r.Dim/2)
	z.ropes = append(z.ropes, r)
}

// Need makes room for a buffer of n values for each row of a batch.
func (z *Sizes) Need(buf, n int) { z.NeedAll(buf, int64(z.Rows)*int64(n)) }

// NeedAll makes room for a buffer of n values in all.
func (z *Sizes) NeedAll(buf int, n int64) { z.lens[buf] = max(z.lens[buf], n) }

// Product makes room for the input of a product, of cols values in a row.
func (z *Sizes) Product(cols int) { z.ActCols = max(z.ActCols, cols) }

// Attends makes room for the partial results of an attention, of n values for each key head.
func (z *Sizes) Attends(n int) {
	z.partial = max(z.partial, n)
	z.NeedAll(bufParts, int64(z.Items)*int64(z.Spans)*int64(z.partial))
}

// Chooses makes room for the choice of used from so many experts.
func (z *Sizes) Chooses(used, experts int) {
	z.used, z.experts = max(z.used, used), max(z.experts, experts)
}

// Hidden makes room for the rows between the matrices of a feed-forward network, of which so many stand side by side.
func (z *Sizes) Hidden(n, beside int) {
	z.Product(n)
	if beside > 1 {
		z.Need(BufGate, n)
	}
	z.Need(BufUp, n)
	z.Need(BufLora, beside*n)
}

// Floats is the length of all buffers together.
func (z *Sizes) Floats() int64 {
	var n int64
	for _, l := range z.lens {
		n += align(l)
	}
	return n
}

// Total is the number of bytes, the kernels' activations (8-bit values, scales and corrections) included.
func (z *Sizes) Total() int64 { return 4*z.Floats() + int64(z.Rows)*int64(z.ActCols)*13/8 }

// align rounds a number of float32 values up to whole cache lines.
func align(n int64) int64 { return (n + 15) &^ 15 }

// Reserve takes n float32 values off the Go heap, so that the collector neither counts them nor waits for twice as
// many; pages that no batch touches are never taken from the system.
func Reserve(n int64) ([]float32, *mmap.Mapping, error) {
	b, mem, err := mmap.Reserve(4 * n)
	if err != nil || n == 0 {
		return nil, mem, err
	}
	_ = mem.Advise(mmap.HugePage) // a hint
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n), mem, nil
}

// SplitItems is the number of (row, KV head) pairs per thread below which the spans of a long context are shared out
// too. It changes no bit: spans are combined in order either way.
const SplitItems = 4
