package quant

import (
	"encoding/binary"
	"math"
)

// The formats of this file are specified by their integers: a block is w[i] = s·v[i] with one float32 scale s for every
// ScaleSpan weights, and the product is exact in all of them but Q8_K (whose scale is a full float32), so that ggml's
// dequantised values, which multiply in another order, are the same bits.

// HasIntegers reports whether Integers unpacks f.
func HasIntegers(f Format) bool {
	switch f {
	case IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, NVFP4, TQ1_0, TQ2_0, Q1_0, Q2_0, Q8_1, Q8_K:
		return true
	default:
		return false
	}
}

// ScaleSpan is the number of weights that share a scale of Integers: 16 in NVFP4, 32 in the others.
func ScaleSpan(f Format) int {
	if f == NVFP4 {
		return 16
	}
	return 32
}

// Integers unpacks one block b of a format that HasIntegers: v gets BlockSize integers of at most 15 bits, s
// a scale for every ScaleSpan of them.
func Integers(f Format, v []int16, s []float32, b []byte) {
	switch f {
	case IQ1_S:
		integersIQ1S((*[256]int16)(v), (*[8]float32)(s), (*[50]byte)(b))
	case IQ1_M:
		integersIQ1M((*[256]int16)(v), (*[8]float32)(s), (*[56]byte)(b))
	case IQ2_XXS:
		integersIQ2XXS((*[256]int16)(v), (*[8]float32)(s), (*[66]byte)(b))
	case IQ2_XS:
		integersIQ2XS((*[256]int16)(v), (*[8]float32)(s), (*[74]byte)(b))
	case IQ2_S:
		integersIQ2S((*[256]int16)(v), (*[8]float32)(s), (*[82]byte)(b))
	case IQ3_XXS:
		integersIQ3XXS((*[256]int16)(v), (*[8]float32)(s), (*[98]byte)(b))
	case IQ3_S:
		integersIQ3S((*[256]int16)(v), (*[8]float32)(s), (*[110]byte)(b))
	case NVFP4:
		integersNVFP4((*[64]int16)(v), (*[4]float32)(s), (*[36]byte)(b))
	case TQ1_0:
		integersTQ1((*[256]int16)(v), (*[8]float32)(s), (*[54]byte)(b))
	case TQ2_0:
		integersTQ2((*[256]int16)(v), (*[8]float32)(s), (*[66]byte)(b))
	case Q1_0:
		integersQ1((*[128]int16)(v), (*[4]float32)(s), (*[18]byte)(b))
	case Q2_0:
		integersQ2((*[64]int16)(v), (*[2]float32)(s), (*[18]byte)(b))
	case Q8_1:
		s[0] = halfAt(b)
		bytesToIntegers(v[:32], b[4:36])
	case Q8_K:
		d := math.Float32frombits(binary.LittleEndian.Uint32(b))
		fill(s[:8], d)
		bytesToIntegers(v[:256], b[4:260])
	default:
		panic("quant: " + f.String() + " has no integers of its own")
	}
}

// decodeIntegers decodes one block of a format that HasIntegers.
func decodeIntegers(f Format, y []float32, b []byte) {
	var (
		v [superBlock]int16
		s [superBlock / 16]float32
	)
	Integers(f, v[:], s[:], b)
	span := ScaleSpan(f)
	for i := range y {
		y[i] = s[i/span] * float32(v[i])
	}
}

func fill(s []float32, d float32) {
	for i := range s {
		s[i] = d
	}
}

func bytesToIntegers(v []int16, b []byte) {
	for i, q := range b {
		v[i] = int16(int8(q))
	}
}

// signed writes the eight values of a vector times factor, negative where signs has its bit.
func signed(v []int16, vector *[8]int8, signs byte, factor int16) {
	v = v[:8]
	for j, x := range vector {
		v[j] = factor * int16(x) * (1 - 2*int16(signs>>j&1))
	}
}

// signed4 is signed for two vectors of four.
func signed4(v []int16, lo, hi *[4]int8, signs byte) {
	v = v[:8]
	for j := range 4 {
		v[j] = int16(lo[j]) * (1 - 2*int16(signs>>j&1))
		v[j+4] = int16(hi[j]) * (1 - 2*int16(signs>>(j+4)&1))
	}
}

