package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"edged/core/model/arch"
	"edged/quant"
)

// wantsVector reports whether the Spec has a vector of a layer under this name. What a layer asks for is
// listed once: a hostile file may have a hundred thousand tensors of one row, and claim as many experts.
func (b *builder) wantsVector(name string) bool {
	pattern, numbers := arch.SplitNumbers(name)
	if len(numbers) == 0 {
		return name == arch.HeadBias // stored as a row by the classes of encoder-decoders
	}
	layer, err := strconv.Atoi(numbers[0])
	if err != nil || layer < 0 || layer >= len(b.m.Spec.Layers) {
		return false
	}
	if b.wanted == nil {
		b.wanted = make([]map[string]bool, len(b.m.Spec.Layers))
	}
	if b.wanted[layer] == nil {
		b.wanted[layer] = map[string]bool{}
		_ = arch.LayerTensors(b.m.Spec, layer, func(t arch.Tensor) error {
			if t.Rows == 0 {
				of, _ := arch.SplitNumbers(t.Name)
				b.wanted[layer][of] = true
			}
			return nil
		})
	}
	return b.wanted[layer][pattern]
}

// stack cuts a tensor of all experts' matrices, (n, rows, cols), into matrices; of biases cols is 1.
func (b *builder) stack(stack *arch.Stack, numbers []string, suffix string, f quant.Format, n, rows, cols int, data []byte) error {
	say := func() string { return b.say(arch.JoinNumbers(stack.Of, numbers) + suffix) }
	if n > arch.MaxExperts {
		return b.fail(ErrInvalid, "tensor %s holds %d experts, at most %d are allowed", say(), n, arch.MaxExperts)
	}
	turned := stack.Transposed && suffix == ".weight"
	if turned {
		if f.BlockSize() != 1 {
			return b.fail(ErrUnsupported, "tensor %s is %s: experts that are stored transposed must hold floats", say(), f)
		}
	}
	size := f.RowBytes(cols) * rows
	if suffix == ".bias" {
		size = f.RowBytes(rows)
	}
	for e := range n {
		one, r, c := data, rows, cols
		if data != nil {
			one = data[e*size : (e+1)*size]
		}
		if turned {
			var err error
			if one, err = b.transposed(f, one, r, c); err != nil {
				return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, say(), err)
			}
			r, c = c, r
		}
		parts := make([]arch.Piece, len(stack.Into))
		groups := 1
		if r%len(parts) != 0 {
			return b.fail(ErrInvalid, "tensor %s has %d rows, which are no whole number for each of %d matrices", say(), r, len(parts))
		}
		if stack.Alternating {
			groups = r / len(parts)
		}
		for i, into := range stack.Into {
			parts[i] = arch.Piece{Name: arch.JoinNumbers(into, append(slices.Clone(numbers[:min(len(numbers), 1)]), strconv.Itoa(e))) + suffix, Rows: r / len(parts)}
		}
		rowBytes := f.RowBytes(c)
		if suffix == ".bias" {
			rowBytes = f.RowBytes(1)
		}
		pieces, err := b.gather(parts, groups, rowBytes, one)
		if err != nil {
			return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, say(), err)
		}
		for i, p := range parts {
			if suffix == ".bias" {
				err = b.vector(p.Name, f, p.Rows, pieces[i])
			} else {
				err = b.matrix(p.Name, f, p.Rows, c, pieces[i])
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// drafting reports whether a tensor belongs to the layers behind the last that guess further tokens: they
// change no answer, and are passed over.
func (b *builder) drafting(name string) bool {
	if b.folder && b.m.family.Drafted != "" && strings.HasPrefix(strings.TrimPrefix(name, "model."), b.m.family.Drafted) {
		b.m.drafts = true
		return true
	}
	if b.m.Spec.Drafts == 0 {
		return false
	}
	_, numbers := arch.SplitNumbers(name)
	layer := -1
	if len(numbers) > 0 {
		layer, _ = strconv.Atoi(numbers[0])
	}
	drafts := layer >= len(b.m.Spec.Layers) && layer < len(b.m.Spec.Layers)+b.m.Spec.Drafts
	b.m.drafts = b.m.drafts || drafts
	return drafts
}

// expand cuts the matrix that makes keys and values of a compressed row, (heads·(keys+values), rank), into
// one of each for a head. The keys' are turned; blocks that run along their rows cannot be, so that they
// become float32.
func (b *builder) expand(x *arch.Expand, numbers []string, f quant.Format, rows, cols int, data []byte) error {
	fail := func(err error) error {
		return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, b.say(arch.JoinNumbers(x.Of, numbers)+".weight"), err)
	}
	if x.Heads*(x.Keys+x.Values) != rows {
		return b.fail(ErrInvalid, "tensor %s has %d rows, but the hyper-parameters ask for %d heads of %d and %d",
			b.say(arch.JoinNumbers(x.Of, numbers)+".weight"), rows, x.Heads, x.Keys, x.Values)
	}
	rowBytes, at := f.RowBytes(cols), 0
	next := func(n int) (part []byte) {
		if data != nil {
			part = data[at : at+n*rowBytes]
		}
		at += n * rowBytes
		return part
	}
	for h := range x.Heads {
		number := []string{numbers[0], strconv.Itoa(h)}
		keys, format := next(x.Keys), f
		if f.BlockSize() != 1 {
			keys = b.asFloats(f, keys, x.Keys*cols)
			format = quant.F32
		}
		turned, err := b.transposed(format, keys, x.Keys, cols)
		if err != nil {
			return fail(err)
		}
		if err := b.matrix(arch.JoinNumbers(x.IntoKeys, number)+".weight", format, cols, x.Keys, turned); err != nil {
			return err
		}
		if err := b.matrix(arch.JoinNumbers(x.IntoValues, number)+".weight", f, x.Values, cols, next(x.Values)); err != nil {
			return err
		}
	}
	return nil
}

// expandPacked is expand of a matrix whose scales stand beside it: it becomes float32 first, since neither
// kind of scales can follow its rows into matrices of single heads.
func (b *builder) expandPacked(x *arch.Expand, numbers []string, m *quant.Matrix) error {
	floats, err := b.m.recode(m, quant.F32)
	if err != nil {
		return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, b.say(arch.JoinNumbers(x.Of, numbers)+".weight"), err)
	}
	return b.expand(x, numbers, quant.F32, m.Rows, m.Cols, floats.Data)
}

// asFloats decodes n values; nil for headers only.
func (b *builder) asFloats(f quant.Format, data []byte, n int) []byte {
	if b.m.headersOnly || data == nil {
		return nil
	}
	x := make([]float32, n)
	quant.Decode(f, x, data)
	out := make([]byte, 4*n)
	for i, v := range x {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
	}
	return out
}
