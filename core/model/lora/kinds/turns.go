package kinds

import (
	"math"

	"edged/core/model/arch"
)

// hra multiplies W by reflections: W·Π(I - 2uuᵀ) (Yuan et al. 2024), which is W + (W·C)·Uᵀ with one column of
// C for each u.
func (r *Reader) hra(module string) (*Change, error) {
	m, err := r.matrix(module, "hra_u")
	if err != nil {
		return nil, err
	}
	in, rank := m.rows, m.cols
	if rank > MaxRank {
		return nil, r.fail(arch.ErrUnsupported, "module %s: hra_u has rank %d, more than the %d allowed", module, rank, MaxRank)
	}
	dot := func(a, b []float64) float64 {
		sum := 0.0
		for i, v := range a {
			sum += float64(v * b[i])
		}
		return sum
	}
	u, c := make([][]float64, rank), make([][]float64, rank)
	for k := range rank {
		x := make([]float64, in)
		for i := range x {
			x[i] = float64(m.x[i*rank+k])
		}
		if r.o.GramSchmidt {
			for _, v := range u[:k] {
				f := dot(v, x)
				for i := range x {
					x[i] -= float64(f * v[i])
				}
			}
		}
		n := math.Sqrt(dot(x, x))
		if n == 0 {
			return nil, r.fail(arch.ErrInvalid, "module %s: column %d of hra_u has no direction", module, k)
		}
		for i := range x {
			x[i] /= n
		}
		u[k] = x
		c[k] = make([]float64, in)
		for i, v := range x {
			c[k][i] = -2 * v
		}
		if !r.o.GramSchmidt {
			for j := range k {
				f := -2 * dot(u[j], x)
				for i := range x {
					c[k][i] += float64(f * c[j][i])
				}
			}
		}
	}
	return &Change{
		A: Shape{Rows: rank, Cols: in}, B: Shape{Cols: rank}, Scale: 1,
		Derive: func(A, _ []float32, _ int) {
			for k := range rank {
				for i, v := range u[k] {
					A[k*in+i] = float32(v)
				}
			}
		},
		Times: func(_ int, w, dst []float32) {
			for k := range rank {
				sum := 0.0
				for i, v := range w {
					sum += float64(float64(v) * c[k][i])
				}
				dst[k] = float32(sum)
			}
		},
	}, nil
}

// c3a is a block-circulant Δ (Chen et al. 2025): block (m, n) has w[m, n, (j-t) mod b] / in at (t, j).
func (r *Reader) c3a(module string) (*Change, error) {
	x, s, err := r.tensor(module, "c3a_kernel", 3)
	if err != nil {
		return nil, err
	}
	b := s[2]
	out, in := s[0]*b, s[1]*b
	return denseChange(out, in, 1, func(B []float32) {
		for o := range out {
			for i := range in {
				B[o*in+i] = x[(o/b*s[1]+i/b)*b+(i%b-o%b+b)%b] / float32(in)
			}
		}
	}), nil
}

// oft rotates blocks of the input (Qiu et al. 2023): W·Rᵀ, each block of R from a skew matrix Q: the series
// I + 2Q + 2Q² + … cut as PEFT cuts it, or Cayley's (I-Q)(I+Q)⁻¹.
func (r *Reader) oft(module string) (*Change, error) {
	m, err := r.matrix(module, "oft_R")
	if err != nil {
		return nil, err
	}
	n := int(math.Round((1 + math.Sqrt(1+8*float64(m.cols))) / 2))
	if n*(n-1)/2 != m.cols || n > MaxRank {
		return nil, r.fail(arch.ErrInvalid, "module %s: oft_R (%d, %d): its rows are no triangles above a diagonal", module, m.rows, m.cols)
	}
	eps := r.o.Epsilon / math.Sqrt(float64(m.rows))
	turns := make([]dense, m.rows)
	for k := range m.rows {
		q, at, norm := dense{make([]float32, n*n), n, n}, k*m.cols, 0.0
		for i := range n {
			for j := i + 1; j < n; j++ {
				q.x[i*n+j], q.x[j*n+i] = m.x[at], -m.x[at]
				norm += 2 * float64(m.x[at]) * float64(m.x[at])
				at++
			}
		}
		if norm = math.Sqrt(norm); r.o.COFT && norm > eps {
			for i := range q.x {
				q.x[i] *= float32(eps / norm)
			}
		}
		if turns[k], err = r.turn(module, q); err != nil {
			return nil, err
		}
	}
	in := m.rows * n
	if r.o.BlockShare {
		in = 0 // what the base has
	}
	return &Change{
		A: Shape{Cols: in}, Scale: 1,
		Dense: true, Whole: n,
		Times: func(_ int, w, dst []float32) { rotate(dst, w, turns, n) },
	}, nil
}

