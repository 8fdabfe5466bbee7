package quant

import (
	"encoding/binary"
	"math"
)

// Encoders of blocks of 32 … 256 weights without super-blocks, by llama.cpp's plain ways (quantize_row_*_ref)
// and, where an importance is given, by its searches.

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// encodeQ8_0: d = max|x| / 127, q = x / d rounded half away from zero, with the scale as it is before its
// rounding to float16.
func encodeQ8_0(b []byte, x []float32) bool {
	_, top := largest(x)
	d := top / 127
	inv := inverse(d)
	q := b[2:34]
	for i, v := range x[:32] {
		// In float64 the sum with one half is exact, so that cutting it off rounds as math.Round does.
		p := float64(v * inv)
		if p >= 0 {
			q[i] = byte(int8(min(p+0.5, 127)))
		} else {
			q[i] = byte(int8(max(p-0.5, -127)))
		}
	}
	return putHalf(b, d)
}

// encodeSymmetric computes scale and codes of a block of Q4_0 or Q5_0: d = m / -n for the value m of largest magnitude,
// so that m itself gets the code 0, which reaches further than the last does; or the search.
func encodeSymmetric(b []byte, q *[32]uint8, x, imp []float32, sigma2 float32, n int32) bool {
	if imp != nil {
		var w [32]float32
		spread(w[:], x, imp, sigma2)
		return putHalf(b, fitSymmetric(q[:], x, w[:], n))
	}
	m, _ := largest(x)
	d := m / -float32(n)
	inv, half := inverse(d), float32(n)+0.5
	for i, v := range x {
		q[i] = uint8(max(0, min(float32(v*inv)+half, float32(2*n-1))))
	}
	return putHalf(b, d)
}

// encodeAffine computes scale, minimum and codes of a block of Q4_1 or Q5_1: w = d·q + m from the smallest and the
// largest value, or the search.
func encodeAffine(b []byte, q *[32]uint8, x, imp []float32, sigma2 float32, n int32) bool {
	if imp != nil {
		var w [32]float32
		spread(w[:], x, imp, sigma2)
		d, m := fitOffset(q[:], x, w[:], offsetSearch{n: n, from: -0.9, step: 0.05, steps: 36})
		ok := putHalf(b, d)
		return putHalf(b[2:], -m) && ok
	}
	low, high := x[0], x[0]
	for _, v := range x {
		low, high = min(low, v), max(high, v)
	}
	d := (high - low) / float32(n)
	inv := inverse(d)
	for i, v := range x {
		q[i] = uint8(min(float32((v-low)*inv)+0.5, float32(n)))
	}
	ok := putHalf(b, d)
	return putHalf(b[2:], low) && ok
}

// putNibbles stores the low four bits of 32 codes, and their fifth bits at qh where that is not nil.
func putNibbles(b, qh []byte, q *[32]uint8) {
	for j := range 16 {
		b[j] = q[j]&15 | q[j+16]<<4
	}
	if qh == nil {
		return
	}
	var bits uint32
	for i, c := range q {
		bits |= uint32(c>>4) << i
	}
	binary.LittleEndian.PutUint32(qh, bits)
}

// encodeSmall encodes a block of Q4_0, Q4_1, Q5_0 or Q5_1. sigma2 is the mean square of the row and used with imp only.
func encodeSmall(f Format, b []byte, x, imp []float32, sigma2 float32) bool {
	var q [32]uint8
	var ok bool
	switch f {
	case Q4_0:
		ok = encodeSymmetric(b, &q, x, imp, sigma2, 8)
		putNibbles(b[2:], nil, &q)
	case Q4_1:
		ok = encodeAffine(b, &q, x, imp, sigma2, 15)
		putNibbles(b[4:], nil, &q)
	case Q5_0:
		ok = encodeSymmetric(b, &q, x, imp, sigma2, 16)
		putNibbles(b[6:], b[2:], &q)
	default: // Q5_1
		ok = encodeAffine(b, &q, x, imp, sigma2, 31)
		putNibbles(b[8:], b[4:], &q)
	}
	return ok
}

