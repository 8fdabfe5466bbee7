package transformer

import (
	"fmt"
	"math"
	"unsafe"

	"edged/core/model/mmap"
	"edged/core/model/weights"
	"edged/quant/kernel"
)

// PlanMemory returns the bytes of one KV page and those of the scratch that New would reserve for a model with these
// hyper-parameters. The scratch is an upper bound: what a batch never touches, the system never hands out. Only o's
// KV, Context, MaxRows and threads matter.
func PlanMemory(h weights.Hyper, o Options) (kvBytesPerPage, scratch int64, err error) {
	if err := checkHyper(&h); err != nil {
		return 0, 0, fmt.Errorf("transformer: %w", err)
	}
	if o.Kernels == nil {
		o.Kernels = kernel.Portable{}
	}
	if o, err = o.resolve(&h); err != nil {
		return 0, 0, fmt.Errorf("transformer: %w", err)
	}
	z := scratchSizes(&h, &o)
	return pageBytes(&h, o.KV), z.total(), nil
}

// The buffers of step.
const (
	bufX = iota
	bufD
	bufH
	bufQKV
	bufO
	bufGate
	bufUp
	bufCos
	bufSin
	bufLogits
	bufLora
	bufParts
	bufRouter
	bufGX
	bufGD
	bufs
)

// headRows is the number of rows for which the head is computed at once: a row of logits is up to a megabyte.
const headRows = 32

// sizes are the dimensions of step's buffers and their lengths in float32 values.
type sizes struct {
	rows, used, group, headDim int
	actCols                    int
	lens                       [bufs]int64
}

// scratchSizes computes what a model needs; o is resolved.
func scratchSizes(h *weights.Hyper, o *Options) sizes {
	z := sizes{rows: o.MaxRows, used: h.ExpertsUsed, group: h.Heads / h.KVHeads, headDim: h.HeadDim}
	rows, width, ffn := int64(o.MaxRows), int64(h.Width), int64(h.FFN)
	q, kv := int64(h.Heads*h.HeadDim), int64(h.KVHeads*h.HeadDim)
	spans := int64((o.Context + kernel.SpanPositions - 1) / kernel.SpanPositions)
	items := int64(max(o.ThreadsPrefill, o.ThreadsDecode) * splitItems)
	z.actCols = int(max(width, q, ffn))
	l := &z.lens
	l[bufX], l[bufD], l[bufH] = rows*width, rows*width, rows*width
	l[bufQKV], l[bufO] = rows*(q+2*kv), rows*q
	l[bufGate], l[bufUp] = rows*ffn, rows*ffn
	l[bufCos], l[bufSin] = rows*int64(h.RopeDim/2), rows*int64(h.RopeDim/2)
	l[bufLogits] = min(rows, headRows) * int64(h.VocabRows)
	l[bufLora] = max(rows*max(q+2*kv, 2*ffn, width), l[bufLogits])
	l[bufParts] = items * spans * int64(z.group) * int64(h.HeadDim+2)
	if h.Experts > 0 {
		l[bufRouter], l[bufGX], l[bufGD] = rows*int64(h.Experts), rows*width, rows*width
	}
	return z
}

// floats is the length of all buffers together.
func (z *sizes) floats() int64 {
	var n int64
	for _, l := range z.lens {
		n += align(l)
	}
	return n
}

// total is the number of bytes, the kernels' activations (8-bit values, scales and corrections) included.
func (z *sizes) total() int64 { return 4*z.floats() + int64(z.rows)*int64(z.actCols)*13/8 }

// align rounds a number of float32 values up to whole cache lines.
func align(n int64) int64 { return (n + 15) &^ 15 }

// reserve takes n float32 values off the Go heap, so that the collector neither counts them nor waits for twice as
// many; pages that no batch touches are never taken from the system.
func reserve(n int64) ([]float32, *mmap.Mapping, error) {
	b, mem, err := reserveBytes(4 * n)
	if err != nil || n == 0 {
		return nil, mem, err
	}
	_ = mem.Advise(mmap.HugePage) // a hint
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n), mem, nil
}

func reserveBytes(n int64) ([]byte, *mmap.Mapping, error) {
	if n > math.MaxInt {
		return nil, nil, fmt.Errorf("%d bytes are more than this system's address space holds", n)
	}
	if raceEnabled { // the race detector sees Go memory only
		mem, err := mmap.Anonymous(0)
		return make([]byte, n), mem, err
	}
	mem, err := mmap.Anonymous(int(n))
	if err != nil {
		return nil, nil, err
	}
	return mem.Bytes(), mem, nil
}
