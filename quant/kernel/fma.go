//go:build !arm64

package kernel

import "math"

// fma32 is a·b + c rounded once. The float64 product is exact; the sum is rounded to 53 bits, and rounding it again to
// 24 goes wrong only if the first rounding hit or left the middle between two float32 values, or if the result is
// subnormal: those go the slow way. math.FMA does not help: it has the same second rounding.
func fma32(a, b, c float32) float32 {
	s := float64(a)*float64(b) + float64(c)
	if tricky(s) {
		return fmaOdd(a, b, c)
	}
	return float32(s)
}

// tricky tells whether s must not simply be rounded to float32.
func tricky(s float64) bool {
	u := math.Float64bits(s)
	return u&0x1fffffff == 0x10000000 || u<<1 < 0x7020000000000000
}

// fmaOdd is fma32 by rounding the float64 sum to odd first, which is safe for any second rounding to fewer than 52 bits
// (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008).
func fmaOdd(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	if s == 0 || s != s || math.IsInf(s, 0) {
		return float32(s)
	}
	v := s - p
	e := (p - (s - v)) + (q - v) // Knuth's two-sum: p + q = s + e exactly
	if e == 0 {
		return float32(s)
	}
	u := math.Float64bits(s)
	if u&1 == 0 {
		if (e > 0) == (s > 0) {
			u++
		} else {
			u--
		}
	}
	return float32(math.Float64frombits(u))
}

// dotLanes adds w·x to 16 lanes; both have the same length, a multiple of 16. It is fma32 written out, four lanes at a
// time, since that is too big to be inlined: 1.1 ns a multiplication instead of 2.6.
func dotLanes(l *[16]float32, w, x []float32) {
	for len(w) >= 16 && len(x) >= 16 {
		a, b := (*[16]float32)(w), (*[16]float32)(x)
		for i := 0; i < 16; i += 4 {
			s0 := float64(a[i])*float64(b[i]) + float64(l[i])
			s1 := float64(a[i+1])*float64(b[i+1]) + float64(l[i+1])
			s2 := float64(a[i+2])*float64(b[i+2]) + float64(l[i+2])
			s3 := float64(a[i+3])*float64(b[i+3]) + float64(l[i+3])
			if tricky(s0) || tricky(s1) || tricky(s2) || tricky(s3) {
				l[i] = fmaOdd(a[i], b[i], l[i])
				l[i+1] = fmaOdd(a[i+1], b[i+1], l[i+1])
				l[i+2] = fmaOdd(a[i+2], b[i+2], l[i+2])
				l[i+3] = fmaOdd(a[i+3], b[i+3], l[i+3])
				continue
			}
			l[i], l[i+1], l[i+2], l[i+3] = float32(s0), float32(s1), float32(s2), float32(s3)
		}
		w, x = w[16:], x[16:]
	}
}

// axpy sets y = fma(a, x, y).
func axpy(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	for i, v := range x {
		s := float64(a)*float64(v) + float64(y[i])
		if tricky(s) {
			y[i] = fmaOdd(a, v, y[i])
			continue
		}
		y[i] = float32(s)
	}
}
