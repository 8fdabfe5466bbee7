// Package tile lays weights out for matrix × vector kernels: the four-byte words of LANES rows beside each
// other, so that one load fills a register with a word of each row and memory sees one stream. A row kernel
// has to transpose first, which costs more than everything else that it does. A tile holds nearly the bytes
// of the rows, in another order; the results are the same, bit for bit. The tiles of a model are kept in a
// mapped file that is made once (see Build) and may be deleted at any time.
//
// It must not know models, instruction sets or threads. Its functions may be called concurrently.
//
// A matrix is cut into groups of LANES rows, a group into tiles of some columns; rows that fill no group have
// no tile. With L = LANES, "words" meaning the words of a piece of L rows in order, a word being L × 4 bytes:
//
//	Q4_0, IQ4_NL  64 columns   d of block 0 [L]f16; d of block 1 [L]f16; 4 words of nibbles of block 0, 4 of block 1
//	Q8_0          64 columns   d of block 0 [L]f16; d of block 1 [L]f16; 8 words of block 0, 8 of block 1
//	Q4_K          256 columns  the 36 words of the super-block as they are stored
//	Q6_K          256 columns  d [L]f32; scales [16][L]int8; for each half: 8 times a word of qh and one of ql, then 8 of ql
//	NF4, FP4      64 columns   scale [L]f32, absmax in the unit of kernel.BnBTable; 8 words of nibbles
package tile

import (
	"encoding/binary"
	"math"

	"edged/quant"
	"edged/quant/kernel"
)

// layout describes the tiles of a format.
type layout struct {
	cols  int // of a tile
	bytes int // of a row in a tile
}

// layoutOf returns a format's layout; cols is 0 where it has none.
func layoutOf(f quant.Format) layout {
	switch f {
	case quant.Q4_0, quant.IQ4_NL, quant.NF4, quant.FP4:
		return layout{64, 36}
	case quant.Q8_0:
		return layout{64, 68}
	case quant.Q4_K:
		return layout{256, 144}
	case quant.Q6_K:
		return layout{256, 212}
	default:
		return layout{}
	}
}

// Bytes is the size of w's tiles with lanes rows in a group, 0 where w has none: another format, a width that
// is no multiple of a tile's, fewer rows than a group has.
func Bytes(w *quant.Matrix, lanes int) int {
	l := layoutOf(w.Format)
	if l.cols == 0 || w.Cols < 1 || w.Cols%l.cols != 0 || lanes < 1 || len(w.Data) == 0 {
		return 0
	}
	if w.Format.IsBnB() && (w.BnB == nil || w.BnB.BlockSize != 64) {
		return 0
	}
	return w.Rows / lanes * lanes * (w.Cols / l.cols * l.bytes)
}

// Pack writes the tiles of rows [group·lanes, (group+1)·lanes) to dst, which has the size of a group.
func Pack(dst []byte, w *quant.Matrix, lanes, group int) {
	l := layoutOf(w.Format)
	size := lanes * l.bytes
	n := w.Cols / l.cols
	stride := w.Format.RowBytes(w.Cols)
	var unit float32
	if w.Format.IsBnB() {
		stride = w.Cols / 2
		_, unit = kernel.BnBTable(w.BnB)
	}
	from := stride / n // bytes of a row for one tile, as they are stored
	for t := range n {
		p := packer{dst[t*size : (t+1)*size], lanes}
		for i := range lanes {
			r := group*lanes + i
			src := w.Data[r*stride+t*from : r*stride+(t+1)*from]
			switch w.Format {
			case quant.Q4_0, quant.IQ4_NL, quant.Q8_0:
				half := len(src) / 2
				p.half(0, i, src)
				p.half(2*lanes, i, src[half:])
				p.words(1, 1, i, src[2:half])
				p.words(1+(half-2)/4, 1, i, src[half+2:])
			case quant.Q4_K:
				p.words(0, 1, i, src)
			case quant.Q6_K:
				p.q6K(i, src)
			default: // NF4, FP4
				p.float(0, i, w.BnB.Scale(r*n+t)*unit)
				p.words(1, 1, i, src)
			}
		}
	}
}

// packer writes row i of a tile.
type packer struct {
	dst   []byte
	lanes int
}

// half puts a float16 into the vector of them at offset at.
func (p packer) half(at, i int, src []byte) { copy(p.dst[at+2*i:at+2*i+2], src) }

// float puts a number into word k.
func (p packer) float(k, i int, v float32) {
	binary.LittleEndian.PutUint32(p.dst[4*(k*p.lanes+i):], math.Float32bits(v))
}

// words puts the words of src at k, k + step, ….
func (p packer) words(k, step, i int, src []byte) {
	at := 4 * (k*p.lanes + i)
	for ; len(src) >= 4; src = src[4:] {
		binary.LittleEndian.PutUint32(p.dst[at:], binary.LittleEndian.Uint32(src))
		at += 4 * step * p.lanes
	}
}

// q6K puts a super-block { ql [128]byte; qh [64]byte; scales [16]int8; d f16 }.
func (p packer) q6K(i int, src []byte) {
	p.float(0, i, quant.HalfToFloat(binary.LittleEndian.Uint16(src[208:])))
	for j, s := range src[192:208] {
		p.dst[(4+j)*p.lanes+i] = s
	}
	for n := range 2 {
		k := 5 + 24*n
		ql, qh := src[64*n:64*n+64], src[128+32*n:128+32*n+32]
		p.words(k, 2, i, qh)
		p.words(k+1, 2, i, ql[:32])
		p.words(k+16, 1, i, ql[32:])
	}
}
