package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/safetensors"
	"edged/quant"
)

// bnbState begins the suffix of the tensor that describes a quantised weight; nf4 or fp4 follows.
const bnbState = ".quant_state.bitsandbytes__"

// quantState is the JSON that bitsandbytes packs beside a weight (QuantState.as_dict in bitsandbytes/functional.py).
type quantState struct {
	Type         string   `json:"quant_type"`
	Block        int      `json:"blocksize"`
	DType        string   `json:"dtype"`
	Shape        []int64  `json:"shape"`
	NestedBlock  *int     `json:"nested_blocksize"`
	NestedDType  *string  `json:"nested_dtype"`
	NestedOffset *float64 `json:"nested_offset"`
}

// parseQuantState reads a quant state strictly: a field that is not known may change what the weights mean.
func parseQuantState(data []byte) (*quantState, error) {
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimRight(data, "\x00")))
	dec.DisallowUnknownFields()
	s := &quantState{}
	if err := dec.Decode(s); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text follows the JSON object")
	}
	pow2 := func(n int) bool { return n >= 32 && n <= 1<<16 && n&(n-1) == 0 }
	switch {
	case s.Type != "nf4" && s.Type != "fp4":
		return nil, fmt.Errorf("quant_type %q: want nf4 or fp4", s.Type)
	case !pow2(s.Block):
		return nil, fmt.Errorf("blocksize %d: want a power of two from 32 on", s.Block)
	case len(s.Shape) != 2:
		return nil, fmt.Errorf("shape %v: want two sizes", s.Shape)
	case s.NestedBlock == nil && s.NestedOffset == nil && s.NestedDType == nil:
		return s, nil
	case s.NestedBlock == nil || s.NestedOffset == nil:
		return nil, errors.New("nested_blocksize and nested_offset go together")
	case !pow2(*s.NestedBlock):
		return nil, fmt.Errorf("nested_blocksize %d: want a power of two from 32 on", *s.NestedBlock)
	case s.NestedDType != nil && strings.TrimPrefix(*s.NestedDType, "torch.") != "float32":
		return nil, fmt.Errorf("nested_dtype %q: want float32", *s.NestedDType)
	case math.Abs(*s.NestedOffset) > math.MaxFloat32:
		return nil, fmt.Errorf("nested_offset %g is no float32", *s.NestedOffset)
	}
	return s, nil
}

// stateOf finds what describes a bitsandbytes weight; nil where the tensor is none.
func stateOf(files *safetensors.Folder, name string) (kind string, state *safetensors.Tensor) {
	for _, kind := range []string{"nf4", "fp4"} {
		if state := files.Tensor(name + bnbState + kind); state != nil {
			return kind, state
		}
	}
	return "", nil
}

// shapeIn is the shape of a tensor, of a bitsandbytes weight that of the matrix: what is stored of it is a
// column of bytes.
func shapeIn(files *safetensors.Folder, name string) []int {
	if _, state := stateOf(files, name); state != nil {
		if s, err := parseQuantState(state.Data); err == nil { // else bnb says what is wrong
			return sizes(s.Shape)
		}
	}
	return sizes(files.Tensor(name).Shape)
}

// bnb makes a matrix of a bitsandbytes weight; nil where t is none.
func (b *builder) bnb(files *safetensors.Folder, t *safetensors.Tensor, name string) (*quant.Matrix, error) {
	kind, state := stateOf(files, t.Name)
	if state == nil {
		return nil, nil
	}
	bad := func(format string, args ...any) error {
		return b.fail(ErrInvalid, "tensor %s: %s", t.Name, fmt.Sprintf(format, args...))
	}
	s, err := parseQuantState(state.Data)
	switch {
	case err != nil:
		return nil, bad("quant state: %v", err)
	case s.Type != kind:
		return nil, bad("quant state: quant_type %q in a tensor named %s", s.Type, kind)
	}
	rows, cols, err := b.dims(t.Name, s.Shape[0], s.Shape[1])
	if err != nil {
		return nil, err
	}
	n := int64(rows) * int64(cols)
	if int64(len(t.Data)) != (n+1)/2 {
		return nil, bad("%d bytes for shape (%d, %d): want %d", len(t.Data), rows, cols, (n+1)/2)
	}
	m := &quant.Matrix{Name: name, Format: quant.NF4, Rows: rows, Cols: cols, Data: t.Data, BnB: &quant.BnBScale{BlockSize: s.Block}}
	if kind == "fp4" {
		m.Format = quant.FP4
	}
	part := func(suffix string, dtype safetensors.DType, count int64) ([]byte, error) {
		p := files.Tensor(t.Name + suffix)
		if p == nil {
			return nil, bad("%s is missing", t.Name+suffix)
		}
		if p.DType != dtype || p.Elements() != count {
			return nil, bad("%s is %s with %d values: want %s with %d", t.Name+suffix, p.DType, p.Elements(), dtype, count)
		}
		return p.Data, nil
	}
	table := func(suffix string, count int64) ([]float32, error) {
		raw, err := part(suffix, safetensors.F32, count)
		if err != nil {
			return nil, err
		}
		x := make([]float32, count)
		quant.Decode(quant.F32, x, raw)
		if slices.ContainsFunc(x, func(v float32) bool { return v-v != 0 }) {
			return nil, bad("%s has a value that is not finite", t.Name+suffix)
		}
		return x, nil
	}
	code, err := table(".quant_map", 16)
	if err != nil {
		return nil, err
	}
	copy(m.BnB.Code[:], code)
	blocks := (n + int64(s.Block) - 1) / int64(s.Block)
	if s.NestedBlock == nil {
		raw, err := part(".absmax", safetensors.F32, blocks)
		if err != nil {
			return nil, err
		}
		m.BnB.Absmax, err = b.floats(raw)
		return m, err
	}
	nested := int64(*s.NestedBlock)
	if m.BnB.AbsmaxQ, err = part(".absmax", safetensors.U8, blocks); err != nil {
		return nil, err
	}
	if m.BnB.NestedMap, err = table(".nested_quant_map", 256); err != nil {
		return nil, err
	}
	raw, err := part(".nested_absmax", safetensors.F32, (blocks+nested-1)/nested)
	if err != nil {
		return nil, err
	}
	m.BnB.NestedBlock = int(nested)
	m.BnB.NestedOffset = float32(*s.NestedOffset)
	m.BnB.NestedAbsmax, err = b.floats(raw)
	return m, err
}

