package parts

import (
	"strings"
	"unsafe"

	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// Norm is an arch.Norm with its weights.
type Norm struct {
	Kind arch.NormKind
	W, B []float32 // (n); nil: 1 and 0
	Eps  float32
	ID   int // 1 and more, of those that an adapter can change; 0: it can't
}

// None reports whether the norm changes nothing.
func (n *Norm) None() bool { return n.Kind == arch.NoNorm }

// Apply sets y = norm(x); y may be x.
func (n *Norm) Apply(k kernel.Kernels, y, x []float32) {
	switch n.Kind {
	case arch.LayerNorm:
		k.LayerNorm(y, x, n.W, n.B, n.Eps)
	case arch.RMSNorm:
		k.RMSNorm(y, x, n.W, n.Eps)
	case arch.Factor:
		copy(y, x)
		Scale(y, n.W[0])
	default:
		copy(y, x)
	}
}

// NormName is the name under which adapters know the norm of a tensor.
func NormName(tensor string) string { return strings.TrimSuffix(tensor, ".weight") }

// Linear is y = W x + bias, and + scale·B(A x) for each adapter of a row. Package batch computes it.
type Linear struct {
	Name     string // GGUF name of the weight
	ID       int    // index of its low-rank factors in an Adapter
	W        *quant.Matrix
	Bias     []float32 // (out); nil: none
	Multiple int       // where ranges over the rows of W may start
}

// Function is an activation as the kernels know it.
func Function(a arch.Act) kernel.Func {
	kind := map[arch.ActKind]kernel.FuncKind{
		arch.SiLU: kernel.SiLU, arch.GELUTanh: kernel.GELUTanh, arch.GELUErf: kernel.GELUErf, arch.QuickGELU: kernel.QuickGELU,
		arch.ReLU: kernel.ReLU, arch.ReLUSquared: kernel.ReLU2, arch.XIELU: kernel.XIELU, arch.ClampedSiLU: kernel.ClampedSiLU,
		arch.Identity: kernel.Identity, arch.Tanh: kernel.TanhFunc,
	}[a.Kind]
	return kernel.Func{Kind: kind, A: a.A, B: a.B, C: a.C}
}

// Bytes is the number of bytes that a product with m reads.
func Bytes(m *quant.Matrix) int64 {
	var n int64
	for _, p := range Ranges(m) {
		n += int64(len(p))
	}
	return n
}

// Ranges are the ranges that a product with w reads.
func Ranges(w *quant.Matrix) [][]byte {
	if t := w.Tile; t.Rows > 0 {
		// Rows that fill no group are read as they are stored.
		return [][]byte{t.Data, w.Data[w.Rows/t.Rows*t.Rows*(len(w.Data)/w.Rows):]}
	}
	out := [][]byte{w.Data}
	if s := w.BnB; s != nil {
		out = append(out, bytesOf(s.Absmax), s.AbsmaxQ, bytesOf(s.NestedAbsmax))
	}
	return out
}

func bytesOf(f []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f))), 4*len(f))
}
