package lora

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"unsafe"

	"edged/core/model/arch"
	"edged/core/model/arch/families"
	"edged/core/model/digest"
	"edged/core/model/mmap"
	"edged/quant"
)

// Adapter is an open adapter that was proved against one model: every module exists there and has the shape that
// the adapter was trained on, and every value is finite. It is immutable and lives until Close.
type Adapter struct {
	Path    string
	Kind    Kind
	Base    string             // what it says it was trained on, "" where it does not; see Header
	SHA256  string             // of HashFiles over Files, hexadecimal
	Rank    int                // the largest of its modules'
	Targets []string           // module names in Hugging Face's words, sorted: "q_proj", "v_proj"
	Bytes   int64              // of its tensors
	Mods    map[string]*Delta  // by the base's tensor name, for example "blk.0.attn_q.weight"
	Embed   *Delta             // of the token embedding: A (tokens, r), a row a token, and B (width, r); nil: none
	Norms   map[string]*Norm   // by the norm's GGUF name: "blk.0.attn_norm"
	Prefix  []Prefix           // by layer; nil: none
	Prompts map[string]*Prompt // by the weight of the attention's output: "blk.0.attn_output.weight"
	// Invocation switches the adapter on from the first token of the last place in a prompt where these ids
	// stand (activated LoRA, Greenewald et al. 2025); nil: it is always on.
	Invocation []int32
	Prompt     *quant.Matrix // a soft prompt: (virtual tokens, width); nil: none
	Notes      []string      // what is odd about its files and passed over

	maps  []*mmap.Mapping
	arena *mmap.Arena
	dense int64 // bytes of changes of no low rank
}

// Delta is the low-rank change of one matrix W (out, in): y = W·x + Scale · s · B·(A·x), where s is the scale
// that a request asks for. Rows of B are in the order of W's rows. Without A it is of no low rank: y = W·x +
// Scale · s · B·x.
type Delta struct {
	A     *quant.Matrix // (r, in); nil: B is the whole change
	B     *quant.Matrix // (out, r), or (out, in)
	Scale float32       // alpha / r, or alpha / √r with rank-stabilised LoRA
	// Magnitude (out) makes it DoRA: y = Magnitude / ‖W + Scale·s·B·A‖ · (W·x + Scale · s · B·(A·x)), the
	// norm of each row.
	Magnitude []float32
	// Of an embedding the norm is that of each column, over all tokens.
	// Bias (out) is added times s, without Scale; nil: none.
	Bias []float32
}

