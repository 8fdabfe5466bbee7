package quant

import "encoding/binary"

// The K-quants: super-blocks of 256 weights in sub-blocks of 16 or 32, whose scales (and minima) are small integers
// times one float16 of the super-block.

// decodeQ2K decodes { scales [16]byte; qs [64]byte; d, dmin f16 }: sub-blocks of 16, w = d·(sc&15)·q - dmin·(sc>>4).
// Each half of 128 weights keeps its four groups of 32 in the bit pairs of 32 bytes.
func decodeQ2K(y []float32, b []byte) {
	d, dmin := halfAt(b[80:]), halfAt(b[82:])
	for g := range 16 { // sub-block
		sc := b[g]
		dl := d * float32(sc&15)
		ml := dmin * float32(sc>>4)
		half, pair, part := g/8, g%8/2, g%2
		qs := b[16+32*half+16*part:][:16]
		out := y[16*g:][:16]
		for i, q := range qs {
			out[i] = float32(dl*float32(q>>(2*pair)&3)) - ml
		}
	}
}

// decodeQ3K decodes { hmask [32]byte; qs [64]byte; scales [12]byte; d f16 }: sub-blocks of 16, w = d·(sc-32)·(q-4),
// where q has two bits in qs (laid out as in Q2_K) and the third in hmask, one bit plane per group of 32.
func decodeQ3K(y []float32, b []byte) {
	hmask, qs, raw := b[:32], b[32:96], b[96:108]
	d := halfAt(b[108:])
	for g := range 16 {
		sc := raw[g%8] >> (4 * (g / 8)) & 15
		sc |= raw[8+g%4] >> (2 * (g / 4)) & 3 << 4
		dl := d * float32(int(sc)-32)
		half, pair, part := g/8, g%8/2, g%2
		out := y[16*g:][:16]
		for i := range out {
			q := int(qs[32*half+16*part+i] >> (2 * pair) & 3)
			q |= int(hmask[16*part+i]>>(4*half+pair)&1) << 2
			out[i] = dl * float32(q-4)
		}
	}
}

// scaleMinK4 unpacks the 6-bit scale and minimum of sub-block j of Q4_K and Q5_K from their 12 bytes.
func scaleMinK4(s []byte, j int) (sc, m byte) {
	if j < 4 {
		return s[j] & 63, s[j+4] & 63
	}
	return s[j+4]&15 | s[j-4]>>6<<4, s[j+4]>>4 | s[j]>>6<<4
}

// decodeQ4K decodes { d, dmin f16; scales [12]byte; qs [128]byte }: sub-blocks of 32, w = d·sc·q - dmin·m. 32
// bytes hold one sub-block in their low and the next in their high nibbles.
func decodeQ4K(y []float32, b []byte) {
	d, dmin := halfAt(b), halfAt(b[2:])
	for g := range 8 {
		sc, m := scaleMinK4(b[4:16], g)
		dl := d * float32(sc)
		ml := dmin * float32(m)
		shift := 4 * (g % 2)
		out := y[32*g:][:32]
		for i, q := range b[16+g/2*32:][:32] {
			out[i] = float32(dl*float32(q>>shift&15)) - ml
		}
	}
}

// decodeQ5K decodes { d, dmin f16; scales [12]byte; qh [32]byte; qs [128]byte }: as Q4_K, with the fifth bit of
// sub-block g in bit g of qh.
func decodeQ5K(y []float32, b []byte) {
	d, dmin := halfAt(b), halfAt(b[2:])
	qh := b[16:48]
	for g := range 8 {
		sc, m := scaleMinK4(b[4:16], g)
		dl := d * float32(sc)
		ml := dmin * float32(m)
		shift := 4 * (g % 2)
		out := y[32*g:][:32]
		for i, q := range b[48+g/2*32:][:32] {
			v := q>>shift&15 | qh[i]>>g&1<<4
			out[i] = float32(dl*float32(v)) - ml
		}
	}
}

// decodeQ6K decodes { ql [128]byte; qh [64]byte; scales [16]int8; d f16 }: sub-blocks of 16, w = d·sc·(q-32). Each half
// of 128 weights takes 64 bytes of low nibbles and 32 bytes of high bit pairs.
func decodeQ6K(y []float32, b []byte) {
	d := halfAt(b[208:])
	for g := range 8 { // groups of 32
		half, quarter := g/4, g%4
		ql := b[64*half+32*(quarter%2):][:32]
		qh := b[128+32*half:][:32]
		out := y[32*g:][:32]
		for i := range out {
			sc := float32(int8(b[192+2*g+i/16]))
			q := int(ql[i]>>(4*(quarter/2))&15) | int(qh[i]>>(2*quarter)&3)<<4
			out[i] = float32(d*sc) * float32(q-32)
		}
	}
}

// decodeIQ4XS decodes { d f16; scales_h uint16; scales_l [4]byte; qs [128]byte }: sub-blocks of 32 nibbles into the
// IQ4_NL table, w = d·(sc-32)·table[q].
func decodeIQ4XS(y []float32, b []byte) {
	d := halfAt(b)
	high := binary.LittleEndian.Uint16(b[2:])
	for g := range 8 {
		sc := int(b[4+g/2]>>(4*(g%2))&15) | int(high>>(2*g)&3)<<4
		dl := d * float32(sc-32)
		out := y[32*g:][:32]
		for j, q := range b[8+16*g:][:16] {
			out[j] = dl * float32(iq4Values[q&15])
			out[j+16] = dl * float32(iq4Values[q>>4])
		}
	}
}
