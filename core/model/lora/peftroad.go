package lora

import (
	"math"

	"edged/quant"
)

// road rotates and scales pairs of a layer's outputs (Azizi et al. 2024, RoAd): in each group of group_size outputs one of the
// first half with one of the second. A row of the change is made of two rows of the matrix, and of its bias likewise.
func (r *kindReader) road(module string) (rawDelta, error) {
	theta, s, err := r.tensor(module, "road_theta", 1)
	if err != nil {
		return rawDelta{}, err
	}
	alpha, n, err := r.tensor(module, "road_alpha", 1)
	if err != nil {
		return rawDelta{}, err
	}
	group, per := r.c.GroupSize, map[string]float64{"road_1": 0.5, "road_2": 1, "road_4": 2}[r.c.Variant]
	switch {
	case per == 0:
		return rawDelta{}, adapterError(r.dir, ErrUnsupported, "variant %q of RoAd; the served ones are road_1, road_2 and road_4", r.c.Variant)
	case group < 2 || group%2 != 0 || s[0] != n[0]:
		return rawDelta{}, adapterError(r.dir, ErrInvalid, "module %s: road_theta %v and road_alpha %v in groups of %d", module, s, n, group)
	}
	// factors of an output itself and of the one it is paired with.
	factors := func(o int) (own, other float32) {
		i, j := o, o
		switch half := group / 2; r.c.Variant {
		case "road_1":
			i = o/group*half + o%half
			j = i
		case "road_4":
			i = o/group*2*group + o%group
			j = i + group
		}
		own = alpha[i] * float32(math.Cos(float64(theta[i])))
		other = alpha[j] * float32(math.Sin(float64(theta[j])))
		if o%group < group/2 {
			other = -other
		}
		return own, other
	}
	return rawDelta{
		b: rawTensor{rows: int(float64(s[0]) / per)}, scale: 1,
		made: &made{
			dense: true, byRow: true, blocks: group,
			partner: func(o int) int {
				if o%group < group/2 {
					return o + group/2
				}
				return o - group/2
			},
			paired: func(o int, w, other, dst []float32) {
				f, g := factors(o)
				for i, v := range w {
					dst[i] = float32(v*(f-1)) + float32(other[i]*g)
				}
			},
		},
	}, nil
}

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
		p := l.made.partner(o) - l.first
		if p < 0 || p >= w.Rows {
			return nil, nil, a.fail(ErrUnsupported, "module %s: it pairs outputs of two matrices that the model has apart; merge it into the model with PEFT", l.module)
		}
		p = adjacent(p, w.Rows, heads)
		quant.Row(row, w, r)
		quant.Row(other, w, p)
		l.made.paired(o, row, other, B[r*w.Cols:(r+1)*w.Cols])
		if own != nil {
			l.made.paired(o, own[r:r+1], own[p:p+1], bias[r:r+1])
		}
	}
	t := rawTensor{name: l.b.name, format: quant.F32, rows: w.Rows, cols: w.Cols, data: data}
	return data, bias, a.finite(&t)
}

// adjacent is where a row is of which apart tells where it was.
func adjacent(row, rows, heads int) int {
	if heads == 0 {
		return row
	}
	dim := rows / heads
	i := row % dim
	return row - i + i%(dim/2)*2 + i/(dim/2)
}

// olora makes factors of twice the rank of an adapter that was trained beside what OLoRA leaves of the base (Büyükakyüz 2024): PEFT
// takes scale · Q·R off the weight when it loads one, with the first r columns of an orthogonal factorisation, which is
// scale · Q·Qᵀ·W for an orthonormal base Q of the first r columns of W.
func (a *Adapter) olora(l *rawDelta, w *quant.Matrix) (down, up rawTensor, err error) {
	if w.Format.BlockSize() != 1 || w.Group != nil {
		return down, up, a.fail(ErrUnsupported, "module %s: init_lora_weights \"olora\" on a quantised base, of which PEFT quantises the rest anew: serve the base in 16 bits, or convert the adapter to a plain one when saving it", l.module)
	}
	r := l.a.rows
	if 2*r > maxRank || r > w.Rows || r > w.Cols {
		return down, up, a.fail(ErrUnsupported, "module %s: init_lora_weights \"olora\" of rank %d on a matrix (%d, %d): convert the adapter to a plain one when saving it", l.module, r, w.Rows, w.Cols)
	}
	x, dataA, err := a.floats(2 * r * w.Cols)
	if err != nil {
		return down, up, err
	}
	y, dataB, err := a.floats(w.Rows * 2 * r)
	if err != nil {
		return down, up, err
	}
	q := make([][]float64, r)
	for k := range q {
		q[k] = make([]float64, w.Rows)
	}
	row := make([]float32, w.Cols)
	for o := range w.Rows {
		quant.Row(row, w, o)
		for k := range q {
			q[k][o] = float64(row[k])
		}
	}
	if !orthonormal(q) {
		return down, up, a.fail(ErrUnsupported, "module %s: the first %d columns of the base's weight depend on one another: OLoRA's factorisation has no one answer", l.module, r)
	}
	mA, mB := l.a.matrix(l.a.name), l.b.matrix(l.b.name)
	for k := range r {
		quant.Row(x[k*w.Cols:(k+1)*w.Cols], mA, k)
	}
	sum := make([]float64, r*w.Cols)
	for o := range w.Rows {
		quant.Row(y[o*2*r:o*2*r+r], mB, o)
		quant.Row(row, w, o)
		for k := range q {
			f, to := q[k][o], sum[k*w.Cols:(k+1)*w.Cols]
			y[o*2*r+r+k] = float32(-f)
			for i, v := range row {
				to[i] += float64(f * float64(v))
			}
		}
	}
	for i, v := range sum {
		x[r*w.Cols+i] = float32(v)
	}
	return rawTensor{l.a.name, quant.F32, 2 * r, w.Cols, dataA}, rawTensor{l.b.name, quant.F32, w.Rows, 2 * r, dataB}, nil
}

// orthonormal makes vectors orthonormal, each with those before it (Gram and Schmidt, twice: once loses half of the digits). It
// reports whether none of them depends on the others.
func orthonormal(q [][]float64) bool {
	for k, v := range q {
		before := math.Sqrt(dot(v, v))
		for range 2 {
			for _, u := range q[:k] {
				f := dot(u, v)
				for i := range v {
					v[i] -= float64(f * u[i])
				}
			}
		}
		n := math.Sqrt(dot(v, v))
		if !(n > 1e-9*before) {
			return false
		}
		for i := range v {
			v[i] /= n
		}
	}
	return true
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		sum += float64(v * b[i])
	}
	return sum
}