// Open opens a PEFT folder or a GGUF adapter for m. An error names the file and what does not fit, with both
// shapes; it wraps ErrUnsupported, ErrInvalid or ErrMismatch.
func Open(path string, m Base) (*Adapter, error) {
	f, err := readAdapter(path, m)
	if err != nil {
		return nil, err
	}
	a := &Adapter{
		Path: path, Kind: f.kind(), Base: f.base, Rank: f.rank(), Targets: f.targets(), Bytes: f.bytes(), Mods: map[string]*Delta{}, maps: f.maps, arena: &mmap.Arena{},
	}
	if err := a.fill(f, m); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	a.Notes = f.notes
	if a.SHA256, err = digest.Files(f.files); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Close unmaps the adapter. Later calls do nothing.
func (a *Adapter) Close() error {
	var errs []error
	for _, m := range a.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(append(errs, a.arena.Close())...)
}

// Relax tells the system that the files will not be read again soon, since what computes has laid them out
// anew. What is read all the same comes back from the disk.
func (a *Adapter) Relax() error {
	var errs []error
	for _, m := range a.maps {
		errs = append(errs, m.Advise(mmap.DontNeed))
	}
	return errors.Join(errs...)
}

func (a *Adapter) fail(kind error, format string, args ...any) error {
	return adapterError(a.Path, kind, format, args...)
}

func adapterError(path string, kind error, format string, args ...any) error {
	return fmt.Errorf("lora: %s: %w: %s", path, kind, fmt.Sprintf(format, args...))
}

// fill proves every module of f against m and adds it.
func (a *Adapter) fill(f *adapterFile, m Base) error {
	if f.arch != "" && families.Stored(f.arch) != families.Stored(m.Network().Family) {
		return a.fail(ErrMismatch, "it is for the architecture %s, but the model is %s", f.arch, m.Network().Family)
	}
	if m.Family().Folded && f.gguf != m.Network().Folded {
		return a.fail(ErrUnsupported, "it was made for a %s of %s, and llama.cpp's converter multiplies factors of the configuration into the matrices of a GGUF file: serve it with a model in a %[1]s",
			map[bool]string{true: "GGUF file", false: "folder"}[f.gguf], m.Network().Family)
	}
	if f.prompt.rows > 0 {
		if err := a.addPrompt(&f.prompt, m); err != nil {
			return err
		}
	}
	if f.prefix.rows > 0 {
		if err := a.addPrefix(f, m); err != nil {
			return err
		}
	}
	if err := a.addAdaption(f, m); err != nil {
		return err
	}
	if err := a.addSaved(f, m); err != nil {
		return err
	}
	a.Invocation = f.invocation
	for i := range f.copies {
		prove := a.unchanged
		if f.copies[i].trained {
			prove = a.addTable
		}
		if err := prove(f, &f.copies[i], m); err != nil {
			return err
		}
	}
	f.measure(m)
	for i := range f.loras {
		l := &f.loras[i]
		if l.experts > 0 {
			if err := a.addExperts(l, m); err != nil {
				return err
			}
			continue
		}
		name, ok := l.module, true
		if !f.gguf {
			name, ok = m.Family().ToGGUF(l.module)
		}
		name = strings.TrimSuffix(name, ".weight") + ".weight"
		switch {
		case !ok:
			return a.fail(ErrMismatch, "module %s is none that the %s model has", l.module, m.Network().Family)
		case name == arch.PositionName:
			return a.fail(ErrUnsupported, "module %s: LoRA on learned positions%s", l.module, f.beside(l.module))
		case l.embed != (name == arch.EmbedName):
			return a.fail(ErrMismatch, "module %s: tensors %s (%d, %d) and %s (%d, %d) are not those of %s: an embedding has lora_embedding_A and lora_embedding_B, a linear layer lora_A and lora_B",
				l.module, l.a.name, l.a.rows, l.a.cols, l.b.name, l.b.rows, l.b.cols, name)
		}
		if l.made != nil {
			if err := a.make(l, m, name); err != nil {
				return err
			}
		}
		if err := a.finite(&l.a, &l.b, &l.size, &l.bias); err != nil {
			return err
		}
		if l.embed {
			if err := a.addEmbedding(l, m, f.gguf); err != nil {
				return err
			}
			continue
		}
		pattern, numbers := arch.SplitNumbers(strings.TrimSuffix(name, ".weight"))
		if split := m.Network().SplitOf(pattern); split != nil {
			if err := a.addFused(l, m, split, numbers, f.gguf); err != nil {
				return err
			}
			continue
		}
		if err := a.add(l, m, name, f.gguf); err != nil {
			return err
		}
	}
	return a.addTokens(f, m)
}

// unchanged proves that a weight which is saved with an adapter is the model's own. Where the model's is
// quantised, it may be as far from it as the quantisation is, no nearer can be told.
func (a *Adapter) unchanged(f *adapterFile, c *baseCopy, m Base) error {
	name, ok := m.Family().ToGGUF(c.module)
	base := m.Matrix(name + ".weight")
	if !ok || base == nil {
		return a.fail(ErrMismatch, "tensor %s (%d, %d) is none that the %s model has", c.t.name, c.t.rows, c.t.cols, m.Network().Family)
	}
	if base.Rows != c.t.rows || base.Cols != c.t.cols {
		return a.fail(ErrUnsupported, "tensor %s is (%d, %d)%s: whole trained modules and added tokens are not served", c.t.name, c.t.rows, c.t.cols, f.beside(c.t.name))
	}
	f.note("tensor %s is passed over: it is the model's own", c.t.name)
	if base.Format == c.t.format && bytes.Equal(base.Data, c.t.data) {
		return nil
	}
	exact := base.Format.BlockSize() == 1
	theirs := c.t.matrix(c.t.name)
	x, y := make([]float32, base.Cols), make([]float32, base.Cols)
	var apart, size float64
	for r := range base.Rows {
		quant.Row(x, base, r)
		quant.Row(y, theirs, r)
		for i, v := range x {
			if exact && !sameFloat(base.Format, c.t.format, v, y[i]) {
				return a.fail(ErrUnsupported, "tensor %s differs from the model's own in row %d (%g, %g): whole trained modules are not served; train with LoRA only", c.t.name, r, y[i], v)
			}
			d := float64(y[i]) - float64(v)
			apart += d * d
			size += float64(v) * float64(v)
		}
	}
	// What a quantiser does to a weight's root mean square is about two steps' length: 0.9 % with Q8_0, 9 % with Q4_0.
	bits := float64(base.Format.RowBytes(base.Cols)) * 8 / float64(base.Cols)
	if limit := min(0.8, 6*math.Exp2(-bits)); !exact && !(math.Sqrt(apart) <= limit*math.Sqrt(size)) {
		return a.fail(ErrUnsupported, "tensor %s differs from the model's own by %.0f %%: whole trained modules are not served; train with LoRA only", c.t.name, 100*math.Sqrt(apart/size))
	}
	return nil
}

// sameFloat reports whether two values are one, but for the rounding to the format of either.
func sameFloat(f, g quant.Format, v, w float32) bool {
	return v == w || rounded(g, v) == w || v == rounded(f, w)
}

// rounded is v as a format of floats holds it.
func rounded(f quant.Format, v float32) float32 {
	var b [4]byte
	x := [1]float32{v}
	if quant.Encode(f, b[:f.RowBytes(1)], x[:]) == nil {
		quant.Decode(f, x[:], b[:f.RowBytes(1)])
	}
	return x[0]
}

// finite refuses values with which every answer would be noise.
func (a *Adapter) finite(tensors ...*rawTensor) error {
	for _, t := range tensors {
		if t.data == nil { // made row by row, when all that it is made of was proved
			continue
		}
		m := t.matrix(t.name)
		row := make([]float32, m.Cols)
		for r := range m.Rows {
			quant.Row(row, m, r)
			for c, v := range row {
				if v-v != 0 {
					return a.fail(ErrInvalid, "tensor %s: value (%d, %d) is %v", t.name, r, c, v)
				}
			}
		}
	}
	return nil
}

// addFused cuts an adapter of a fused matrix as the matrix was cut: the parts share A.
func (a *Adapter) addFused(l *rawDelta, m Base, split *arch.Split, numbers []string, fromGGUF bool) error {
	if l.olora {
		return a.fail(ErrUnsupported, "module %s: init_lora_weights \"olora\" on a fused matrix: convert the adapter to a plain one when saving it", l.module)
	}
	groups := 1
	if !fromGGUF || split.Stored {
		groups = max(split.Groups, 1)
	}
	pieces, sum := m.Network().Pieces(split, numbers), 0
	for _, p := range pieces {
		if p.Rows == 0 || p.Rows%groups != 0 {
			return a.fail(ErrMismatch, "module %s: the model has no matrix %s of rows in %d groups", l.module, p.Name, groups)
		}
		sum += p.Rows
	}
	if sum != l.b.rows {
		return a.fail(ErrMismatch, "tensor %s has shape (%d, %d): the model's fused matrix has %d rows", l.b.name, l.b.rows, l.b.cols, sum)
	}
	first := 0
	for _, p := range pieces {
		cut := *l
		for _, t := range []*rawTensor{&cut.b, &cut.size, &cut.bias} {
			var err error
			if t.data, err = a.gather(t, first/groups, p.Rows/groups, sum/groups, groups); err != nil {
				return fmt.Errorf("lora: %s: tensor %s: %w", a.Path, t.name, err)
			}
			if t.rows > 0 {
				t.rows = p.Rows
			}
		}
		cut.first, first = first, first+p.Rows
		if err := a.add(&cut, m, p.Name+".weight", fromGGUF); err != nil {
			return err
		}
	}
	return nil
}

// gather returns rows [lo, lo+n) of each of the groups that t's rows fall into, each of which has so many rows.
func (a *Adapter) gather(t *rawTensor, lo, n, each, groups int) ([]byte, error) {
	if t.rows == 0 || t.data == nil {
		return nil, nil
	}
	size := len(t.data) / t.rows
	if groups == 1 {
		return t.data[lo*size : (lo+n)*size], nil
	}
	out, err := a.arena.Alloc(n * groups * size)
	if err != nil {
		return nil, err
	}
	for g := range groups {
		copy(out[g*n*size:(g+1)*n*size], t.data[(g*each+lo)*size:])
	}
	return out, nil
}

// add proves one module's shapes and adds it. fromGGUF tells in which order q and k rows of a llama are.
func (a *Adapter) add(l *rawDelta, m Base, name string, fromGGUF bool) error {
	base := m.Matrix(name)
	switch {
	case base == nil:
		return a.fail(ErrMismatch, "module %s: the model has no tensor %s", l.module, name)
	case a.Mods[name] != nil:
		return a.fail(ErrInvalid, "module %s appears twice", l.module)
	case l.a.cols != base.Cols || l.b.rows != base.Rows:
		return a.fail(ErrMismatch, "module %s: A is (%d, %d) and B is (%d, %d), but the model's %s is (%d, %d): it was trained on another model",
			l.module, l.a.rows, l.a.cols, l.b.rows, l.b.cols, name, base.Rows, base.Cols)
	}
	scale, err := a.scaling(l)
	if err != nil {
		return err
	}
	b, size, bias := l.b, l.size, l.bias
	permutedB := fromGGUF && m.Family().Permuted
	if heads := m.Tensor(name).Heads; heads > 0 && permutedB != m.Network().Permuted {
		for _, t := range []*rawTensor{&b, &size, &bias} {
			if t.data == nil {
				continue
			}
			if t.data, err = a.permuted(t, heads, m.Network().Permuted); err != nil {
				return fmt.Errorf("lora: %s: tensor %s: %w", a.Path, t.name, err)
			}
		}
	}
	factorA := l.a
	if h := m.Tensor(name).ByHead; h.Heads != h.KeyHeads && h.Tiled != (fromGGUF && m.Family().Tiled) {
		if err := a.reorder(l, &h, &factorA, &b, &size, &bias); err != nil {
			return err
		}
	}
	if l.made != nil && l.made.Times != nil {
		if b.data, err = a.times(l, m, name); err != nil {
			return err
		}
	}
	var madeBias []float32
	if l.made != nil && l.made.Paired != nil {
		if b.data, madeBias, err = a.pairs(l, m, name); err != nil {
			return err
		}
	}
	if l.made != nil && l.made.Bias != nil {
		if madeBias, err = a.madeBias(l, m, name); err != nil {
			return err
		}
	}
	if l.olora {
		whole := *l
		whole.b = b
		if factorA, b, err = a.olora(&whole, base); err != nil {
			return err
		}
	}
	var A *quant.Matrix
	if factorA.rows > 0 {
		if A, err = a.place(&factorA, name+".lora_a"); err != nil {
			return err
		}
	}
	B, err := a.place(&b, name+".lora_b")
	if err != nil {
		return err
	}
	mod := &Delta{A: A, B: B, Scale: scale, Bias: madeBias}
	if size.rows > 0 {
		mod.Magnitude = size.column()
	}
	if bias.rows > 0 {
		if mod.Bias, err = a.biasOf(l, &bias, m, name); err != nil {
			return err
		}
	}
	a.Mods[name] = mod
	return nil
}

// biasOf returns the bias that an adapter adds to the products of the matrix name, of which bias holds what l.how says.
func (a *Adapter) biasOf(l *rawDelta, bias *rawTensor, m Base, name string) ([]float32, error) {
	out := bias.column()
	own, err := m.Vector(biasName(name))
	switch {
	case err != nil:
		return nil, err
	case l.how == biasAdded:
		for i := range out {
			out[i] *= float32(l.scale)
		}
		return out, nil
	case l.how == biasGain && own == nil:
		return nil, nil
	case len(own) != len(out):
		return nil, a.fail(ErrMismatch, "tensor %s has %d values, but the model's bias of %s has %d: it was trained on another model", bias.name, len(out), name, len(own))
	}
	for i, v := range own {
		if l.how == biasGain {
			out[i] = v * (out[i] - 1)
		} else {
			out[i] -= v
		}
	}
	return out, nil
}

// biasName is the name of the bias beside a weight.
func biasName(weight string) string { return strings.TrimSuffix(weight, ".weight") + ".bias" }

// scaling is a module's, which must be a number.
func (a *Adapter) scaling(l *rawDelta) (float32, error) {
	scale := float32(l.scale)
	if math.IsNaN(l.scale) || math.IsInf(float64(scale), 0) {
		return 0, a.fail(ErrInvalid, "module %s: its scaling is %g", l.module, l.scale)
	}
	return scale, nil
}

// addEmbedding proves an adapter of the token embedding and adds it, A with a row for each token: that is
// what a token reads.
func (a *Adapter) addEmbedding(l *rawDelta, m Base, fromGGUF bool) error {
	base := m.Matrix(arch.EmbedName)
	tokens := l.a.cols
	if fromGGUF {
		tokens = l.a.rows
	}
	switch {
	case base == nil:
		return a.fail(ErrMismatch, "module %s: the model has no tensor %s", l.module, arch.EmbedName)
	case a.Embed != nil:
		return a.fail(ErrInvalid, "module %s appears twice", l.module)
	case tokens != base.Rows || l.b.rows != base.Cols:
		return a.fail(ErrMismatch, "module %s: A is (%d, %d) and B is (%d, %d), but the model's %s is (%d, %d): it was trained on another model or with more tokens",
			l.module, l.a.rows, l.a.cols, l.b.rows, l.b.cols, arch.EmbedName, base.Rows, base.Cols)
	}
	scale, err := a.scaling(l)
	if err != nil {
		return err
	}
	t := l.a
	if !fromGGUF {
		if t, err = a.turned(&l.a); err != nil {
			return fmt.Errorf("lora: %s: tensor %s: %w", a.Path, l.a.name, err)
		}
	}
	A, err := a.place(&t, arch.EmbedName+".lora_a")
	if err != nil {
		return err
	}
	B, err := a.place(&l.b, arch.EmbedName+".lora_b")
	if err != nil {
		return err
	}
	a.Embed = &Delta{A: A, B: B, Scale: scale}
	if l.size.rows > 0 {
		a.Embed.Magnitude = l.size.column()
	}
	return nil
}

// turned returns t with rows and columns exchanged. Its format is a float's, as PEFT's all are.
func (a *Adapter) turned(t *rawTensor) (rawTensor, error) {
	out, err := a.arena.Alloc(len(t.data))
	if err != nil {
		return rawTensor{}, err
	}
	n := len(t.data) / t.rows / t.cols
	for r := range t.rows {
		row := t.data[r*t.cols*n:]
		for c := range t.cols {
			copy(out[(c*t.rows+r)*n:(c*t.rows+r+1)*n], row[c*n:])
		}
	}
	return rawTensor{t.name, t.format, t.cols, t.rows, out}, nil
}

// addPrompt proves a soft prompt and adds it.
func (a *Adapter) addPrompt(t *rawTensor, m Base) error {
	if t.cols != m.Network().Width {
		return a.fail(ErrMismatch, "tensor %s is (%d, %d), but the model's %s is (%d, %d): it was trained on another model",
			t.name, t.rows, t.cols, arch.EmbedName, m.Network().Vocab, m.Network().Width)
	}
	err := a.finite(t)
	if err == nil {
		a.Prompt, err = a.place(t, t.name)
	}
	return err
}

// place makes a matrix whose data is aligned to its elements.
func (a *Adapter) place(t *rawTensor, name string) (*quant.Matrix, error) {
	m := t.matrix(name)
	size := uintptr(1)
	switch m.Format {
	case quant.F32:
		size = 4
	case quant.F16, quant.BF16:
		size = 2
	}
	if len(m.Data) == 0 || uintptr(unsafe.Pointer(unsafe.SliceData(m.Data)))%size == 0 {
		return m, nil
	}
	var err error
	if m.Data, err = a.arena.CopyOf(m.Data); err != nil {
		return nil, fmt.Errorf("lora: %s: tensor %s: %w", a.Path, t.name, err)
	}
	return m, nil
}

// permuted returns the rows of t in the other order of RoPE pairs: to adjacent pairs (row 2i+s of a head was row
// s·half+i), or back.
func (a *Adapter) permuted(t *rawTensor, heads int, toInterleaved bool) ([]byte, error) {
	out, err := a.arena.Alloc(len(t.data))
	if err != nil {
		return nil, err
	}
	rowBytes := len(t.data) / t.rows
	dim := t.rows / heads
	half := dim / 2
	for h := range heads {
		for i := range half {
			for s := range 2 {
				apart, adjacent := h*dim+s*half+i, h*dim+2*i+s
				from, to := adjacent, apart
				if toInterleaved {
					from, to = apart, adjacent
				}
				copy(out[to*rowBytes:(to+1)*rowBytes], t.data[from*rowBytes:(from+1)*rowBytes])
			}
		}
	}
	return out, nil
}
