package quant

import (
	"encoding/binary"
	"math"
)

// Row decodes row row of m exactly into dst[:m.Cols]. The caller guarantees what weights proved at opening: the row is
// inside the matrix and Data has the size that the format asks for.
//
// Every product is rounded to float32 before it is added to: the results are those of ggml and bitsandbytes,
// bit for bit and on every architecture.
func Row(dst []float32, m *Matrix, row int) {
	dst = dst[:m.Cols]
	if m.Format.IsBnB() {
		Flat(dst, m, row*m.Cols)
		return
	}
	if m.Format.IsGroup() {
		GroupRow(dst, m, row, 0)
		return
	}
	n := m.Format.RowBytes(m.Cols)
	Decode(m.Format, dst, m.Data[row*n:row*n+n])
}

// Decode decodes len(dst) weights of a block format (any but NF4, FP4 and those with a Group) from src.
// len(dst) is a multiple of the block size and src holds as many blocks; Decode panics on a shorter one.
func Decode(f Format, dst []float32, src []byte) {
	switch f {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = HalfToFloat(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = BFloatToFloat(binary.LittleEndian.Uint16(src[2*i:]))
		}
	default:
		size, bytes := f.BlockSize(), f.BlockBytes()
		if HasIntegers(f) {
			for i := range len(dst) / size {
				decodeIntegers(f, dst[i*size:(i+1)*size], src[i*bytes:(i+1)*bytes])
			}
			return
		}
		decodeBlock := blockDecoder(f)
		for i := range len(dst) / size {
			decodeBlock(dst[i*size:(i+1)*size], src[i*bytes:(i+1)*bytes])
		}
	}
}

// blockDecoder returns the function that decodes one block of f.
func blockDecoder(f Format) func(y []float32, b []byte) {
	switch f {
	case Q8_0:
		return decodeQ8_0
	case Q4_0:
		return decodeQ4_0
	case Q4_1:
		return decodeQ4_1
	case Q5_0:
		return decodeQ5_0
	case Q5_1:
		return decodeQ5_1
	case Q2_K:
		return decodeQ2K
	case Q3_K:
		return decodeQ3K
	case Q4_K:
		return decodeQ4K
	case Q5_K:
		return decodeQ5K
	case Q6_K:
		return decodeQ6K
	case IQ4_NL:
		return decodeIQ4NL
	case IQ4_XS:
		return decodeIQ4XS
	case MXFP4:
		return decodeMXFP4
	default:
		panic("quant: " + f.String() + " is no block format")
	}
}

// halfAt reads a little-endian binary16 at b[0:2].
func halfAt(b []byte) float32 { return HalfToFloat(binary.LittleEndian.Uint16(b)) }

// decodeQ8_0 decodes { d f16; qs [32]int8 }: w = d · q.
func decodeQ8_0(y []float32, b []byte) {
	d := halfAt(b)
	for i, q := range b[2:34] {
		y[i] = d * float32(int8(q))
	}
}

// decodeQ4_0 decodes { d f16; qs [16]byte }: w = d · (q - 8). Byte j holds weight j low and weight j+16 high, as in all
// 32-weight formats of 4 and 5 bits.
func decodeQ4_0(y []float32, b []byte) {
	d := halfAt(b)
	for j, q := range b[2:18] {
		y[j] = d * float32(int(q&15)-8)
		y[j+16] = d * float32(int(q>>4)-8)
	}
}

// decodeQ4_1 decodes { d, m f16; qs [16]byte }: w = d · q + m.
func decodeQ4_1(y []float32, b []byte) {
	d, m := halfAt(b), halfAt(b[2:])
	for j, q := range b[4:20] {
		y[j] = float32(d*float32(q&15)) + m
		y[j+16] = float32(d*float32(q>>4)) + m
	}
}

// decodeQ5_0 decodes { d f16; qh uint32; qs [16]byte }: w = d · (q - 16), the fifth bit of weight i is bit i of qh.
func decodeQ5_0(y []float32, b []byte) {
	d := halfAt(b)
	qh := binary.LittleEndian.Uint32(b[2:])
	for j, q := range b[6:22] {
		lo := int(q&15) | int(qh>>j&1)<<4
		hi := int(q>>4) | int(qh>>(j+16)&1)<<4
		y[j] = d * float32(lo-16)
		y[j+16] = d * float32(hi-16)
	}
}

// decodeQ5_1 decodes { d, m f16; qh uint32; qs [16]byte }: w = d · q + m.
func decodeQ5_1(y []float32, b []byte) {
	d, m := halfAt(b), halfAt(b[2:])
	qh := binary.LittleEndian.Uint32(b[4:])
	for j, q := range b[8:24] {
		lo := int(q&15) | int(qh>>j&1)<<4
		hi := int(q>>4) | int(qh>>(j+16)&1)<<4
		y[j] = float32(d*float32(lo)) + m
		y[j+16] = float32(d*float32(hi)) + m
	}
}
