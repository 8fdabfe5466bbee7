package exactmath

import (
	"math"
)

// twoOverPi, and π/2 in three pieces: the first two have 33 significant bits, so that k times either is exact for
// k < 2²⁰, which is an angle of 1.6 million (fdlibm, e_rem_pio2.c).
const (
	twoOverPi = 2 / math.Pi
	halfPi1   = 1.57079632673412561417e+00
	halfPi2   = 6.07710050630396597660e-11
	halfPi3   = 2.02226624879595063154e-21
)

// ln 2 in two pieces, the first with 33 significant bits (fdlibm, e_exp.c).
const (
	ln2Hi = 6.93147180369123816490e-01
	ln2Lo = 1.90821492927058770002e-10
)

// Sincos returns sin x and cos x for |x| < 1.6e6: reduction to [-π/4, π/4] and fdlibm's polynomials (k_sin.c, k_cos.c).
func Sincos(x float64) (sin, cos float64) {
	k := math.RoundToEven(float64(x * twoOverPi))
	r := x - float64(k*halfPi1)
	r -= float64(k * halfPi2)
	r -= float64(k * halfPi3)
	z := float64(r * r)
	s := horner(z, -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
		2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10)
	s = r + float64(float64(r*z)*s)
	c := horner(z, 4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
		-2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11)
	c = 1 - (float64(0.5*z) - float64(float64(z*z)*c))
	switch int64(k) & 3 {
	case 0:
		return s, c
	case 1:
		return c, -s
	case 2:
		return -s, -c
	default:
		return -c, s
	}
}

// horner evaluates the polynomial c[0] + c[1]·z + c[2]·z² + … at z.
func horner(z float64, c ...float64) float64 {
	y := c[len(c)-1]
	for i := len(c) - 2; i >= 0; i-- {
		y = c[i] + float64(y*z)
	}
	return y
}

// Exp returns eˣ: x = k·ln 2 + r with |r| ≤ 0.35, and 15 terms of the series for eʳ.
func Exp(x float64) float64 {
	switch {
	case x != x:
		return x
	case x > 709:
		return math.Inf(1)
	case x < -745:
		return 0
	}
	k := math.RoundToEven(float64(x * (1 / math.Ln2)))
	r := x - float64(k*ln2Hi)
	r -= float64(k * ln2Lo)
	y := 1.0
	for n := 15.0; n > 0; n-- {
		y = 1 + float64(y*r)/n
	}
	return math.Ldexp(y, int(k))
}

// Ln returns the natural logarithm of a positive, finite x: x = 2ᵉ·m with m in [√½, √2), and ln m = 2·artanh(s) with
// s = (m-1)/(m+1), |s| ≤ 0.172.
func Ln(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	s := (m - 1) / (m + 1)
	z := float64(s * s)
	y := 0.0
	for n := 23.0; n > 0; n -= 2 {
		y = 1/n + float64(y*z)
	}
	k := float64(e)
	return float64(k*ln2Hi) + (float64(k*ln2Lo) + float64(2*float64(s*y)))
}
