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
		amax = max(amax, v, -v)
	}
	d := amax / 127
	inv := inverse(d)
	h := FloatToHalf(d)
	binary.LittleEndian.PutUint16(b, h)
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
	return h != 0x7c00
}

// encodeQ4_0 is ggml's reference way (quantize_row_q4_0_ref): d = m / -8 for the value m of largest magnitude, so that m
// itself gets the code 0, which reaches further than 15 does.
func encodeQ4_0(b []byte, x []float32) bool {
	var amax, m float32
	for _, v := range x {
		if a := max(v, -v); a > amax {
			amax, m = a, v
		}
	}
	d := m / -8
	inv := inverse(d)
	h := FloatToHalf(d)
	binary.LittleEndian.PutUint16(b, h)
	code := func(v float32) byte { return byte(max(0, min(float32(v*inv)+8.5, 15))) }
	for j := range 16 {
		b[2+j] = code(x[j]) | code(x[j+16])<<4
	}
	return h&0x7fff != 0x7c00
}

// inverse returns 1/d, or 0 where d is so small that float16 makes 0 of it anyway and 1/d may be infinite.
func inverse(d float32) float32 {
	if d > -1e-30 && d < 1e-30 {
		return 0
	}
	return 1 / d
}