// integersIQ2XXS unpacks { d f16; 8 × { index [4]byte; scale and signs uint32 } }: a block of 32 has four
// vectors, their 7-bit signs and, in the top four bits, the scale: w = d·(1 + 2·sc)/8 · ±grid.
func integersIQ2XXS(v *[256]int16, s *[8]float32, b *[66]byte) {
	grid := gridTables().iq2xxs
	d := halfAt(b[:])
	for g := range 8 {
		p := b[2+8*g:][:8]
		rest := binary.LittleEndian.Uint32(p[4:])
		s[g] = d * float32(2*(rest>>28)+1) * 0.125
		for l := range 4 {
			signed(v[32*g+8*l:], &grid[p[l]], evenSigns(rest>>(7*l)), 1)
		}
	}
}

// integersIQ2XS unpacks { d f16; qs [32]uint16; scales [8]byte }: nine bits choose a vector, seven its signs;
// a nibble is the scale of 16 weights, which goes into the integers: w = d/8 · (1 + 2·sc)·±grid.
func integersIQ2XS(v *[256]int16, s *[8]float32, b *[74]byte) {
	grid := gridTables().iq2xs
	fill(s[:], halfAt(b[:])*0.125)
	for i := range 32 {
		q := binary.LittleEndian.Uint16(b[2+2*i:])
		sc := b[66+i/4] >> (4 * (i / 2 % 2)) & 15
		signed(v[8*i:], &grid[q&511], evenSigns(uint32(q>>9)), 2*int16(sc)+1)
	}
}

// integersIQ2S unpacks { d f16; qs [32]byte; signs [32]byte; qh [8]byte; scales [8]byte }: as IQ2_XS, with
// ten bits for a vector and all eight signs.
func integersIQ2S(v *[256]int16, s *[8]float32, b *[82]byte) {
	grid := gridTables().iq2s
	fill(s[:], halfAt(b[:])*0.125)
	for i := range 32 {
		q := int(b[2+i]) | int(b[66+i/4]>>(2*(i%4))&3)<<8
		sc := b[74+i/4] >> (4 * (i / 2 % 2)) & 15
		signed(v[8*i:], &grid[q], b[34+i], 2*int16(sc)+1)
	}
}

// integersIQ3XXS unpacks { d f16; index [64]byte; 8 × scale and signs uint32 }: as IQ2_XXS with two vectors of four for
// each eight weights: w = d·(1 + 2·sc)/4 · ±grid.
func integersIQ3XXS(v *[256]int16, s *[8]float32, b *[98]byte) {
	grid := gridTables().iq3xxs
	d := halfAt(b[:])
	for g := range 8 {
		rest := binary.LittleEndian.Uint32(b[66+4*g:])
		s[g] = d * float32(2*(rest>>28)+1) * 0.25
		for l := range 4 {
			p := b[2+8*g+2*l:][:2]
			signed4(v[32*g+8*l:], &grid[p[0]], &grid[p[1]], evenSigns(rest>>(7*l)))
		}
	}
}

// integersIQ3S unpacks { d f16; qs [64]byte; qh [8]byte; signs [32]byte; scales [4]byte }: nine bits for a
// vector of four, a nibble of scale for 32 weights: w = d·(1 + 2·sc) · ±grid.
func integersIQ3S(v *[256]int16, s *[8]float32, b *[110]byte) {
	grid := gridTables().iq3s
	d := halfAt(b[:])
	for g := range 8 {
		s[g] = d * float32(2*(b[106+g/2]>>(4*(g%2))&15)+1)
		high := int(b[66+g])
		for l := range 4 {
			p := b[2+8*g+2*l:][:2]
			lo := int(p[0]) | high>>(2*l)&1<<8
			hi := int(p[1]) | high>>(2*l+1)&1<<8
			signed4(v[32*g+8*l:], &grid[lo], &grid[hi], b[74+4*g+l])
		}
	}
}

// integersIQ1S unpacks { d f16; qs [32]byte; qh [8]uint16 }: a block of 32 has four vectors of -1, 0 and 1 (eleven bits
// each), three bits of scale and the sign of a common shift of 1/8: w = d·(1 + 2·sc)/8 · (8·grid ± 1).
func integersIQ1S(v *[256]int16, s *[8]float32, b *[50]byte) {
	grid := gridTables().iq1
	d := halfAt(b[:])
	for g := range 8 {
		qh := binary.LittleEndian.Uint16(b[34+2*g:])
		s[g] = d * float32(2*(qh>>12&7)+1) * 0.125
		shift := 1 - 2*int16(qh>>15)
		for l := range 4 {
			vector := &grid[int(b[2+4*g+l])|int(qh>>(3*l)&7)<<8]
			for j, x := range vector {
				v[32*g+8*l+j] = int16(x) + shift
			}
		}
	}
}

