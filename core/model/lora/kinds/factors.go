package kinds

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/safetensors"
)

// adalora is Δ = alpha/(init_r + 1e-5) · B·(E ⊙ A) (Zhang et al. 2023); pruned ranks are not in the file, but
// the scaling stays.
func (r *Reader) adalora(module string) (*Change, error) {
	a, err := r.matrix(module, "lora_A")
	if err != nil {
		return nil, err
	}
	b, err := r.matrix(module, "lora_B")
	if err != nil {
		return nil, err
	}
	e, err := r.matrix(module, "lora_E")
	if err != nil {
		return nil, err
	}
	if a.rows != b.cols || e.rows != a.rows || e.cols != 1 {
		return nil, r.shapes(module, "lora_A, lora_B and lora_E", a, b, e)
	}
	alpha := r.of.Alpha
	if alpha <= 0 {
		alpha = r.o.InitRank
	}
	return &Change{
		A: Shape{Rows: a.rows, Cols: a.cols}, B: Shape{Rows: b.rows, Cols: b.cols}, Scale: alpha / (r.o.InitRank + 1e-5),
		Derive: func(A, B []float32, _ int) {
			for k := range a.rows {
				for i := range a.cols {
					A[k*a.cols+i] = a.x[k*a.cols+i] * e.x[k]
				}
			}
			copy(B, b.x)
		},
	}, nil
}

// loha is Δ = scale · (W1a·W1b) ⊙ (W2a·W2b) (Hyeon-Woo et al. 2022). The rows of products of factors are a
// factorisation of rank r², which is used where it is smaller than Δ.
func (r *Reader) loha(module string) (*Change, error) {
	var m [4]dense
	for i, part := range r.kind.parts {
		var err error
		if m[i], err = r.matrix(module, part); err != nil {
			return nil, err
		}
	}
	out, in := m[0].rows, m[1].cols
	n, scale := r.of.Rank, r.of.Lycoris/r.of.Rank
	rank := m[0].cols
	if m[1].rows != rank || m[2].rows != out || m[2].cols != rank || m[3].rows != rank || m[3].cols != in || n != float64(rank) {
		return nil, r.shapes(module, fmt.Sprintf("factors of rank %g", n), m[:]...)
	}
	if q := rank * rank; q <= MaxRank && q*(out+in) < out*in {
		return &Change{
			A: Shape{Rows: q, Cols: in}, B: Shape{Rows: out, Cols: q}, Scale: scale,
			Derive: func(A, B []float32, _ int) {
				for k := range q {
					u, v := m[1].x[k/rank*in:], m[3].x[k%rank*in:]
					for i := range in {
						A[k*in+i] = u[i] * v[i]
					}
				}
				for o := range out {
					for k := range q {
						B[o*q+k] = m[0].x[o*rank+k/rank] * m[2].x[o*rank+k%rank]
					}
				}
			},
		}, nil
	}
	return denseChange(out, in, scale, func(B []float32) {
		u, v := m[0].times(m[1]), m[2].times(m[3])
		for i := range B {
			B[i] = u.x[i] * v.x[i]
		}
	}), nil
}

