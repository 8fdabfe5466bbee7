package quant

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Encode writes src in format f (F32, F16, BF16, Q8_0 or Q4_0) to dst. len(src) is a multiple of the block size and dst
// holds exactly as many blocks. A value that is not finite, or too large for f's scale, is an error that names its index;
// what dst then holds is undefined.
func Encode(f Format, dst []byte, src []float32) error {
	if !CanEncode(f) {
		return fmt.Errorf("quant: encode: %s is not written, only f32, f16, bf16, q8_0 and q4_0", f)
	}
	if n := f.RowBytes(len(src)); len(src)%f.BlockSize() != 0 || n != len(dst) {
		return fmt.Errorf("quant: encode: %d weights to %d bytes of %s: want a multiple of %d weights, %d bytes a block",
			len(src), len(dst), f, f.BlockSize(), f.BlockBytes())
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
	case F16:
		for i, x := range src {
			h := FloatToHalf(x)
			if h&0x7fff == 0x7c00 {
				return fmt.Errorf("quant: encode f16: weight %d is %v: larger than float16 can hold", i, x)
			}
			binary.LittleEndian.PutUint16(dst[2*i:], h)
		}
	case BF16:
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], FloatToBFloat(x))
		}
	case Q8_0, Q4_0:
		encode := encodeQ8_0
		if f == Q4_0 {
			encode = encodeQ4_0
		}
		for i := range len(src) / 32 {
			if !encode(dst[i*f.BlockBytes():][:f.BlockBytes()], src[32*i:][:32]) {
				return fmt.Errorf("quant: encode %s: weights %d to %d: their scale is larger than float16 can hold", f, 32*i, 32*i+31)
			}
		}
	}
	return nil
}

// CanEncode reports whether Encode writes f.
func CanEncode(f Format) bool {
	switch f {
	case F32, F16, BF16, Q8_0, Q4_0:
		return true
	default:
		return false
	}
}

// encodeQ8_0 is ggml's reference way (quantize_row_q8_0_ref): d = max|x| / 127, q = x / d rounded half away from zero,
// with the scale as it is before its rounding to float16. It reports whether d fits float16.
func encodeQ8_0(b []byte, x []float32) bool {
	var amax float32
	for _, v := range x {
		amax = max(amax, float32(math.Abs(float64(v))))
	}
	d := amax / 127
	var inv float32
	if d != 0 {
		inv = 1 / d
	}
	h := FloatToHalf(d)
	binary.LittleEndian.PutUint16(b, h)
	for i, v := range x {
		b[2+i] = byte(int8(clamp(math.Round(float64(float32(v*inv))), -127, 127)))
	}
	return h != 0x7c00
}

// encodeQ4_0 is ggml's reference way (quantize_row_q4_0_ref): d = m / -8 for the value m of largest magnitude, so that m
// itself gets the code 0, which reaches further than 15 does.
func encodeQ4_0(b []byte, x []float32) bool {
	var amax, m float32
	for _, v := range x {
		if a := float32(math.Abs(float64(v))); a > amax {
			amax, m = a, v
		}
	}
	d := m / -8
	var inv float32
	if d != 0 {
		inv = 1 / d
	}
	h := FloatToHalf(d)
	binary.LittleEndian.PutUint16(b, h)
	for j := range 16 {
		lo := clamp(float64(float32(x[j]*inv)+8.5), 0, 15)
		hi := clamp(float64(float32(x[j+16]*inv)+8.5), 0, 15)
		b[2+j] = byte(lo) | byte(hi)<<4
	}
	return h&0x7fff != 0x7c00
}

// clamp also turns NaN (0 × infinity, from a subnormal scale) into lo, since converting it to an integer has no defined
// result.
func clamp(x, lo, hi float64) float64 {
	if !(x >= lo) {
		return lo
	}
	return min(x, hi)
}
