package kernel

import (
	"encoding/binary"
	"math"

	"edged/quant"
)

// LowRank computes what a low-rank adapter adds to a product: y += scale·B·(A·x). It is an ability of its own beside
// Kernels: Portable has it, and so does every implementation that embeds it.
//
// The specified arithmetic: an element of A·x is Sum16; the sum over ranks is fma(b[k], mid[k], acc) from +0
// in order of k, and y + scale·acc rounds the product and the sum.
type LowRank interface {
	// LoRADown sets mid[t·ld+j] = Σ_k a[j,k]·x[t,k] for the ranks j of groups [lo, hi) and each of tokens
	// rows of x, which is (tokens, In). ld is at least four times the number of groups; ranks beyond Rank are
	// set to 0.
	LoRADown(mid []float32, ld int, f *Factors, x []float32, tokens, lo, hi int)
	// LoRAUp adds scale·Σ_k b[i,k]·mid[k] to y[i-lo] for the outputs i in [lo, hi). lo is a multiple of
	// LoRATile, and so is hi unless it is Out.
	LoRAUp(y []float32, f *Factors, mid []float32, scale float32, lo, hi int)
}

// LoRAGroup is the number of ranks that lie side by side in A, LoRATile the number of outputs in B.
const (
	LoRAGroup = 4
	LoRATile  = 64
)

// Factors are the two matrices of a low-rank change in float16, each as one stream in the order in which it
// is read: rows of 4 KiB on pages of their own, of which four are read at once, were 1.5 times as slow to
// read as one after the other.
//
//	A  (groups of LoRAGroup ranks, In/16, LoRAGroup, 16), ranks beyond Rank 0
//	B  (tiles of LoRATile outputs, Rank, outputs of the tile)
type Factors struct {
	Rank, In, Out int // In and Out are multiples of 16
	A, B          []byte
}

// Groups is the number of groups of ranks.
func (f *Factors) Groups() int { return (f.Rank + LoRAGroup - 1) / LoRAGroup }

// LoRASizes are the bytes of A and B; ok is false where the shape cannot be laid out so.
func LoRASizes(rank, in, out int) (a, b int64, ok bool) {
	groups := int64((rank + LoRAGroup - 1) / LoRAGroup)
	return 2 * groups * LoRAGroup * int64(in), 2 * int64(rank) * int64(out), rank > 0 && in > 0 && out > 0 && in%16 == 0 && out%16 == 0
}

// PackLoRA fills f.A and f.B, whose lengths LoRASizes tells, with a (Rank, In) and b (Out, Rank), each multiplied by a
// power of two. The error of a value is that of rounding to float16.
func PackLoRA(f *Factors, a, b *quant.Matrix, scaleA, scaleB float32) {
	clear(f.A)
	row := make([]float32, max(f.In, f.Rank))
	for j := range f.Rank {
		quant.Row(row[:f.In], a, j)
		group := f.A[2*LoRAGroup*f.In*(j/LoRAGroup):]
		for k, v := range row[:f.In] {
			at := k/16*16*LoRAGroup + j%LoRAGroup*16 + k%16
			binary.LittleEndian.PutUint16(group[2*at:], quant.FloatToHalf(v*scaleA))
		}
	}
	for i := range f.Out {
		quant.Row(row[:f.Rank], b, i)
		first := i / LoRATile * LoRATile
		tile, width := f.B[2*f.Rank*first:], min(LoRATile, f.Out-first)
		for k, v := range row[:f.Rank] {
			binary.LittleEndian.PutUint16(tile[2*(k*width+i-first):], quant.FloatToHalf(v*scaleB))
		}
	}
}

// LoRADown computes A·x.
func (Portable) LoRADown(mid []float32, ld int, f *Factors, x []float32, tokens, lo, hi int) {
	var w [16]float32
	for g := lo; g < hi; g++ {
		group := f.A[2*LoRAGroup*f.In*g : 2*LoRAGroup*f.In*(g+1)]
		for t := range tokens {
			row := x[t*f.In : (t+1)*f.In]
			var lanes [LoRAGroup][16]float32
			for c := 0; c < f.In; c += 16 {
				for j := range LoRAGroup {
					halves(w[:], group[2*(c*LoRAGroup+j*16):])
					dotLanes(&lanes[j], w[:], row[c:c+16])
				}
			}
			for j := range LoRAGroup {
				mid[t*ld+g*LoRAGroup+j] = fold(&lanes[j])
			}
		}
	}
}

// LoRAUp adds B·mid.
func (Portable) LoRAUp(y []float32, f *Factors, mid []float32, scale float32, lo, hi int) {
	var acc, w [LoRATile]float32
	for i := lo; i < hi; i += LoRATile {
		n := min(LoRATile, f.Out-i)
		tile := f.B[2*f.Rank*i:]
		clear(acc[:])
		for k := range f.Rank {
			halves(w[:n], tile[2*k*n:])
			axpy(acc[:n], mid[k], w[:n])
		}
		out := y[i-lo : i-lo+n]
		for j := range out {
			out[j] += float32(scale * acc[j])
		}
	}
}

// halves decodes float16.
func halves(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = quant.HalfToFloat(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// LoRAScale is the power of two that brings the largest value of m close to the top of float16, so that small ones lose
// nothing and large ones fit: factors of trained adapters span 1e-6 to 1. It is 1 where m is all zeros or not finite.
func LoRAScale(m *quant.Matrix) float32 {
	row := make([]float32, m.Cols)
	top := 0.0
	for r := range m.Rows {
		quant.Row(row, m, r)
		for _, v := range row {
			top = max(top, math.Abs(float64(v)))
		}
	}
	if top == 0 || math.IsNaN(top) || math.IsInf(top, 0) {
		return 1
	}
	_, exp := math.Frexp(top) // top < 2^exp
	return float32(math.Ldexp(1, min(max(14-exp, -100), 100)))
}