// lokr is Δ = scale · W1 ⊗ W2, of which each may be a product of two (Yeh et al. 2024).
func (r *Reader) lokr(module string) (*Change, error) {
	var p, q [2]dense // W = p·q
	n, scale := r.of.Rank, r.of.Lycoris/r.of.Rank
	for i, part := range []string{"lokr_w1", "lokr_w2"} {
		if r.t[part] != nil {
			w, err := r.matrix(module, part)
			if err != nil {
				return nil, err
			}
			if p[i], q[i] = unit(w.rows), w; w.cols < w.rows {
				p[i], q[i] = w, unit(w.cols)
			}
			continue
		}
		var err error
		if p[i], err = r.matrix(module, part+"_a"); err == nil {
			q[i], err = r.matrix(module, part+"_b")
		}
		if err != nil {
			return nil, err
		}
		if p[i].cols != q[i].rows || float64(p[i].cols) != n {
			return nil, r.shapes(module, fmt.Sprintf("%s_a and %s_b of rank %g", part, part, n), p[i], q[i])
		}
	}
	out, in, rank := p[0].rows*p[1].rows, q[0].cols*q[1].cols, p[0].cols*p[1].cols
	if rank <= MaxRank && rank*(out+in) < out*in {
		return &Change{
			A: Shape{Rows: rank, Cols: in}, B: Shape{Rows: out, Cols: rank}, Scale: scale,
			Derive: func(A, B []float32, _ int) {
				kronecker(A, q[0], q[1])
				kronecker(B, p[0], p[1])
			},
		}, nil
	}
	return denseChange(out, in, scale, func(B []float32) { kronecker(B, p[0].times(q[0]), p[1].times(q[1])) }), nil
}

// vblora's factors are rows of a bank of vectors, mixed by the softmax of the topk largest logits (Li et al. 2024).
func (r *Reader) vblora(module string) (*Change, error) {
	bank, err := r.matrix(module, "vblora_vector_bank")
	if err != nil {
		return nil, err
	}
	a, sa, err := r.mixed(module, "vblora_logits_A", bank)
	if err != nil {
		return nil, err
	}
	b, sb, err := r.mixed(module, "vblora_logits_B", bank)
	if err != nil {
		return nil, err
	}
	rank, n := sa[0], bank.cols
	if sb[1] != rank {
		return nil, r.fail(arch.ErrInvalid, "module %s: logits of A %v and of B %v are of different ranks", module, sa, sb)
	}
	return &Change{
		A: Shape{Rows: rank, Cols: sa[1] * n}, B: Shape{Rows: sb[0] * n, Cols: rank}, Scale: 1,
		Derive: func(A, B []float32, _ int) {
			a(A)
			t := make([]float32, len(B))
			b(t)
			for tile := range sb[0] { // (tiles, rank, vector) to (tiles · vector, rank)
				for k := range rank {
					for i := range n {
						B[(tile*n+i)*rank+k] = t[(tile*rank+k)*n+i]
					}
				}
			}
		},
	}, nil
}

// mixed returns what fills (n, m, vector) by the logits (n, m, bank), and their shape. It is called when the
// base has the shape that comes of it: a few logits and one long vector would make a large matrix of a small
// file.
func (r *Reader) mixed(module, part string, bank dense) (func([]float32), []int, error) {
	if r.t[part+"_topk_indices"] != nil {
		return r.chosen(module, part, bank)
	}
	x, s, err := r.tensor(module, part, 3)
	if err != nil {
		return nil, nil, err
	}
	top := int(r.o.TopK)
	if s[2] != bank.rows || top < 1 || top > s[2] || float64(top) != r.o.TopK {
		return nil, nil, r.fail(
			arch.ErrInvalid,
			"module %s: %s of shape %v: want logits of the %d vectors of the bank, of which topk %g count",
			module,
			part,
			s,
			bank.rows,
			r.o.TopK,
		)
	}
	return func(out []float32) {
		order := make([]int, s[2])
		for i := range s[0] * s[1] {
			logits := x[i*s[2] : (i+1)*s[2]]
			for k := range order {
				order[k] = k
			}
			slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(logits[b], logits[a]) })
			sum := 0.0
			for _, k := range order[:top] {
				sum += math.Exp(float64(logits[k]) - float64(logits[order[0]]))
			}
			for _, k := range order[:top] {
				w := float32(math.Exp(float64(logits[k])-float64(logits[order[0]])) / sum)
				bank.add(out[i*bank.cols:(i+1)*bank.cols], k, w)
			}
		}
	}, s, nil
}

