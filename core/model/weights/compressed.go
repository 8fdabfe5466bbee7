package weights

import (
	"encoding/binary"
	"math"
	"slices"

	"edged/core/model/safetensors"
	"edged/quant"
)

// compressed reads a weight of compressed-tensors: pack-quantized integers, mxfp4-pack-quantized,
// nvfp4-pack-quantized, or 8 bits beside their scales. What it is follows from the tensors' types and shapes.
// Source: compressed-tensors, compressors/.
func (b *builder) compressed(p *packedModule) (*quant.Matrix, error) {
	q := p.parts[".weight_packed"]
	switch {
	case q == nil && p.parts[".weight"] != nil && p.parts[".weight"].DType == safetensors.F8E4M3:
		return b.fp8(p, ".weight_scale")
	case q == nil:
		return b.compressedInt8(p)
	case q.DType == safetensors.U8:
		return b.compressedFP4(p)
	default:
		return b.compressedInts(p)
	}
}

// scalesOf reads weight_scale as (rows, groups), and the size of a group.
func (b *builder) scalesOf(p *packedModule, rows, cols int, types ...safetensors.DType) (s *safetensors.Tensor, size, count int, err error) {
	s = p.parts[".weight_scale"]
	if s == nil || !slices.Contains(types, s.DType) || len(s.Shape) > 2 {
		return nil, 0, 0, b.fail(ErrInvalid, "tensor %s.weight_scale is missing or none of %v", p.name, types)
	}
	count = 1
	if len(s.Shape) == 2 {
		count = int(min(s.Shape[1], math.MaxInt32))
	}
	if len(s.Shape) == 0 || s.Shape[0] != int64(rows) || count < 1 || cols%count != 0 {
		return nil, 0, 0, b.fail(ErrUnsupported, "tensor %s has shape %v for a weight of (%d, %d): scales for rows, or for groups that divide them, are served",
			s.Name, s.Shape, rows, cols)
	}
	return s, cols / count, count, nil
}

// compressedInts reads weight_packed (out, in/per) of 32-bit words, per codes of 4 or 8 bits in each with
// half of their range added; weight_zero_point (out/per, groups) packed alike along the rows, or none.
func (b *builder) compressedInts(p *packedModule) (*quant.Matrix, error) {
	q, err := b.part(p, ".weight_packed", 2, safetensors.I32)
	if err != nil {
		return nil, err
	}
	shape, err := b.part(p, ".weight_shape", 1, safetensors.I64, safetensors.I32)
	if err != nil {
		return nil, err
	}
	if shape.Shape[0] != 2 {
		return nil, b.fail(ErrInvalid, "tensor %s has %d values: want two", shape.Name, shape.Shape[0])
	}
	width := len(shape.Data) / 2
	value := func(i int) int64 {
		if width == 8 {
			return int64(binary.LittleEndian.Uint64(shape.Data[8*i:]))
		}
		return int64(int32(binary.LittleEndian.Uint32(shape.Data[4*i:])))
	}
	rows, cols, err := b.dims(shape.Name, value(0), value(1))
	if err != nil {
		return nil, err
	}
	format, bits := quant.Group4, 4
	switch {
	case int64(rows) != q.Shape[0] || int64(cols)%q.Shape[1] != 0:
		return nil, b.fail(ErrUnsupported, "tensor %s of shape %v does not hold (%d, %d) in whole words", q.Name, q.Shape, rows, cols)
	case int64(cols)/q.Shape[1] == 4:
		format, bits = quant.Group8, 8
	case int64(cols)/q.Shape[1] != 8:
		return nil, b.fail(ErrUnsupported, "tensor %s holds %d codes a word: 4 and 8 bits are served; quantise the model anew", q.Name, int64(cols)/q.Shape[1])
	}
	s, size, count, err := b.scalesOf(p, rows, cols, floatTypes()...)
	if err != nil {
		return nil, err
	}
	g := &quant.Group{Values: quant.IntegerValues(bits), Size: size, Count: count, Span: 1, Scales: s.Data, ScaleFormat: scaleFormat(s.DType), Zero: float32(int(1) << (bits - 1))}
	m := &quant.Matrix{Format: format, Rows: rows, Cols: cols, Data: q.Data, Group: g}
	if g.Index, err = b.groupIndex(p, ".weight_g_idx", size, count, cols); err != nil {
		return nil, err
	}
	if p.parts[".weight_zero_point"] != nil {
		z, err := b.part(p, ".weight_zero_point", 2, safetensors.I32)
		if err != nil {
			return nil, err
		}
		per := 32 / bits
		if z.Shape[0] != int64((rows+per-1)/per) || z.Shape[1] != int64(count) {
			return nil, b.fail(ErrInvalid, "tensor %s has shape %v: want (%d, %d)", z.Name, z.Shape, (rows+per-1)/per, count)
		}
		// A byte for every 32 weights or more: on the heap it would be seen by the garbage collector, but not scanned.
		g.Zeros = make([]byte, rows*count)
		for r := range rows {
			for k := range count {
				word := binary.LittleEndian.Uint32(z.Data[4*(r/per*count+k):])
				g.Zeros[r*count+k] = byte(word>>(bits*(r%per))) & byte(1<<bits-1)
			}
		}
		oneZero(g)
	}
	return m, b.asBlocks(m)
}

// compressedFP4 reads weight_packed (out, in/2), two E2M1 codes a byte, with scales of E8M0 for 32 columns
// (MXFP4), or of E4M3 for 16 that are divided by weight_global_scale (NVFP4).
func (b *builder) compressedFP4(p *packedModule) (*quant.Matrix, error) {
	q, err := b.part(p, ".weight_packed", 2, safetensors.U8)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[0], q.Shape[1]*2)
	if err != nil {
		return nil, err
	}
	s, size, count, err := b.scalesOf(p, rows, cols, safetensors.U8, safetensors.F8E4M3)
	if err != nil {
		return nil, err
	}
	g := &quant.Group{Values: quant.E2M1Values(), Size: size, Count: count, Span: 1, Scales: s.Data, ScaleFormat: scaleFormat(s.DType)}
	m := &quant.Matrix{Format: quant.Group4, Rows: rows, Cols: cols, Data: q.Data, Group: g}
	if s.DType == safetensors.F8E4M3 {
		t := p.parts[".weight_global_scale"]
		if t == nil || t.DType != safetensors.F32 || t.Elements() != 1 {
			return nil, b.fail(ErrInvalid, "tensor %s.weight_global_scale is missing or not one F32", p.name)
		}
		g.Divide, g.Narrow = math.Float32frombits(binary.LittleEndian.Uint32(t.Data)), true
		if !(g.Divide > 0) || g.Divide > math.MaxFloat32 {
			return nil, b.fail(ErrInvalid, "tensor %s is %v: want a number above 0", t.Name, g.Divide)
		}
	}
	return m, b.asBlocks(m)
}

// compressedInt8 reads weight (out, in) int8 with scales and, where they are, zeros.
func (b *builder) compressedInt8(p *packedModule) (*quant.Matrix, error) {
	q, err := b.part(p, ".weight", 2, safetensors.I8)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[0], q.Shape[1])
	if err != nil {
		return nil, err
	}
	s, size, count, err := b.scalesOf(p, rows, cols, floatTypes()...)
	if err != nil {
		return nil, err
	}
	g := &quant.Group{Values: quant.SignedValues(), Size: size, Count: count, Span: 1, Scales: s.Data, ScaleFormat: scaleFormat(s.DType)}
	if z := p.parts[".weight_zero_point"]; z != nil {
		if z.DType != safetensors.I8 || z.Elements() != int64(rows*count) {
			return nil, b.fail(ErrInvalid, "tensor %s is %s with %d values: want I8 with %d", z.Name, z.DType, z.Elements(), rows*count)
		}
		if slices.ContainsFunc(z.Data, func(v byte) bool { return v != 0 }) {
			g.ZerosF = make([]float32, len(z.Data))
			for i, v := range z.Data {
				g.ZerosF[i] = float32(int8(v))
			}
		}
	}
	m := &quant.Matrix{Format: quant.Group8, Rows: rows, Cols: cols, Data: q.Data, Group: g}
	return m, b.asBlocks(m)
}
