package lora

import (
	"math"

	"edged/quant"
)

// olora makes factors of twice the rank of an adapter that was trained beside what OLoRA leaves of the base
// (Büyükakyüz 2024): PEFT takes scale · Q·R off the weight when it loads one, with the first r columns of an
// orthogonal factorisation, which is scale · Q·Qᵀ·W for an orthonormal base Q of the first r columns of W.
func (a *Adapter) olora(l *rawDelta, w *quant.Matrix) (down, up rawTensor, err error) {
	if w.Format.BlockSize() != 1 || w.Group != nil {
		return down, up, a.fail(ErrUnsupported, "module %s: init_lora_weights \"olora\" on a quantised base, of which PEFT quantises the rest anew: serve the base in 16 bits, or convert the adapter to a plain one when saving it", l.module)
	}
	r := l.a.rows
	if 2*r > maxRank || r > w.Rows || r > w.Cols {
		return down, up, a.fail(ErrUnsupported, "module %s: init_lora_weights \"olora\" of rank %d on a matrix (%d, %d): convert the adapter to a plain one when saving it", l.module, r, w.Rows, w.Cols)
	}
	x, dataA, err := a.floats(2 * r * w.Cols)
	if err != nil {
		return down, up, err
	}
	y, dataB, err := a.floats(w.Rows * 2 * r)
	if err != nil {
		return down, up, err
	}
	q := make([][]float64, r)
	for k := range q {
		q[k] = make([]float64, w.Rows)
	}
	row := make([]float32, w.Cols)
	for o := range w.Rows {
		quant.Row(row, w, o)
		for k := range q {
			q[k][o] = float64(row[k])
		}
	}
	if !orthonormal(q) {
		return down, up, a.fail(ErrUnsupported, "module %s: the first %d columns of the base's weight depend on one another: OLoRA's factorisation has no one answer", l.module, r)
	}
	mA, mB := l.a.matrix(l.a.name), l.b.matrix(l.b.name)
	for k := range r {
		quant.Row(x[k*w.Cols:(k+1)*w.Cols], mA, k)
	}
	sum := make([]float64, r*w.Cols)
	for o := range w.Rows {
		quant.Row(y[o*2*r:o*2*r+r], mB, o)
		quant.Row(row, w, o)
		for k := range q {
			f, to := q[k][o], sum[k*w.Cols:(k+1)*w.Cols]
			y[o*2*r+r+k] = float32(-f)
			for i, v := range row {
				to[i] += float64(f * float64(v))
			}
		}
	}
	for i, v := range sum {
		x[r*w.Cols+i] = float32(v)
	}
	return rawTensor{l.a.name, quant.F32, 2 * r, w.Cols, dataA}, rawTensor{l.b.name, quant.F32, w.Rows, 2 * r, dataB}, nil
}

// orthonormal makes vectors orthonormal, each with those before it (Gram and Schmidt, twice: once loses half
// of the digits). It reports whether none of them depends on the others.
func orthonormal(q [][]float64) bool {
	for k, v := range q {
		before := math.Sqrt(dot(v, v))
		for range 2 {
			for _, u := range q[:k] {
				f := dot(u, v)
				for i := range v {
					v[i] -= float64(f * u[i])
				}
			}
		}
		n := math.Sqrt(dot(v, v))
		if !(n > 1e-9*before) {
			return false
		}
		for i := range v {
			v[i] /= n
		}
	}
	return true
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		sum += float64(v * b[i])
	}
	return sum
}
