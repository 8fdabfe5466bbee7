package kernel

import (
	"math"

	"edged/quant"
)

// Portable computes in plain Go. It specifies the results of all implementations, and they embed it for what
// they do not speed up. Its zero value is ready.
type Portable struct{}

var _ Kernels = Portable{}

// Name is "portable".
func (Portable) Name() string { return "portable" }

// RowMultiple is 1: any range will do.
func (Portable) RowMultiple(*quant.Matrix) int { return 1 }

// Quantised tells whether Fast multiplies w with activations of 8 bits. It does for all block formats but
// IQ1_S and IQ1_M, for NF4 and FP4 unless their scales change within a block of 32 columns, and for groups
// whose codes are integers and whose scales change at every 16th column or at multiples of 32 (see
// quant.Group.Integers).
//
// IQ1_S and IQ1_M keep activations in float32: a sum of ±1 with hardly any scale averages nothing out, and
// with 8 bits the logits of the reference file fell to a cosine of 0.9945 at one position, where the other
// types stay above 0.998.
func Quantised(w *quant.Matrix) bool {
	switch w.Format {
	case quant.F32, quant.F16, quant.BF16, quant.IQ1_S, quant.IQ1_M:
		return false
	case quant.NF4, quant.FP4:
		return w.Cols%32 == 0 && w.BnB.BlockSize%32 == 0
	case quant.Group2, quant.Group4, quant.Group8:
		_, ok := w.Group.Integers(w.Cols)
		return ok
	default:
		return true
	}
}

// Grow makes room for the quantised form of (rows, cols).
func (Portable) Grow(a *Activations, rows, cols int) {
	nb := rows * (cols / 32)
	if len(a.Q) < nb*32 {
		a.Q = make([]int8, nb*32)
	}
	if len(a.D) < nb*4 {
		a.D = make([]float32, nb*4)
	}
	if len(a.S) < nb*3 {
		a.S = make([]int32, nb*3)
	}
}

// Prepare quantises rows [lo, hi) for Fast. Nothing is done for Exact, or where Cols is no multiple of 32:
// such matrices are not multiplied with 8-bit activations.
func (Portable) Prepare(a *Activations, p Precision, lo, hi int) {
	if p != Fast || a.Cols%32 != 0 {
		return
	}
	nb := a.Cols / 32
	var q [32]int8
	for t := lo; t < hi; t++ {
		t0 := t &^ (TokenTile - 1)
		w := min(TokenTile, a.Rows-t0)
		x := a.X[t*a.Cols : (t+1)*a.Cols]
		for b := range nb {
			d := quantise(&q, (*[32]float32)(x[b*32:]))
			var s0, s1 int32
			for i := range 16 {
				s0 += int32(q[i])
				s1 += int32(q[i+16])
			}
			copy(a.Q[t0*a.Cols+(b*w+t-t0)*32:], q[:])
			i := b*w + t - t0
			a.D[t0*nb+i] = d
			a.D[(a.Rows+t0)*nb+i] = d * float32(s0+s1)
			half := a.D[2*(a.Rows+t0)*nb+2*b*w+t-t0:]
			half[0], half[w] = d*float32(s0), d*float32(s1)
			a.S[t0*nb+i] = -128 * (s0 + s1)
			sums := a.S[(a.Rows+2*t0)*nb+2*b*w+t-t0:]
			sums[0], sums[w] = -128*s0, -128*s1
		}
	}
}

// quantise rounds a block to 8 bits and returns its scale.
func quantise(q *[32]int8, x *[32]float32) float32 {
	var top uint32
	for _, v := range x {
		top = max(top, math.Float32bits(v)&0x7fffffff)
	}
	if top < tinyAbs || top >= 0x7f800000 {
		*q = [32]int8{}
		if top < tinyAbs {
			return 0
		}
		return float32(math.NaN())
	}
	amax := math.Float32frombits(top)
	r := 127 / amax
	for i, v := range x {
		q[i] = int8(math.Float32bits(float32(v*r)+roundC) - 0x4b400000)
	}
	return amax / 127
}

// MatMul multiplies by the specified arithmetic.
func (Portable) MatMul(y []float32, ldy int, w *quant.Matrix, a *Activations, p Precision, lo, hi int) {
	if p == Fast && Quantised(w) {
		matMulFast(y, ldy, w, a, lo, hi)
		return
	}
	matMulExact(y, ldy, w, a, lo, hi)
}

// chunkCols is the number of weights that are decoded at a time: one super-block, on the stack.
const chunkCols = 256

// matMulFast unpacks each row once and multiplies it with all rows of a, chunk by chunk; y holds the running sums.
func matMulFast(y []float32, ldy int, w *quant.Matrix, a *Activations, lo, hi int) {
	var c chunk
	nb := w.Cols / 32
	u := newUnpacker(w)
	for r := lo; r < hi; r++ {
		for t := range a.Rows {
			y[t*ldy+r] = 0
		}
		for b0 := 0; b0 < nb; b0 += chunkCols / 32 {
			n := min(chunkCols/32, nb-b0)
			u.unpack(&c, r, b0, n)
			for t := range a.Rows {
				t0 := t &^ (TokenTile - 1)
				tw := min(TokenTile, a.Rows-t0)
				i := b0*tw + t - t0
				q := a.Q[t0*a.Cols+i*32:]
				d, g := a.D[t0*nb+i:], a.D[(a.Rows+t0)*nb+i:]
				h := a.D[2*(a.Rows+t0)*nb+2*b0*tw+t-t0:]
				acc := y[t*ldy+r]
				for b := range n {
					if c.halves {
						v, x := (*[32]int16)(c.v[b*32:]), (*[32]int8)(q[b*tw*32:])
						acc = fma32(float32(dot16((*[16]int16)(v[:16]), (*[16]int8)(x[:16]))), float32(c.s[2*b]*d[b*tw]), acc)
						acc = fma32(float32(dot16((*[16]int16)(v[16:]), (*[16]int8)(x[16:]))), float32(c.s[2*b+1]*d[b*tw]), acc)
						continue
					}
					dot := dot32((*[32]int16)(c.v[b*32:]), (*[32]int8)(q[b*tw*32:]))
					acc = fma32(float32(dot), float32(c.s[b]*d[b*tw]), acc)
					switch c.offsets {
					case 1:
						acc = fma32(c.m[b], g[b*tw], acc)
					case 2:
						acc = fma32(c.m[2*b], h[2*b*tw], acc)
						acc = fma32(c.m[2*b+1], h[(2*b+1)*tw], acc)
					}
				}
				y[t*ldy+r] = acc
			}
		}
	}
}

// dot32 is the exact integer dot product of a block.
func dot32(v *[32]int16, q *[32]int8) int32 {
	var s0, s1, s2, s3 int32
	for i := 0; i < 32; i += 4 {
		s0 += int32(v[i]) * int32(q[i])
		s1 += int32(v[i+1]) * int32(q[i+1])
		s2 += int32(v[i+2]) * int32(q[i+2])
		s3 += int32(v[i+3]) * int32(q[i+3])
	}
	return s0 + s1 + s2 + s3
}

// dot16 is that of half a block.
func dot16(v *[16]int16, q *[16]int8) int32 {
	var s int32
	for i, x := range v {
		s += int32(x) * int32(q[i])
	}
	return s
}
