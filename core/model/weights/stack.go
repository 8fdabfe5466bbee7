package weights

import (
	"fmt"
	"strconv"

	"edged/core/model/arch"
	"edged/quant"
)

// wantsVector reports whether the Spec has a vector of a layer under this name.
func (b *builder) wantsVector(name string) (yes bool) {
	_, numbers := arch.SplitNumbers(name)
	layer := -1
	if len(numbers) == 0 {
		return false
	}
	if _, err := fmt.Sscan(numbers[0], &layer); err != nil || layer < 0 || layer >= len(b.m.Spec.Layers) {
		return false
	}
	_ = arch.LayerTensors(b.m.Spec, layer, func(t arch.Tensor) error {
		yes = yes || t.Name == name && t.Rows == 0
		return nil
	})
	return yes
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
		parts := make([]part, len(stack.Into))
		groups := 1
		if r%len(parts) != 0 {
			return b.fail(ErrInvalid, "tensor %s has %d rows, which are no whole number for each of %d matrices", say(), r, len(parts))
		}
		if stack.Alternating {
			groups = r / len(parts)
		}
		for i, into := range stack.Into {
			parts[i] = part{name: arch.JoinNumbers(into, append(numbers[:1:1], strconv.Itoa(e))) + suffix, rows: r / len(parts)}
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
				err = b.vector(p.name, f, p.rows, pieces[i])
			} else {
				err = b.matrix(p.name, f, p.rows, c, pieces[i])
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// drafting reports whether a tensor belongs to the layers behind the last that guess further tokens: they change no answer, and
// are passed over.
func (b *builder) drafting(name string) bool {
	if b.m.Spec.Drafts == 0 {
		return false
	}
	_, numbers := arch.SplitNumbers(name)
	layer := -1
	if len(numbers) > 0 {
		layer, _ = strconv.Atoi(numbers[0])
	}
	return layer >= len(b.m.Spec.Layers) && layer < len(b.m.Spec.Layers)+b.m.Spec.Drafts
}
