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
//
// Q, D and S have one layout for all implementations, so that they can fall back on each other: rows go in
// tiles of TokenTile; the last tile is as narrow as the rest, and a single row is thus contiguous. With nb =
// Cols/32 and a tile of rows [t0, t0+w):
//
//	Q[t0·Cols:]              (nb, w, 32)   int8
//	D[t0·nb:]                (nb, w)       d
//	D[(Rows+t0)·nb:]         (nb, w)       g
//	D[2·(Rows+t0)·nb:]       (nb, 2, w)    g of columns 0…15 and 16…31 alone
//	S[t0·nb:]                (nb, w)       -128·Σq
//	S[(Rows+2·t0)·nb:]       (nb, 2, w)    -128·Σq of columns 0…15 and 16…31 alone
type Activations struct {
	Rows, Cols int
	X          []float32 // (Rows, Cols); owned by the caller, must stay unchanged until the last MatMul
	Q          []int8    // quantised blocks
	D          []float32 // block scales d, then g = d·Σq, then g of half blocks
	S          []int32   // -128·Σq of blocks and of half blocks: turns a product with unsigned bytes w+128 into one with w
}

// Kernels computes. Ranges are half-open. An implementation embeds the portable one and overrides what it speeds up.
type Kernels interface {
	// Name is the instruction set, for example "avx2".
	Name() string
	// RowMultiple is the granularity at which MatMul ranges over w must start (ends may be Rows).
	RowMultiple(w *quant.Matrix) int
	// Grow makes a big enough for rows × cols; it is the only call that allocates.
	Grow(a *Activations, rows, cols int)
	// Prepare quantises rows [lo, hi) of a.X where p wants that. a.Rows, a.Cols and a.X are set, and a has
	// been grown for at least that size; ranges may be prepared concurrently.
	Prepare(a *Activations, p Precision, lo, hi int)
	// MatMul sets y[t*ldy+r] = Σ_k w[r,k]·a[t,k] for r in [lo, hi) and every row t of a.
	MatMul(y []float32, ldy int, w *quant.Matrix, a *Activations, p Precision, lo, hi int)
	// PutKV stores one key or value (HeadDim values) at slot [0, BlockPositions) of a sub-block, see AttendArgs.
	PutKV(block []byte, t KVType, slot int, x []float32)
	// Attend overwrites dst with one span of attention, see AttendArgs: the positions [Lo, Hi) are visited
	// page by page in order. An empty span gives M = -Inf, L = 0, O = 0.
	Attend(dst *Partial, args *AttendArgs)
	// Combine merges the state of a later span into dst. They have the same shape.
	Combine(dst, src *Partial)
	// RMSNorm sets y = x / sqrt(mean(x²) + eps) · w; w may be nil: 1.
	RMSNorm(y, x, w []float32, eps float32)
	// Rotate applies RoPE to one head in place.
	Rotate(x, cos, sin []float32, interleaved bool)
	// SwiGLU sets gate[i] = silu(gate[i]) · up[i]: Gate with SiLU.
	SwiGLU(gate, up []float32)
	// GELU applies the tanh form of GELU in place: Activate with GELUTanh.
	GELU(x []float32)
	// Activate sets x[i] = f(x[i]).
	Activate(x []float32, f Func)
	// Gate sets gate[i] = f(gate[i]) · up[i].
	Gate(gate, up []float32, f Func)
	// LayerNorm sets y = (x - mean(x)) / sqrt(var(x) + eps) · w + b; w and b may be nil, b where w is.
	LayerNorm(y, x, w, b []float32, eps float32)
}

// AttendArgs describes attention of one query row, for the query heads that share one KV head, over one span. It knows
// nothing of causality: the caller says which positions are visible. A window, an encoder that sees both ways and
// attention over the keys of another text are ranges.
//
// The KV arena is divided into pages; a page holds BlockPositions positions of one sequence for all layers
// and KV heads, and its parts lie PageBytes behind those of the page before it. The sub-block of one (layer,
// K or V, KV head) is (BlockPositions, HeadDim or ValueDim), row-major by position, in Type: float32,
// float16, or q8_0 blocks of 32 values (float16 scale, then 32 int8), the last of which may be filled up, see
// KVType.RowBytes.
//
// The zero values of the fields after Hi mean plain attention.
type AttendArgs struct {
	Q         []float32 // (Group, HeadDim), already multiplied by the attention scale
	Group     int
	HeadDim   int // of queries and keys, at most MaxHeadDim
	Type      KVType
	Arena     []byte
	PageBytes int
	Pages     []int32 // page of block i of the sequence, position p is slot p%32 of block p/32
	KOff      int     // byte offset of the K sub-block of page 0
	VOff      int
	Lo, Hi    int // absolute positions, inside one span of SpanPositions

	// ValueDim is the size of a value, at most MaxHeadDim; 0: HeadDim.
	ValueDim int
	// Latent: the value of a position is the first ValueDim numbers of its key (the compressed cache of MLA).
	// VOff is not used.
	Latent bool
	// SoftCap replaces a score s by SoftCap·tanh(s/SoftCap), before anything is added to it; 0: none.
	SoftCap float32
	// Slopes are ALiBi's, one for each head of the group: slope·(p - Pos) is added to the score of position
	// p. nil: none.
	Slopes []float32
	Pos    int // of the query row
	// Bias is added to the scores: Bias[g·BiasStride + BiasAt + p] to that of head g and position p. nil:
	// none. Where it depends on distance alone (T5), one table of 2n-1 distances a head serves all rows by
	// BiasAt.
	Bias               []float32
	BiasStride, BiasAt int
}

// Values is the size of a value.
func (a *AttendArgs) Values() int {
	if a.ValueDim > 0 {
		return a.ValueDim
	}
	return a.HeadDim
}

// Partial is the state of the online soft-max after some spans, for Group heads: Combine merges them in order, Finish
// makes the attention output of it.
type Partial struct {
	M []float32 // (Group) running maximum of the scores, -Inf at first
	L []float32 // (Group) sum of exp(score - M)
	O []float32 // (Group, ValueDim) sum of exp(score - M) · v
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

// TokenTile is the number of activation rows whose quantised blocks lie side by side, see Activations.
const TokenTile = 8

// MaxHeadDim is the largest HeadDim that Attend takes: 512, and 64 more for the rotated part of a latent key.
const MaxHeadDim = 576
