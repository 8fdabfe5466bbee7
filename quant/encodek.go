package quant

import "encoding/binary"

// The K-quants' encoders: scales of sub-blocks by the searches of fit.go, then the scales' own scale, then
// the codes anew with the scales as they are stored. Without importance llama.cpp weighs by the weights' own
// size, and searches less.

// putHalf stores d and reports whether float16 can hold it.
func putHalf(b []byte, d float32) bool {
	h := FloatToHalf(d)
	binary.LittleEndian.PutUint16(b, h)
	return h&0x7c00 != 0x7c00
}

// encodeQ2K encodes a super-block; imp is nil or as long as x.
func encodeQ2K(b []byte, x, imp []float32) bool {
	var (
		q              [256]uint8
		scales, mins   [16]float32
		ls, lm         [16]uint8
		weights        [16]float32
		sums           [16]float32
		dOK, dminOK    bool
		search         = offsetSearch{n: 3, from: -0.5, step: 0.1, steps: 15, absolute: true}
		searchWeighted = offsetSearch{n: 3, from: -0.9, step: 0.05, steps: 36}
	)
	sigma2 := squares(x) / 256
	for j := range 16 {
		xs := x[16*j : 16*j+16]
		if imp != nil {
			spread(weights[:], xs, imp[16*j:], sigma2)
			sums[j] = sum(weights[:])
			scales[j], mins[j] = fitOffset(q[16*j:16*j+16], xs, weights[:], searchWeighted)
			continue
		}
		for i, v := range xs {
			weights[i] = abs(v)
		}
		scales[j], mins[j] = fitOffset(q[16*j:16*j+16], xs, weights[:], search)
	}
	if imp != nil {
		dOK = putHalf(b[80:], fitPositive(ls[:], scales[:], sums[:], 15))
		dminOK = putHalf(b[82:], fitPositive(lm[:], mins[:], sums[:], 15))
	} else {
		dOK = putHalf(b[80:], spreadScales(ls[:], scales[:], 15))
		dminOK = putHalf(b[82:], spreadScales(lm[:], mins[:], 15))
	}
	d, dmin := halfAt(b[80:]), halfAt(b[82:])
	for j := range 16 {
		b[j] = ls[j] | lm[j]<<4
		codes(q[16*j:16*j+16], x[16*j:], float32(d*float32(b[j]&15)), float32(dmin*float32(b[j]>>4)), 3)
	}
	putPairs(b[16:80], &q)
	return dOK && dminOK
}

// spreadScales gives the scales of sub-blocks (none is negative) the codes 0 … n of the largest, and returns
// what code 1 is.
func spreadScales(q []uint8, scales []float32, n float32) float32 {
	var top float32
	for _, s := range scales {
		top = max(top, s)
	}
	if !(top > 0) {
		clear(q)
		return 0
	}
	inv := n / top
	for i, s := range scales {
		q[i] = uint8(min(int32(n), nearest(inv*s)))
	}
	return top / n
}

// codes finds the codes 0 … n of x with w = d·q - m, unless d is 0: then those of the search stay.
func codes(q []uint8, x []float32, d, m float32, n int32) {
	if d == 0 {
		return
	}
	for i := range q {
		q[i] = uint8(max(0, min(n, nearest((x[i]+m)/d))))
	}
}

// putPairs stores 2-bit codes, four groups of 32 to 32 bytes.
func putPairs(b []byte, q *[256]uint8) {
	for h := range 2 {
		for i := range 32 {
			p := q[128*h+i:]
			b[32*h+i] = p[0]&3 | p[32]&3<<2 | p[64]&3<<4 | p[96]&3<<6
		}
	}
}

// encodeQ3K encodes a super-block.
func encodeQ3K(b []byte, x, imp []float32) bool {
	var (
		q       [256]uint8
		scales  [16]float32
		ls      [16]uint8
		weights [16]float32
		sums    [16]float32
		d       float32
	)
	if imp != nil {
		sigma2 := 2 * squares(x) / 256
		for j := range 16 {
			spread(weights[:], x[16*j:16*j+16], imp[16*j:], sigma2)
			sums[j] = sum(weights[:])
			scales[j] = fitSymmetric(q[16*j:16*j+16], x[16*j:16*j+16], weights[:], 4)
		}
		d = fitSymmetric(ls[:], scales[:], sums[:], 32)
	} else {
		for j := range 16 {
			scales[j] = fitSymmetricStepwise(q[16*j:16*j+16], x[16*j:16*j+16], 4)
		}
		if top, _ := largest(scales[:]); top != 0 {
			inv := -32 / top
			for j, s := range scales {
				ls[j] = uint8(max(-32, min(31, nearest(inv*s))) + 32)
			}
			d = 1 / inv
		}
	}
	ok := putHalf(b[108:], d)
	d = halfAt(b[108:])
	raw := b[96:108]
	clear(raw)
	for j, l := range ls {
		raw[j%8] |= l & 15 << (4 * (j / 8))
		raw[8+j%4] |= l >> 4 << (2 * (j / 4))
	}
	for j := range 16 {
		dl := float32(d * float32(int32(ls[j])-32))
		if dl == 0 {
			continue
		}
		for i := 16 * j; i < 16*j+16; i++ {
			q[i] = uint8(max(-4, min(3, nearest(x[i]/dl))) + 4)
		}
	}
	clear(b[:32])
	for i := range q {
		b[i%32] |= q[i] >> 2 & 1 << (i / 32)
	}
	putPairs(b[32:96], &q)
	return ok
}

