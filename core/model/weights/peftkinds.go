package weights

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"edged/core/model/safetensors"
	"edged/quant"
)

// A peftKind is one peft_type beside LoRA whose change of a matrix W (out, in) is W + Δ with a Δ of low rank or, where it has
// none, a dense one. It is brought into that form when the adapter is opened, so that everything after reading knows one
// kind of change. Source of the formulas: huggingface/peft 0.21, src/peft/tuners/KIND/layer.py.
type peftKind struct {
	parts  []string // last words of tensor names, without .weight
	shared []string // tensors of all modules, behind base_model.
	build  func(r *kindReader, module string) (rawLoRA, error)
}

// peftKinds are those of which tensors of each module are read.
func peftKinds() map[string]peftKind {
	return map[string]peftKind{
		"ADALORA": {parts: []string{"lora_A", "lora_B", "lora_E"}, build: (*kindReader).adalora},
		"LOHA":    {parts: []string{"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}, build: (*kindReader).loha},
		"LOKR":    {parts: []string{"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"}, build: (*kindReader).lokr},
		"VERA":    {parts: []string{"vera_lambda_b", "vera_lambda_d"}, shared: []string{"vera_A", "vera_B"}, build: (*kindReader).vera},
		"VBLORA": {
			parts: []string{
				"vblora_logits_A", "vblora_logits_B", "vblora_logits_A_topk_indices", "vblora_logits_A_topk_weights",
				"vblora_logits_B_topk_indices", "vblora_logits_B_topk_weights",
			},
			shared: []string{"vblora_vector_bank"}, build: (*kindReader).vblora,
		},
		"MISS": {parts: []string{"miss_block"}, build: (*kindReader).miss},
		"HRA":  {parts: []string{"hra_u"}, build: (*kindReader).hra},
		"C3A":  {parts: []string{"c3a_kernel"}, build: (*kindReader).c3a},
		"OFT":  {parts: []string{"oft_R"}, build: (*kindReader).oft},
		"IA3":  {parts: []string{"ia3_l"}, build: (*kindReader).ia3},
		"BOFT": {parts: []string{"boft_R", "boft_s"}, build: (*kindReader).boft},
	}
}

// kindReader reads the tensors of one module.
type kindReader struct {
	f      *adapterFile
	dir    string
	c      *peftConfig
	kind   peftKind
	shared map[string]*safetensors.Tensor
	t      map[string]*safetensors.Tensor // of the module
}

// readKind reads an adapter of one of peftKinds.
func (f *adapterFile) readKind(dir string, c *peftConfig, file *safetensors.File) error {
	r := &kindReader{f: f, dir: dir, c: c, kind: peftKinds()[c.Type], shared: map[string]*safetensors.Tensor{}}
	modules := map[string]map[string]*safetensors.Tensor{}
	var names []string
	for i := range file.Tensors() {
		t := &file.Tensors()[i]
		module, part := r.split(t.Name)
		switch {
		case part == "":
			return adapterError(dir, ErrUnsupported, "tensor %s %v: none of those that a %s adapter has: save it anew without trained modules and biases%s",
				t.Name, t.Shape, c.Type, f.beside(t.Name))
		case module == "":
			if r.shared[part] != nil {
				return adapterError(dir, ErrInvalid, "tensor %s appears twice, with and without the adapter's name", t.Name)
			}
			r.shared[part] = t
			continue
		}
		if modules[module] == nil {
			modules[module] = map[string]*safetensors.Tensor{}
			names = append(names, module)
		}
		if modules[module][part] != nil {
			return adapterError(dir, ErrInvalid, "tensor %s appears twice, with and without the adapter's name", t.Name)
		}
		modules[module][part] = t
	}
	slices.Sort(names)
	for _, m := range names {
		switch {
		case !c.targets.match(m, nil):
			return adapterError(dir, ErrInvalid, "module %s has tensors, but target_modules of %s does not name it", m, adapterConfigName)
		case !c.inLayers(m):
			return adapterError(dir, ErrInvalid, "module %s has tensors, but layers_to_transform of %s leaves its layer out", m, adapterConfigName)
		case isEmbedding(m):
			return adapterError(dir, ErrUnsupported, "module %s: %s on an embedding; leave it out of target_modules", m, c.Type)
		}
		if r.t = modules[m]; r.pruned() {
			continue
		}
		l, err := r.build(m)
		if err != nil {
			return err
		}
		f.loras = append(f.loras, l)
	}
	return nil
}

// pruned tells whether all ranks of a module were taken away.
func (r *kindReader) pruned() bool {
	a := r.t["lora_A"]
	return a != nil && a.Elements() == 0
}

func (r *kindReader) build(module string) (rawLoRA, error) {
	l, err := r.kind.build(r, module)
	if err != nil {
		return l, err
	}
	l.module, l.target = module, lastWord(module)
	if !l.made.dense && l.b.cols > maxRank {
		return l, adapterError(r.dir, ErrUnsupported, "module %s: as a change of low rank it has rank %d, more than the %d allowed", module, l.b.cols, maxRank)
	}
	l.a.name, l.b.name = module+" (A)", module+" (B)" // of its tensors, for messages
	l.a.format, l.b.format = quant.F32, quant.F32
	return l, nil
}

// split takes a tensor's name apart: module and part; no module where it is shared by all; no part where it is unknown.
func (r *kindReader) split(name string) (module, part string) {
	for _, suffix := range []string{".default.weight", ".default", ".weight"} {
		if s, ok := strings.CutSuffix(name, suffix); ok {
			name = s
			break
		}
	}
	rest, ok := strings.CutPrefix(name, "base_model.")
	if !ok {
		return "", ""
	}
	if slices.Contains(r.kind.shared, rest) {
		return "", rest
	}
	rest, ok = strings.CutPrefix(rest, "model.")
	at := strings.LastIndexByte(rest, '.')
	if !ok || at < 1 || !slices.Contains(r.kind.parts, rest[at+1:]) {
		return "", ""
	}
	return rest[:at], rest[at+1:]
}

// tensor reads a tensor of the module, or a shared one, of so many dimensions.
func (r *kindReader) tensor(module, part string, dims int) ([]float32, []int, error) {
	t := r.t[part]
	if t == nil {
		t = r.shared[part]
	}
	if t == nil {
		return nil, nil, adapterError(r.dir, ErrInvalid, "module %s has no %s: the file is incomplete; save the adapter anew", module, part)
	}
	format, ok := floatFormat(t.DType)
	if !ok {
		return nil, nil, adapterError(r.dir, ErrUnsupported, "tensor %s has type %v; the served ones are F32, F16 and BF16", t.Name, t.DType)
	}
	shape := make([]int, len(t.Shape))
	for i, d := range t.Shape {
		if d < 1 || d > math.MaxInt32 {
			return nil, nil, adapterError(r.dir, ErrInvalid, "tensor %s has shape %v", t.Name, t.Shape)
		}
		shape[i] = int(d)
	}
	if len(shape) != dims {
		return nil, nil, adapterError(r.dir, ErrInvalid, "tensor %s has shape %v: want %d dimensions", t.Name, t.Shape, dims)
	}
	x := make([]float32, t.Elements())
	quant.Decode(format, x, t.Data)
	for i, v := range x {
		if v-v != 0 {
			return nil, nil, adapterError(r.dir, ErrInvalid, "tensor %s: value %d is %v", t.Name, i, v)
		}
	}
	return x, shape, nil
}

// dense is a matrix in float32.
type dense struct {
	x          []float32
	rows, cols int
}

func (r *kindReader) matrix(module, part string) (dense, error) {
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

func (r *kindReader) shapes(module string, what string, m ...dense) error {
	var s []string
	for _, d := range m {
		s = append(s, fmt.Sprintf("(%d, %d)", d.rows, d.cols))
	}
	return adapterError(r.dir, ErrInvalid, "module %s: %s of shapes %s do not belong together", module, what, strings.Join(s, ", "))
}

// adalora is Δ = alpha/(init_r + 1e-5) · B·(E ⊙ A) (Zhang et al. 2023); pruned ranks are not in the file, but the scaling stays.
func (r *kindReader) adalora(module string) (rawLoRA, error) {
	a, err := r.matrix(module, "lora_A")
	if err != nil {
		return rawLoRA{}, err
	}
	b, err := r.matrix(module, "lora_B")
	if err != nil {
		return rawLoRA{}, err
	}
	e, err := r.matrix(module, "lora_E")
	if err != nil {
		return rawLoRA{}, err
	}
	if a.rows != b.cols || e.rows != a.rows || e.cols != 1 {
		return rawLoRA{}, r.shapes(module, "lora_A, lora_B and lora_E", a, b, e)
	}
	alpha := r.c.Alpha
	if alpha <= 0 {
		alpha = r.c.InitRank
	}
	return rawLoRA{
		a: rawTensor{rows: a.rows, cols: a.cols}, b: rawTensor{rows: b.rows, cols: b.cols}, scale: alpha / (r.c.InitRank + 1e-5),
		made: &made{
			derive: func(A, B []float32, _ int) {
				for k := range a.rows {
					for i := range a.cols {
						A[k*a.cols+i] = a.x[k*a.cols+i] * e.x[k]
					}
				}
				copy(B, b.x)
			},
		},
	}, nil
}

// lycoris is the scaling of LoHa and LoKr.
func (r *kindReader) lycoris(module string) (rank, scale float64) {
	rank = r.c.ranks.find(module, r.c.Rank)
	return rank, r.c.alphas.find(module, r.c.LycorisAlpha) / rank
}

// loha is Δ = scale · (W1a·W1b) ⊙ (W2a·W2b) (Hyeon-Woo et al. 2022). The rows of products of factors are a factorisation of
// rank r², which is used where it is smaller than Δ.
func (r *kindReader) loha(module string) (rawLoRA, error) {
	var m [4]dense
	for i, part := range r.kind.parts {
		var err error
		if m[i], err = r.matrix(module, part); err != nil {
			return rawLoRA{}, err
		}
	}
	out, in := m[0].rows, m[1].cols
	n, scale := r.lycoris(module)
	rank := m[0].cols
	if m[1].rows != rank || m[2].rows != out || m[2].cols != rank || m[3].rows != rank || m[3].cols != in || n != float64(rank) {
		return rawLoRA{}, r.shapes(module, fmt.Sprintf("factors of rank %g", n), m[:]...)
	}
	if q := rank * rank; q <= maxRank && q*(out+in) < out*in {
		return rawLoRA{
			a: rawTensor{rows: q, cols: in}, b: rawTensor{rows: out, cols: q}, scale: scale,
			made: &made{
				derive: func(A, B []float32, _ int) {
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
			},
		}, nil
	}
	return denseLoRA(out, in, scale, func(B []float32) {
		u, v := m[0].times(m[1]), m[2].times(m[3])
		for i := range B {
			B[i] = u.x[i] * v.x[i]
		}
	}), nil
}

func denseLoRA(out, in int, scale float64, fill func(B []float32)) rawLoRA {
	return rawLoRA{
		a: rawTensor{cols: in}, b: rawTensor{rows: out, cols: in}, scale: scale,
		made: &made{
			dense:  true,
			derive: func(_, B []float32, _ int) { fill(B) },
		},
	}
}

// lokr is Δ = scale · W1 ⊗ W2, of which each may be a product of two (Yeh et al. 2024).
func (r *kindReader) lokr(module string) (rawLoRA, error) {
	var p, q [2]dense // W = p·q
	n, scale := r.lycoris(module)
	for i, part := range []string{"lokr_w1", "lokr_w2"} {
		if r.t[part] != nil {
			w, err := r.matrix(module, part)
			if err != nil {
				return rawLoRA{}, err
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
			return rawLoRA{}, err
		}
		if p[i].cols != q[i].rows || float64(p[i].cols) != n {
			return rawLoRA{}, r.shapes(module, fmt.Sprintf("%s_a and %s_b of rank %g", part, part, n), p[i], q[i])
		}
	}
	out, in, rank := p[0].rows*p[1].rows, q[0].cols*q[1].cols, p[0].cols*p[1].cols
	if rank <= maxRank && rank*(out+in) < out*in {
		return rawLoRA{
			a: rawTensor{rows: rank, cols: in}, b: rawTensor{rows: out, cols: rank}, scale: scale,
			made: &made{
				derive: func(A, B []float32, _ int) {
					kronecker(A, q[0], q[1])
					kronecker(B, p[0], p[1])
				},
			},
		}, nil
	}
	return denseLoRA(out, in, scale, func(B []float32) { kronecker(B, p[0].times(q[0]), p[1].times(q[1])) }), nil
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

// vera is Δ = (b ⊙ B)·(d ⊙ A) with A and B that all modules share, of which a module takes the first columns and rows
// (Kopiczko et al. 2024).
func (r *kindReader) vera(module string) (rawLoRA, error) {
	if r.shared["vera_A"] == nil || r.shared["vera_B"] == nil {
		return rawLoRA{}, adapterError(r.dir, ErrUnsupported, "its projections vera_A and vera_B are not in the file, but drawn by torch from projection_prng_key: save it with save_projection=True")
	}
	bs, s, err := r.tensor(module, "vera_lambda_b", 1)
	if err != nil {
		return rawLoRA{}, err
	}
	ds, n, err := r.tensor(module, "vera_lambda_d", 1)
	if err != nil {
		return rawLoRA{}, err
	}
	// The shared ones are read where they are used: read for every module they would be held as often.
	A, B := r.shared["vera_A"], r.shared["vera_B"]
	out, rank := s[0], n[0]
	if len(A.Shape) != 2 || len(B.Shape) != 2 || A.Shape[0] != int64(rank) || B.Shape[1] != int64(rank) || B.Shape[0] < int64(out) || A.Shape[1] < 1 || A.Shape[1] > math.MaxInt32 {
		return rawLoRA{}, adapterError(r.dir, ErrInvalid, "module %s: vera_A %v and vera_B %v do not belong to vera_lambda_b (%d) and vera_lambda_d (%d)", module, A.Shape, B.Shape, out, rank)
	}
	formatA, ok := floatFormat(A.DType)
	formatB, also := floatFormat(B.DType)
	if !ok || !also {
		return rawLoRA{}, adapterError(r.dir, ErrUnsupported, "tensors vera_A and vera_B have types %v and %v; the served ones are F32, F16 and BF16", A.DType, B.DType)
	}
	return rawLoRA{
		a: rawTensor{rows: rank}, b: rawTensor{rows: out, cols: rank}, scale: 1,
		made: &made{
			widest: int(A.Shape[1]),
			derive: func(a, b []float32, in int) {
				all := int(A.Shape[1])
				row := make([]float32, max(all, rank))
				for k := range rank {
					quant.Decode(formatA, row[:all], A.Data[k*len(A.Data)/rank:])
					for i := range in {
						a[k*in+i] = ds[k] * row[i]
					}
				}
				for o := range out {
					quant.Decode(formatB, row[:rank], B.Data[o*(len(B.Data)/int(B.Shape[0])):])
					for k := range rank {
						b[o*rank+k] = bs[o] * row[k]
					}
				}
			},
		},
	}, nil
}

// vblora's factors are rows of a bank of vectors, mixed by the softmax of the topk largest logits (Li et al. 2024).
func (r *kindReader) vblora(module string) (rawLoRA, error) {
	bank, err := r.matrix(module, "vblora_vector_bank")
	if err != nil {
		return rawLoRA{}, err
	}
	a, sa, err := r.mixed(module, "vblora_logits_A", bank)
	if err != nil {
		return rawLoRA{}, err
	}
	b, sb, err := r.mixed(module, "vblora_logits_B", bank)
	if err != nil {
		return rawLoRA{}, err
	}
	rank, n := sa[0], bank.cols
	if sb[1] != rank {
		return rawLoRA{}, adapterError(r.dir, ErrInvalid, "module %s: logits of A %v and of B %v are of different ranks", module, sa, sb)
	}
	return rawLoRA{
		a: rawTensor{rows: rank, cols: sa[1] * n}, b: rawTensor{rows: sb[0] * n, cols: rank}, scale: 1,
		made: &made{
			derive: func(A, B []float32, _ int) {
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
		},
	}, nil
}

// mixed returns what fills (n, m, vector) by the logits (n, m, bank), and their shape. It is called when the base has the
// shape that comes of it: a few logits and one long vector would make a large matrix of a small file.
func (r *kindReader) mixed(module, part string, bank dense) (func([]float32), []int, error) {
	if r.t[part+"_topk_indices"] != nil {
		return r.chosen(module, part, bank)
	}
	x, s, err := r.tensor(module, part, 3)
	if err != nil {
		return nil, nil, err
	}
	top := int(r.c.TopK)
	if s[2] != bank.rows || top < 1 || top > s[2] || float64(top) != r.c.TopK {
		return nil, nil, adapterError(r.dir, ErrInvalid, "module %s: %s of shape %v: want logits of the %d vectors of the bank, of which topk %g count", module, part, s, bank.rows, r.c.TopK)
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

// add adds w times row k to dst.
func (a dense) add(dst []float32, k int, w float32) {
	for i, v := range a.x[k*a.cols : (k+1)*a.cols] {
		dst[i] += w * v
	}
}

// chosen reads what save_only_topk_weights keeps: the places of the largest logits, and their weights but the last, which
// makes the sum 1.
func (r *kindReader) chosen(module, part string, bank dense) (func([]float32), []int, error) {
	file := r.t[part+"_topk_indices"]
	w, s, err := r.tensor(module, part+"_topk_weights", 3)
	if err != nil {
		return nil, nil, err
	}
	size := map[safetensors.DType]int{safetensors.U8: 1, safetensors.I16: 2, safetensors.I32: 4, safetensors.I64: 8}[file.DType]
	if size == 0 || len(file.Shape) != 3 || file.Shape[0] != int64(s[0]) || file.Shape[1] != int64(s[1]) || file.Shape[2] != int64(s[2])+1 {
		return nil, nil, adapterError(r.dir, ErrInvalid, "tensor %s %v of type %v: want whole numbers, one more than the weights %v", file.Name, file.Shape, file.DType, s)
	}
	top := s[2] + 1
	places := make([]int, s[0]*s[1]*top)
	for i := range places {
		v := int64(0)
		for b := size - 1; b >= 0; b-- {
			v = v<<8 | int64(file.Data[i*size+b])
		}
		if v < 0 || v >= int64(bank.rows) {
			return nil, nil, adapterError(r.dir, ErrInvalid, "tensor %s: value %d, but the bank has %d vectors", file.Name, v, bank.rows)
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

// miss is Δ·x = Bᵀ·(the sums of every r-th value of x) (Kang 2025); "mini" repeats B's columns, "bat" multiplies blocks of
// the matrix itself: Δ = W·B + B for each block (r, r).
func (r *kindReader) miss(module string) (rawLoRA, error) {
	mode := strings.Trim(string(r.c.InitWeights), `"`)
	if mode == "bat" {
		x, s, err := r.tensor(module, "miss_block", 3)
		if err != nil {
			return rawLoRA{}, err
		}
		n := s[1]
		if s[2] != n {
			return rawLoRA{}, adapterError(r.dir, ErrInvalid, "module %s: miss_block has shape %v: want blocks of as many rows as columns", module, s)
		}
		return rawLoRA{
			b: rawTensor{rows: s[0] * n}, scale: 1,
			made: &made{
				dense: true, byRow: true, whole: n,
				times: func(row int, w, dst []float32) {
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
			},
		}, nil
	}
	if mode != "true" && mode != "false" && mode != "" && mode != "null" && mode != "mini" {
		return rawLoRA{}, adapterError(r.dir, ErrUnsupported, "init_weights %q of MiSS; the served ones are true, \"bat\" and \"mini\"", mode)
	}
	m, err := r.matrix(module, "miss_block")
	if err != nil {
		return rawLoRA{}, err
	}
	rank, out, repeat := m.rows, m.cols, 1
	if mode == "mini" { // out is a multiple of it, how many times says the base
		repeat = 0
	}
	return rawLoRA{
		a: rawTensor{rows: rank}, b: rawTensor{rows: out * repeat, cols: rank}, scale: 1,
		made: &made{
			blocks: out,
			derive: func(A, B []float32, in int) {
				for i := range in {
					A[i%rank*in+i] = 1
				}
				for o := range len(B) / rank {
					for k := range rank {
						B[o*rank+k] = m.x[k*out+o%out]
					}
				}
			},
		},
	}, nil
}

// hra multiplies W by reflections: W·Π(I - 2uuᵀ) (Yuan et al. 2024), which is W + (W·C)·Uᵀ with one column of C for each u.
func (r *kindReader) hra(module string) (rawLoRA, error) {
	m, err := r.matrix(module, "hra_u")
	if err != nil {
		return rawLoRA{}, err
	}
	in, rank := m.rows, m.cols
	if rank > maxRank {
		return rawLoRA{}, adapterError(r.dir, ErrUnsupported, "module %s: hra_u has rank %d, more than the %d allowed", module, rank, maxRank)
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
		if r.c.GramSchmidt {
			for _, v := range u[:k] {
				f := dot(v, x)
				for i := range x {
					x[i] -= float64(f * v[i])
				}
			}
		}
		n := math.Sqrt(dot(x, x))
		if n == 0 {
			return rawLoRA{}, adapterError(r.dir, ErrInvalid, "module %s: column %d of hra_u has no direction", module, k)
		}
		for i := range x {
			x[i] /= n
		}
		u[k] = x
		c[k] = make([]float64, in)
		for i, v := range x {
			c[k][i] = -2 * v
		}
		if !r.c.GramSchmidt {
			for j := range k {
				f := -2 * dot(u[j], x)
				for i := range x {
					c[k][i] += float64(f * c[j][i])
				}
			}
		}
	}
	return rawLoRA{
		a: rawTensor{rows: rank, cols: in}, b: rawTensor{cols: rank}, scale: 1,
		made: &made{
			derive: func(A, _ []float32, _ int) {
				for k := range rank {
					for i, v := range u[k] {
						A[k*in+i] = float32(v)
					}
				}
			},
			times: func(_ int, w, dst []float32) {
				for k := range rank {
					sum := 0.0
					for i, v := range w {
						sum += float64(float64(v) * c[k][i])
					}
					dst[k] = float32(sum)
				}
			},
		},
	}, nil
}

// c3a is a block-circulant Δ (Chen et al. 2025): block (m, n) has w[m, n, (j-t) mod b] / in at (t, j).
func (r *kindReader) c3a(module string) (rawLoRA, error) {
	x, s, err := r.tensor(module, "c3a_kernel", 3)
	if err != nil {
		return rawLoRA{}, err
	}
	b := s[2]
	out, in := s[0]*b, s[1]*b
	return denseLoRA(out, in, 1, func(B []float32) {
		for o := range out {
			for i := range in {
				B[o*in+i] = x[(o/b*s[1]+i/b)*b+(i%b-o%b+b)%b] / float32(in)
			}
		}
	}), nil
}

// oft rotates blocks of the input (Qiu et al. 2023): W·Rᵀ, each block of R from a skew matrix Q: the series
// I + 2Q + 2Q² + … cut as PEFT cuts it, or Cayley's (I-Q)(I+Q)⁻¹.
func (r *kindReader) oft(module string) (rawLoRA, error) {
	m, err := r.matrix(module, "oft_R")
	if err != nil {
		return rawLoRA{}, err
	}
	n := int(math.Round((1 + math.Sqrt(1+8*float64(m.cols))) / 2))
	if n*(n-1)/2 != m.cols || n > maxRank {
		return rawLoRA{}, adapterError(r.dir, ErrInvalid, "module %s: oft_R (%d, %d): its rows are no triangles above a diagonal", module, m.rows, m.cols)
	}
	eps := r.c.Epsilon / math.Sqrt(float64(m.rows))
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
		if norm = math.Sqrt(norm); r.c.COFT && norm > eps {
			for i := range q.x {
				q.x[i] *= float32(eps / norm)
			}
		}
		if turns[k], err = r.turn(module, q); err != nil {
			return rawLoRA{}, err
		}
	}
	in := m.rows * n
	if r.c.BlockShare {
		in = 0 // what the base has
	}
	return rawLoRA{
		a: rawTensor{cols: in}, scale: 1,
		made: &made{
			dense: true, whole: n,
			times: func(_ int, w, dst []float32) { rotate(dst, w, turns, n) },
		},
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
func (r *kindReader) turn(module string, q dense) (dense, error) {
	if r.c.Neumann != nil && !*r.c.Neumann {
		return r.cayley(module, q)
	}
	out, terms := unit(q.rows), 5
	if r.c.NeumannTerms != nil {
		terms = int(*r.c.NeumannTerms)
		if float64(terms) != *r.c.NeumannTerms || terms < 1 || terms > 64 {
			return dense{}, adapterError(r.dir, ErrInvalid, "num_cayley_neumann_terms is %g: want a whole number from 1 to 64", *r.c.NeumannTerms)
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
func (r *kindReader) cayley(module string, q dense) (dense, error) {
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
			return dense{}, adapterError(r.dir, ErrInvalid, "module %s: a rotation of it has no inverse", module)
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

// boft rotates blocks by Cayley's formula and gives each output a scale (Liu et al. 2024). Of several butterfly factors PEFT
// applies but the first where its CUDA code is absent, which is how such files come to have one.
func (r *kindReader) boft(module string) (rawLoRA, error) {
	x, s, err := r.tensor(module, "boft_R", 4)
	if err != nil {
		return rawLoRA{}, err
	}
	scales, err := r.matrix(module, "boft_s")
	if err != nil {
		return rawLoRA{}, err
	}
	n := s[2]
	switch {
	case s[3] != n || n > maxRank || scales.cols != 1:
		return rawLoRA{}, adapterError(r.dir, ErrInvalid, "module %s: boft_R has shape %v and boft_s (%d, %d)", module, s, scales.rows, scales.cols)
	case s[0] != 1:
		return rawLoRA{}, adapterError(r.dir, ErrUnsupported, "module %s: boft_R has %d butterfly factors; train with boft_n_butterfly_factor=1", module, s[0])
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
			return rawLoRA{}, err
		}
	}
	return rawLoRA{
		a: rawTensor{cols: s[1] * n}, b: rawTensor{rows: scales.rows}, scale: 1,
		made: &made{
			dense: true, byRow: true, whole: n,
			times: func(row int, w, dst []float32) {
				rotate(dst, w, turns, n)
				for i := range dst {
					dst[i] = scales.x[row]*(dst[i]+w[i]) - w[i]
				}
			},
		},
	}, nil
}

// ia3 multiplies what comes out of a layer, (out, 1), or goes into it, (1, in), by a vector (Liu et al. 2022).
func (r *kindReader) ia3(module string) (rawLoRA, error) {
	m, err := r.matrix(module, "ia3_l")
	if err != nil {
		return rawLoRA{}, err
	}
	if m.rows == 1 {
		return rawLoRA{
			a: rawTensor{cols: m.cols}, scale: 1,
			made: &made{
				dense: true,
				times: func(_ int, w, dst []float32) {
					for i, v := range w {
						dst[i] = v * (m.x[i] - 1)
					}
				},
			},
		}, nil
	}
	if m.cols != 1 {
		return rawLoRA{}, adapterError(r.dir, ErrInvalid, "module %s: ia3_l is (%d, %d): want one row or one column", module, m.rows, m.cols)
	}
	t := r.t["ia3_l"]
	format, _ := floatFormat(t.DType) // matrix has read it
	return rawLoRA{
		b: rawTensor{rows: m.rows}, scale: 1,
		bias: rawTensor{name: t.Name, format: format, rows: m.rows, cols: 1, data: t.Data}, how: biasGain,
		made: &made{
			dense: true, byRow: true,
			times: func(row int, w, dst []float32) {
				for i, v := range w {
					dst[i] = v * (m.x[row] - 1)
				}
			},
		},
	}, nil
}

// refuseKind names what is not served beside the tensors of a kind; "": nothing.
func (c *peftConfig) refuseKind() string {
	switch {
	case len(c.Save) > 0:
		return fmt.Sprintf("modules_to_save %q: whole trained modules are not served beside %s; train without", c.Save, c.Type)
	case c.Bias != nil && *c.Bias != "none":
		return fmt.Sprintf("bias %q: trained biases are not served beside %s; train with bias \"none\"", *c.Bias, c.Type)
	}
	return ""
}
