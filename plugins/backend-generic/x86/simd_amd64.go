//go:build !purego

package x86

import (
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
)

// groupRows is the number of rows that a kernel does side by side.
const groupRows = 16

// variant is what a panel's blocks consist of.
type variant uint8

const (
	plain   variant = iota // v + 128
	offsets                // v + 128, and an offset
	twoPart                // h + 128 and l + 128, v = 128·h + l
	variants
)

// isa is a set of kernels.
type isa struct {
	name string
	gemm [variants][4]func(unsafe.Pointer) // for 1, 2, 4 and 8 tokens
	gemv [quant.FP4 + 1]func(unsafe.Pointer)
	pack [quant.FP4 + 1]func(unsafe.Pointer)
	sum  func(p unsafe.Pointer, n int, out unsafe.Pointer)

	evenOdd func(to, from unsafe.Pointer, n int)
	scales  func(to, code, values, absmax, unit unsafe.Pointer, n int)

	dot         [quant.BF16 + 1][2]func(unsafe.Pointer) // float weights times 1 and 4 tokens
	prepare     func(unsafe.Pointer)
	rmsNorm     func(y, x, w unsafe.Pointer, n, eps int)
	layerNorm   func(y, x, w, b unsafe.Pointer, n, eps int)
	swiglu      func(gate, up unsafe.Pointer, n int)
	gelu        func(x unsafe.Pointer, n int)
	rotate      func(lo, hi, cosine, sine unsafe.Pointer, n int)
	rotatePairs func(x, cosine, sine unsafe.Pointer, n int)
	quantise    func(q, d, x unsafe.Pointer)
	toHalf      func(to, from unsafe.Pointer, n int)
	weigh       func(p, m, l, o unsafe.Pointer, dim, lo, hi int)
	scores      [kernel.KVQ8 + 1]func(p, q, k unsafe.Pointer, dim, n, stride int)
	mix         [kernel.KVQ8 + 1]func(o, p, v unsafe.Pointer, dim, n, stride int)
}

// simd computes with an isa's kernels, and in portable Go what they leave.
type simd struct {
	kernel.Portable
	isa
	free *scratchList
}

func newSIMD(i isa) *simd { return &simd{isa: i, free: new(scratchList)} }

// Name is the instruction set.
func (k *simd) Name() string { return k.name }

// RowMultiple is the number of rows in a register.
func (k *simd) RowMultiple(w *quant.Matrix) int { return min(groupRows, max(w.Rows, 1)) }

// MatMul runs rows in groups of 16. A last group that is not full begins earlier and computes some rows twice, to the same
// bits; fewer than 16 rows in all are left to portable Go.
func (k *simd) MatMul(y []float32, ldy int, w *quant.Matrix, a *kernel.Activations, p kernel.Precision, lo, hi int) {
	if p == kernel.Fast && hi-lo >= groupRows && k.takes(w) {
		k.fast(y, ldy, w, a, lo, hi)
		return
	}
	if p == kernel.Exact || !kernel.Quantised(w) {
		k.floats(y, ldy, w, a, lo, hi)
		return
	}
	k.Portable.MatMul(y, ldy, w, a, p, lo, hi)
}

// takes tells whether there is a kernel for w.
func (k *simd) takes(w *quant.Matrix) bool {
	if k.pack[w.Format] == nil || !kernel.Quantised(w) {
		return false
	}
	if !w.Format.IsBnB() {
		return true
	}
	return takesBnB(w)
}

// fast runs rows [lo, hi), at least 16.
func (k *simd) fast(y []float32, ldy int, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	s := k.free.get()
	defer k.free.put(s)
	s.setTable(w)
	full := lo + (hi-lo)/groupRows*groupRows
	single := a.Rows == 1 && k.gemv[w.Format] != nil
	k.rows(s, single, y, ldy, w, a, lo, full)
	if full < hi {
		k.rows(s, single, y, ldy, w, a, hi-groupRows, hi)
	}
}

// rows runs a multiple of 16 rows.
func (k *simd) rows(s *scratch, single bool, y []float32, ldy int, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	switch {
	case !single:
		k.panels(s, y, ldy, w, a, lo, hi)
	case w.Format.IsBnB():
		k.vectorBnB(s, y, w, a, lo, hi)
	default:
		k.vector(s, y, w, a, lo, hi)
	}
}

// kernelBytes bounds the weights of one kernel call: assembly cannot be preempted, and should return within some 50 µs.
const kernelBytes = 512 << 10

// vector multiplies stored rows with one token; hi-lo is a multiple of 16.
func (k *simd) vector(s *scratch, y []float32, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	stride := w.Format.RowBytes(w.Cols)
	nb := w.Cols / 32
	step := max(kernelBytes/(stride*groupRows), 1) * groupRows
	for r := lo; r < hi; r += step {
		n := min(step, hi-r)
		s.gemv = gemvArgs{
			y: ptr(y[r : r+n]), w: ptr(w.Data[r*stride : (r+n)*stride]),
			q: ptr(a.Q[:w.Cols]), d: ptr(a.D[:nb]), g: ptr(a.D[nb : 2*nb]), c: ptr(a.S[:nb]), h: ptr(a.S[nb : 3*nb]),
			table: ptr(s.table[:]), stride: stride, nb: nb, groups: n / groupRows,
		}
		k.gemv[w.Format](unsafe.Pointer(&s.gemv))
	}
}

