package simd

import (
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
)

// Variant is the encoding of a panel's blocks.
type Variant uint8

// The variants: bytes v + Bias alone, with an offset for each row and block, or in two parts h + Bias and l + Bias with
// v = 128·h + l; and for numbers 0 … 15, v + 8 alone, or v with an offset.
const (
	Plain Variant = iota
	Offsets
	TwoPart
	Small
	SmallOffsets
	Variants
)

// Args is a kernel whose arguments stand in memory, in a struct of csrc/args.h.
type Args = func(unsafe.Pointer)

// Set is one instruction set's kernels: the functions of quant/kernel/csrc by the names that they have there.
type Set struct {
	Name  string
	Lanes int // rows side by side
	Bias  int // what signed weights are stored too large by: 128 or 0

	Gemm [Variants][4]Args // for 1, 2, 4 and 8 tokens; 8 and the small variants may be nil
	Gemv [quant.FP4 + 1]Args
	Pack [quant.FP4 + 1]Args
	// Tile and Panel are Gemv and Pack on tiles of Lanes rows instead of rows. May be nil; Panel where Tile is.
	Tile  [quant.FP4 + 1]Args
	Panel [quant.FP4 + 1]Args
	// Multiply is Gemm on tiles. May be nil: then panels are made of them.
	Multiply [quant.FP4 + 1][4]Args
	// Tiles tells that they make products so much faster that they are worth a second copy of the weights.
	Tiles bool
	// Few are rows as they are stored times 1, 2, 3, 4 and 8 tokens; nil: none, but for 1 where others are.
	Few [quant.FP4 + 1][5]Args
	// FewTiles is Few on tiles.
	FewTiles [quant.FP4 + 1][5]Args
	// FewTokens is how many tokens they multiply at most: a panel that is packed once serves more of them better.
	FewTokens int
	Dot       [quant.BF16 + 1][2]Args // float weights times 1 and 4 tokens; 4 may be nil
	// Tail16 tells that Dot takes 16-bit weights whose number of columns is not a multiple of 16.
	Tail16 bool

	// TurnPanel brings the chunks of a panel, and TurnTokens the tokens, to the order that Gemm wants, two
	// and two; Gemm for one token takes that as it was. May be nil.
	TurnPanel  func(w unsafe.Pointer, pairs int)
	TurnTokens func(to, from unsafe.Pointer, nb, tw int)

	EvenOdd    func(to, from unsafe.Pointer, n int)
	ScalesBnB  func(to, code, values, absmax, unit unsafe.Pointer, n int)
	TurnScales func(to, from unsafe.Pointer, n int)

	Prepare     Args
	RMSNorm     func(y, x, w unsafe.Pointer, n, eps int)
	LayerNorm   func(y, x, w, b unsafe.Pointer, n, eps int)
	Func        [kernel.FuncKinds]func(x, up unsafe.Pointer, n, a, b, c int) // up may be null: no gate
	Rotate      func(lo, hi, cosine, sine unsafe.Pointer, n int)
	RotatePairs func(x, cosine, sine unsafe.Pointer, n int)
	Quantise    func(q, d, x unsafe.Pointer)
	ToHalf      func(to, from unsafe.Pointer, n int)
	FromHalf    func(to, from unsafe.Pointer, n int)
	FromQ8      func(to, from unsafe.Pointer, n int)
	Weigh       func(p, m, l, o unsafe.Pointer, dim, lo, hi int)
	Scores      func(p, q, k unsafe.Pointer, dim, n int)
	Mix         func(o, p, v unsafe.Pointer, dim, n, stride int)
	Adjust      func(p unsafe.Pointer, softCap, slope, first int)
	// Scores4, Weigh4 and Mix4 do four heads at once on keys and values as they are stored, by KV type; ahead
	// is prefetched. May be nil.
	Scores4  [kernel.KVQ8 + 1]func(p, q, k unsafe.Pointer, dim, n, stride int, ahead unsafe.Pointer)
	Weigh4   func(p, m, l, o unsafe.Pointer, dim, lo, hi int)
	Mix4     [kernel.KVQ8 + 1]func(o, p, v unsafe.Pointer, dim, n, stride int, ahead unsafe.Pointer)
	Combine  func(o, p unsafe.Pointer, n, x, y int) // may be nil
	SumBytes func(p unsafe.Pointer, n int, out unsafe.Pointer)

	// Low-rank adapters: one token or four; four may be nil.
	LoRADown1 func(mid, a, x unsafe.Pointer, n, groups int)
	LoRADown4 func(mid, a, x unsafe.Pointer, n, ld, ldx int)
	LoRAUp    func(y, b, mid unsafe.Pointer, rank, n, scale int)

	// What passes a state from row to row. May be nil.
	Conv, Delta, Scan Args
}

// Kernels computes with a Set, and in portable Go what it leaves.
type Kernels struct {
	kernel.Portable
	Set
	free *scratchList
}

// New makes kernels of a set.
func New(s Set) *Kernels { return &Kernels{Set: s, free: new(scratchList)} }

// Name is the instruction set.
func (k *Kernels) Name() string { return k.Set.Name }

// RowMultiple is the number of rows in a register.
func (k *Kernels) RowMultiple(w *quant.Matrix) int { return min(k.Lanes, max(w.Rows, 1)) }

// WantsTiles tells whether tiles are worth a second copy of the weights.
func (k *Kernels) WantsTiles() bool { return k.Set.Tiles }

// TileRows is the number of rows in a group of the tiles (package tile) of w that products take, 0 where
// there is no kernel.
func (k *Kernels) TileRows(w *quant.Matrix) int {
	if int(w.Format) >= len(k.Tile) || k.Tile[w.Format] == nil || !k.takes(w) {
		return 0
	}
	return k.Lanes
}
