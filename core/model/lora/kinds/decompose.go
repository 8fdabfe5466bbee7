package kinds

import (
	"cmp"
	"math"
	"slices"
)

// Decompositions in float64, summed in one order on every machine, so that an adapter is the same change on each.

// orthonormal is the first factor of a QR decomposition by Householder's reflections with the signs that
// LAPACK gives them: a column is reflected onto the side that its first element is not on, and the last of a
// square matrix stays.
func (a dense) orthonormal() dense {
	n, k := a.rows, a.cols
	col := make([][]float64, k)
	for j := range col {
		col[j] = make([]float64, n)
		for i := range n {
			col[j][i] = float64(a.x[i*k+j])
		}
	}
	type reflection struct {
		v   []float64
		tau float64
	}
	var turns []reflection
	reflect := func(t reflection, from int, x []float64) {
		sum := 0.0
		for i, v := range t.v {
			sum += float64(v * x[from+i])
		}
		sum *= t.tau
		for i, v := range t.v {
			x[from+i] -= float64(sum * v)
		}
	}
	for j := range k {
		below := 0.0
		for _, v := range col[j][min(j+1, n):] {
			below += float64(v * v)
		}
		t := reflection{v: make([]float64, n-j)}
		if below > 0 {
			alpha := col[j][j]
			beta := -math.Copysign(math.Sqrt(float64(alpha*alpha)+below), alpha)
			t.tau = (beta - alpha) / beta
			t.v[0] = 1
			for i := 1; i < n-j; i++ {
				t.v[i] = col[j][j+i] / (alpha - beta)
			}
		}
		for _, c := range col[j:] {
			reflect(t, j, c)
		}
		turns = append(turns, t)
	}
	out := dense{make([]float32, n*k), n, k}
	x := make([]float64, n)
	for j := range k {
		clear(x)
		x[j] = 1
		for t := k - 1; t >= 0; t-- {
			reflect(turns[t], t, x)
		}
		for i, v := range x {
			out.x[i*k+j] = float32(v)
		}
	}
	return out
}

// solve sets each row w to the x with V·x = w, by elimination with the largest pivots; false: V has no inverse.
func solve(v dense, rows [][]float64) bool {
	n := v.rows
	m := make([][]float64, n)
	for i := range m {
		m[i] = make([]float64, n)
		for j := range m[i] {
			m[i][j] = float64(v.x[i*n+j])
		}
	}
	order := make([]int, n) // which equation stands where
	for i := range order {
		order[i] = i
	}
	for c := range n {
		best := c
		for i := c + 1; i < n; i++ {
			if math.Abs(m[i][c]) > math.Abs(m[best][c]) {
				best = i
			}
		}
		if m[best][c] == 0 {
			return false
		}
		m[c], m[best], order[c], order[best] = m[best], m[c], order[best], order[c]
		for i := c + 1; i < n; i++ {
			f := m[i][c] / m[c][c]
			m[i][c] = f
			for j := c + 1; j < n; j++ {
				m[i][j] -= float64(f * m[c][j])
			}
		}
	}
	x := make([]float64, n)
	for _, w := range rows {
		for i := range n {
			x[i] = w[order[i]]
			for j := range i {
				x[i] -= float64(m[i][j] * x[j])
			}
		}
		for i := n - 1; i >= 0; i-- {
			for j := i + 1; j < n; j++ {
				x[i] -= float64(m[i][j] * x[j])
			}
			x[i] /= m[i][i]
		}
		copy(w, x)
	}
	return true
}

// truncated is a matrix with its k largest singular values alone: its rows or columns, whichever are fewer,
// are taken to the space of the eigenvectors of their products.
func truncated(rows [][]float64, k int) [][]float64 {
	if len(rows[0]) < len(rows) {
		return transposed(truncated(transposed(rows), k))
	}
	n := len(rows)
	gram := make([][]float64, n)
	for i := range gram {
		gram[i] = make([]float64, n)
		for j := range i + 1 {
			sum := 0.0
			for x, v := range rows[i] {
				sum += float64(v * rows[j][x])
			}
			gram[i][j], gram[j][i] = sum, sum
		}
	}
	values, vectors := eigen(gram)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(values[b], values[a]) })
	out := make([][]float64, n)
	for i := range out {
		out[i] = make([]float64, len(rows[0]))
	}
	along := make([]float64, len(rows[0]))
	for _, j := range order[:k] {
		clear(along)
		for i, f := range vectors[j] {
			for x, v := range rows[i] {
				along[x] += float64(f * v)
			}
		}
		for i, f := range vectors[j] {
			for x, v := range along {
				out[i][x] += float64(f * v)
			}
		}
	}
	return out
}