// integersIQ1M unpacks { qs [32]byte; qh [16]byte; scales [4]uint16 }: as IQ1_S with three bits of scale for
// 16 weights, which go into the integers, and the shift's sign for 8; the top nibbles of the scales make the
// float16 d.
func integersIQ1M(v *[256]int16, s *[8]float32, b *[56]byte) {
	grid := gridTables().iq1
	var bits uint16
	for i := range 4 {
		bits |= binary.LittleEndian.Uint16(b[48+2*i:]) >> 12 << (4 * i)
	}
	fill(s[:], HalfToFloat(bits)*0.125)
	for i := range 32 {
		qh := b[32+i/2] >> (4 * (i % 2))
		sc := binary.LittleEndian.Uint16(b[48+i/8*2:]) >> (3 * (i / 2 % 4)) & 7
		factor := 2*int16(sc) + 1
		shift := 1 - 2*int16(qh>>3&1)
		vector := &grid[int(b[i])|int(qh&7)<<8]
		for j, x := range vector {
			v[8*i+j] = factor * (int16(x) + shift)
		}
	}
}

// NVFP4Scale is half the value of an unsigned E4M3 number (bias 7), which goes with the doubled values of
// MXFP4Values. The format's NaN counts as 0, as in ggml; bit 7 is ignored.
func NVFP4Scale(e byte) float32 {
	exp, frac := int(e>>3&15), float32(e&7)
	switch {
	case e == 0x7f:
		return 0
	case exp == 0:
		return frac * (1.0 / 1024)
	default:
		return (8 + frac) * math.Float32frombits(uint32(exp-11+127)<<23)
	}
}

// integersNVFP4 unpacks { d [4]E4M3; qs [32]byte }: 64 weights in four groups of 16, whose bytes hold weight j low and
// weight j+8 high: w = d · E2M1(q).
func integersNVFP4(v *[64]int16, s *[4]float32, b *[36]byte) {
	for g := range 4 {
		s[g] = NVFP4Scale(b[g])
		for j, q := range b[4+8*g:][:8] {
			v[16*g+j] = int16(mxfp4Values[q&15])
			v[16*g+j+8] = int16(mxfp4Values[q>>4])
		}
	}
}

// integersTQ1 unpacks { qs [48]byte; qh [4]byte; d f16 }: five ternary digits a byte (four in qh), stored as
// the fraction digits/3⁵ in units of 1/256, so that multiplying by three brings the next digit out on top: w
// = d·(digit - 1).
func integersTQ1(v *[256]int16, s *[8]float32, b *[54]byte) {
	fill(s[:], halfAt(b[52:]))
	i := 0
	for _, part := range [...]struct{ from, n, digits int }{{0, 32, 5}, {32, 16, 5}, {48, 4, 4}} {
		power := byte(1)
		for range part.digits {
			for _, q := range b[part.from:][:part.n] {
				v[i] = int16(uint16(q*power)*3>>8) - 1
				i++
			}
			power *= 3
		}
	}
}

// integersTQ2 unpacks { qs [64]byte; d f16 }: w = d·(q - 1); each 32 bytes hold four groups of 32 in their bit pairs.
func integersTQ2(v *[256]int16, s *[8]float32, b *[66]byte) {
	fill(s[:], halfAt(b[64:]))
	for g := range 8 {
		out := v[32*g:][:32]
		for j, q := range b[g/4*32:][:32] {
			out[j] = int16(q>>(2*(g%4))&3) - 1
		}
	}
}

// integersQ1 unpacks { d f16; qs [16]byte }: bit i of 128 says whether weight i is d or -d.
func integersQ1(v *[128]int16, s *[4]float32, b *[18]byte) {
	fill(s[:], halfAt(b[:]))
	for i := range v {
		v[i] = 2*int16(b[2+i/8]>>(i%8)&1) - 1
	}
}

// integersQ2 unpacks { d f16; qs [16]byte }: w = d·(q - 1) for 64 bit pairs, the first lowest.
func integersQ2(v *[64]int16, s *[2]float32, b *[18]byte) {
	fill(s[:], halfAt(b[:]))
	for i := range v {
		v[i] = int16(b[2+i/4]>>(2*(i%4))&3) - 1
	}
}
