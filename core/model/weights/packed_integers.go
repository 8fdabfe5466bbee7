package weights

import (
	"encoding/binary"
	"math"

	"edged/core/model/safetensors"
	"edged/quant"
)

// gptq reads qweight (in/per, out) of 32-bit words that hold the codes of per inputs, the first lowest;
// qzeros (groups, out/per); scales (groups, out); g_idx (in). Source: GPTQModel, nn_modules/qlinear/torch.py.
// The older of two conventions stores zeros one lower than they are.
func (b *builder) gptq(p *packedModule) (*quant.Matrix, error) {
	bits := b.scheme.number("bits", 4)
	per := 32 / bits
	q, err := b.part(p, ".qweight", 2, safetensors.I32)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[1], q.Shape[0]*int64(per))
	if err != nil {
		return nil, err
	}
	s, err := b.part(p, ".scales", 2, floatTypes()...)
	if err != nil {
		return nil, err
	}
	z, err := b.part(p, ".qzeros", 2, safetensors.I32)
	if err != nil {
		return nil, err
	}
	size, count := grouping(b.scheme.number("group_size", -1), cols)
	if s.Shape[0] != int64(count) || s.Shape[1] != int64(rows) || z.Shape[0] != int64(count) || z.Shape[1] != int64((rows+per-1)/per) {
		return nil, b.fail(ErrInvalid, "tensors of %s: scales %v and qzeros %v do not go with qweight %v and group_size %d", p.name, s.Shape, z.Shape, q.Shape, size)
	}
	m := &quant.Matrix{Format: map[int]quant.Format{2: quant.Group2, 4: quant.Group4, 8: quant.Group8}[bits], Rows: rows, Cols: cols}
	g := &quant.Group{Values: quant.IntegerValues(bits), Size: size, Count: count, Span: 1, ScaleFormat: scaleFormat(s.DType)}
	m.Group = g
	if g.Index, err = b.groupIndex(p, ".g_idx", size, count, cols); err != nil {
		return nil, err
	}
	add := byte(1)
	if b.scheme.text("checkpoint_format") == "gptq_v2" {
		add = 0
	}
	mask := byte(1<<bits - 1)
	return m, b.lay(m, func(data []byte) {
		// A word of inputs is four bytes of the row: this turns a matrix of words.
		turn(data, q.Data, cols/per, rows, 4)
	}, func(scales, zeros []byte) {
		n := g.ScaleFormat.Bytes()
		turn(scales, s.Data, count, rows, n)
		for r := range rows {
			for k := range count {
				word := binary.LittleEndian.Uint32(z.Data[4*(k*int(z.Shape[1])+r/per):])
				zeros[r*count+k] = (byte(word>>(bits*(r%per)))&mask + add) & mask
			}
		}
	})
}

// groupIndex reads the groups of columns; nil where they come in order.
func (b *builder) groupIndex(p *packedModule, suffix string, size, count, cols int) ([]uint16, error) {
	if p.parts[suffix] == nil {
		return nil, nil
	}
	t, err := b.part(p, suffix, 1, safetensors.I32)
	if err != nil {
		return nil, err
	}
	if t.Shape[0] != int64(cols) || count > math.MaxUint16 {
		return nil, b.fail(ErrInvalid, "tensor %s has %d values for %d columns in %d groups", t.Name, t.Shape[0], cols, count)
	}
	index := make([]uint16, cols)
	ordered := true
	for i := range index {
		g := int32(binary.LittleEndian.Uint32(t.Data[4*i:]))
		if g == -1 && size == cols { // one writer's mark of an index that was never made
			g = 0
		}
		if g < 0 || int(g) >= count {
			return nil, b.fail(ErrInvalid, "tensor %s: column %d is of group %d, but there are %d", t.Name, i, g, count)
		}
		index[i] = uint16(g)
		ordered = ordered && int(g) == i/size
	}
	if ordered {
		return nil, nil
	}
	return index, nil
}

