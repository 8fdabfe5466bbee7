package quant

import (
	"encoding/binary"
	"math"
)

// A Group describes a matrix of codes of 2, 4 or 8 bits (Group2, Group4, Group8), as GPTQ, AWQ,
// compressed-tensors, HQQ, FP8 and bitsandbytes' int8 folders have them: w = (Values[code] - zero) · scale,
// where columns in groups share scale and zero. The codes of a row stand one after the other, the first in
// the lowest bits of its byte.
//
// All operations are rounded to float32 by themselves, in this order; so the values are those that the
// libraries give when they are asked for float32.
type Group struct {
	Values []float32 // of the 4, 16 or 256 codes
	Size   int       // columns that share a scale, where Index is nil; the last group may be shorter
	Index  []uint16  // the group of each column, where they are in no order (GPTQ's act order)
	Count  int       // groups of a row
	Span   int       // rows that share scales: 1, or more where blocks of rows do (FP8)

	Scales      []byte // (rows/Span, Count), rounded up
	ScaleFormat ScaleFormat
	Divide      float32 // scales are divided by it (NVFP4's second scale); 0: they are not

	Zero   float32   // of all groups,
	Zeros  []byte    // or one for each scale,
	ZerosF []float32 // or one for each scale that is no integer (HQQ)

	Over   float32 // the product is divided by it (int8's 127); 0: it is not
	Narrow bool    // the weight is rounded to bfloat16, as compressed-tensors does with NVFP4
}

// ScaleFormat is how scales are stored.
type ScaleFormat uint8

// The scale formats: three floats, a power of two (OCP's E8M0), and FP8 with 4 bits of exponent.
const (
	ScaleF32 ScaleFormat = iota
	ScaleF16
	ScaleBF16
	ScaleE8M0
	ScaleE4M3
)

// Bytes is the size of one scale.
func (f ScaleFormat) Bytes() int {
	switch f {
	case ScaleF32:
		return 4
	case ScaleF16, ScaleBF16:
		return 2
	default:
		return 1
	}
}

// IsGroup reports whether matrices of f carry their scales in Group.
func (f Format) IsGroup() bool { return f == Group2 || f == Group4 || f == Group8 }

// IntegerValues are the values of codes that are unsigned integers.
func IntegerValues(bits int) []float32 {
	v := make([]float32, 1<<bits)
	for i := range v {
		v[i] = float32(i)
	}
	return v
}

// SignedValues are those of int8.
func SignedValues() []float32 {
	v := make([]float32, 256)
	for i := range v {
		v[i] = float32(int8(i))
	}
	return v
}

// E2M1Values are those of four bits of OCP's FP4.
func E2M1Values() []float32 {
	v := make([]float32, 16)
	for i, q := range mxfp4Values {
		v[i] = float32(q) / 2
		if i == 8 {
			v[i] = float32(math.Copysign(0, -1))
		}
	}
	return v
}

// E4M3Values are those of FP8 with 4 bits of exponent and no infinities; two codes are NaN.
func E4M3Values() []float32 {
	v := make([]float32, 256)
	for i := range v {
		v[i] = e4m3Value(byte(i))
	}
	return v
}

func e4m3Value(b byte) float32 {
	sign := float32(1)
	if b >= 128 {
		sign = -1
	}
	exp, frac := int(b>>3&15), float32(b&7)
	switch {
	case b&0x7f == 0x7f:
		return float32(math.NaN())
	case exp == 0:
		return sign * frac * (1.0 / 512)
	default:
		return sign * (8 + frac) * math.Float32frombits(uint32(exp-10+127)<<23)
	}
}

// at is the place of the scale of (row, column).
func (g *Group) at(row, col int) int {
	if g.Index != nil {
		return row/g.Span*g.Count + int(g.Index[col])
	}
	return row/g.Span*g.Count + col/g.Size
}