// encodeOffsets encodes the part that Q4_K and Q5_K have in common: scales and minima of eight sub-blocks of 32
// and their codes 0 … n.
func encodeOffsets(b []byte, q *[256]uint8, x, imp []float32, plain offsetSearch) bool {
	var (
		scales, mins [8]float32
		ls, lm       [8]uint8
		weights      [32]float32
		sums         [8]float32
		d, dmin      float32
	)
	n := plain.n
	sigma2 := 2 * squares(x) / 256
	for j := range 8 {
		xs := x[32*j : 32*j+32]
		if imp != nil {
			spread(weights[:], xs, imp[32*j:], sigma2)
			sums[j] = sum(weights[:])
			scales[j], mins[j] = fitOffset(q[32*j:32*j+32], xs, weights[:], offsetSearch{n: n, from: -0.9, step: 0.05, steps: 36})
			continue
		}
		mean := root(squares(xs) / 32)
		for i, v := range xs {
			weights[i] = mean + abs(v)
		}
		scales[j], mins[j] = fitOffset(q[32*j:32*j+32], xs, weights[:], plain)
	}
	if imp != nil {
		d, dmin = fitPositive(ls[:], scales[:], sums[:], 63), fitPositive(lm[:], mins[:], sums[:], 63)
	} else {
		d, dmin = spreadScales(ls[:], scales[:], 63), spreadScales(lm[:], mins[:], 63)
	}
	ok := putHalf(b, d)
	ok = putHalf(b[2:], dmin) && ok
	d, dmin = halfAt(b), halfAt(b[2:])
	for j := range 4 {
		b[4+j] = ls[j]&63 | ls[j+4]>>4<<6
		b[8+j] = lm[j]&63 | lm[j+4]>>4<<6
		b[12+j] = ls[j+4]&15 | lm[j+4]<<4
	}
	for j := range 8 {
		codes(q[32*j:32*j+32], x[32*j:], float32(d*float32(ls[j])), float32(dmin*float32(lm[j])), n)
	}
	return ok
}

// encodeQ4K encodes a super-block.
func encodeQ4K(b []byte, x, imp []float32) bool {
	var q [256]uint8
	ok := encodeOffsets(b, &q, x, imp, offsetSearch{n: 15, from: -1, step: 0.1, steps: 20})
	for j := range 4 {
		for i := range 32 {
			b[16+32*j+i] = q[64*j+i] | q[64*j+32+i]<<4
		}
	}
	return ok
}

// encodeQ5K encodes a super-block.
func encodeQ5K(b []byte, x, imp []float32) bool {
	var q [256]uint8
	ok := encodeOffsets(b, &q, x, imp, offsetSearch{n: 31, from: -0.5, step: 0.1, steps: 15})
	clear(b[16:48])
	for j := range 4 {
		for i := range 32 {
			lo, hi := q[64*j+i], q[64*j+32+i]
			b[48+32*j+i] = lo&15 | hi<<4
			b[16+i] |= lo>>4<<(2*j) | hi>>4<<(2*j+1)
		}
	}
	return ok
}

// encodeQ6K encodes a super-block.
func encodeQ6K(b []byte, x, imp []float32) bool {
	var (
		q      [256]uint8
		scales [16]float32
	)
	for j := range 16 {
		var w []float32
		if imp != nil {
			w = imp[16*j : 16*j+16]
		}
		scales[j] = fitSymmetric(q[16*j:16*j+16], x[16*j:16*j+16], w, 32)
	}
	top, magnitude := largest(scales[:])
	if magnitude < tinyBlock {
		clear(b[:210])
		return true
	}
	inv := -128 / top
	ok := putHalf(b[208:], 1/inv)
	d := halfAt(b[208:])
	for j, s := range scales {
		sc := int8(min(127, nearest(inv*s)))
		b[192+j] = byte(sc)
		dl := float32(d * float32(sc))
		if dl == 0 {
			continue
		}
		for i := 16 * j; i < 16*j+16; i++ {
			q[i] = uint8(max(-32, min(31, nearest(x[i]/dl))) + 32)
		}
	}
	for h := range 2 {
		for i := range 32 {
			p := q[128*h+i:]
			b[64*h+i] = p[0]&15 | p[64]<<4
			b[64*h+32+i] = p[32]&15 | p[96]<<4
			b[128+32*h+i] = p[0]>>4 | p[32]>>4<<2 | p[64]>>4<<4 | p[96]>>4<<6
		}
	}
	return ok
}
