package kernel

import "math"

// RMSNorm sets y = (x · r) · w, or x · r without w, with r = 1/sqrt(Sum16(x, x)/n + eps). y may be x.
func (Portable) RMSNorm(y, x, w []float32, eps float32) {
	ms := sum16(x, x) / float32(len(x))
	r := 1 / sqrt32(ms+eps)
	y = y[:len(x)]
	if w == nil {
		for i, v := range x {
			y[i] = v * r
		}
		return
	}
	w = w[:len(x)]
	for i, v := range x {
		y[i] = float32(v*r) * w[i]
	}
}

// L2Norm sets y = x · r with r = 1/sqrt(Sum16(x, x) + eps). y may be x.
func L2Norm(y, x []float32, eps float32) {
	r := 1 / sqrt32(sum16(x, x)+eps)
	y = y[:len(x)]
	for i, v := range x {
		y[i] = v * r
	}
}

// LayerNorm sets c = x - mean with the mean by 16 lanes of plain additions, r = 1/sqrt(Sum16(c, c)/n + eps) and
// y = fma(c · r, w, b), (c · r) · w without b, or c · r without both. y may be x.
func (Portable) LayerNorm(y, x, w, b []float32, eps float32) {
	var l [16]float32
	for i, v := range x {
		l[i&15] += v
	}
	n := float32(len(x))
	mean := fold(&l) / n
	l = [16]float32{}
	y = y[:len(x)]
	for i, v := range x {
		c := v - mean
		y[i] = c
		l[i&15] = fma32(c, c, l[i&15])
	}
	r := 1 / sqrt32(fold(&l)/n+eps)
	if w == nil {
		for i, c := range y {
			y[i] = c * r
		}
		return
	}
	w = w[:len(y)]
	if b == nil {
		for i, c := range y {
			y[i] = float32(c*r) * w[i]
		}
		return
	}
	b = b[:len(y)]
	for i, c := range y {
		y[i] = fma32(float32(c*r), w[i], b[i])
	}
}

// Rotate sets (a, b) to (fma(a, cos, -(b·sin)), fma(a, sin, b·cos)) for each pair: x[2i], x[2i+1] where
// interleaved, else x[i], x[i+n] with n = len(cos). x[2n:] stays as it is.
func (Portable) Rotate(x, cos, sin []float32, interleaved bool) {
	n := len(cos)
	sin = sin[:n]
	if interleaved {
		x = x[:2*n]
		for i, c := range cos {
			a, b, s := x[2*i], x[2*i+1], sin[i]
			x[2*i] = fma32(a, c, -float32(b*s))
			x[2*i+1] = fma32(a, s, float32(b*c))
		}
		return
	}
	lo, hi := x[:n], x[n:2*n]
	for i, c := range cos {
		a, b, s := lo[i], hi[i], sin[i]
		lo[i] = fma32(a, c, -float32(b*s))
		hi[i] = fma32(a, s, float32(b*c))
	}
}

// sqrt32 is the correctly rounded square root: the second rounding of a float64 root to float32 is known to
// be harmless.
func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }
