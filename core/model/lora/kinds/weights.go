package kinds

import (
	"math"

	"edged/core/model/arch"
)

// Kinds whose change follows from the matrix that they change, beyond a multiple of each of its rows.

// hira multiplies each weight by one plus an element of B·A (Huang et al. 2025): Δ = W ⊙ (B·A).
func (r *Reader) hira(module string) (*Change, error) {
	a, b, err := r.factors(module, "hira_A", "hira_B")
	if err != nil {
		return nil, err
	}
	return &Change{
		A: Shape{Cols: a.cols}, B: Shape{Rows: b.rows}, Scale: 1,
		Dense: true, ByRow: true,
		Times: func(row int, w, dst []float32) {
			b.rowTimes(dst, row, a)
			for i, v := range w {
				dst[i] *= v
			}
		},
	}, nil
}

// factors reads two matrices (r, in) and (out, r).
func (r *Reader) factors(module, partA, partB string) (a, b dense, err error) {
	if a, err = r.matrix(module, partA); err != nil {
		return a, b, err
	}
	if b, err = r.matrix(module, partB); err == nil && a.rows != b.cols {
		err = r.shapes(module, partA+" and "+partB, a, b)
	}
	return a, b, err
}

// glora is W' = W + W ⊙ A + B and, of a layer with a bias b, b' = b + b ⊙ D + E + W·C (Chavan et al. 2023).
// A, B and C are products of two factors, vectors or numbers, D and E vectors or numbers, and what is absent
// is zero.
func (r *Reader) glora(module string) (*Change, error) {
	var p [5]*path
	out, in := 0, 0
	for i := range p {
		var err error
		if p[i], err = r.gloraPath(module, "glora_"+string("ABCDE"[i])); err != nil {
			return nil, err
		}
		if i < 2 && p[i].rows > 0 {
			out = p[i].rows
		}
		if i < 2 && p[i].cols > 0 {
			in = p[i].cols
		}
	}
	a, b, c, d, e := p[0], p[1], p[2], p[3], p[4]
	return &Change{
		A: Shape{Cols: in}, B: Shape{Rows: out}, Scale: 1,
		Dense: true, ByRow: true,
		Fits: func(out, in int) error {
			if !a.fits(out, in) || !b.fits(out, in) || !c.fits(in, 1) || !d.fits(out, 1) || !e.fits(out, 1) {
				return r.fail(
					arch.ErrMismatch,
					"module %s: the shapes of its glora tensors do not fit the model's matrix, which is (%d, %d): it was trained on another model",
					module,
					out,
					in,
				)
			}
			return nil
		},
		Times: func(row int, w, dst []float32) {
			for i, v := range w {
				dst[i] = float32(v*a.at(row, i)) + b.at(row, i)
			}
		},
		BiasOfBias: true,
		Bias: func(row int, w []float32, own float32) float32 {
			sum := float64(own)*float64(d.at(row, 0)) + float64(e.at(row, 0))
			if c.x != nil || c.down.x != nil {
				for i, v := range w {
					sum += float64(float64(v) * float64(c.at(i, 0)))
				}
			}
			return float32(sum)
		},
	}, nil
}

// A path is one of GLoRA's: a number, a column, a product of two factors, or, with neither, zero.
type path struct {
	x          []float32
	rows, cols int // 0: any
	down, up   dense
}

func (p *path) fits(rows, cols int) bool {
	return (p.rows == 0 || p.rows == rows) && (p.cols == 0 || p.cols == cols)
}

func (p *path) at(row, col int) float32 {
	switch {
	case p.down.x != nil:
		sum := 0.0
		for k := range p.down.cols {
			sum += float64(float64(p.down.x[row*p.down.cols+k]) * float64(p.up.x[k*p.up.cols+col]))
		}
		return float32(sum)
	case len(p.x) == 1:
		return p.x[0]
	case p.x != nil:
		return p.x[row]
	}
	return 0
}

