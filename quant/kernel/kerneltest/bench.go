package kerneltest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"edged/quant"
	"edged/quant/kernel"
)

// Bench measures matrix × vector on matrices that no cache holds (bytes of weights a second) and matrix × matrix
// (multiply-adds a second), for each format, then attention and the small functions.
func Bench(b *testing.B, impl kernel.Kernels) {
	r := rand.New(rand.NewPCG(1, 9))
	for _, f := range Formats() {
		w := benchMatrix(r, f)
		for _, p := range []kernel.Precision{kernel.Fast, kernel.Exact} {
			for _, rows := range []int{1, 64} {
				if p == kernel.Exact && f.BlockSize() > 1 && f != quant.NF4 {
					continue
				}
				b.Run(fmt.Sprintf("%s/%s/tokens=%d", f, []string{"fast", "exact"}[p], rows), func(b *testing.B) {
					benchMatMul(b, impl, w, p, rows)
				})
			}
		}
	}
	for _, kv := range []kernel.KVType{kernel.KVF32, kernel.KVF16, kernel.KVQ8} {
		b.Run("attend/"+[]string{"f32", "f16", "q8_0"}[kv], func(b *testing.B) {
			const group, dim = 4, 64
			a := Arena(r, impl, kv, group, dim, kernel.SpanPositions, false)
			dst := newPartial(group, dim)
			b.SetBytes(int64(2 * kv.RowBytes(dim) * kernel.SpanPositions))
			for b.Loop() {
				impl.Attend(dst, a)
			}
		})
	}
	if s, ok := impl.(interface{ Sum(p []byte) int64 }); ok {
		w := benchMatrix(r, quant.Q4_0)
		b.Run("sum", func(b *testing.B) {
			b.SetBytes(int64(len(w.Data)))
			for b.Loop() {
				s.Sum(w.Data)
			}
		})
	}
	if k, ok := impl.(kernel.Recurrence); ok {
		for _, rows := range []int{1, 128} {
			// One of the sixteen value heads and the 6144 channels of a layer of Qwen3.5 0.8B, and one of the
			// heads of Granite 4-H. A state must not fade while it is measured.
			conv, delta, scan := Conv(r, rows, 6144, 4), Delta(r, rows, 1, 1, 128, 128, false), Scan(r, rows, 1, 64, 128, 1, false)
			clear(delta.Decay)
			clear(delta.Beta)
			clear(scan.A)
			b.Run(fmt.Sprintf("conv/rows=%d", rows), func(b *testing.B) {
				for b.Loop() {
					k.Conv(conv, 0, conv.Channels)
				}
			})
			b.Run(fmt.Sprintf("scan/rows=%d", rows), func(b *testing.B) {
				for b.Loop() {
					k.Scan(scan, 0, 1)
				}
			})
			b.Run(fmt.Sprintf("delta/rows=%d", rows), func(b *testing.B) {
				for b.Loop() {
					k.Delta(delta, 0, 1)
				}
			})
		}
	}
	x, y := Floats(r, 2048, false), make([]float32, 2048)
	b.Run("rmsnorm", func(b *testing.B) {
		for b.Loop() {
			impl.RMSNorm(y, x, x, 1e-5)
		}
	})
	b.Run("swiglu", func(b *testing.B) {
		for b.Loop() {
			copy(y, x)
			impl.SwiGLU(y, x)
		}
	})
	b.Run("prepare", func(b *testing.B) {
		a := activations(impl, kernel.Fast, x, 1, len(x))
		for b.Loop() {
			impl.Prepare(a, kernel.Fast, 0, 1)
		}
	})
}

// benchMatrix is 2048 columns wide; rows repeat the same bytes, 64 MB in all, since filling them takes longer than
// measuring.
func benchMatrix(r *rand.Rand, f quant.Format) *quant.Matrix {
	const cols = 2048
	w := Matrix(r, f, 256, cols, false)
	for len(w.Data) < 64<<20 {
		w.Data = append(w.Data, w.Data...)
		if w.BnB != nil {
			w.BnB.Absmax = append(w.BnB.Absmax, w.BnB.Absmax...)
			w.BnB.AbsmaxQ = append(w.BnB.AbsmaxQ, w.BnB.AbsmaxQ...)
			w.BnB.NestedAbsmax = append(w.BnB.NestedAbsmax, w.BnB.NestedAbsmax...)
		}
		w.Rows *= 2
	}
	return w
}

func benchMatMul(b *testing.B, impl kernel.Kernels, w *quant.Matrix, p kernel.Precision, tokens int) {
	a := activations(impl, p, Activation(rand.New(rand.NewPCG(5, 5)), tokens, w.Cols, false, false), tokens, w.Cols)
	rows := w.Rows
	const step = 256
	if tokens > 1 || impl.Name() == "portable" {
		rows = step
	}
	y := make([]float32, tokens*w.Rows)
	n := 0
	for b.Loop() {
		for r := 0; r < rows; r += step {
			impl.MatMul(y, w.Rows, w, a, p, r, r+step)
		}
		n++
	}
	sec := b.Elapsed().Seconds() / float64(n)
	b.ReportMetric(float64(rows)/float64(w.Rows)*float64(len(w.Data))/sec/1e9, "GB/s")
	b.ReportMetric(float64(rows)*float64(w.Cols)*float64(tokens)/sec/1e9, "GMAC/s")
	b.ReportMetric(0, "ns/op")
}
