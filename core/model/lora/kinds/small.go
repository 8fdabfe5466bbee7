package kinds

import (
	"math"
	"slices"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/lora/torchrand"
)

// delora is Δ = B·diag(λ/r / (‖a‖·‖b‖))·A ⊙ w, with each row a of A and column b of B of length one and w the
// lengths of the columns of the matrix as they were (Bini et al. 2025).
func (r *Reader) delora(module string) (*Change, error) {
	a, b, err := r.factors(module, "delora_A", "delora_B")
	if err != nil {
		return nil, err
	}
	lambda, n, err := r.tensor(module, "delora_lambda", 1)
	if err != nil {
		return nil, err
	}
	w, s, err := r.tensor(module, "delora_w_norm", 1)
	if err != nil {
		return nil, err
	}
	if n[0] != 1 || s[0] != a.cols {
		return nil, r.fail(
			arch.ErrInvalid,
			"module %s: delora_lambda %v, delora_w_norm %v and delora_A (%d, %d) do not belong together",
			module,
			n,
			s,
			a.rows,
			a.cols,
		)
	}
	length := func(x []float32, step int) float64 {
		sum := 0.0
		for i := 0; i < len(x); i += step {
			sum += float64(float64(x[i]) * float64(x[i]))
		}
		return max(math.Sqrt(sum), 1e-4)
	}
	return &Change{
		A: Shape{Rows: a.rows, Cols: a.cols}, B: Shape{Rows: b.rows, Cols: b.cols}, Scale: 1,
		Derive: func(A, B []float32, _ int) {
			for k := range a.rows {
				f := float64(lambda[0]) / float64(a.rows) / (length(a.x[k*a.cols:(k+1)*a.cols], 1) * length(b.x[k:], b.cols))
				for i, v := range a.x[k*a.cols : (k+1)*a.cols] {
					A[k*a.cols+i] = float32(float64(v) * f * float64(w[i]))
				}
			}
			copy(B, b.x)
		},
	}, nil
}

// gralora cuts the matrix into k·k blocks with factors of their own (Jung et al. 2025): a block of inputs is
// taken to r values, of which each block of outputs gets r/k from every block of inputs. All together they
// have the rank k·r; beside them may stand a plain LoRA.
func (r *Reader) gralora(module string) (*Change, error) {
	a, n, err := r.tensor(module, "gralora_A", 3)
	if err != nil {
		return nil, err
	}
	b, s, err := r.tensor(module, "gralora_B", 3)
	if err != nil {
		return nil, err
	}
	k, ins, rank, outs := n[0], n[1], n[2], s[2]
	if s[0] != k || s[1] != rank || rank%k != 0 {
		return nil, r.fail(arch.ErrInvalid, "module %s: gralora_A %v and gralora_B %v do not belong together", module, n, s)
	}
	var ga, gb dense
	if r.t["gralora_A_general"] != nil {
		if ga, gb, err = r.factors(module, "gralora_A_general", "gralora_B_general"); err != nil {
			return nil, err
		}
		if ga.cols != k*ins || gb.rows != k*outs {
			return nil, r.shapes(module, "gralora_A_general and gralora_B_general", ga, gb)
		}
	}
	in, out, all, each := k*ins, k*outs, k*rank+ga.rows, rank/k
	return &Change{
		A: Shape{Rows: all, Cols: in}, B: Shape{Rows: out, Cols: all}, Scale: r.of.Lycoris / float64(rank+ga.rows),
		Derive: func(A, B []float32, _ int) {
			for from := range k { // row from·rank + to·each + t of A: of block from, for block to
				for j := range rank {
					row := from*rank + j
					for i := range ins {
						A[row*in+from*ins+i] = a[(from*ins+i)*rank+j]
					}
					to, t := j/each, j%each
					for o := range outs {
						B[(to*outs+o)*all+row] = b[(to*rank+from*each+t)*outs+o]
					}
				}
			}
			for j := range ga.rows {
				row := k*rank + j
				copy(A[row*in:(row+1)*in], ga.x[j*in:])
				for o := range out {
					B[o*all+row] = gb.x[o*ga.rows+j]
				}
			}
		},
	}, nil
}