// rotate sets dst to w·Rᵀ - w for the blocks of R, the last of which repeats.
func rotate(dst, w []float32, turns []dense, n int) {
	for lo := 0; lo+n <= len(w); lo += n {
		t := turns[lo/n%len(turns)]
		for k := range n {
			sum := 0.0
			for c := range n {
				sum += float64(float64(w[lo+c]) * float64(t.x[k*n+c]))
			}
			dst[lo+k] = float32(sum - float64(w[lo+k]))
		}
	}
}

// turn makes a rotation of a skew matrix.
func (r *Reader) turn(module string, q dense) (dense, error) {
	if r.o.Neumann != nil && !*r.o.Neumann {
		return r.cayley(module, q)
	}
	out, terms := unit(q.rows), 5
	if r.o.NeumannTerms != nil {
		terms = int(*r.o.NeumannTerms)
		if float64(terms) != *r.o.NeumannTerms || terms < 1 || terms > 64 {
			return dense{}, r.fail(arch.ErrInvalid, "num_cayley_neumann_terms is %g: want a whole number from 1 to 64", *r.o.NeumannTerms)
		}
	}
	plus := func(p dense, f float32) {
		for i, v := range p.x {
			out.x[i] += f * v
		}
	}
	if terms > 1 {
		plus(q, 2)
	}
	if terms > 2 {
		p := q.times(q)
		plus(p, 2)
		for range terms - 4 {
			p = p.times(q)
			plus(p, 2)
		}
		plus(p.times(q), 1)
	}
	return out, nil
}

// cayley is (I-Q)·(I+Q)⁻¹; the inverse of a skew matrix plus one always is.
func (r *Reader) cayley(module string, q dense) (dense, error) {
	n := q.rows
	a, b := make([]float64, n*n), make([]float64, n*n) // X·(I+Q) = I-Q, transposed: (I+Q)ᵀ·Xᵀ = (I-Q)ᵀ
	for i := range n {
		for j := range n {
			a[i*n+j], b[i*n+j] = float64(q.x[j*n+i]), -float64(q.x[j*n+i])
		}
		a[i*n+i]++
		b[i*n+i]++
	}
	for c := range n {
		best := c
		for i := c + 1; i < n; i++ {
			if math.Abs(a[i*n+c]) > math.Abs(a[best*n+c]) {
				best = i
			}
		}
		if a[best*n+c] == 0 {
			return dense{}, r.fail(arch.ErrInvalid, "module %s: a rotation of it has no inverse", module)
		}
		for j := range n {
			a[c*n+j], a[best*n+j] = a[best*n+j], a[c*n+j]
			b[c*n+j], b[best*n+j] = b[best*n+j], b[c*n+j]
		}
		for i := range n {
			if f := a[i*n+c] / a[c*n+c]; i != c && f != 0 {
				for j := range n {
					a[i*n+j] -= float64(f * a[c*n+j])
					b[i*n+j] -= float64(f * b[c*n+j])
				}
			}
		}
	}
	out := dense{make([]float32, n*n), n, n}
	for i := range n {
		for j := range n {
			out.x[j*n+i] = float32(b[i*n+j] / a[i*n+i])
		}
	}
	return out, nil
}

// boft rotates blocks by Cayley's formula and gives each output a scale (Liu et al. 2024). Of several
// butterfly factors PEFT applies but the first where its CUDA code is absent, which is how such files come to
// have one.
func (r *Reader) boft(module string) (*Change, error) {
	x, s, err := r.tensor(module, "boft_R", 4)
	if err != nil {
		return nil, err
	}
	scales, err := r.matrix(module, "boft_s")
	if err != nil {
		return nil, err
	}
	n := s[2]
	switch {
	case s[3] != n || n > MaxRank || scales.cols != 1:
		return nil, r.fail(arch.ErrInvalid, "module %s: boft_R has shape %v and boft_s (%d, %d)", module, s, scales.rows, scales.cols)
	case s[0] != 1:
		return nil, r.fail(arch.ErrUnsupported, "module %s: boft_R has %d butterfly factors; train with boft_n_butterfly_factor=1", module, s[0])
	}
	turns := make([]dense, s[1])
	for k := range turns {
		q, at := dense{make([]float32, n*n), n, n}, x[k*n*n:]
		for i := range n {
			for j := range n {
				q.x[i*n+j] = (at[i*n+j] - at[j*n+i]) / 2
			}
		}
		if turns[k], err = r.cayley(module, q); err != nil {
			return nil, err
		}
	}
	return &Change{
		A: Shape{Cols: s[1] * n}, B: Shape{Rows: scales.rows}, Scale: 1,
		Dense: true, ByRow: true, Whole: n,
		Times: func(row int, w, dst []float32) {
			rotate(dst, w, turns, n)
			for i := range dst {
				dst[i] = scales.x[row]*(dst[i]+w[i]) - w[i]
			}
		},
	}, nil
}