// panels packs up to panelRows × panelCols weights at a time and multiplies them with all tokens; hi-lo is a multiple of
// 16. y holds the running sums from one panel to the next.
func (k *simd) panels(s *scratch, y []float32, ldy int, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	v := variantOf(w.Format)
	nb := w.Cols / 32
	for t := range a.Rows {
		clear(y[t*ldy+lo : t*ldy+hi])
	}
	for r := lo; r < hi; r += panelRows {
		groups := (min(r+panelRows, hi) - r) / groupRows
		for b := 0; b < nb; b += panelCols / 32 {
			n := min(panelCols/32, nb-b)
			for g := range groups {
				k.packGroup(s, w, r+g*groupRows, b, n, g)
			}
			for t := 0; t < a.Rows; t += kernel.TokenTile {
				for g := range groups {
					k.tile(s, v, y[t*ldy+r+g*groupRows:], ldy, a, t, b, n, nb, g)
				}
			}
		}
	}
}

// packGroup packs blocks [b, b+n) of 16 rows from r on as group g of the panel.
func (k *simd) packGroup(s *scratch, w *quant.Matrix, r, b, n, g int) {
	size := 512
	if variantOf(w.Format) == twoPart {
		size = 1024
	}
	at := g * (panelCols / 32)
	if w.Format.IsBnB() {
		k.fillScales(s, w, r)
		s.pack = packArgs{
			w: ptr(s.panel[at*size : (at+n)*size]), s: ptr(s.s[at*groupRows : (at+n)*groupRows]),
			in: ptr(w.Data[(r*w.Cols+b*32)/2:]), table: ptr(s.table[:]), scales: ptr(s.bnb[b/2:]),
			sstride: w.Cols / 64 * 4, stride: w.Cols / 2, nb: n,
		}
		k.pack[w.Format](unsafe.Pointer(&s.pack))
		return
	}
	stride := w.Format.RowBytes(w.Cols)
	in := r*stride + b*32/w.Format.BlockSize()*w.Format.BlockBytes()
	s.pack = packArgs{
		w: ptr(s.panel[at*size : (at+n)*size]), s: ptr(s.s[at*groupRows : (at+n)*groupRows]), m: ptr(s.m[at*groupRows : (at+n)*groupRows]),
		in: ptr(w.Data[in:]), table: ptr(s.table[:]), stride: stride, nb: n,
	}
	k.pack[w.Format](unsafe.Pointer(&s.pack))
}

// tile multiplies group g of the panel, blocks [b, b+n) of nb, with the tile of tokens that begins at t.
func (k *simd) tile(s *scratch, v variant, y []float32, ldy int, a *kernel.Activations, t, b, n, nb, g int) {
	tw := min(kernel.TokenTile, a.Rows-t)
	size := 512
	if v == twoPart {
		size = 1024
	}
	at := g * (panelCols / 32)
	_ = y[(tw-1)*ldy+groupRows-1]
	s.gemm = gemmArgs{
		ldy: ldy, w: ptr(s.panel[at*size : (at+n)*size]), s: ptr(s.s[at*groupRows : (at+n)*groupRows]), m: ptr(s.m[at*groupRows : (at+n)*groupRows]),
		tw: tw, nb: n,
	}
	for i := 0; i < tw; {
		// 8, 4, 2 or 1 tokens at once.
		size := 3
		for 1<<size > tw-i {
			size--
		}
		at := t*nb + b*tw + i
		s.gemm.y = ptr(y[i*ldy:])
		s.gemm.q = ptr(a.Q[at*32:])
		s.gemm.d = ptr(a.D[at:])
		s.gemm.g = ptr(a.D[a.Rows*nb+at:])
		s.gemm.c = ptr(a.S[at:])
		k.gemm[v][size](unsafe.Pointer(&s.gemm))
		i += 1 << size
	}
}

// ptr is a slice's first element.
func ptr[T any](s []T) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(s)) }

// Sum reads p and adds up its 64-bit words: the limit of what a matrix × vector product can reach.
func (k *simd) Sum(p []byte) int64 {
	var total int64
	s := k.free.get()
	defer k.free.put(s)
	for len(p) >= 512 {
		n := min(len(p), kernelBytes) &^ 511
		clear(s.words[:])
		k.sum(ptr(p), n, ptr(s.words[:]))
		for _, w := range s.words {
			total += w
		}
		p = p[n:]
	}
	return total
}

// variantOf returns the kind of panel that a format is packed to.
func variantOf(f quant.Format) variant {
	switch f {
	case quant.Q4_1, quant.Q5_1, quant.Q4_K, quant.Q5_K:
		return offsets
	case quant.Q6_K, quant.NF4, quant.FP4:
		return twoPart
	default:
		return plain
	}
}
