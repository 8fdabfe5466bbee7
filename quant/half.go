package quant

import "math"

// HalfToFloat converts IEEE 754 binary16 to float32, exactly; NaN payloads are kept.
func HalfToFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h & 0x3ff)
	switch exp {
	case 0:
		// Zero or subnormal: frac × 2⁻²⁴, which float32 holds exactly.
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*(1.0/(1<<24))))
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	default:
		return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
	}
}

// FloatToHalf converts to IEEE 754 binary16, rounding to nearest even; too large becomes infinity, NaN stays a (quiet)
// NaN of the same sign.
func FloatToHalf(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x1ff)
	case b >= 0x47800000: // 2¹⁶ and above
		return sign | 0x7c00
	case b >= 0x38800000: // 2⁻¹⁴: normal; the carry of rounding up may reach infinity, as it must
		return sign | uint16((b-0x38000000+0xfff+(b>>13&1))>>13)
	case b < 0x33000000: // below half of the smallest subnormal
		return sign
	}
	// Subnormal: the fraction with its hidden bit, shifted to units of 2⁻²⁴.
	frac := b&0x7fffff | 0x800000
	shift := 126 - b>>23
	half := uint32(1)<<(shift-1) - 1
	return sign | uint16((frac+half+(frac>>shift&1))>>shift)
}

// BFloatToFloat converts bfloat16 to float32, exactly.
func BFloatToFloat(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// FloatToBFloat converts to bfloat16, rounding to nearest even; NaN stays a (quiet) NaN of the same sign.
func FloatToBFloat(x float32) uint16 {
	b := math.Float32bits(x)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
