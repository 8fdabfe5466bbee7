package kernel

import "math"

// Constants of Exp. The polynomial and the split of ln 2 are those of expf in the Cephes library (Moshier, 1992).
const (
	expLo   = -87
	expHi   = 88
	log2e   = 1.44269504088896341
	roundC  = 12582912 // 3·2²²: adding it rounds to an integer, which then stands in the low bits
	ln2Hi   = 0.693359375
	ln2Lo   = -2.12194440e-4
	expC5   = 1.9875691500e-4
	expC4   = 1.3981999507e-3
	expC3   = 8.3334519073e-3
	expC2   = 4.1665795894e-2
	expC1   = 1.6666665459e-1
	expC0   = 5.0000001201e-1
	tinyAbs = 0x0d800000 // bits of 2⁻¹⁰⁰
)

// Exp is eˣ by the specified arithmetic.
func Exp(x float32) float32 {
	switch {
	case x != x:
		return x
	case x < expLo:
		return 0
	case x > expHi:
		return float32(math.Inf(1))
	}
	z := fma32(x, log2e, roundC)
	n := z - roundC
	r := fma32(n, -ln2Hi, x)
	r = fma32(n, -ln2Lo, r)
	r2 := float32(r * r)
	y := fma32(expTail(r), r2, r) + 1
	return math.Float32frombits(math.Float32bits(y) + math.Float32bits(z)<<23)
}

// expTail is about (eˣ - 1 - x)/x² for |x| ≤ ln 2/2.
func expTail(r float32) float32 {
	p := fma32(expC5, r, expC4)
	p = fma32(p, r, expC3)
	p = fma32(p, r, expC2)
	p = fma32(p, r, expC1)
	return fma32(p, r, expC0)
}

// Softmax replaces x by Exp(x - max x) divided by the sum of those, summed in 16 lanes. An empty x is left alone.
func Softmax(x []float32) {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	var lanes [16]float32
	for i, v := range x {
		x[i] = Exp(v - m)
		lanes[i&15] += x[i]
	}
	sum := fold(&lanes)
	for i := range x {
		x[i] /= sum
	}
}

// fold adds the 16 lanes by the specified tree.
func fold(l *[16]float32) float32 {
	a0, a1, a2, a3 := l[0]+l[8], l[1]+l[9], l[2]+l[10], l[3]+l[11]
	a4, a5, a6, a7 := l[4]+l[12], l[5]+l[13], l[6]+l[14], l[7]+l[15]
	a0, a1, a2, a3 = a0+a4, a1+a5, a2+a6, a3+a7
	a0, a1 = a0+a2, a1+a3
	return a0 + a1
}

// sum16 is the dot product of two vectors of one length.
func sum16(w, x []float32) float32 {
	var l [16]float32
	n := len(w) &^ 15
	dotLanes(&l, w[:n], x[:n])
	if n < len(w) {
		var a, b [16]float32
		copy(a[:], w[n:])
		copy(b[:], x[n:len(w)])
		dotLanes(&l, a[:], b[:])
	}
	return fold(&l)
}