// pvera is VeRA whose inner values are drawn while training; what is served is their mean, the first half of them.
func (r *Reader) pvera(module string) (*Change, error) {
	if r.o.Sample {
		return nil, r.fail(
			arch.ErrUnsupported,
			"sample_at_inference of PVeRA draws each answer anew; set it to false, which takes the mean",
		)
	}
	bs, s, err := r.tensor(module, "pvera_lambda_b", 1)
	if err != nil {
		return nil, err
	}
	ds, n, err := r.tensor(module, "pvera_lambda_d", 1)
	if err != nil {
		return nil, err
	}
	out, both := s[0], n[0]
	rank := both / 2
	if both%2 != 0 {
		return nil, r.fail(arch.ErrInvalid, "module %s: pvera_lambda_d has %d values: want an even number", module, both)
	}
	var a, b []float32 // (both, width), (height, rank)
	width, height := 0, 0
	if r.shared["pvera_A"] != nil || r.shared["pvera_B"] != nil {
		m, err := r.matrix(module, "pvera_A")
		if err != nil {
			return nil, err
		}
		h, err := r.matrix(module, "pvera_B")
		if err != nil {
			return nil, err
		}
		if m.rows != both || h.cols != rank {
			return nil, r.shapes(module, "pvera_A and pvera_B", m, h)
		}
		a, width, b, height = m.x, m.cols, h.x, h.rows
	}
	return &Change{
		A: Shape{Rows: rank}, B: Shape{Rows: out, Cols: rank}, Scale: 1,
		Fits: func(out, in int) error {
			if a == nil {
				width, height = r.largest.In, r.largest.Out
				if float64(both)*float64(max(width, height)) > maxDrawn {
					return r.fail(
						arch.ErrUnsupported,
						"its projections take more than %d values; merge it into the model with PEFT",
						maxDrawn,
					)
				}
				g := torchrand.New(uint64(r.o.Seed))
				a, b = make([]float32, both*width), make([]float32, height*rank)
				bound := math.Sqrt(3) * (math.Sqrt2 / math.Sqrt(float64(width)))
				g.Uniform(a, -bound, bound)
				bound = math.Sqrt(3) * (math.Sqrt2 / math.Sqrt(float64(rank)))
				g.Uniform(b, -bound, bound)
			}
			if in > width || out > height {
				return r.fail(
					arch.ErrMismatch,
					"module %s: its projections are (%d, %d) and (%d, %d), too small for the model's matrix: it was trained on another model",
					module,
					both,
					width,
					height,
					rank,
				)
			}
			return nil
		},
		Derive: func(A, B []float32, in int) {
			for k := range rank {
				for i := range in {
					A[k*in+i] = ds[k] * a[k*width+i]
				}
			}
			for o := range out {
				for k := range rank {
					B[o*rank+k] = bs[o] * b[o*rank+k]
				}
			}
		},
	}, nil
}

// tinylora is Δ = B·(Σ v·P)·A with few trained values v, which modules may share, and the rest in the file
// (Morris et al. 2026).
func (r *Reader) tinylora(module string) (*Change, error) {
	a, b, err := r.factors(module, "tinylora_A", "tinylora_B")
	if err != nil {
		return nil, err
	}
	if r.t["tinylora_P"] == nil {
		return nil, r.fail(
			arch.ErrUnsupported,
			"module %s has no tinylora_P, and what torch draws in its place is not drawn here: save it with save_projection=True",
			module,
		)
	}
	p, n, err := r.tensor(module, "tinylora_P", 3)
	if err != nil {
		return nil, err
	}
	group, err := r.tinyGroup(module)
	if err != nil {
		return nil, err
	}
	v, s, err := r.tensor(module, "tinylora_v."+number(group), 1)
	if err != nil {
		return nil, err
	}
	rank := a.rows
	if n[0] != s[0] || n[1] != rank || n[2] != rank {
		return nil, r.fail(arch.ErrInvalid, "module %s: tinylora_P %v and tinylora_v %v are not of its rank %d", module, n, s, rank)
	}
	return &Change{
		A: Shape{Rows: rank, Cols: a.cols}, B: Shape{Rows: b.rows, Cols: rank}, Scale: 1,
		Derive: func(A, B []float32, _ int) {
			mix := dense{make([]float32, rank*rank), rank, rank}
			for i := range mix.x {
				sum := 0.0
				for k, f := range v {
					sum += float64(float64(f) * float64(p[k*rank*rank+i]))
				}
				mix.x[i] = float32(sum)
			}
			copy(A, mix.times(a).x)
			copy(B, b.x)
		},
	}, nil
}

