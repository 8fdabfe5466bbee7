package quant

import (
	"encoding/binary"
	"slices"
)

// BlocksOf returns the block format that holds a matrix with a Group value for value: Q4_0 for 4-bit integers
// about 8, Q5_0 for those about other zeros, Q8_0 for 8-bit ones about the middle, each where every scale is
// a float16, and MXFP4. The codes are not looked at.
func BlocksOf(m *Matrix) (Format, bool) {
	g := m.Group
	if g.Index != nil || g.Span != 1 || g.Divide != 0 || g.Over != 0 || g.Narrow || g.ZerosF != nil || m.Cols%32 != 0 {
		return FormatInvalid, false
	}
	if g.ScaleFormat == ScaleE8M0 {
		if slices.Contains(g.Scales, 255) { // NaN in OCP's format
			return FormatInvalid, false
		}
		return MXFP4, m.Format == Group4 && g.Size == 32 && g.Zeros == nil && g.Zero == 0 && g.Values[1] == 0.5
	}
	if g.Size%32 != 0 && g.Size < m.Cols {
		return FormatInvalid, false
	}
	f := FormatInvalid
	switch {
	case m.Format == Group4 && g.Values[1] == 1 && g.Zeros != nil:
		f = Q5_0
	case m.Format == Group4 && g.Values[1] == 1 && g.Zero == 8:
		f = Q4_0
	case m.Format == Group4 && g.Values[1] == 1 && g.Zero >= 0 && g.Zero < 16 && g.Zero == float32(int(g.Zero)):
		f = Q5_0
	case m.Format == Group8 && g.Zeros == nil && (g.Values[255] == -1 && g.Zero == 0 || g.Values[255] == 255 && g.Zero == 128):
		f = Q8_0
	default:
		return f, false
	}
	for i := range len(g.Scales) / g.ScaleFormat.Bytes() {
		if s := g.scale(i); HalfToFloat(FloatToHalf(s)) != s {
			return f, false
		}
	}
	return f, true
}

// PutBlocks writes a row in the format that BlocksOf gave.
func PutBlocks(out []byte, f Format, m *Matrix, row int) {
	g := m.Group
	n := m.Format.RowBytes(m.Cols)
	codes := m.Data[row*n : row*n+n]
	size := f.BlockBytes()
	for c := 0; c < m.Cols; c += 32 {
		b := out[c/32*size:][:size]
		at := g.at(row, c)
		switch f {
		case MXFP4:
			b[0] = g.Scales[at]
			for j := range 16 {
				b[1+j] = Group4.code(codes, c+j) | Group4.code(codes, c+16+j)<<4
			}
			continue
		case Q8_0:
			flip := byte(0)
			if g.Zero == 128 {
				flip = 0x80
			}
			for j := range 32 {
				b[2+j] = codes[c+j] ^ flip
			}
		default:
			var q [32]uint8
			shift := byte(0)
			if f == Q5_0 {
				shift = 16 - byte(g.zero(at))
			}
			for j := range q {
				q[j] = Group4.code(codes, c+j) + shift
			}
			if f == Q4_0 {
				putNibbles(b[2:], nil, &q)
			} else {
				putNibbles(b[6:], b[2:], &q)
			}
		}
		binary.LittleEndian.PutUint16(b, FloatToHalf(g.scale(at)))
	}
}
