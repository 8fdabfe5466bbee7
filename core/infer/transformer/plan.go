package transformer

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"edged/core/infer/kv"
	"edged/core/model/arch"
	"edged/core/model/mmap"
	"edged/quant/kernel"
)

// PlanMemory returns the bytes of one KV page and those of the scratch that New would reserve for a model of this Spec. The scratch is an upper bound: what a batch never touches, the system never hands out. Only o's
// KV, Context, MaxRows and threads matter.
func PlanMemory(spec *arch.Spec, o Options) (kvBytesPerPage, scratch int64, err error) {
	if err := spec.Check(); err != nil {
		return 0, 0, fmt.Errorf("transformer: %w", err)
	}
	if o.Kernels == nil {
		o.Kernels = kernel.Portable{}
	}
	if o, err = o.resolve(spec); err != nil {
		return 0, 0, fmt.Errorf("transformer: %w", err)
	}
	z := scratchSizes(spec, &o)
	return kv.PageBytes(spec, o.KV), z.total(), nil
}

// The buffers of step.
const (
	bufX = iota
	bufD
	bufE
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
	bufToken
	bufStreams
	bufs
)

// headRows is the number of rows for which the head is computed at once: a row of logits is up to a megabyte.
const headRows = 32

// sizes are the dimensions of step's buffers and their lengths in float32 values.
type sizes struct {
	rows    int
	used    int // experts of a row
	experts int // of a layer
	partial int // values of the largest partial result of attention
	actCols int
	lens    [bufs]int64
}

