package kernel

import (
	"encoding/binary"
	"math"

	"edged/quant"
)

// matMulExact decodes each row once for every TokenTile rows of a.
func matMulExact(y []float32, ldy int, w *quant.Matrix, a *Activations, lo, hi int) {
	var (
		buf   [chunkCols]float32
		tail  [16]float32
		lanes [TokenTile][16]float32
	)
	u := newUnpacker(w)
	for r := lo; r < hi; r++ {
		for t0 := 0; t0 < a.Rows; t0 += TokenTile {
			t1 := min(t0+TokenTile, a.Rows)
			clear(lanes[:])
			for c := 0; c < w.Cols; c += chunkCols {
				n := min(chunkCols, w.Cols-c)
				u.floats(buf[:n], r, c)
				full := n &^ 15
				for t := t0; t < t1; t++ {
					x := a.X[t*a.Cols+c : t*a.Cols+c+n]
					dotLanes(&lanes[t-t0], buf[:full], x[:full])
					if full < n {
						clear(buf[n : full+16])
						tail = [16]float32{}
						copy(tail[:], x[full:])
						dotLanes(&lanes[t-t0], buf[full:full+16], tail[:])
					}
				}
			}
			for t := t0; t < t1; t++ {
				y[t*ldy+r] = fold(&lanes[t-t0])
			}
		}
	}
}

// DecodeRow decodes row row of w to dst[:w.Cols], to the bits that quant.Row gives (but for the sign of
// zeros), and moves nothing to the heap.
func DecodeRow(dst []float32, w *quant.Matrix, row int) {
	u := newUnpacker(w)
	for c := 0; c < w.Cols; c += chunkCols {
		u.floats(dst[c:min(c+chunkCols, w.Cols)], row, c)
	}
}

// floats decodes weights [col, col+len(dst)) of a row to the bits that quant.Row gives. len(dst) is at most
// chunkCols and col a multiple of it. (quant.Decode picks its decoder at run time, which would move dst to
// the heap.)
func (u *unpacker) floats(dst []float32, row, col int) {
	i := row*u.w.Cols + col
	switch u.w.Format {
	case quant.F32:
		src := u.w.Data[4*i : 4*(i+len(dst))]
		for j := range dst {
			dst[j] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*j:]))
		}
	case quant.F16:
		src := u.w.Data[2*i : 2*(i+len(dst))]
		for j := range dst {
			dst[j] = quant.HalfToFloat(binary.LittleEndian.Uint16(src[2*j:]))
		}
	case quant.BF16:
		src := u.w.Data[2*i : 2*(i+len(dst))]
		for j := range dst {
			dst[j] = quant.BFloatToFloat(binary.LittleEndian.Uint16(src[2*j:]))
		}
	case quant.NF4, quant.FP4:
		quant.Flat(dst, u.w, i)
	case quant.Group2, quant.Group4, quant.Group8:
		quant.GroupRow(dst, u.w, row, col)
	default:
		var c chunk
		u.unpack(&c, row, col/32, len(dst)/32)
		for b := range len(dst) / 32 {
			c.floats((*[32]float32)(dst[b*32:]), b)
		}
	}
}

// floats decodes block b. The product is exact or, where package quant rounds it, rounded before the offset is added.
func (c *chunk) floats(dst *[32]float32, b int) {
	v, s := (*[32]int16)(c.v[b*32:]), c.s[b]
	switch {
	case c.halves:
		for i, q := range v {
			dst[i] = c.s[2*b+i/16] * float32(q)
		}
	case c.offsets == 0:
		for i, q := range v {
			dst[i] = s * float32(q)
		}
	case c.offsets == 1:
		for i, q := range v {
			dst[i] = float32(s*float32(q)) + c.m[b]
		}
	default:
		for i, q := range v {
			dst[i] = float32(s*float32(q)) + c.m[2*b+i/16]
		}
	}
}
