package quant

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Encode is EncodeRow without importance.
func Encode(f Format, dst []byte, src []float32) error { return EncodeRow(f, dst, src, nil) }

// EncodeRow writes src, a whole row or several where importance is nil, in format f to dst. len(src) is a
// multiple of the block size and dst holds exactly as many blocks. The bytes are those that llama.cpp's
// quantiser writes on x86-64.
//
// importance, where it is not nil, has a number of at least 0 for each weight of the row: how much an error
// there matters (the mean square of the activation that the weight meets). Q8_0, floats, MXFP4, NVFP4 and the
// ternary formats do not ask.
//
// A value that is not finite, or too large for f's scale, is an error that names its index; what dst then holds is
// undefined.
func EncodeRow(f Format, dst []byte, src, importance []float32) error {
	if !CanEncode(f) {
		return fmt.Errorf("quant: encode: %s is not written, only %s", f, EncodeNames())
	}
	if n := f.RowBytes(len(src)); len(src)%f.BlockSize() != 0 || n != len(dst) {
		return fmt.Errorf("quant: encode: %d weights to %d bytes of %s: want a multiple of %d weights, %d bytes a block",
			len(src), len(dst), f, f.BlockSize(), f.BlockBytes())
	}
	if importance != nil && len(importance) != len(src) {
		return fmt.Errorf("quant: encode: %d weights with %d importances", len(src), len(importance))
	}
	for i, x := range src {
		if x-x != 0 {
			return fmt.Errorf("quant: encode %s: weight %d is %v: not finite", f, i, x)
		}
	}
	switch f {
	case F32:
		for i, x := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
		}
		return nil
	case F16:
		for i, x := range src {
			h := FloatToHalf(x)
			if h&0x7fff == 0x7c00 {
				return fmt.Errorf("quant: encode f16: weight %d is %v: larger than float16 can hold", i, x)
			}
			binary.LittleEndian.PutUint16(dst[2*i:], h)
		}
		return nil
	case BF16:
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], FloatToBFloat(x))
		}
		return nil
	}
	var sigma2 float32
	if importance != nil {
		sigma2 = squares(src) / float32(len(src))
	}
	size, bytes := f.BlockSize(), f.BlockBytes()
	for i := range len(src) / size {
		var imp []float32
		if importance != nil {
			imp = importance[i*size : (i+1)*size]
		}
		if !encodeBlock(f, dst[i*bytes:(i+1)*bytes], src[i*size:(i+1)*size], imp, sigma2) {
			return fmt.Errorf("quant: encode %s: weights %d to %d: their scale is larger than float16 can hold", f, i*size, (i+1)*size-1)
		}
	}
	return nil
}

// encodeBlock encodes one block and reports whether its scales fit float16. sigma2 is the mean square of the row.
func encodeBlock(f Format, b []byte, x, imp []float32, sigma2 float32) bool {
	switch f {
	case Q8_0:
		return encodeQ8_0(b, x)
	case Q4_0, Q4_1, Q5_0, Q5_1:
		return encodeSmall(f, b, x, imp, sigma2)
	case Q2_K:
		return encodeQ2K(b, x, imp)
	case Q3_K:
		return encodeQ3K(b, x, imp)
	case Q4_K:
		return encodeQ4K(b, x, imp)
	case Q5_K:
		return encodeQ5K(b, x, imp)
	case Q6_K:
		return encodeQ6K(b, x, imp)
	case IQ4_NL:
		return encodeIQ4NL(b, x, imp)
	case IQ4_XS:
		return encodeIQ4XS(b, x, imp)
	case MXFP4:
		return encodeMXFP4(b, x)
	case NVFP4:
		return encodeNVFP4(b, x)
	case TQ1_0:
		return encodeTQ1(b, x)
	case TQ2_0:
		return encodeTQ2(b, x)
	case Q1_0:
		return encodeQ1(b, x)
	default: // Q2_0
		return encodeQ2(b, x)
	}
}

// CanEncode reports whether Encode writes f.
func CanEncode(f Format) bool {
	switch f {
	case F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4, NVFP4, TQ1_0, TQ2_0, Q1_0, Q2_0:
		return true
	default:
		return false
	}
}

// EncodeNames lists the formats that Encode writes, for messages.
func EncodeNames() string { return namesOf(CanEncode) }