// chosen reads what save_only_topk_weights keeps: the places of the largest logits, and their weights but the
// last, which makes the sum 1.
func (r *Reader) chosen(module, part string, bank dense) (func([]float32), []int, error) {
	file := r.t[part+"_topk_indices"]
	w, s, err := r.tensor(module, part+"_topk_weights", 3)
	if err != nil {
		return nil, nil, err
	}
	size := map[safetensors.DType]int{safetensors.U8: 1, safetensors.I16: 2, safetensors.I32: 4, safetensors.I64: 8}[file.DType]
	if size == 0 || len(file.Shape) != 3 || file.Shape[0] != int64(s[0]) || file.Shape[1] != int64(s[1]) || file.Shape[2] != int64(s[2])+1 {
		return nil, nil, r.fail(
			arch.ErrInvalid,
			"tensor %s %v of type %v: want whole numbers, one more than the weights %v",
			file.Name,
			file.Shape,
			file.DType,
			s,
		)
	}
	top := s[2] + 1
	places := make([]int, s[0]*s[1]*top)
	for i := range places {
		v := int64(0)
		for b := size - 1; b >= 0; b-- {
			v = v<<8 | int64(file.Data[i*size+b])
		}
		if v < 0 || v >= int64(bank.rows) {
			return nil, nil, r.fail(arch.ErrInvalid, "tensor %s: value %d, but the bank has %d vectors", file.Name, v, bank.rows)
		}
		places[i] = int(v)
	}
	return func(out []float32) {
		for i := range s[0] * s[1] {
			last := float32(1)
			for j := range top {
				weight := last
				if j < s[2] {
					weight = w[i*s[2]+j]
					last -= weight
				}
				bank.add(out[i*bank.cols:(i+1)*bank.cols], places[i*top+j], weight)
			}
		}
	}, s, nil
}

// miss is Δ·x = Bᵀ·(the sums of every r-th value of x) (Kang 2025); "mini" repeats B's columns, "bat"
// multiplies blocks of the matrix itself: Δ = W·B + B for each block (r, r).
func (r *Reader) miss(module string) (*Change, error) {
	mode := strings.Trim(string(r.o.InitWeights), `"`)
	if mode == "bat" {
		x, s, err := r.tensor(module, "miss_block", 3)
		if err != nil {
			return nil, err
		}
		n := s[1]
		if s[2] != n {
			return nil, r.fail(arch.ErrInvalid, "module %s: miss_block has shape %v: want blocks of as many rows as columns", module, s)
		}
		return &Change{
			B: Shape{Rows: s[0] * n}, Scale: 1,
			Dense: true, ByRow: true, Whole: n,
			Times: func(row int, w, dst []float32) {
				block, i := x[row/n*n*n:], row%n
				for lo := 0; lo < len(w); lo += n {
					for k := range n {
						sum := float64(block[i*n+k])
						for j := range n {
							sum += float64(float64(w[lo+j]) * float64(block[j*n+k]))
						}
						dst[lo+k] = float32(sum)
					}
				}
			},
		}, nil
	}
	if mode != "true" && mode != "false" && mode != "" && mode != "null" && mode != "mini" {
		return nil, r.fail(arch.ErrUnsupported, "init_weights %q of MiSS; the served ones are true, \"bat\" and \"mini\"", mode)
	}
	m, err := r.matrix(module, "miss_block")
	if err != nil {
		return nil, err
	}
	rank, out, repeat := m.rows, m.cols, 1
	if mode == "mini" { // out is a multiple of it, how many times says the base
		repeat = 0
	}
	return &Change{
		A: Shape{Rows: rank}, B: Shape{Rows: out * repeat, Cols: rank}, Scale: 1,
		Blocks: out,
		Derive: func(A, B []float32, in int) {
			for i := range in {
				A[i%rank*in+i] = 1
			}
			for o := range len(B) / rank {
				for k := range rank {
					B[o*rank+k] = m.x[k*out+o%out]
				}
			}
		},
	}, nil
}
