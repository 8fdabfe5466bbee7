package simd

import (
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
)

// takesBnB tells whether the bitsandbytes kernels can read w: one scale for each 64 columns of a row, and a
// nested map that a gather cannot leave.
func takesBnB(w *quant.Matrix) bool {
	s := w.BnB
	return s.BlockSize == 64 && w.Cols%64 == 0 && w.Cols <= maxBnBCols && (s.Absmax != nil || len(s.NestedMap) >= 256)
}

// setTable fills the byte tables of w's format.
func (s *scratch) setTable(w *quant.Matrix, bias int) {
	switch w.Format {
	case quant.NF4, quant.FP4:
		v, _ := kernel.BnBTable(w.BnB)
		for i, x := range v {
			h := (int(x) + 64) >> 7
			s.table[i] = byte(h + bias)
			s.table[i+16] = byte(int(x) - h<<7 + bias)
		}
	case quant.IQ4_NL, quant.IQ4_XS:
		for i, x := range quant.IQ4Values() {
			s.table[i] = byte(int(x) + bias)
		}
	case quant.MXFP4:
		for i, x := range quant.MXFP4Values() {
			s.table[i] = byte(int(x) + bias)
		}
	default:
	}
}

// fillScales computes the scales of groups of Lanes rows from r on, each group (Cols/64, Lanes).
func (k *Kernels) fillScales(s *scratch, w *quant.Matrix, r, groups int) {
	b := w.BnB
	_, unit := kernel.BnBTable(b)
	n := w.Cols / 64
	rows := s.floats[:groups*k.Lanes*n]
	to, j := rows, r*n
	if b.Absmax != nil {
		for i, x := range b.Absmax[j : j+len(to)] {
			to[i] = x * unit
		}
		to = nil
	}
	s.unit = [2]float32{unit, b.NestedOffset}
	for len(to) > 0 {
		// As far as one nested scale reaches.
		n := min(b.NestedBlock-j%b.NestedBlock, len(to))
		k.ScalesBnB(ptr(to), ptr(b.AbsmaxQ[j:j+n]), ptr(b.NestedMap[:256]), ptr(b.NestedAbsmax[j/b.NestedBlock:]), ptr(s.unit[:]), n)
		to, j = to[n:], j+n
	}
	for g := range groups {
		i := g * k.Lanes * n
		k.TurnScales(ptr(s.bnb[i:i+k.Lanes*n]), ptr(rows[i:i+k.Lanes*n]), n)
	}
}

// vectorBnB multiplies stored rows with one token; hi-lo is a multiple of Lanes.
func (k *Kernels) vectorBnB(s *scratch, y []float32, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	nb := w.Cols / 32
	stride := w.Cols / 2
	k.EvenOdd(ptr(s.code[:w.Cols]), ptr(a.Q[:w.Cols]), w.Cols)
	step := max(1, min(bnbScales/(k.Lanes*w.Cols/64), kernelBytes/(stride*k.Lanes))) * k.Lanes
	for r := lo; r < hi; r += step {
		n := min(step, hi-r)
		k.fillScales(s, w, r, n/k.Lanes)
		s.gemv = gemvArgs{
			y: ptr(y[r : r+n]), w: ptr(w.Data[r*stride : (r+n)*stride]),
			q: ptr(s.code[:w.Cols]), d: ptr(a.D[:nb]), c: ptr(a.S[:nb]), table: ptr(s.table[:]),
			s: ptr(s.bnb[:]), stride: stride, nb: nb, groups: n / k.Lanes, buf: ptr(s.buf[:]),
		}
		k.Gemv[w.Format](unsafe.Pointer(&s.gemv))
	}
}
