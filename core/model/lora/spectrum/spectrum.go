// Package spectrum turns sparse spectra of matrices into the matrices: what FourierFT and WaveFT train.
//
// It must not know what the matrices are for. Its functions may be called concurrently.
package spectrum

import (
	"math"
	"math/cmplx"
)

// Fourier fills dst (rows, cols) with the real part of the inverse transform (of two dimensions, divided by
// rows·cols) of the spectrum that is value[i] at place[i] = row·cols + column, and 0 elsewhere, times scale.
func Fourier(dst []float32, rows, cols int, place []int, value []float32, scale float64) {
	lines := map[int][]complex128{}
	for i, p := range place {
		if lines[p/cols] == nil {
			lines[p/cols] = make([]complex128, cols)
		}
		lines[p/cols][p%cols] += complex(float64(value[i]), 0)
	}
	of := newTransform(cols)
	for _, line := range lines {
		of.run(line)
	}
	down := newTransform(rows)
	column := make([]complex128, rows)
	scale /= float64(rows) * float64(cols)
	for c := range cols {
		clear(column)
		for r, line := range lines {
			column[r] = line[c]
		}
		down.run(column)
		for r, v := range column {
			dst[r*cols+c] = float32(real(v) * scale)
		}
	}
}

// transform is the inverse discrete Fourier transform of one length, not divided by it, by decimation in time
// (Cooley and Tukey 1965) for whatever factors the length has.
type transform struct {
	root  []complex128 // e^(2πik/n)
	spare []complex128
}

func newTransform(n int) *transform {
	t := &transform{root: make([]complex128, n), spare: make([]complex128, n)}
	for k := range t.root {
		t.root[k] = cmplx.Rect(1, 2*math.Pi*float64(k)/float64(n))
	}
	return t
}

func (t *transform) run(x []complex128) {
	copy(t.spare, x)
	t.part(x, t.spare, len(x), 1, make([]complex128, len(x)))
}

// part sets out[:n] to the transform of every stride-th value of in.
func (t *transform) part(out, in []complex128, n, stride int, tmp []complex128) {
	if n == 1 {
		out[0] = in[0]
		return
	}
	p := 2
	for n%p != 0 && p*p <= n {
		p++
	}
	if n%p != 0 {
		p = n
	}
	m := n / p
	for j := range p {
		t.part(tmp[j*m:], in[j*stride:], m, stride*p, out[j*m:])
	}
	step := len(t.root) / n
	for k := range n {
		sum := complex128(0)
		for j := range p {
			sum += tmp[j*m+k%m] * t.root[j*k%n*step]
		}
		out[k] = sum
	}
}

// Haar fills dst (rows, cols) with what the wavelet "db1" makes of the coefficients that are value[i] at
// place[i] = row·cols + column and 0 elsewhere, times scale. The quarters of the coefficients are, as PEFT
// lays them, the sums, the differences down, across, and both; an odd side counts as one longer.
func Haar(dst []float32, rows, cols int, place []int, value []float32, scale float64) {
	h, w := (rows+1)/2, (cols+1)/2
	for i, p := range place {
		r, c := p/cols, p%cols
		v := float32(0.5 * float64(value[i]) * scale)
		for a := range 2 {
			for b := range 2 {
				at, across := 2*(r%h)+a, 2*(c%w)+b
				if at >= rows || across >= cols {
					continue
				}
				x := v
				if a == 1 && c >= w {
					x = -x
				}
				if b == 1 && r >= h {
					x = -x
				}
				dst[at*cols+across] += x
			}
		}
	}
}
