package lora

import "edged/quant"

// pairs makes B of two rows each of the model's matrix name, and the bias that goes with it.
func (a *Adapter) pairs(l *rawDelta, m Base, name string) (b []byte, bias []float32, err error) {
	w, heads := m.Matrix(name), 0
	if m.Network().Permuted {
		heads = m.Tensor(name).Heads
	}
	B, data, err := a.floats(w.Rows * w.Cols)
	if err != nil {
		return nil, nil, err
	}
	own, err := m.Vector(biasName(name))
	if err != nil {
		return nil, nil, err
	}
	if own != nil {
		bias = make([]float32, w.Rows)
	}
	row, other := make([]float32, w.Cols), make([]float32, w.Cols)
	for r := range w.Rows {
		o := l.first + apart(r, w.Rows, heads)
		p := l.made.Partner(o) - l.first
		if p < 0 || p >= w.Rows {
			return nil, nil, a.fail(ErrUnsupported, "module %s: it pairs outputs of two matrices that the model has apart; merge it into the model with PEFT", l.module)
		}
		p = adjacent(p, w.Rows, heads)
		quant.Row(row, w, r)
		quant.Row(other, w, p)
		l.made.Paired(o, row, other, B[r*w.Cols:(r+1)*w.Cols])
		if own != nil {
			l.made.Paired(o, own[r:r+1], own[p:p+1], bias[r:r+1])
		}
	}
	t := rawTensor{name: l.b.name, format: quant.F32, rows: w.Rows, cols: w.Cols, data: data}
	return data, bias, a.finite(&t)
}

// adjacent returns the row to which a row was moved: the inverse of apart.
func adjacent(row, rows, heads int) int {
	if heads == 0 {
		return row
	}
	dim := rows / heads
	i := row % dim
	return row - i + i%(dim/2)*2 + i/(dim/2)
}
