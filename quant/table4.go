package quant

import "math"

// iq4Values is the non-linear 4-bit table of IQ4_NL and IQ4_XS (kvalues_iq4nl in ggml-common.h).
//
//nolint:gochecknoglobals // a table
var iq4Values = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// mxfp4Values is twice the E2M1 value of each nibble (OCP Microscaling Formats 1.0, table 5); the scale is halved.
//
//nolint:gochecknoglobals // a table
var mxfp4Values = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// IQ4Values returns the table of IQ4_NL and IQ4_XS.
func IQ4Values() [16]int8 { return iq4Values }

// MXFP4Values returns twice the values of MXFP4's nibbles.
func MXFP4Values() [16]int8 { return mxfp4Values }

// decodeIQ4NL decodes { d f16; qs [16]byte }: w = d · table[q].
func decodeIQ4NL(y []float32, b []byte) {
	d := halfAt(b)
	for j, q := range b[2:18] {
		y[j] = d * float32(iq4Values[q&15])
		y[j+16] = d * float32(iq4Values[q>>4])
	}
}

// MXFP4Scale is half the block scale 2^(e-127) of an MXFP4 block, which goes with the doubled values of
// MXFP4Values. The two smallest are subnormal float32. e = 255 is NaN in the OCP format; ggml writes none and
// reads 2¹²⁷, as here.
func MXFP4Scale(e byte) float32 {
	if e < 2 {
		return math.Float32frombits(0x00200000 << e)
	}
	return math.Float32frombits(uint32(e-1) << 23)
}

// decodeMXFP4 decodes { e uint8; qs [16]byte }: w = 2^(e-127) · E2M1(q).
func decodeMXFP4(y []float32, b []byte) {
	d := MXFP4Scale(b[0])
	for j, q := range b[1:17] {
		y[j] = d * float32(mxfp4Values[q&15])
		y[j+16] = d * float32(mxfp4Values[q>>4])
	}
}