// hfBnB adds a bitsandbytes matrix. Where a matrix is stored transposed otherwise, bitsandbytes has turned it before it
// quantised it. A fused one is cut where the blocks of its scales allow.
func (b *builder) hfBnB(m *quant.Matrix, name string) error {
	module, suffix := cutSuffix(name)
	pattern, numbers := arch.SplitNumbers(module)
	if x := b.m.Spec.ExpandOf(pattern); x != nil {
		return b.expandPacked(x, numbers, m)
	}
	split := b.m.Spec.SplitOf(pattern)
	if split == nil {
		if b.m.matrices[name] != nil {
			return b.fail(ErrInvalid, "tensor %s appears twice", name)
		}
		b.m.matrices[name] = m
		return nil
	}
	parts, groups, err := b.parts(split, numbers, suffix, m.Rows)
	if err != nil {
		return err
	}
	if groups > 1 || b.bnbRows(m, 0, parts[0].Rows) == nil {
		if m, err = b.bnbGather(m, parts, groups); err != nil {
			return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, b.say(name), err)
		}
	}
	at := 0
	for _, p := range parts {
		piece := b.bnbRows(m, at, p.Rows)
		if piece == nil {
			return b.fail(ErrUnsupported, "tensor %s (%d, %d): its parts share blocks of scales; use a GGUF file of this model", b.say(name), m.Rows, m.Cols)
		}
		piece.Name = p.Name
		b.m.matrices[p.Name] = piece
		at += p.Rows
	}
	return nil
}

// bnbGather puts the rows of each part together, with scales that are no longer nested, so that each part has
// its own. Where blocks of scales do not end with rows it changes nothing.
func (b *builder) bnbGather(m *quant.Matrix, parts []arch.Piece, groups int) (*quant.Matrix, error) {
	s := m.BnB
	if m.Cols%s.BlockSize != 0 || m.Cols%2 != 0 {
		return m, nil
	}
	per := m.Cols / s.BlockSize // blocks of a row
	blocks := m.Rows * per
	out := &quant.Matrix{Name: m.Name, Format: m.Format, Rows: m.Rows, Cols: m.Cols, BnB: &quant.BnBScale{BlockSize: s.BlockSize, Code: s.Code}}
	b.m.derived += int64(len(m.Data)) + 4*int64(blocks)
	if b.m.headersOnly {
		out.Data = m.Data // of another order: nobody reads it
		return out, nil
	}
	var err error
	if out.Data, err = b.m.arena.Alloc(len(m.Data)); err != nil {
		return nil, err
	}
	scales, err := b.m.arena.Alloc(4 * blocks)
	if err != nil {
		return nil, err
	}
	if out.BnB.Absmax, err = b.floats(scales); err != nil {
		return nil, err
	}
	from := 0 // row of m
	for g := range groups {
		first := 0 // row of the part in out
		for _, p := range parts {
			n := p.Rows / groups
			to := first + g*n
			copy(out.Data[to*m.Cols/2:(to+n)*m.Cols/2], m.Data[from*m.Cols/2:])
			for i := range n * per {
				out.BnB.Absmax[to*per+i] = s.Scale(from*per + i)
			}
			from += n
			first += p.Rows
		}
	}
	return out, nil
}

// bnbRows is a view of some rows, nil where a block of scales does not begin and end with them.
func (b *builder) bnbRows(m *quant.Matrix, from, rows int) *quant.Matrix {
	s := m.BnB
	lo, n := from*m.Cols, rows*m.Cols
	block, blocks := lo/s.BlockSize, n/s.BlockSize
	if lo%s.BlockSize != 0 || n%s.BlockSize != 0 || s.AbsmaxQ != nil && (block%s.NestedBlock != 0 || blocks%s.NestedBlock != 0) {
		return nil
	}
	scale := *s
	if s.AbsmaxQ != nil {
		scale.AbsmaxQ = s.AbsmaxQ[block : block+blocks]
		if s.NestedAbsmax != nil {
			scale.NestedAbsmax = s.NestedAbsmax[block/s.NestedBlock : (block+blocks)/s.NestedBlock]
		}
	} else if s.Absmax != nil {
		scale.Absmax = s.Absmax[block : block+blocks]
	}
	return &quant.Matrix{Format: m.Format, Rows: rows, Cols: m.Cols, Data: m.Data[lo/2 : (lo+n)/2], BnB: &scale}
}