// scratchSizes computes what a model needs: of each buffer the most that one of its operations asks for. o is resolved.
func scratchSizes(spec *arch.Spec, o *Options) sizes {
	z := sizes{rows: o.MaxRows, actCols: spec.Width}
	rows, width := int64(o.MaxRows), int64(spec.Width)
	spans := int64((o.Context + kernel.SpanPositions - 1) / kernel.SpanPositions)
	items := int64(max(o.ThreadsPrefill, o.ThreadsDecode) * splitItems)
	l := &z.lens
	need := func(buf int, n int64) { l[buf] = max(l[buf], n) }
	need(bufX, rows*width)
	need(bufD, rows*width)
	need(bufH, rows*width)
	if spec.Kind != arch.Encoder {
		need(bufLogits, min(rows, headRows)*int64(spec.Vocab))
	}
	need(bufLora, max(rows*width, l[bufLogits]))
	if n := spec.Streams(); n > 1 {
		need(bufStreams, rows*width*int64(n))
		need(bufE, rows*width)
		need(bufGX, rows*width)
		need(bufGD, rows*width)
		need(bufRouter, rows*int64(n*n))
		z.hidden(rows, n, 1)
	}
	if p := &spec.Embed.PerLayer; p.Width > 0 {
		n := len(spec.Layers) * p.Width
		need(bufToken, rows*int64(n))
		need(bufLora, rows*int64(n))
	}
	var ropes []arch.Rope
	for _, layer := range spec.Layers {
		for i := range layer {
			if layer[i].Wire != arch.Serial {
				need(bufE, rows*width)
			}
			switch op := layer[i].Op.(type) {
			case arch.Attention:
				q, k, v := op.Heads*op.KeyDim, op.KVHeads*op.KeyDim, op.KVHeads*op.ValueDim
				if op.Gated {
					q *= 2
				}
				if !op.Owns() {
					k, v = 0, 0
				}
				need(bufQKV, rows*int64(q+k+v))
				need(bufLora, rows*int64(q+k+v))
				need(bufO, rows*int64(op.Heads*op.ValueDim))
				z.actCols = max(z.actCols, op.Heads*op.ValueDim)
				z.partial = max(z.partial, op.Heads/op.KVHeads*(2+op.ValueDim))
				if op.HeadGated {
					need(bufGate, rows*int64(op.Heads))
				}
				if r, ok := op.Position.(arch.Rope); ok {
					ropes = z.rope(r, ropes, rows)
				}
			case arch.Latent:
				row := op.KVRank + op.RopeDim
				need(bufQKV, rows*int64(op.Heads*max(row, op.ValueDim)))
				need(bufO, rows*int64(op.Heads*max(op.KVRank, op.NopeDim+op.RopeDim)))
				z.hidden(rows, max(op.QRank, row), 2)
				need(bufGX, rows*int64(max(op.KVRank, op.NopeDim)))
				need(bufLora, rows*int64(op.Heads*(op.NopeDim+op.RopeDim)))
				z.actCols = max(z.actCols, op.Heads*op.ValueDim, op.KVRank, op.NopeDim)
				z.partial = max(z.partial, op.Heads*(2+op.KVRank))
				if op.Position.Dim > 0 {
					ropes = z.rope(op.Position, ropes, rows)
				}
			case arch.Cross:
				n := op.Heads * op.HeadDim
				need(bufQKV, 2*rows*int64(n)) // keys and values of the text
				need(bufLora, 2*rows*int64(n))
				need(bufO, rows*int64(n))
				z.actCols = max(z.actCols, n)
				z.partial = max(z.partial, 2+op.HeadDim)
			case arch.ShortConv:
				need(bufQKV, 3*rows*width)
				need(bufO, rows*width)
				need(bufLora, 3*rows*width)
			case arch.Mamba1:
				x := op.Rank + 2*op.States
				need(bufQKV, rows*int64(2*op.Inner))
				need(bufO, rows*int64(op.Inner))
				need(bufGate, rows*int64(x))
				need(bufUp, rows*int64(op.Inner))
				need(bufGX, rows*int64(op.Rank))
				need(bufLora, rows*int64(max(2*op.Inner, x)))
				z.actCols = max(z.actCols, op.Inner, op.Rank)
			case arch.Mamba2:
				n := op.Inner() + op.Channels() + op.Heads
				need(bufQKV, rows*int64(n))
				need(bufO, rows*int64(op.Inner()))
				need(bufLora, rows*int64(n))
				z.actCols = max(z.actCols, op.Inner())
			case arch.Delta:
				values, row, keys := op.Heads*op.ValueDim, op.Channels(), op.KeyHeads*op.KeyDim
				if op.Rank > 0 {
					need(bufUp, rows*int64(op.Heads+keys))
					need(bufGX, rows*int64(op.Rank))
					need(bufGD, rows*int64(op.Rank))
					need(bufLora, rows*int64(op.Heads+op.Rank))
					z.actCols = max(z.actCols, op.Rank)
				}
				need(bufQKV, rows*int64(row))
				need(bufO, rows*int64(values))
				need(bufGate, rows*int64(values))
				need(bufUp, 2*rows*int64(op.Heads))
				need(bufLora, rows*int64(max(row, values)))
				need(bufLora, 2*rows*int64(op.Heads))
				z.actCols = max(z.actCols, values)
			case arch.RGLRU:
				need(bufQKV, 2*rows*int64(op.Width))
				need(bufO, rows*int64(op.Width))
				need(bufGate, rows*int64(op.Width))
				need(bufUp, rows*int64(op.Width))
				need(bufGX, rows*int64(op.Width/op.Blocks))
				need(bufLora, 2*rows*int64(op.Width))
				z.actCols = max(z.actCols, op.Width)
			case arch.Lightning:
				n := op.Heads * op.HeadDim
				need(bufQKV, 3*rows*int64(n))
				need(bufO, rows*int64(n))
				need(bufGate, rows*int64(n))
				need(bufLora, 3*rows*int64(n))
				z.actCols = max(z.actCols, n)
			case arch.GLU:
				z.hidden(rows, op.Hidden, 2)
			case arch.MLP:
				z.hidden(rows, op.Hidden, 1)
			case arch.Laurel:
				z.hidden(rows, op.Rank, 1)
			case arch.AltUpCorrect:
				z.hidden(rows, spec.Embed.PerLayer.Width, 1)
			case arch.PerLayer:
				z.hidden(rows, spec.Embed.PerLayer.Width, 1)
			case arch.MoE:
				z.hidden(rows, op.Hidden, 2)
				if op.Shared > 0 {
					z.hidden(rows, op.Shared, 2)
				}
				z.used, z.experts = max(z.used, op.Used), max(z.experts, op.Experts)
				need(bufRouter, rows*int64(op.Experts))
				need(bufLora, rows*int64(op.Experts))
				need(bufGX, rows*width)
				need(bufGD, rows*width)
			}
		}
	}
	need(bufParts, items*spans*int64(z.partial))
	return z
}

// rope makes room for the angles of a rotation that is not among those of other layers.
func (z *sizes) rope(r arch.Rope, others []arch.Rope, rows int64) []arch.Rope {
	if slices.ContainsFunc(others, func(x arch.Rope) bool { return reflect.DeepEqual(x, r) }) {
		return others
	}
	z.lens[bufCos] += rows * int64(r.Dim/2)
	z.lens[bufSin] += rows * int64(r.Dim/2)
	return append(others, r)
}

// hidden makes room for the rows between the matrices of a feed-forward network, of which so many stand side by side.
func (z *sizes) hidden(rows int64, n, beside int) {
	z.actCols = max(z.actCols, n)
	l := &z.lens
	if beside > 1 {
		l[bufGate] = max(l[bufGate], rows*int64(n))
	}
	l[bufUp] = max(l[bufUp], rows*int64(n))
	l[bufLora] = max(l[bufLora], rows*int64(beside*n))
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
	b, mem, err := mmap.Reserve(4 * n)
	if err != nil || n == 0 {
		return nil, mem, err
	}
	_ = mem.Advise(mmap.HugePage) // a hint
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n), mem, nil
}