// tinyOrder is how transformers declares the linear layers of a block of the llama kind.
func tinyOrder() []string {
	return []string{
		"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
	}
}

// tinyGroup is the number of the trained vector of a module: PEFT counts modules as the model declares them,
// of which the file says nothing, so that only those of a known order are served.
func (r *Reader) tinyGroup(module string) (int, error) {
	place := func(name string) (layer string, at int) {
		rest, ok := strings.CutPrefix(name, "model.layers.")
		layer, rest, _ = strings.Cut(rest, ".")
		if at = slices.Index(tinyOrder(), rest); !ok || !digits(layer) {
			at = -1
		}
		return layer, at
	}
	_, own := place(module)
	for _, m := range r.Modules {
		if _, at := place(m); own < 0 || at < 0 {
			return 0, r.fail(
				arch.ErrUnsupported,
				"module %s: TinyLoRA numbers its vectors in the order of the model's modules, which is known for the attention and MLP of llama-like models alone; merge it into the model with PEFT's merge_and_unload",
				m,
			)
		}
	}
	order := slices.Clone(r.Modules)
	slices.SortFunc(order, func(a, b string) int {
		la, pa := place(a)
		lb, pb := place(b)
		if la != lb {
			if len(la) != len(lb) {
				return len(la) - len(lb)
			}
			return strings.Compare(la, lb)
		}
		return pa - pb
	})
	count := len(order)
	groups := max(1, int(math.RoundToEven(float64(count)*(1-r.o.Tying))))
	return min(slices.Index(order, module)/max(1, count/groups), groups-1), nil
}

// unilora takes each value of both factors from one short vector that all modules share, times a scale of its
// own (Li et al. 2025).
func (r *Reader) unilora(module string) (*Change, error) {
	theta, _, err := r.tensor(module, "unilora_theta_d", 1)
	if err != nil {
		return nil, err
	}
	var m [2]dense
	for i, half := range []string{"A", "B"} {
		place, n, err := r.integers(module, "unilora_indices_"+half)
		if err != nil {
			return nil, err
		}
		scale, err := r.matrix(module, "unilora_scales_"+half)
		if err != nil {
			return nil, err
		}
		if len(n) != 2 || n[0] != scale.rows || n[1] != scale.cols {
			return nil, r.fail(
				arch.ErrInvalid,
				"module %s: unilora_indices_%s %v and unilora_scales_%[2]s (%d, %d) do not belong together",
				module,
				half,
				n,
				scale.rows,
				scale.cols,
			)
		}
		for j, p := range place {
			if p < 0 || p >= int64(len(theta)) {
				return nil, r.fail(arch.ErrInvalid, "module %s: unilora_indices_%s names value %d of %d", module, half, p, len(theta))
			}
			scale.x[j] *= theta[p]
		}
		m[i] = scale
	}
	a, b := m[0], m[1]
	if a.rows != b.cols {
		return nil, r.shapes(module, "the factors", a, b)
	}
	return &Change{
		A: Shape{Rows: a.rows, Cols: a.cols}, B: Shape{Rows: b.rows, Cols: b.cols}, Scale: 1,
		Derive: func(A, B []float32, _ int) {
			copy(A, a.x)
			copy(B, b.x)
		},
	}, nil
}

