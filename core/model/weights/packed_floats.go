package weights

import (
	"encoding/json"
	"slices"
	"strconv"

	"edged/core/model/arch"
	"edged/core/model/safetensors"
	"edged/quant"
)

// fp8 reads weight (out, in) in E4M3 with a scale for each block, row or the whole.
func (b *builder) fp8(p *packedModule, suffix string) (*quant.Matrix, error) {
	q, err := b.part(p, ".weight", 2, safetensors.F8E4M3)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[0], q.Shape[1])
	if err != nil {
		return nil, err
	}
	s := p.parts[suffix]
	if s == nil || len(s.Shape) > 2 || !slices.Contains(floatTypes(), s.DType) {
		return nil, b.fail(ErrInvalid, "tensor %s is missing or has no floats in at most two dimensions", p.name+suffix)
	}
	g := &quant.Group{Values: quant.E4M3Values(), ScaleFormat: scaleFormat(s.DType), Scales: s.Data, Span: rows, Size: cols, Count: 1}
	down, across := int64(1), int64(1)
	if len(s.Shape) > 0 {
		down = s.Shape[0]
	}
	if len(s.Shape) > 1 {
		across = s.Shape[1]
	}
	block := [2]int{rows, cols}
	if list, ok := b.scheme.raw["weight_block_size"].([]any); ok && len(list) == 2 {
		for i := range list {
			if n, ok := list[i].(json.Number); ok {
				if v, err := n.Int64(); err == nil && v > 0 && v < 1<<20 {
					block[i] = int(v)
				}
			}
		}
	} else if down == int64(rows) {
		block[0] = 1
	}
	g.Span, g.Size = min(block[0], rows), min(block[1], cols)
	g.Count = (cols + g.Size - 1) / g.Size
	if down != int64((rows+g.Span-1)/g.Span) || across != int64(g.Count) {
		return nil, b.fail(ErrInvalid, "tensor %s has shape %v, which does not go with a weight of (%d, %d) in blocks of (%d, %d)", s.Name, s.Shape, rows, cols, block[0], block[1])
	}
	return &quant.Matrix{Format: quant.Group8, Rows: rows, Cols: cols, Data: q.Data, Group: g}, nil
}

// placeMXFP4 adds gpt-oss' experts: NAME_blocks (experts, rows, groups, 16), two E2M1 codes a byte, and
// NAME_scales (experts, rows, groups) in E8M0. They are (outputs, inputs), where the same matrices in floats
// are stored (inputs, outputs). Each becomes a matrix in ggml's MXFP4 blocks, which hold the same codes and
// scales in another order.
func (b *builder) placeMXFP4(p *packedModule) error {
	q, err := b.part(p, "_blocks", 4, safetensors.U8)
	if err != nil {
		return err
	}
	scales, err := b.part(p, "_scales", 3, safetensors.U8)
	if err != nil {
		return err
	}
	if q.Shape[3] != 16 || !slices.Equal(q.Shape[:3], scales.Shape) || q.Shape[0] > arch.MaxExperts {
		return b.fail(ErrInvalid, "tensors %s %v and %s %v do not go together: want (experts, rows, groups, 16) and (experts, rows, groups)", q.Name, q.Shape, scales.Name, scales.Shape)
	}
	rows, cols, err := b.dims(q.Name, q.Shape[1], q.Shape[2]*32)
	if err != nil {
		return err
	}
	to, ok := b.canonical(p.name)
	module, suffix := cutSuffix(to)
	pattern, numbers := arch.SplitNumbers(module)
	stack := b.m.Spec.StackOf(pattern)
	if !ok || stack == nil || len(numbers) == 0 {
		return b.fail(ErrUnsupported, "module %s is none that holds the experts of a %s model", p.name, b.m.Spec.Family)
	}
	n := rows / len(stack.Into)
	if n*len(stack.Into) != rows {
		return b.fail(ErrInvalid, "tensor %s has %d rows, which are no whole number for each of %d matrices", q.Name, rows, len(stack.Into))
	}
	if !b.m.headersOnly && slices.Contains(scales.Data, 255) {
		return b.fail(ErrInvalid, "tensor %s holds a scale that is no number (255)", scales.Name)
	}
	size := quant.MXFP4.RowBytes(cols)
	groups := cols / 32
	for e := range int(q.Shape[0]) {
		m := &quant.Matrix{Format: quant.Group4, Rows: rows, Cols: cols, Data: q.Data[e*rows*groups*16 : (e+1)*rows*groups*16], Group: &quant.Group{
			Values: quant.E2M1Values(), Size: 32, Count: groups, Span: 1, Scales: scales.Data[e*rows*groups : (e+1)*rows*groups], ScaleFormat: quant.ScaleE8M0,
		}}
		for i, into := range stack.Into {
			first, step := i*n, 1
			if stack.Alternating {
				first, step = i, len(stack.Into)
			}
			data, err := b.make(n*size, func(out []byte) {
				each(n, func(r int) { quant.PutBlocks(out[r*size:(r+1)*size], quant.MXFP4, m, first+r*step) })
			})
			if err != nil {
				return err
			}
			if err := b.matrix(arch.JoinNumbers(into, append(numbers[:1:1], strconv.Itoa(e)))+suffix, quant.MXFP4, n, cols, data); err != nil {
				return err
			}
		}
	}
	return nil
}