// awqOrder returns the position within a word at which AWQ's gemm keeps output j of eight.
func awqOrder(j int) int { return [...]int{0, 4, 1, 5, 2, 6, 3, 7}[j] }

// awq reads qweight (in, out/8), qzeros (groups, out/8) and scales (groups, out). Source: AutoAWQ,
// utils/packing_utils.py.
func (b *builder) awq(p *packedModule) (*quant.Matrix, error) {
	q, err := b.part(p, ".qweight", 2, safetensors.I32)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[1]*8, q.Shape[0])
	if err != nil {
		return nil, err
	}
	s, err := b.part(p, ".scales", 2, floatTypes()...)
	if err != nil {
		return nil, err
	}
	z, err := b.part(p, ".qzeros", 2, safetensors.I32)
	if err != nil {
		return nil, err
	}
	size, count := grouping(b.scheme.number("group_size", b.scheme.number("q_group_size", -1)), cols)
	if s.Shape[0] != int64(count) || s.Shape[1] != int64(rows) || z.Shape[0] != int64(count) || z.Shape[1] != int64(rows/8) || cols%2 != 0 {
		return nil, b.fail(ErrInvalid, "tensors of %s: scales %v and qzeros %v do not go with qweight %v and group_size %d", p.name, s.Shape, z.Shape, q.Shape, size)
	}
	m := &quant.Matrix{Format: quant.Group4, Rows: rows, Cols: cols}
	m.Group = &quant.Group{Values: quant.IntegerValues(4), Size: size, Count: count, Span: 1, ScaleFormat: scaleFormat(s.DType)}
	nibble := func(data []byte, word, j int) byte {
		return byte(binary.LittleEndian.Uint32(data[4*word:])>>(4*awqOrder(j))) & 15
	}
	return m, b.lay(m, func(data []byte) {
		n := cols / 2
		each(rows/8, func(w int) {
			for c := 0; c < cols; c += 2 {
				for j := range 8 {
					data[(8*w+j)*n+c/2] = nibble(q.Data, c*rows/8+w, j) | nibble(q.Data, (c+1)*rows/8+w, j)<<4
				}
			}
		})
	}, func(scales, zeros []byte) {
		turn(scales, s.Data, count, rows, m.Group.ScaleFormat.Bytes())
		for r := range rows {
			for k := range count {
				zeros[r*count+k] = nibble(z.Data, k*rows/8+r/8, r%8)
			}
		}
	})
}

