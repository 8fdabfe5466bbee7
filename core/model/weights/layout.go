package weights

import (
	"fmt"
	"maps"
	"slices"

	"edged/core/model/arch"
	"edged/quant"
)

// prove checks that the model has exactly the tensors of its Spec, each of its shape.
func (b *builder) prove() error {
	m := b.m
	m.tensors = map[string]arch.Tensor{}
	err := arch.Tensors(m.Spec, func(t arch.Tensor) error {
		group, other := m.vectors, m.matrices
		if t.Rows > 0 {
			group, other = other, group
		}
		x, stray := group[t.Name], other[t.Name]
		switch {
		case x == nil && stray == nil && t.Optional:
			return nil
		case x == nil && stray == nil:
			return b.fail(ErrInvalid, "tensor %s is missing", b.say(t.Name))
		case x == nil:
			return b.fail(ErrInvalid, "tensor %s has shape %s, but the hyper-parameters ask for %s",
				b.say(t.Name), shapeOf(stray, t.Rows > 0), shape(t.Rows, t.Cols))
		case x.Rows != max(t.Rows, 1) || x.Cols != t.Cols:
			return b.fail(ErrInvalid, "tensor %s has shape %s, but the hyper-parameters ask for %s",
				b.say(t.Name), shapeOf(x, t.Rows == 0), shape(t.Rows, t.Cols))
		}
		m.tensors[t.Name] = t
		return nil
	})
	if err != nil {
		return err
	}
	for _, group := range []map[string]*quant.Matrix{m.matrices, m.vectors} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			if _, known := m.tensors[name]; !known {
				return b.fail(ErrUnsupported, "tensor %s is none that a %s model of %d layers has", b.say(name), m.Spec.Family, len(m.Spec.Layers))
			}
		}
	}
	return nil
}

// say names a tensor in the words of its container.
func (b *builder) say(name string) string {
	if b.foreign == nil {
		return name
	}
	if own := b.foreign(name); own != name {
		return fmt.Sprintf("%s (%s)", own, name)
	}
	return name
}

func shape(rows, cols int) string {
	if rows == 0 {
		return fmt.Sprintf("(%d)", cols)
	}
	return fmt.Sprintf("(%d, %d)", rows, cols)
}

func shapeOf(x *quant.Matrix, vector bool) string {
	if vector {
		return shape(0, x.Cols)
	}
	return shape(x.Rows, x.Cols)
}
