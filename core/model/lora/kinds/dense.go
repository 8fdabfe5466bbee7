package kinds

import (
	"fmt"
	"strings"

	"edged/core/model/arch"
)

// dense is a matrix in float32.
type dense struct {
	x          []float32
	rows, cols int
}

func (r *Reader) matrix(module, part string) (dense, error) {
	x, s, err := r.tensor(module, part, 2)
	if err != nil {
		return dense{}, err
	}
	return dense{x, s[0], s[1]}, nil
}

// times is a·b, summed in float64.
func (a dense) times(b dense) dense {
	out := dense{make([]float32, a.rows*b.cols), a.rows, b.cols}
	sum := make([]float64, b.cols)
	for i := range a.rows {
		clear(sum)
		for k := range a.cols {
			v := float64(a.x[i*a.cols+k])
			for j, w := range b.x[k*b.cols : (k+1)*b.cols] {
				sum[j] += float64(v * float64(w))
			}
		}
		for j, v := range sum {
			out.x[i*b.cols+j] = float32(v)
		}
	}
	return out
}

func (r *Reader) shapes(module string, what string, m ...dense) error {
	var s []string
	for _, d := range m {
		s = append(s, fmt.Sprintf("(%d, %d)", d.rows, d.cols))
	}
	return r.fail(arch.ErrInvalid, "module %s: %s of shapes %s do not belong together", module, what, strings.Join(s, ", "))
}

func denseChange(out, in int, scale float64, fill func(B []float32)) *Change {
	return &Change{
		A: Shape{Cols: in}, B: Shape{Rows: out, Cols: in}, Scale: scale,
		Dense:  true,
		Derive: func(_, B []float32, _ int) { fill(B) },
	}
}

func unit(n int) dense {
	d := dense{make([]float32, n*n), n, n}
	for i := range n {
		d.x[i*n+i] = 1
	}
	return d
}

// kronecker sets dst to a ⊗ b.
func kronecker(dst []float32, a, b dense) {
	cols := a.cols * b.cols
	for i := range a.rows {
		for j := range a.cols {
			v := a.x[i*a.cols+j]
			for k := range b.rows {
				to := dst[(i*b.rows+k)*cols+j*b.cols:]
				for c, w := range b.x[k*b.cols : (k+1)*b.cols] {
					to[c] = v * w
				}
			}
		}
	}
}

// add adds w times row k to dst.
func (a dense) add(dst []float32, k int, w float32) {
	for i, v := range a.x[k*a.cols : (k+1)*a.cols] {
		dst[i] += w * v
	}
}