// scale is the scale at i.
func (g *Group) scale(i int) float32 {
	var s float32
	switch g.ScaleFormat {
	case ScaleF16:
		s = HalfToFloat(binary.LittleEndian.Uint16(g.Scales[2*i:]))
	case ScaleBF16:
		s = BFloatToFloat(binary.LittleEndian.Uint16(g.Scales[2*i:]))
	case ScaleE8M0:
		s = 2 * MXFP4Scale(g.Scales[i])
	case ScaleE4M3:
		s = e4m3Value(g.Scales[i])
	default:
		s = math.Float32frombits(binary.LittleEndian.Uint32(g.Scales[4*i:]))
	}
	if g.Divide != 0 {
		s /= g.Divide
	}
	return s
}

// zero is the zero at i.
func (g *Group) zero(i int) float32 {
	switch {
	case g.Zeros != nil:
		return float32(g.Zeros[i])
	case g.ZerosF != nil:
		return g.ZerosF[i]
	default:
		return g.Zero
	}
}

// code is the code of weight i of a row.
func (f Format) code(row []byte, i int) byte {
	switch f {
	case Group4:
		return row[i/2] >> (4 * (i % 2)) & 15
	case Group2:
		return row[i/4] >> (2 * (i % 4)) & 3
	default:
		return row[i]
	}
}

// GroupRow decodes columns [col, col+len(dst)) of a row of a matrix with a Group.
func GroupRow(dst []float32, m *Matrix, row, col int) {
	g := m.Group
	n := m.Format.RowBytes(m.Cols)
	codes := m.Data[row*n : row*n+n]
	last := -1
	var scale, zero float32
	for i := range dst {
		c := col + i
		if at := g.at(row, c); at != last {
			last, scale, zero = at, g.scale(at), g.zero(at)
		}
		w := float32(g.Values[m.Format.code(codes, c)]-zero) * scale
		if g.Over != 0 {
			w /= g.Over
		}
		if g.Narrow {
			w = BFloatToFloat(FloatToBFloat(w))
		}
		dst[i] = w
	}
}

// GroupInts is a Group's integer form, for products with 8-bit activations: w = s·Unit·(Ints[code] -
// zero/Unit), but for the rounding of Narrow and Over.
type GroupInts struct {
	Ints [256]int16
	Unit float32
}

// Integers returns the integer form of a matrix's Group. ok is false where products need the decoded weights:
// codes that are no integers (FP8), groups in no order or of another size than 16 or a multiple of 32.
func (g *Group) Integers(cols int) (t GroupInts, ok bool) {
	if g.Index != nil || cols%32 != 0 || g.Size != 16 && g.Size%32 != 0 && g.Size < cols {
		return t, false
	}
	if g.Size == 16 && (g.ZerosF != nil || g.Zeros != nil) {
		return t, false
	}
	for _, t.Unit = range [...]float32{1, 0.5} {
		if ok = float32(int16(g.Zero/t.Unit)) == g.Zero/t.Unit; !ok {
			continue
		}
		for i, v := range g.Values {
			q := v / t.Unit
			if !(q >= -512 && q <= 512) || q != float32(int16(q)) {
				ok = false
				break
			}
			t.Ints[i] = int16(q)
		}
		if ok {
			return t, true
		}
	}
	return t, false
}

// GroupBlock unpacks the 32 weights from column col of a row on: integers, and one scale, or two for halves
// where groups have 16 columns; offset is what is to be added to each weight. t is what Integers gave.
func GroupBlock(v *[32]int16, m *Matrix, t *GroupInts, row, col int) (scales [2]float32, offset float32) {
	g := m.Group
	n := m.Format.RowBytes(m.Cols)
	codes := m.Data[row*n : row*n+n]
	for i := range v {
		v[i] = t.Ints[m.Format.code(codes, col+i)]
	}
	for h := range scales {
		at := g.at(row, col+16*h)
		s := g.scale(at)
		if g.Over != 0 {
			s /= g.Over
		}
		scales[h] = s * t.Unit
		if h == 1 {
			break
		}
		if g.ZerosF != nil {
			offset = -(g.ZerosF[at] * s)
			continue
		}
		if z := int16(g.zero(at) / t.Unit); z != 0 {
			for i := range v {
				v[i] -= z
			}
		}
	}
	return scales, offset
}