func (r *Reader) gloraPath(module, name string) (*path, error) {
	if r.t[name+".Xd"] != nil {
		up, down, err := r.factors(module, name+".Xu", name+".Xd")
		return &path{rows: down.rows, cols: up.cols, down: down, up: up}, err
	}
	t := r.t[name+".X"]
	if t == nil {
		return &path{}, nil
	}
	x, s, err := r.tensor(module, name+".X", len(t.Shape))
	if err != nil {
		return nil, err
	}
	if len(s) > 2 || len(s) == 0 || len(s) == 2 && s[1] != 1 {
		return nil, r.fail(arch.ErrInvalid, "tensor %s has shape %v: want a number or a column", t.Name, t.Shape)
	}
	p := &path{x: x}
	if len(x) > 1 {
		p.rows = len(x)
	}
	return p, nil
}

// deft takes a subspace of the outputs off W and puts R in its place: Δ = Q·(s·R - Pᵀ·W), where Q and P are
// the trained matrix and its positive part, or both its orthonormal factor; PaRa takes the subspace off and
// puts nothing there.
func (r *Reader) deft(module string) (*Change, error) {
	q, err := r.matrix(module, "deft_P")
	if err != nil {
		return nil, err
	}
	out, rank := q.rows, q.cols
	put, in := dense{}, 0
	if !r.o.PaRa {
		if put, err = r.matrix(module, "deft_R"); err != nil {
			return nil, err
		}
		if in = put.cols; put.rows != rank {
			return nil, r.shapes(module, "deft_P and deft_R", q, put)
		}
	}
	onto := dense{make([]float32, out*rank), out, rank}
	switch method := r.o.Decomposition; method {
	case "relu":
		for i, v := range q.x {
			onto.x[i] = max(v, 0)
		}
	case "qr":
		if rank > out {
			return nil, r.fail(arch.ErrInvalid, "module %s: deft_P is (%d, %d), which has more columns than rows", module, out, rank)
		}
		q = q.orthonormal()
		onto = q
	default:
		return nil, r.fail(arch.ErrUnsupported, "decomposition_method %q of DEFT; the served ones are relu and qr", method)
	}
	scale := float32(1)
	if r.o.Alpha != nil {
		scale = float32(*r.o.Alpha / float64(rank))
	}
	var seen []float64 // (rank, in) Pᵀ·W
	return &Change{
		A: Shape{Rows: rank, Cols: in}, B: Shape{Rows: out, Cols: rank}, Scale: 1,
		See: func(row int, w []float32) {
			if seen == nil {
				seen = make([]float64, rank*len(w))
			}
			for k := range rank {
				addTimes(seen[k*len(w):], w, onto.x[row*rank+k])
			}
		},
		Derive: func(a, b []float32, _ int) {
			for i, v := range seen {
				if put.x != nil {
					a[i] = put.x[i] * scale
				}
				a[i] = float32(float64(a[i]) - v)
			}
			copy(b, q.x)
		},
	}, nil
}

// addTimes adds f times w to dst.
func addTimes(dst []float64, w []float32, f float32) {
	for i, v := range w {
		dst[i] += float64(float64(v) * float64(f))
	}
}