// beft adds a trained bias and leaves the matrix (Zhang et al. 2025).
func (r *Reader) beft(module string) (*Change, error) {
	m, err := r.matrix(module, "beft_bias")
	if err != nil {
		return nil, err
	}
	if m.rows != 1 {
		return nil, r.fail(arch.ErrInvalid, "module %s: beft_bias is (%d, %d): want one row", module, m.rows, m.cols)
	}
	return &Change{
		A: Shape{Rows: 1}, B: Shape{Rows: m.cols, Cols: 1}, Scale: 1, // of zeros
		Bias: func(row int, _ []float32, _ float32) float32 { return m.x[row] },
	}, nil
}

// kasa is LoRA with a trained diagonal between its factors, on a matrix that has lost as many of its smallest
// singular values as that has ranks (Wang et al. 2024).
func (r *Reader) kasa(module string) (*Change, error) {
	diag, n, err := r.tensor(module, "lora_diag", 1)
	if err != nil {
		return nil, err
	}
	c, err := r.beside(module, diag, func(rows [][]float64, all, rank int) [][]float64 { return truncated(rows, all-rank) })
	if err == nil && float64(n[0]) != r.of.Rank {
		err = r.fail(arch.ErrInvalid, "module %s: lora_diag %v is not of rank %g", module, n, r.of.Rank)
	}
	return c, err
}

// pissa is LoRA on what a matrix is without its largest singular values, as many as LoRA has ranks (Meng et al. 2024).
func (r *Reader) pissa(module string) (*Change, error) {
	c, err := r.beside(module, nil, func(rows [][]float64, _, rank int) [][]float64 {
		all := make([][]float64, len(rows))
		for i := range rows {
			all[i] = append([]float64(nil), rows[i]...)
		}
		top := truncated(rows, rank)
		for i, row := range all {
			for j := range row {
				row[j] -= top[i][j]
			}
		}
		return all
	})
	if err == nil {
		c.Exact = true
	}
	return c, err
}

// beside is LoRA, with a diagonal between its factors or none, on what is left of a matrix.
func (r *Reader) beside(module string, diag []float32, left func(rows [][]float64, all, rank int) [][]float64) (*Change, error) {
	a, b, err := r.factors(module, "lora_A", "lora_B")
	if err != nil {
		return nil, err
	}
	rank := a.rows
	if r.of.Rank != float64(rank) || rank >= min(a.cols, b.rows) {
		return nil, r.fail(
			arch.ErrInvalid,
			"module %s: lora_A (%d, %d) and lora_B (%d, %d) are not of rank %g, below the matrix's own",
			module,
			a.rows,
			a.cols,
			b.rows,
			b.cols,
			r.of.Rank,
		)
	}
	scale := r.of.Alpha / float64(rank)
	if r.of.Stabilised {
		scale = r.of.Alpha / math.Sqrt(float64(rank))
	}
	var rows [][]float64
	return &Change{
		A: Shape{Cols: a.cols}, B: Shape{Rows: b.rows}, Scale: 1,
		Dense: true,
		Fits:  func(out, in int) error { return r.decomposes(module, min(out, in), maxSingular) },
		See:   func(row int, w []float32) { rows = keep(rows, row, w) },
		Derive: func(_, to []float32, in int) {
			up := dense{append([]float32(nil), b.x...), b.rows, rank}
			if diag != nil {
				for i := range up.x {
					up.x[i] *= diag[i%rank]
				}
			}
			trained := up.times(a)
			for o, row := range left(rows, min(a.cols, b.rows), rank) {
				for i, x := range row {
					to[o*in+i] += float32(x + float64(float64(trained.x[o*in+i])*scale)) // it holds -W
				}
			}
			rows = nil
		},
		Minus: true,
	}, nil
}

// scaling is a number of the configuration, or what holds without it.
func scaling(p *float64, otherwise float64) float64 {
	if p != nil {
		return *p
	}
	return otherwise
}

// rowTimes sets dst to row k of a times b.
func (a dense) rowTimes(dst []float32, k int, b dense) {
	sum := make([]float64, b.cols)
	for j, f := range a.x[k*a.cols : (k+1)*a.cols] {
		for i, v := range b.x[j*b.cols : (j+1)*b.cols] {
			sum[i] += float64(float64(f) * float64(v))
		}
	}
	for i, v := range sum {
		dst[i] = float32(v)
	}
}
