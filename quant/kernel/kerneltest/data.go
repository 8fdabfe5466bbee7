package kerneltest

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"edged/quant"
)

// Matrix makes a matrix of random blocks whose scales are of a trained model's size. With edge it mixes in
// what encoders never write but files may hold: all-ones nibbles, zero, subnormal, negative and huge scales.
func Matrix(r *rand.Rand, f quant.Format, rows, cols int, edge bool) *quant.Matrix {
	m := &quant.Matrix{Name: f.String(), Format: f, Rows: rows, Cols: cols}
	if f.IsBnB() {
		return bnb(r, m, edge)
	}
	if f.IsGroup() {
		return group(r, m, edge)
	}
	m.Data = make([]byte, rows*f.RowBytes(cols))
	for i := range m.Data {
		m.Data[i] = byte(r.Uint32())
	}
	size := f.BlockBytes()
	for b := 0; b+size <= len(m.Data); b += size {
		block := m.Data[b : b+size]
		if edge && r.IntN(4) == 0 {
			fill := byte([]int{0xff, 0x00, 0x80, 0x7f, 0x88}[r.IntN(5)])
			for i := range block {
				block[i] = fill
			}
		}
		switch f {
		case quant.F32:
			binary.LittleEndian.PutUint32(block, math.Float32bits(Float(r, edge)))
		case quant.F16:
			binary.LittleEndian.PutUint16(block, quant.FloatToHalf(Float(r, edge)))
		case quant.BF16:
			binary.LittleEndian.PutUint16(block, quant.FloatToBFloat(Float(r, edge)))
		case quant.MXFP4:
			block[0] = byte(110 + r.IntN(16))
			if edge {
				block[0] = byte(r.IntN(220))
			}
		case quant.Q8_K:
			binary.LittleEndian.PutUint32(block, math.Float32bits(quant.HalfToFloat(scale(r, edge))*1.25))
		case quant.NVFP4:
			for i := range 4 {
				block[i] = byte(16 + r.IntN(80))
				if edge {
					block[i] = byte(r.Uint32())
				}
			}
		case quant.IQ1_M: // a nibble in each of four words
			for i, h := 0, scale(r, edge); i < 4; i++ {
				block[49+2*i] = block[49+2*i]&15 | byte(h>>(4*i)&15)<<4
			}
		default:
			for _, at := range scaleOffsets(f) {
				binary.LittleEndian.PutUint16(block[at:], scale(r, edge))
			}
		}
	}
	return m
}

// scaleOffsets lists where a block keeps its float16 numbers.
func scaleOffsets(f quant.Format) []int {
	switch f {
	case quant.Q4_1, quant.Q5_1, quant.Q4_K, quant.Q5_K:
		return []int{0, 2}
	case quant.Q2_K:
		return []int{80, 82}
	case quant.Q3_K:
		return []int{108}
	case quant.Q6_K:
		return []int{208}
	case quant.TQ1_0:
		return []int{52}
	case quant.TQ2_0:
		return []int{64}
	default:
		return []int{0}
	}
}

// scale is a random finite float16.
func scale(r *rand.Rand, edge bool) uint16 {
	if edge {
		switch r.IntN(4) {
		case 0:
			return []uint16{0, 0x8000, 1, 0x8001, 0x03ff, 0x7bff, 0xfbff, 0x3c00}[r.IntN(8)]
		case 1:
			return uint16(r.IntN(0x7c00)) | uint16(r.IntN(2))<<15
		}
	}
	return quant.FloatToHalf(power(r, -10, 6) * float32(1-2*r.IntN(2)))
}

// power is a random number in [2ⁿ, 2ⁿ⁺ᵐ), the same on every machine (math.Exp2 is not).
func power(r *rand.Rand, n, m int) float32 {
	return float32(math.Ldexp(1+r.Float64(), n+r.IntN(m)))
}

// bnb fills an NF4 or FP4 matrix, half of them with nested scales.
func bnb(r *rand.Rand, m *quant.Matrix, edge bool) *quant.Matrix {
	n := m.Rows * m.Cols
	m.Data = make([]byte, (n+1)/2)
	for i := range m.Data {
		m.Data[i] = byte(r.Uint32())
	}
	s := &quant.BnBScale{BlockSize: 64, Code: quant.NF4Code()}
	if m.Format == quant.FP4 {
		s.Code = quant.FP4Code()
	}
	if edge {
		for i := range s.Code {
			s.Code[i] = float32(r.NormFloat64())
		}
		s.BlockSize = []int{32, 64, 128, 4096}[r.IntN(4)]
	}
	blocks := (n + s.BlockSize - 1) / s.BlockSize
	if r.IntN(2) == 0 {
		s.Absmax = make([]float32, blocks)
		for i := range s.Absmax {
			s.Absmax[i] = power(r, -6, 4)
		}
	} else {
		s.NestedBlock, s.NestedOffset = 256, 0.05
		s.AbsmaxQ = make([]byte, blocks)
		for i := range s.AbsmaxQ {
			s.AbsmaxQ[i] = byte(r.Uint32())
		}
		s.NestedMap = Floats(r, 256, false)
		s.NestedAbsmax = Floats(r, (blocks+255)/256, false)
	}
	m.BnB = s
	return m
}

