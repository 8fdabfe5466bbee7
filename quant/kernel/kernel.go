// Package kernel is the arithmetic of the forward pass: the Kernels interface over row ranges, and its portable
// implementation, which specifies every result bit by bit.
//
// It must not know models, threads or caches. Calls allocate nothing and may run concurrently on disjoint outputs. A
// row's result depends on that row's inputs only: never on how many rows, which range or which implementation computed it.
package kernel

import "edged/quant"

// Precision selects how MatMul reads activations.
type Precision uint8

// The precisions: Fast quantises activations to 8 bits per block of 32; Exact computes in float32 on exactly
// dequantised weights.
const (
	Fast Precision = iota
	Exact
)

// Activations holds rows of float32 values prepared for MatMul: the input of one or more matrix products. It is scratch
// that is allocated once (Grow) and reused.
type Activations struct {
	Rows, Cols int
	X          []float32 // (Rows, Cols); owned by the caller, must stay unchanged until the last MatMul
	Q          []int8    // implementation's own layout
	D          []float32 // implementation's own layout: block scales and corrections
	S          []int32   // implementation's own layout
}

// Kernels computes. Ranges are half-open. An implementation embeds the portable one and overrides what it speeds up.
type Kernels interface {
	// Name is the instruction set, for example "avx2".
	Name() string
	// RowMultiple is the granularity at which MatMul ranges over w must start (ends may be Rows).
	RowMultiple(w *quant.Matrix) int
	// Grow makes a big enough for rows × cols; it is the only call that allocates.
	Grow(a *Activations, rows, cols int)
	// Prepare quantises rows [lo, hi) of a.X where p wants that. a.Rows, a.Cols and a.X are set.
	Prepare(a *Activations, p Precision, lo, hi int)
	// MatMul sets y[t*ldy+r] = Σ_k w[r,k]·a[t,k] for r in [lo, hi) and every row t of a.
	MatMul(y []float32, ldy int, w *quant.Matrix, a *Activations, p Precision, lo, hi int)
	// PutKV stores one key or value (HeadDim values) at slot [0, BlockPositions) of a sub-block, see AttendArgs.
	PutKV(block []byte, t KVType, slot int, x []float32)
	// Attend computes one span of attention, see AttendArgs. Nothing in it depends on how the span was cut off: the
	// positions [Lo, Hi) are visited page by page in order.
	Attend(dst *Partial, args *AttendArgs)
	// RMSNorm sets y = x / sqrt(mean(x²) + eps) · w.
	RMSNorm(y, x, w []float32, eps float32)
	// Rotate applies RoPE to one head in place, see RopeArgs.
	Rotate(x, cos, sin []float32, interleaved bool)
	// SwiGLU sets gate[i] = silu(gate[i]) · up[i].
	SwiGLU(gate, up []float32)
	// GELU applies the tanh form of GELU in place.
	GELU(x []float32)
	// LayerNorm sets y = (x - mean(x)) / sqrt(var(x) + eps) · w + b; b may be nil.
	LayerNorm(y, x, w, b []float32, eps float32)
}

// AttendArgs describes attention of one query row, for the query heads that share one KV head, over one span.
//
// The KV arena is an array of pages of PageBytes; a page holds BlockPositions positions of one sequence for all layers
// and KV heads. The sub-block of one (layer, K or V, KV head) is (BlockPositions, HeadDim), row-major by position, in
// Type: float32, float16, or q8_0 blocks of 32 values (float16 scale, then 32 int8).
type AttendArgs struct {
	Q         []float32 // (Group, HeadDim), already multiplied by the attention scale
	Group     int
	HeadDim   int
	Type      KVType
	Arena     []byte
	PageBytes int
	Pages     []int32 // page of block i of the sequence, position p is slot p%32 of block p/32
	KOff      int     // byte offset of the K sub-block inside a page
	VOff      int
	Lo, Hi    int // absolute positions, inside one span of SpanPositions
}

// Partial is the state of the online soft-max after some spans, for Group heads: Combine merges them in order.
type Partial struct {
	M []float32 // (Group) running maximum of the scores, -Inf at first
	L []float32 // (Group) sum of exp(score - M)
	O []float32 // (Group, HeadDim) sum of exp(score - M) · v
}

// KVType is the storage type of cached keys and values.
type KVType uint8

// The KV types.
const (
	KVF32 KVType = iota
	KVF16
	KVQ8
)

// BlockPositions is the number of positions in one KV page.
const BlockPositions = 32

// SpanPositions is the number of positions over which attention is summed before partial results are combined in
// order. It is fixed, so that splitting a long context over threads changes no bit.
const SpanPositions = 512
