package simd

import (
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
)

// dotArgs is struct dot of csrc/args.h.
type dotArgs struct {
	y      unsafe.Pointer
	ldy    int
	w      unsafe.Pointer
	x      unsafe.Pointer
	ldx    int
	n      int
	stride int
	rows   int
	own    [3]uintptr
}

// dotRows is the number of rows that a dot product kernel does side by side.
const dotRows = 4

// floats multiplies in float32: rows of float weights as they are stored, others decoded a few at a time.
func (k *Kernels) floats(y []float32, ldy int, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	if w.Cols%4 != 0 || w.Cols%16 != 0 && !k.Tail16 && (w.Format == quant.F16 || w.Format == quant.BF16) {
		k.Portable.MatMul(y, ldy, w, a, kernel.Exact, lo, hi)
		return
	}
	s := k.free.get()
	defer k.free.put(s)
	if f := w.Format; f == quant.F32 || f == quant.F16 || f == quant.BF16 {
		full := lo + (hi-lo)/dotRows*dotRows
		stride := f.RowBytes(w.Cols)
		step := dotRows * max(1, min(kernelBytes/(stride*dotRows), 16))
		for r := lo; r < full; r += step {
			n := min(step, full-r)
			k.dots(s, f, y[r:], ldy, w.Data[r*stride:(r+n)*stride], stride, a, n)
		}
		k.Portable.MatMul(y, ldy, w, a, kernel.Exact, full, hi)
		return
	}
	if dotRows*w.Cols > len(s.floats) {
		k.Portable.MatMul(y, ldy, w, a, kernel.Exact, lo, hi)
		return
	}
	for r := lo; r < hi; r += dotRows {
		n := min(dotRows, hi-r)
		if n < dotRows {
			k.Portable.MatMul(y, ldy, w, a, kernel.Exact, r, hi)
			return
		}
		for i := range n {
			kernel.DecodeRow(s.floats[i*w.Cols:(i+1)*w.Cols], w, r+i)
		}
		data := unsafe.Slice((*byte)(unsafe.Pointer(&s.floats)), n*w.Cols*4)
		k.dots(s, quant.F32, y[r:], ldy, data, w.Cols*4, a, n)
	}
}

// dots multiplies n rows with all tokens, four at once, then one by one.
func (k *Kernels) dots(s *scratch, f quant.Format, y []float32, ldy int, data []byte, stride int, a *kernel.Activations, n int) {
	for t := 0; t < a.Rows; {
		tokens, kern := 1, k.Dot[f][0]
		if a.Rows-t >= 4 && k.Dot[f][1] != nil {
			tokens, kern = 4, k.Dot[f][1]
		}
		x := a.X[t*a.Cols : (t+tokens)*a.Cols]
		_ = y[(t+tokens-1)*ldy+n-1]
		s.dot = dotArgs{y: ptr(y[t*ldy:]), ldy: ldy, w: ptr(data), x: ptr(x), ldx: a.Cols, n: a.Cols, stride: stride, rows: n}
		kern(unsafe.Pointer(&s.dot))
		t += tokens
	}
}