// group fills a matrix of one of the kinds that folders have.
func group(r *rand.Rand, m *quant.Matrix, edge bool) *quant.Matrix {
	m.Data = make([]byte, m.Rows*m.Format.RowBytes(m.Cols))
	for i := range m.Data {
		m.Data[i] = byte(r.Uint32())
	}
	bits := map[quant.Format]int{quant.Group2: 2, quant.Group4: 4, quant.Group8: 8}[m.Format]
	g := &quant.Group{
		Values:      quant.IntegerValues(bits),
		Size:        32 << r.IntN(3),
		Span:        1,
		Zero:        float32(int(1) << (bits - 1)),
		ScaleFormat: quant.ScaleFormat(r.IntN(3)),
	}
	kind := r.IntN(5)
	switch {
	case kind == 0 && bits == 4: // NVFP4
		g.Values, g.Zero, g.Size, g.ScaleFormat, g.Divide, g.Narrow = quant.E2M1Values(), 0, 16, quant.ScaleE4M3, 3000, true
	case kind == 0 && bits == 8: // FP8, in blocks of rows
		g.Values, g.Zero, g.Span, g.Size = quant.E4M3Values(), 0, 5, 128
	case kind == 1 && bits == 4: // MXFP4
		g.Values, g.Zero, g.Size, g.ScaleFormat = quant.E2M1Values(), 0, 32, quant.ScaleE8M0
	case kind == 1 && bits == 8: // int8
		g.Values, g.Zero, g.Over, g.Size = quant.SignedValues(), 0, 127, m.Cols
	}
	g.Count = (m.Cols + g.Size - 1) / g.Size
	n := (m.Rows + g.Span - 1) / g.Span * g.Count
	switch {
	case kind == 2:
		g.Zeros = make([]byte, n)
		for i := range g.Zeros {
			g.Zeros[i] = byte(r.IntN(1 << bits))
		}
	case kind == 3:
		g.ZerosF = Floats(r, n, false)
	case kind == 4: // act order
		g.Index = make([]uint16, m.Cols)
		for i := range g.Index {
			g.Index[i] = uint16(r.IntN(g.Count))
		}
	}
	g.Scales = make([]byte, n*g.ScaleFormat.Bytes())
	for i := range n {
		switch g.ScaleFormat {
		case quant.ScaleF32:
			binary.LittleEndian.PutUint32(g.Scales[4*i:], math.Float32bits(quant.HalfToFloat(scale(r, edge))*1.25))
		case quant.ScaleF16:
			binary.LittleEndian.PutUint16(g.Scales[2*i:], scale(r, edge))
		case quant.ScaleBF16:
			binary.LittleEndian.PutUint16(g.Scales[2*i:], quant.FloatToBFloat(quant.HalfToFloat(scale(r, edge))))
		case quant.ScaleE8M0:
			g.Scales[i] = byte(110 + r.IntN(16))
		case quant.ScaleE4M3:
			g.Scales[i] = byte(r.IntN(0x78))
		}
	}
	m.Group = g
	return m
}

// Float is a random number as activations have them; with edge also zeros, subnormals, huge numbers and ties.
func Float(r *rand.Rand, edge bool) float32 {
	if edge {
		switch r.IntN(12) {
		case 0:
			return 0
		case 1:
			return math.Float32frombits(uint32(r.IntN(2)) << 31)
		case 2:
			return math.Float32frombits(r.Uint32() & 0x807fffff)
		case 3:
			return float32(r.NormFloat64()) * 1e30
		case 4:
			return float32(r.NormFloat64()) * 1e-30
		case 5:
			return float32(r.IntN(9)-4) / 2
		}
	}
	return float32(r.NormFloat64()) * float32(math.Ldexp(1, r.IntN(5)-2))
}

// Floats is a slice of Float.
func Floats(r *rand.Rand, n int, edge bool) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = Float(r, edge)
	}
	return x
}

// Activation makes rows whose blocks are each of one kind: normal, with an outlier, ties of the quantiser, saturated,
// tiny, all zero. Special adds blocks with infinities and NaN.
func Activation(r *rand.Rand, rows, cols int, edge, special bool) []float32 {
	x := Floats(r, rows*cols, false)
	if !edge {
		return x
	}
	for i := 0; i < len(x); i += 32 {
		b := x[i:min(i+32, len(x))]
		kind := r.IntN(8)
		for j := range b {
			switch kind {
			case 0:
				b[j] = float32(1-2*r.IntN(2)) * 127
			case 1:
				b[j] = float32(r.IntN(255)-127) + 0.5
			case 2:
				b[j] *= 1e-32
			case 3:
				b[j] = 0
			case 4:
				b[j] = math.Float32frombits(r.Uint32() & 0x80ffffff)
			case 5:
				b[j] *= 1e20
			}
		}
		if kind == 1 {
			b[0] = 127
		}
		if kind == 6 {
			b[r.IntN(len(b))] *= 1000
		}
		if special && r.IntN(40) == 0 {
			b[r.IntN(len(b))] = float32(math.Inf(1 - 2*r.IntN(2)))
		}
		if special && r.IntN(40) == 0 {
			b[r.IntN(len(b))] = float32(math.NaN())
		}
	}
	return x
}