// inverse returns 1/d, or 0 where there is none in float32.
func inverse(d float32) float32 {
	inv := 1 / d
	if d == 0 || inv > math.MaxFloat32 || inv < -math.MaxFloat32 {
		return 0
	}
	return inv
}

// iq4Index is the index of the value of IQ4's table next to x, the higher of two.
func iq4Index(x float32) uint8 {
	if x <= float32(iq4Values[0]) {
		return 0
	}
	if x >= float32(iq4Values[15]) {
		return 15
	}
	whole := int(x)
	if float32(whole) > x {
		whole-- // the conversion cuts off towards zero
	}
	lo := iq4Below[whole+127]
	if x-float32(iq4Values[lo]) < float32(iq4Values[lo+1])-x {
		return lo
	}
	return lo + 1
}

// iq4Below is, for every integer from the table's first on, the index of the largest value that is not above it.
//
//nolint:gochecknoglobals // a table
var iq4Below = func() (below [240]uint8) {
	for i := range below {
		for below[i] < 14 && int(iq4Values[below[i]+1]) <= i-127 {
			below[i]++
		}
	}
	return below
}()

// fitIQ4 finds a scale for x ≈ scale·table[q]: sixteen scales about the one that puts the largest value at
// the table's end.
func fitIQ4(x, w []float32) float32 {
	top, magnitude := largest(x)
	if magnitude < tinyBlock {
		return 0
	}
	first := float32(iq4Values[0])
	var d, best float32
	for try := int32(-8); try <= 7; try++ {
		inv := (float32(try) + first) / top
		if try == -8 { // first the plain one, which is not quite that of try = 0
			inv = 1 / (-top / first)
		}
		var qx, q2 float32
		for i, v := range x {
			q := float32(iq4Values[iq4Index(float32(inv*v))])
			qx += float32(float32(w[i]*q) * v)
			q2 += float32(float32(w[i]*q) * q)
		}
		switch {
		case try == -8:
			if q2 > 0 {
				d = qx / q2
			}
			best = d * qx
		case q2 > 0 && float32(qx*qx) > float32(best*q2):
			d = qx / q2
			best = d * qx
		}
	}
	return d
}

// weighIQ4 makes the weights of a block's search.
func weighIQ4(w, x, imp []float32, sigma2 float32) {
	if imp != nil {
		spread(w, x, imp, sigma2)
		return
	}
	for i, v := range x {
		w[i] = float32(v * v)
	}
}

// encodeIQ4NL encodes a block of 32.
func encodeIQ4NL(b []byte, x, imp []float32) bool {
	var w [32]float32
	weighIQ4(w[:], x, imp, float32(squares(x)*(2.0/32)))
	d := fitIQ4(x, w[:])
	inv := inverse(d)
	for j := range 16 {
		b[2+j] = iq4Index(float32(inv*x[j])) | iq4Index(float32(inv*x[j+16]))<<4
	}
	return putHalf(b, d)
}

// encodeIQ4XS encodes a super-block of 256.
func encodeIQ4XS(b []byte, x, imp []float32) bool {
	var (
		w      [32]float32
		scales [8]float32
	)
	sigma2 := float32(squares(x) * (2.0 / 256))
	for g := range 8 {
		var part []float32
		if imp != nil {
			part = imp[32*g : 32*g+32]
		}
		weighIQ4(w[:], x[32*g:32*g+32], part, sigma2)
		scales[g] = fitIQ4(x[32*g:32*g+32], w[:])
	}
	top, _ := largest(scales[:])
	d := -top / 32
	inv := inverse(d)
	var high uint16
	clear(b[4:8])
	for g, s := range scales {
		l := max(-32, min(31, nearest(inv*s)))
		invL := inverse(d * float32(l))
		for j := range 16 {
			b[8+16*g+j] = iq4Index(float32(invL*x[32*g+j])) | iq4Index(float32(invL*x[32*g+16+j]))<<4
		}
		b[4+g/2] |= byte(l+32) & 15 << (4 * (g % 2))
		high |= uint16(l+32) >> 4 << (2 * g)
	}
	binary.LittleEndian.PutUint16(b[2:], high)
	return putHalf(b, d)
}

