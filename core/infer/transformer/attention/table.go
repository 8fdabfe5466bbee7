package attention

import (
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/position"
	"edged/core/model/arch"
	"edged/quant"
)

// newTable binds an attention's own table, or finds that of the nearest layer before; nil: it has none.
func newTable(b *bind.Builder, a *arch.Attention) *position.Table {
	if p, ok := a.Position.(arch.ALiBi); ok && p.Rounded {
		for _, d := range b.Distances {
			if d.SameRounded(a.Heads, a.KeyDim) {
				return d
			}
		}
		d := position.Rounded(&p, a.Heads, a.KeyDim)
		b.Distances = append(b.Distances, d)
		return d
	}
	of, ok := a.Position.(arch.Distances)
	if !ok {
		return nil
	}
	if !of.Own {
		n := len(b.Distances)
		if n == 0 || b.Distances[n-1].Heads() != a.Heads {
			b.Fail("tensor %s: missing", b.Prefix+arch.DistancesName)
			return nil
		}
		return b.Distances[n-1]
	}
	m := b.Matrix(b.Prefix+arch.DistancesName, of.Buckets, a.Heads)
	values := make([]float32, of.Buckets*a.Heads)
	if b.Err == nil {
		for i := range of.Buckets {
			quant.Row(values[i*a.Heads:(i+1)*a.Heads], m, i)
		}
	}
	d := position.NewTable(of, a.Both, a.Heads, values)
	b.Distances = append(b.Distances, d)
	return d
}