// peanut is a small network of the weights themselves (Zhong et al. 2025): Δ = scaling · B·f(W), where f
// takes each column of W through A, encoders and decoders with residuals. It has the rank of A.
func (r *Reader) peanut(module string) (*Change, error) {
	down, err := r.matrix(module, "peanut_A")
	if err != nil {
		return nil, err
	}
	up, err := r.matrix(module, "peanut_B")
	if err != nil {
		return nil, err
	}
	out, rank := down.cols, down.rows
	if up.rows != out || up.cols != rank {
		return nil, r.shapes(module, "peanut_A and peanut_B", down, up)
	}
	f := activation(r.o.Activation)
	if f == nil {
		return nil, r.fail(
			arch.ErrUnsupported,
			"act_fn %q of PEANuT; the served ones are relu, silu, gelu, tanh, sigmoid and linear; merge it into the model with PEFT's merge_and_unload",
			r.o.Activation,
		)
	}
	var encoders, decoders []dense
	for i := range r.o.Depth {
		for _, to := range []struct {
			part string
			list *[]dense
		}{{"peanut_encoders.", &encoders}, {"peanut_decoders.", &decoders}} {
			m, err := r.matrix(module, to.part+number(i))
			if err != nil {
				return nil, err
			}
			if m.rows != rank || m.cols != rank {
				return nil, r.shapes(module, "peanut_A and "+to.part+number(i), down, m)
			}
			*to.list = append(*to.list, m)
		}
	}
	var seen []float64 // (rank, in) A·W
	return &Change{
		A: Shape{Rows: rank}, B: Shape{Rows: out, Cols: rank}, Scale: scaling(r.o.Scaling, 1),
		See: func(row int, w []float32) {
			if seen == nil {
				seen = make([]float64, rank*len(w))
			}
			for k := range rank {
				addTimes(seen[k*len(w):], w, down.x[k*out+row])
			}
		},
		Derive: func(a, b []float32, in int) {
			x := make([]float64, rank)
			for i := range in {
				for k := range rank {
					x[k] = f(seen[k*in+i])
				}
				for k, v := range columns(x, encoders, decoders, f) {
					a[k*in+i] = float32(v)
				}
			}
			copy(b, up.x)
		},
	}, nil
}

// columns takes a vector through encoders and, with what stood before each, back through decoders.
func columns(x []float64, encoders, decoders []dense, f func(float64) float64) []float64 {
	step := func(m dense, x []float64) []float64 {
		out := make([]float64, m.rows)
		for i := range out {
			sum := 0.0
			for j, v := range x {
				sum += float64(float64(m.x[i*m.cols+j]) * v)
			}
			out[i] = f(sum)
		}
		return out
	}
	var before [][]float64
	for _, m := range encoders {
		before = append(before, x)
		x = step(m, x)
	}
	for i, m := range decoders {
		x = step(m, x)
		for k, v := range before[len(before)-1-i] {
			x[k] += v
		}
	}
	return x
}

// activation is a function that PEANuT may name, by transformers' name; nil: it is not known.
func activation(name string) func(float64) float64 {
	switch name {
	case "relu":
		return func(x float64) float64 { return max(x, 0) }
	case "silu", "swish":
		return func(x float64) float64 { return x / (1 + math.Exp(-x)) }
	case "gelu":
		return func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }
	case "tanh":
		return math.Tanh
	case "sigmoid":
		return func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	case "linear":
		return func(x float64) float64 { return x }
	default:
		return nil
	}
}

// What decomposes the model's matrices when an adapter is opened takes the cube of a side: some seconds for a
// matrix that is solved for, and for one whose singular values are computed, at these bounds.
const (
	maxSolved   = 1 << 10
	maxSingular = 1 << 9
)

func (r *Reader) decomposes(module string, n, most int) error {
	if n > most {
		return r.fail(
			arch.ErrUnsupported,
			"module %s: this kind decomposes the model's matrix when it is opened, which is done up to a side of %d, and this one has %d; merge it into the model with PEFT's merge_and_unload",
			module,
			most,
			n,
		)
	}
	return nil
}

