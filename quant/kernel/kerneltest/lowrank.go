package kerneltest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"edged/quant"
	"edged/quant/kernel"
)

// lowRank tests both products of an adapter, and holds the portable ones to the plain sums of what was packed.
func lowRank(t *testing.T, impl kernel.Kernels) {
	low, ok := impl.(kernel.LowRank)
	if !ok {
		t.Fatalf("%s has no low-rank products", impl.Name())
	}
	r := rand.New(rand.NewPCG(9, 1))
	for _, c := range []struct{ rank, in, out int }{
		{1, 16, 16}, {3, 32, 48}, {4, 64, 64}, {5, 80, 80}, {8, 2048, 512}, {16, 256, 208}, {17, 48, 1040}, {64, 16, 128},
	} {
		for _, edge := range []bool{false, true} {
			a, b := Matrix(r, quant.F32, c.rank, c.in, false), Matrix(r, quant.F32, c.out, c.rank, false)
			f := pack(t, a, b)
			if edge { // what a hostile file could hold
				for _, half := range []uint16{0x7c00, 0xfc00, 0x7e00, 1, 0x8000, 0x7bff} {
					at := 2 * r.IntN(len(f.A)/2)
					f.A[at], f.A[at+1] = byte(half), byte(half>>8)
					at = 2 * r.IntN(len(f.B)/2)
					f.B[at], f.B[at+1] = byte(half), byte(half>>8)
				}
			}
			for _, tokens := range []int{1, 3, 4, 6, 9} {
				what := fmt.Sprintf("rank %d, %d to %d, %d tokens, edge %v: ", c.rank, c.in, c.out, tokens, edge)
				x := Floats(r, tokens*c.in, edge)
				ld := f.Groups()*kernel.LoRAGroup + 1
				got, want := filled(tokens*ld), filled(tokens*ld)
				kernel.Portable{}.LoRADown(want, ld, f, x, tokens, 0, f.Groups())
				mid := r.IntN(f.Groups() + 1)
				low.LoRADown(got, ld, f, x, tokens, mid, f.Groups())
				low.LoRADown(got, ld, f, x, tokens, 0, mid)
				diff(t, what+"down", got, want)
				if !edge {
					closeDown(t, what, want, ld, a, x, tokens)
				}
				scale := float32(r.NormFloat64())
				start := Floats(r, c.out, edge)
				for lo := 0; lo < c.out; lo += kernel.LoRATile {
					for _, hi := range []int{c.out, min(lo+kernel.LoRATile, c.out)} {
						y, ref := slices.Concat(start[lo:hi], []float32{guard}), slices.Concat(start[lo:hi], []float32{guard})
						kernel.Portable{}.LoRAUp(ref, f, want, scale, lo, hi)
						low.LoRAUp(y, f, want, scale, lo, hi)
						diff(t, what+"up", y, ref)
					}
				}
				if t.Failed() {
					return
				}
			}
		}
	}
	f := pack(t, Matrix(r, quant.F32, 8, 64, false), Matrix(r, quant.F32, 80, 8, false))
	x, mid, y := Floats(r, 5*64, false), make([]float32, 5*8), make([]float32, 80)
	if n := testing.AllocsPerRun(2, func() {
		low.LoRADown(mid, 8, f, x, 5, 0, 2)
		low.LoRAUp(y, f, mid, 1, 0, 80)
	}); n > 0 {
		t.Errorf("%g allocations a call", n)
	}
}

func filled(n int) []float32 {
	y := make([]float32, n)
	for i := range y {
		y[i] = guard
	}
	return y
}

// pack lays a and b out.
func pack(t *testing.T, a, b *quant.Matrix) *kernel.Factors {
	t.Helper()
	na, nb, ok := kernel.LoRASizes(a.Rows, a.Cols, b.Rows)
	if !ok {
		t.Fatalf("(%d, %d) and (%d, %d) are not laid out", a.Rows, a.Cols, b.Rows, b.Cols)
	}
	f := &kernel.Factors{Rank: a.Rows, In: a.Cols, Out: b.Rows, A: make([]byte, na), B: make([]byte, nb)}
	kernel.PackLoRA(f, a, b, 1, 1)
	return f
}

// closeDown compares with float64 sums over the matrix before it was rounded and laid out.
func closeDown(t *testing.T, what string, mid []float32, ld int, a *quant.Matrix, x []float32, tokens int) {
	t.Helper()
	row := make([]float32, a.Cols)
	for j := range a.Rows {
		quant.Row(row, a, j)
		for i := range tokens {
			sum, size := 0.0, 0.0
			for k, v := range row {
				p := float64(v) * float64(x[i*a.Cols+k])
				sum += p
				size += math.Abs(p)
			}
			if d := math.Abs(float64(mid[i*ld+j]) - sum); d > size/1000 {
				t.Errorf("%stoken %d, rank %d: %g, want %g", what, i, j, mid[i*ld+j], sum)
			}
		}
	}
}
