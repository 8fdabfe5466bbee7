//go:build !purego

package x86

import (
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
)

// takesBnB tells whether the bitsandbytes kernels can read w: one scale for each 64 columns of a row, and a nested map that
// a gather cannot leave.
func takesBnB(w *quant.Matrix) bool {
	s := w.BnB
	return s.BlockSize == 64 && w.Cols%64 == 0 && w.Cols <= maxBnBCols && (s.Absmax != nil || len(s.NestedMap) >= 256)
}

// setTable fills the byte tables of w's format.
func (s *scratch) setTable(w *quant.Matrix) {
	switch w.Format {
	case quant.NF4, quant.FP4:
		v, _ := kernel.BnBTable(w.BnB)
		for i, x := range v {
			h := (x + 64) >> 7
			s.table[i] = byte(h + 128)
			s.table[i+16] = byte(x - h<<7 + 128)
		}
	case quant.IQ4_NL, quant.IQ4_XS:
		for i, x := range quant.IQ4Values() {
			s.table[i] = byte(int(x) + 128)
		}
	case quant.MXFP4:
		for i, x := range quant.MXFP4Values() {
			s.table[i] = byte(int(x) + 128)
		}
	default:
	}
}

// fillScales computes the scales of 16 rows from r on, (16, Cols/64).
func (k *simd) fillScales(s *scratch, w *quant.Matrix, r int) {
	b := w.BnB
	_, unit := kernel.BnBTable(b)
	n := w.Cols / 64
	to := s.bnb[:groupRows*n]
	j := r * n
	if b.Absmax != nil {
		for i, x := range b.Absmax[j : j+len(to)] {
			to[i] = x * unit
		}
		return
	}
	s.unit = [2]float32{unit, b.NestedOffset}
	for len(to) > 0 {
		// As far as one nested scale reaches.
		n := min(b.NestedBlock-j%b.NestedBlock, len(to))
		k.scales(ptr(to), ptr(b.AbsmaxQ[j:j+n]), ptr(b.NestedMap[:256]), ptr(b.NestedAbsmax[j/b.NestedBlock:]), ptr(s.unit[:]), n)
		to, j = to[n:], j+n
	}
}

// vectorBnB multiplies stored rows with one token, 16 rows at a time; hi-lo is a multiple of 16.
func (k *simd) vectorBnB(s *scratch, y []float32, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	nb := w.Cols / 32
	stride := w.Cols / 2
	k.evenOdd(ptr(s.code[:w.Cols]), ptr(a.Q[:w.Cols]), w.Cols)
	for r := lo; r < hi; r += groupRows {
		k.fillScales(s, w, r)
		s.gemv = gemvArgs{
			y: ptr(y[r : r+groupRows]), w: ptr(w.Data[r*stride : (r+groupRows)*stride]),
			q: ptr(s.code[:w.Cols]), d: ptr(a.D[:nb]), c: ptr(a.S[:nb]), table: ptr(s.table[:]),
			s: ptr(s.bnb[:]), sstride: w.Cols / 64 * 4, stride: stride, nb: nb, groups: 1,
		}
		k.gemv[w.Format](unsafe.Pointer(&s.gemv))
	}
}