// frod is W' = U·(S + diag(l))·Vᵀ, where V is in the file, the columns of U are those of W·V⁻ᵀ, each of
// length one, and S is sparse.
func (r *Reader) frod(module string) (*Change, error) {
	l, n, err := r.tensor(module, "frod_lambda_l", 1)
	if err != nil {
		return nil, err
	}
	values, count, err := r.tensor(module, "frod_lambda_s_values", 1)
	if err != nil {
		return nil, err
	}
	role := roleOf(module)
	v, err := r.matrix(module, "frod_V."+role)
	if err != nil {
		return nil, err
	}
	places, shape, err := r.integers(module, "frod_s_indices."+role)
	if err != nil {
		return nil, err
	}
	in := n[0]
	if v.rows != in || v.cols != in || len(shape) != 2 || shape[0] != 2 || shape[1] != count[0] {
		return nil, r.fail(
			arch.ErrInvalid,
			"module %s: frod_lambda_l %v, frod_lambda_s_values %v, frod_V (%d, %d) and frod_s_indices %v do not belong together",
			module,
			n,
			count,
			v.rows,
			v.cols,
			shape,
		)
	}
	for _, p := range places {
		if p < 0 || p >= int64(in) {
			return nil, r.fail(arch.ErrInvalid, "module %s: frod_s_indices names row or column %d of %d", module, p, in)
		}
	}
	var rows [][]float64
	return &Change{
		A: Shape{Cols: in}, Scale: 1,
		Dense: true,
		Fits:  func(out, in int) error { return r.decomposes(module, max(out, in), maxSolved) },
		See:   func(row int, w []float32) { rows = keep(rows, row, w) },
		Check: func() error {
			if !solve(v, rows) {
				return r.fail(
					arch.ErrUnsupported,
					"module %s: frod_V has no inverse; merge it into the model with PEFT's merge_and_unload",
					module,
				)
			}
			return nil
		},
		Derive: func(_, b []float32, _ int) {
			long := make([]float64, in) // lengths of the columns of W·V⁻ᵀ
			for _, u := range rows {
				for k, x := range u {
					long[k] += float64(x * x)
				}
			}
			y := make([]float64, in)
			for o, u := range rows {
				clear(y)
				for k, x := range u {
					if s := math.Sqrt(long[k]); s > 1e-12 {
						u[k] = x / s
					} else {
						u[k] = 0
					}
					y[k] = float64(u[k] * float64(l[k]))
				}
				for i, s := range values {
					y[places[count[0]+i]] += float64(u[places[i]] * float64(s))
				}
				for i := range in {
					sum := 0.0
					for k, x := range y {
						sum += float64(x * float64(v.x[i*in+k]))
					}
					b[o*in+i] += float32(sum) // b holds -W
				}
			}
			rows = nil
		},
		Minus: true,
	}, nil
}

// roleOf returns FRoD's name for the modules that share a projection.
func roleOf(module string) string {
	last, before := cutLast(module)
	if before == "" || before != "" && digits(lastOf(before)) {
		return last
	}
	role := lastOf(before) + "_" + last
	if _, up := cutLast(before); role == "output_dense" && lastOf(up) == "attention" {
		return "attention_output"
	}
	return role
}

// osf puts trained factors in the place of the smaller singular values of W (Nayak et al. 2025).
func (r *Reader) osf(module string) (*Change, error) {
	u, err := r.matrix(module, "osf_svd_params.U_low")
	if err != nil {
		return nil, err
	}
	v, err := r.matrix(module, "osf_svd_params.V_low")
	if err != nil {
		return nil, err
	}
	s, n, err := r.tensor(module, "osf_svd_params.S_low", 1)
	if err != nil {
		return nil, err
	}
	out, in, low := u.rows, v.cols, n[0]
	if u.cols != low || v.rows != low || low >= min(out, in) {
		return nil, r.shapes(module, "U_low, V_low and S_low", u, v, dense{rows: low, cols: 1})
	}
	var rows [][]float64
	return &Change{
		A: Shape{Cols: in}, B: Shape{Rows: out}, Scale: 1,
		Dense: true,
		Fits:  func(out, in int) error { return r.decomposes(module, min(out, in), maxSingular) },
		See:   func(row int, w []float32) { rows = keep(rows, row, w) },
		Derive: func(_, b []float32, _ int) {
			scaled := dense{make([]float32, out*low), out, low}
			for i, x := range u.x {
				scaled.x[i] = x * s[i%low]
			}
			trained := scaled.times(v)
			for o, row := range truncated(rows, min(out, in)-low) {
				for i, x := range row {
					b[o*in+i] += float32(x + float64(trained.x[o*in+i])) // b holds -W
				}
			}
			rows = nil
		},
		Minus: true,
	}, nil
}

// keep puts a row of a matrix at its place.
func keep(rows [][]float64, row int, w []float32) [][]float64 {
	for len(rows) <= row {
		rows = append(rows, nil)
	}
	rows[row] = make([]float64, len(w))
	for i, v := range w {
		rows[row][i] = float64(v)
	}
	return rows
}