// hqq reads W_q, where groups of codes stand as rows and the upper half of the rows in the high nibbles, with
// scale and zero (groups, 1) in floats: w = (q - zero)·scale. Source: hqq, core/quantize.py.
func (b *builder) hqq(p *packedModule) (*quant.Matrix, error) {
	q, err := b.part(p, ".W_q", 2, safetensors.U8)
	if err != nil {
		return nil, err
	}
	shape, err := b.part(p, ".shape", 1, safetensors.I64, safetensors.I32)
	if err != nil {
		return nil, err
	}
	if shape.Shape[0] != 2 {
		return nil, b.fail(ErrInvalid, "tensor %s has %d values: want two", shape.Name, shape.Shape[0])
	}
	value := func(t *safetensors.Tensor, i int) int64 {
		if t.DType == safetensors.I64 {
			return int64(binary.LittleEndian.Uint64(t.Data[8*i:]))
		}
		return int64(int32(binary.LittleEndian.Uint32(t.Data[4*i:])))
	}
	rows, cols, err := b.dims(shape.Name, value(shape, 0), value(shape, 1))
	if err != nil {
		return nil, err
	}
	scalar := func(suffix string, def int64) int64 {
		t := p.parts[suffix]
		if t == nil || t.Elements() != 1 {
			return def
		}
		switch t.DType {
		case safetensors.I64, safetensors.I32:
			return value(t, 0)
		case safetensors.U8, safetensors.I8:
			return int64(t.Data[0])
		default:
			return def
		}
	}
	group := scalar(".group_size", int64(cols))
	switch {
	case scalar(".nbits", 4) != 4 || scalar(".axis", 1) != 1:
		return nil, b.fail(ErrUnsupported, "tensors of %s: HQQ with %d bits along axis %d; 4 bits along axis 1 are served: quantise the model so",
			p.name, scalar(".nbits", 4), scalar(".axis", 1))
	case scalar(".quant_scale", 0) != 0 || scalar(".quant_zero", 0) != 0 || scalar(".view_as_float", 0) != 0:
		return nil, b.fail(ErrUnsupported, "tensors of %s: HQQ with quantised scales or zeros; quantise the model without (quant_scale, quant_zero)", p.name)
	case group < 1 || int64(cols)%group != 0 || group%2 != 0:
		return nil, b.fail(ErrInvalid, "tensors of %s: groups of %d do not divide %d columns", p.name, group, cols)
	}
	count := cols / int(group)
	n := rows * count
	s, err := b.part(p, ".scale", 2, floatTypes()...)
	if err != nil {
		return nil, err
	}
	z, err := b.part(p, ".zero", 2, floatTypes()...)
	if err != nil {
		return nil, err
	}
	if n%2 != 0 || q.Shape[0] != int64(n/2) || q.Shape[1] != group || s.Elements() != int64(n) || z.Elements() != int64(n) {
		return nil, b.fail(ErrInvalid, "tensors of %s: W_q %v, scale %v and zero %v do not go with shape (%d, %d) in groups of %d", p.name, q.Shape, s.Shape, z.Shape, rows, cols, group)
	}
	m := &quant.Matrix{Format: quant.Group4, Rows: rows, Cols: cols}
	g := &quant.Group{Values: quant.IntegerValues(4), Size: int(group), Count: count, Span: 1, ScaleFormat: scaleFormat(s.DType), Scales: s.Data}
	m.Group = g
	format, _ := floatFormat(z.DType)
	if zeros, err := b.make(4*n, func(out []byte) {
		x := make([]float32, n)
		quant.Decode(format, x, z.Data)
		for i, v := range x {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
		}
	}); err != nil {
		return nil, err
	} else if g.ZerosF, err = b.floats(zeros); err != nil {
		return nil, err
	}
	if b.m.headersOnly {
		g.ZerosF = []float32{} // they count
	}
	m.Data, err = b.make(rows*cols/2, func(out []byte) {
		size := int(group)
		each(n, func(i int) {
			src, shift := q.Data[i%(n/2)*size:], 4
			if i >= n/2 {
				shift = 0
			}
			dst := out[i*size/2 : (i+1)*size/2]
			for j := range dst {
				dst[j] = src[2*j]>>shift&15 | src[2*j+1]>>shift&15<<4
			}
		})
	})
	return m, err
}

// int8 reads bitsandbytes' LLM.int8: weight (out, in) int8 and SCB (out): w = q·SCB/127.
func (b *builder) int8(p *packedModule) (*quant.Matrix, error) {
	q, err := b.part(p, ".weight", 2, safetensors.I8)
	if err != nil {
		return nil, err
	}
	s, err := b.part(p, ".SCB", 1, safetensors.F32)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[0], q.Shape[1])
	if err != nil {
		return nil, err
	}
	if s.Shape[0] != int64(rows) {
		return nil, b.fail(ErrInvalid, "tensor %s has %d values for %d rows", s.Name, s.Shape[0], rows)
	}
	if t := p.parts[".weight_format"]; t != nil && (t.Elements() != 1 || t.Data[0] != 0) {
		return nil, b.fail(ErrUnsupported, "tensor %s: a layout for one GPU; save the model with bitsandbytes 0.45 or later, which keeps rows", t.Name)
	}
	return &quant.Matrix{Format: quant.Group8, Rows: rows, Cols: cols, Data: q.Data, Group: &quant.Group{
		Values: quant.SignedValues(), Size: cols, Count: 1, Span: 1, Scales: s.Data, ScaleFormat: quant.ScaleF32, Over: 127,
	}}, nil
}