// e2m1Index is the nibble whose value in units of d is next to x, the first of several.
func e2m1Index(x, d float32) uint8 {
	best, bestError := 0, abs(float32(mxfp4Values[0])*d-x)
	for i := 1; i < 16; i++ {
		if e := abs(float32(float32(mxfp4Values[i])*d) - x); e < bestError {
			best, bestError = i, e
		}
	}
	return uint8(best)
}

// encodeMXFP4 encodes a block of 32 with the power of two that brings the largest magnitude to 4 … 8: above 6
// it is cut.
func encodeMXFP4(b []byte, x []float32) bool {
	_, top := largest(x)
	b[0] = 0
	if top > 0 {
		// ggml's logarithm is a float32, which rounds to the next integer just below a power of two.
		e := math.Floor(float64(float32(math.Log2(float64(top)))))
		b[0] = byte(max(0, e-2+127))
	}
	d := MXFP4Scale(b[0])
	for j := range 16 {
		b[1+j] = e2m1Index(x[j], d) | e2m1Index(x[j+16], d)<<4
	}
	return true
}

// e4m3 is the unsigned E4M3 number next to x ≥ 0, as ggml rounds: half up, and everything from 256 on to 448.
func e4m3(x float32) byte {
	if !(x > 0) {
		return 0
	}
	x = min(x, 448)
	bits := math.Float32bits(x)
	exp := int(bits>>23) - 127 + 7
	if exp <= 0 {
		return byte(min(7, int32(float32(x*512)+0.5)))
	}
	code := exp<<3 + int(bits>>20&7) + int(bits>>19&1)
	if code >= 15<<3 {
		return 0x7e // 256 and above
	}
	return byte(code)
}

// encodeNVFP4 encodes a block of 64.
func encodeNVFP4(b []byte, x []float32) bool {
	for g := range 4 {
		xs := x[16*g : 16*g+16]
		_, top := largest(xs)
		b[g] = e4m3(top / 6)
		d := NVFP4Scale(b[g])
		for j := range 8 {
			b[4+8*g+j] = e2m1Index(xs[j], d) | e2m1Index(xs[j+8], d)<<4
		}
	}
	return true
}

// ternary rounds x / max|x| to -1, 0 and 1, half away from zero, plus 1.
func ternary(q []uint8, x []float32) (d float32) {
	_, d = largest(x)
	inv := inverse(d)
	for i, v := range x {
		q[i] = uint8(math.Round(float64(v*inv)) + 1)
	}
	return d
}

// encodeTQ1 encodes 256 weights, see integersTQ1.
func encodeTQ1(b []byte, x []float32) bool {
	var q [256]uint8
	d := ternary(q[:], x)
	i := 0
	for _, part := range [...]struct{ from, n, digits int }{{0, 32, 5}, {32, 16, 5}, {48, 4, 4}} {
		for m := range part.n {
			v := 0
			for k := range 5 {
				v *= 3
				if k < part.digits {
					v += int(q[i+k*part.n+m])
				}
			}
			b[part.from+m] = byte((v*256 + 242) / 243) // rounded up, so that the digits come out again
		}
		i += part.n * part.digits
	}
	return putHalf(b[52:], d)
}

// encodeTQ2 encodes 256 weights.
func encodeTQ2(b []byte, x []float32) bool {
	var q [256]uint8
	d := ternary(q[:], x)
	putPairs(b, &q)
	return putHalf(b[64:], d)
}

// encodeQ1 encodes 128 weights: their mean magnitude and their signs.
func encodeQ1(b []byte, x []float32) bool {
	var s float32
	for _, v := range x {
		s += abs(v)
	}
	clear(b[2:18])
	for i, v := range x {
		if v >= 0 {
			b[2+i/8] |= 1 << (i % 8)
		}
	}
	return putHalf(b, s/128)
}

// encodeQ2 encodes 64 weights.
func encodeQ2(b []byte, x []float32) bool {
	var q [64]uint8
	d := ternary(q[:], x)
	clear(b[2:18])
	for i, c := range q {
		b[2+i/4] |= c << (2 * (i % 4))
	}
	return putHalf(b, d)
}
