package neon_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"edged/plugins/backend-neon/neon"
	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/kernel/kerneltest"
)

// TestConformance runs every implementation that this processor has.
func TestConformance(t *testing.T) {
	for _, k := range neon.All() {
		if k.Name() != (kernel.Portable{}).Name() { // that one has its test in quant/kernel
			t.Run(k.Name(), func(t *testing.T) { kerneltest.Run(t, k) })
		}
	}
}

// TestShiftedScales: kernels that convert float16 by shifting see where that would be wrong. One scale among normal ones is
// infinite or NaN, or two of them have all bits of the exponent together, or the token's scale is too large.
func TestShiftedScales(t *testing.T) {
	const rows, cols = 36, 544
	for _, k := range neon.All() {
		for _, f := range []quant.Format{quant.Q4_0, quant.Q8_0, quant.IQ4_NL} {
			for _, c := range []struct {
				name   string
				scales []uint16 // of blocks of rows 9, 10, …
				x      float32  // in one place
			}{
				{"normal", nil, 1},
				{"subnormal", []uint16{0x0001, 0x83ff, 0x8000}, 1},
				{"infinite", []uint16{0x7c00}, 1},
				{"negative infinite", []uint16{0xfc00}, 1},
				{"NaN", []uint16{0x7e01}, 1},
				{"largest", []uint16{0x7bff, 0xfbff}, 1},
				{"two that look like one", []uint16{0x4000, 0x3c00}, 1},
				{"token at the limit", nil, 127 * (1<<15 - 1)},
				{"large token", nil, 127 << 15},
				{"largest token", nil, 3e38},
			} {
				r := rand.New(rand.NewPCG(4, uint64(f)))
				w := kerneltest.Matrix(r, f, rows, cols, false)
				for i, s := range c.scales {
					binary.LittleEndian.PutUint16(w.Data[(9+i)*f.RowBytes(cols)+(3+5*i)*f.BlockBytes():], s)
				}
				x := kerneltest.Activation(r, 1, cols, false, false)
				x[77] = c.x
				want, got := make([]float32, rows), make([]float32, rows)
				product(kernel.Portable{}, want, w, x)
				product(k, got, w, x)
				for i := range want {
					if !kerneltest.Same(got[i], want[i]) {
						t.Errorf("%s, %s, %s: row %d is %g, want %g", k.Name(), f, c.name, i, got[i], want[i])
					}
				}
			}
		}
	}
}

// product is y = w·x.
func product(k kernel.Kernels, y []float32, w *quant.Matrix, x []float32) {
	a := &kernel.Activations{}
	k.Grow(a, 1, w.Cols)
	a.Rows, a.Cols, a.X = 1, w.Cols, x
	k.Prepare(a, kernel.Fast, 0, 1)
	k.MatMul(y, w.Rows, w, a, kernel.Fast, 0, w.Rows)
}

func BenchmarkKernels(b *testing.B) {
	for _, k := range neon.All() {
		b.Run(k.Name(), func(b *testing.B) { kerneltest.Bench(b, k) })
	}
}
