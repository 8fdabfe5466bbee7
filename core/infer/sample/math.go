package sample

import "math"

const (
	ln2Hi = 6.93147180369123816490e-01 // ln 2 in two parts, as in FreeBSD's e_exp.c: the low 21 bits of the first are
	ln2Lo = 1.90821492927058770002e-10 // zero, so that its product with a number of up to 21 bits is exact
	// round is added and taken off again to round to an integer, which is then in the low bits: 1.5 × 2^52.
	round = 3 << 51
)

// exp is e^x for x ≤ 0, with a relative error below 1e-15; 0 below -700, where results would be denormal.
// Table of 2^(i/64) and a polynomial of degree 5 (P. T. P. Tang, Table-driven implementation of the
// exponential function, 1989). Every product is rounded by a conversion: that keeps the compiler from fusing
// it with a sum.
func exp(x float64) float64 {
	if x < -700 {
		return 0
	}
	t := float64(x*(64/math.Ln2)) + round
	n := int32(uint32(math.Float64bits(t)))
	k := t - round
	r := x - float64(k*(ln2Hi/64))
	r -= float64(k * (ln2Lo / 64))
	p := 1.0/24 + float64(r*(1.0/120))
	p = 1.0/6 + float64(r*p)
	p = 0.5 + float64(r*p)
	p = r + float64(float64(r*r)*p)
	s := pow2[n&63]
	s += float64(s * p)
	return math.Float64frombits(math.Float64bits(s) + uint64(int64(n>>6))<<52)
}

// log is ln x for a normal x > 0, with an error below 1e-15: x = 2^e·m with m in [√½, √2), and the series of
// 2·atanh((m-1)/(m+1)).
func log(x float64) float64 {
	b := math.Float64bits(x)
	e := int(b>>52) - 1023
	m := math.Float64frombits(b&(1<<52-1) | 1023<<52)
	if m > math.Sqrt2 {
		m /= 2
		e++
	}
	f := (m - 1) / (m + 1)
	s := float64(f * f)
	p := 1.0 / 23
	for d := 21; d >= 3; d -= 2 {
		p = 1/float64(d) + float64(s*p)
	}
	f *= 2
	p = f + float64(f*float64(s*p))
	return float64(float64(e)*ln2Hi) + (p + float64(float64(e)*ln2Lo))
}

// pow2[i] is 2^(i/64), rounded to nearest; a test computes it with math/big.
//
//nolint:gochecknoglobals // a table
var pow2 = [64]float64{
	0x1p+00, 0x1.02c9a3e778061p+00, 0x1.059b0d3158574p+00, 0x1.0874518759bc8p+00,
	0x1.0b5586cf9890fp+00, 0x1.0e3ec32d3d1a2p+00, 0x1.11301d0125b51p+00, 0x1.1429aaea92dep+00,
	0x1.172b83c7d517bp+00, 0x1.1a35beb6fcb75p+00, 0x1.1d4873168b9aap+00, 0x1.2063b88628cd6p+00,
	0x1.2387a6e756238p+00, 0x1.26b4565e27cddp+00, 0x1.29e9df51fdee1p+00, 0x1.2d285a6e4030bp+00,
	0x1.306fe0a31b715p+00, 0x1.33c08b26416ffp+00, 0x1.371a7373aa9cbp+00, 0x1.3a7db34e59ff7p+00,
	0x1.3dea64c123422p+00, 0x1.4160a21f72e2ap+00, 0x1.44e086061892dp+00, 0x1.486a2b5c13cdp+00,
	0x1.4bfdad5362a27p+00, 0x1.4f9b2769d2ca7p+00, 0x1.5342b569d4f82p+00, 0x1.56f4736b527dap+00,
	0x1.5ab07dd485429p+00, 0x1.5e76f15ad2148p+00, 0x1.6247eb03a5585p+00, 0x1.6623882552225p+00,
	0x1.6a09e667f3bcdp+00, 0x1.6dfb23c651a2fp+00, 0x1.71f75e8ec5f74p+00, 0x1.75feb564267c9p+00,
	0x1.7a11473eb0187p+00, 0x1.7e2f336cf4e62p+00, 0x1.82589994cce13p+00, 0x1.868d99b4492edp+00,
	0x1.8ace5422aa0dbp+00, 0x1.8f1ae99157736p+00, 0x1.93737b0cdc5e5p+00, 0x1.97d829fde4e5p+00,
	0x1.9c49182a3f09p+00, 0x1.a0c667b5de565p+00, 0x1.a5503b23e255dp+00, 0x1.a9e6b5579fdbfp+00,
	0x1.ae89f995ad3adp+00, 0x1.b33a2b84f15fbp+00, 0x1.b7f76f2fb5e47p+00, 0x1.bcc1e904bc1d2p+00,
	0x1.c199bdd85529cp+00, 0x1.c67f12e57d14bp+00, 0x1.cb720dcef9069p+00, 0x1.d072d4a07897cp+00,
	0x1.d5818dcfba487p+00, 0x1.da9e603db3285p+00, 0x1.dfc97337b9b5fp+00, 0x1.e502ee78b3ff6p+00,
	0x1.ea4afa2a490dap+00, 0x1.efa1bee615a27p+00, 0x1.f50765b6e454p+00, 0x1.fa7c1819e90d8p+00,
}