// eigen are the eigenvalues of a symmetric matrix, which it overwrites, and their vectors, one a row:
// reflected to three diagonals, which are then turned away by QL steps with implicit shifts (Wilkinson and
// Reinsch 1971, II/2 and II/4).
func eigen(a [][]float64) (d []float64, vectors [][]float64) {
	n := len(a)
	d, e := make([]float64, n), make([]float64, n)
	vectors = make([][]float64, n)
	for i := range vectors {
		vectors[i] = make([]float64, n)
		vectors[i][i] = 1
	}
	v, w := make([]float64, n), make([]float64, n)
	for k := range n - 2 {
		tail := 0.0
		for i := k + 2; i < n; i++ {
			tail += float64(a[i][k] * a[i][k])
		}
		if tail == 0 {
			continue
		}
		clear(v)
		alpha := a[k+1][k]
		beta := -math.Copysign(math.Sqrt(float64(alpha*alpha)+tail), alpha)
		v[k+1] = alpha - beta
		for i := k + 2; i < n; i++ {
			v[i] = a[i][k]
		}
		f := 2 / (float64(v[k+1]*v[k+1]) + tail) // I - f·v·vᵀ
		half := 0.0
		for i := k; i < n; i++ {
			sum := 0.0
			for j := k + 1; j < n; j++ {
				sum += float64(a[i][j] * v[j])
			}
			w[i] = f * sum
			half += float64(w[i] * v[i])
		}
		half *= f / 2
		for i := k; i < n; i++ {
			w[i] -= float64(half * v[i])
		}
		for i := k; i < n; i++ {
			for j := k; j < n; j++ {
				a[i][j] -= float64(v[i]*w[j]) + float64(w[i]*v[j])
			}
		}
		clear(w)
		for i := k + 1; i < n; i++ {
			for j, x := range vectors[i] {
				w[j] += float64(v[i] * x)
			}
		}
		for i := k + 1; i < n; i++ {
			by := f * v[i]
			for j, x := range w {
				vectors[i][j] -= float64(by * x)
			}
		}
	}
	for i := range n {
		d[i] = a[i][i]
		if i+1 < n {
			e[i] = a[i+1][i]
		}
	}
	for low := range n {
		for range 60 {
			high := low
			for high < n-1 && math.Abs(e[high]) > 0x1p-52*(math.Abs(d[high])+math.Abs(d[high+1])) {
				high++
			}
			if high == low {
				break
			}
			step(d, e, vectors, low, high)
		}
	}
	return d, vectors
}

// step is one QL step on rows low to high of a matrix of three diagonals.
func step(d, e []float64, vectors [][]float64, low, high int) {
	length := func(x, y float64) float64 { return math.Sqrt(float64(x*x) + float64(y*y)) }
	g := (d[low+1] - d[low]) / (2 * e[low])
	g = d[high] - d[low] + e[low]/(g+math.Copysign(length(g, 1), g))
	s, c, p := 1.0, 1.0, 0.0
	for i := high - 1; i >= low; i-- {
		f, b := s*e[i], c*e[i]
		r := length(f, g)
		e[i+1] = r
		if r == 0 { // it falls in two here
			d[i+1] -= p
			e[high] = 0
			return
		}
		s, c = f/r, g/r
		g = d[i+1] - p
		r = float64((d[i]-g)*s) + float64(2*c*b)
		p = s * r
		d[i+1] = g + p
		g = float64(c*r) - b
		x, y := vectors[i], vectors[i+1]
		for k, v := range y {
			y[k] = float64(s*x[k]) + float64(c*v)
			x[k] = float64(c*x[k]) - float64(s*v)
		}
	}
	d[low] -= p
	e[low] = g
	e[high] = 0
}

func transposed(rows [][]float64) [][]float64 {
	out := make([][]float64, len(rows[0]))
	for i := range out {
		out[i] = make([]float64, len(rows))
		for j := range rows {
			out[i][j] = rows[j][i]
		}
	}
	return out
}
