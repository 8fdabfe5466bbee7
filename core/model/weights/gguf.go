package weights

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/arch/families"
	"edged/core/model/arch/keys"
	"edged/core/model/digest"
	"edged/core/model/gguf"
	"edged/quant"
)

// openGGUF fills the model from a GGUF file. Keys and tensor names: llama.cpp, src/llama-arch.cpp.
func (b *builder) openGGUF(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	parts := f.Parts()
	for i, p := range parts {
		name := "model.gguf"
		if len(parts) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.gguf", i+1, len(parts))
		}
		b.keep(p.Mapping)
		b.m.files = append(b.m.files, digest.File{Name: name, Path: p.Path, Mapping: p.Mapping})
	}
	if err := b.ggufSpec(f); err != nil {
		return err
	}
	b.foreign = func(name string) string { return bareName(f, b.m.family.ToFile(name)) }
	for i := range f.Tensors() {
		if name := f.Tensors()[i].Name; b.drafting(name) || b.m.family.Skips(name) || b.m.Spec.Unread(b.ggufName(name)) {
			continue
		}
		if err := b.ggufTensor(&f.Tensors()[i]); err != nil {
			return err
		}
	}
	return nil
}

// ggufSpec reads what the model computes.
func (b *builder) ggufSpec(f *gguf.File) error {
	name, err := f.String("general.architecture")
	if errors.Is(err, gguf.ErrMissing) {
		return b.fail(ErrInvalid, "it has no general.architecture: it is not a model")
	}
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	k := keys.GGUF(name, func(key string) (any, bool) { return f.Value(key, maxList) }, func(name string) []int {
		if b.m.family != nil {
			name = b.m.family.ToFile(name)
		}
		return ggufShape(f, bareName(f, name))
	})
	if kind := k.String("general.type|"); kind != "" && kind != "model" {
		return b.fail(ErrUnsupported, "general.type is %q: it is not a model", kind)
	}
	if len(f.Tensors()) == 0 {
		return b.fail(ErrInvalid, "it has no tensors: it is a vocabulary, not a model")
	}
	if b.m.Name = k.String("general.name|"); b.m.Name == "" {
		file := b.m.Path
		if prefix, _, _, ok := gguf.SplitName(file); ok {
			file = prefix
		}
		b.m.Name = strings.TrimSuffix(filepath.Base(file), ".gguf")
	}
	if b.m.family = families.Find(name); b.m.family == nil {
		return b.unsupportedArch(name)
	}
	b.m.BOS, b.m.EOS = token(k, "bos"), token(k, "eos")
	for _, id := range []int32{b.m.EOS, token(k, "eot"), token(k, "eom")} {
		b.m.addEOG(id)
	}
	if err := b.ggufFactors(f, k); err != nil {
		return err
	}
	if err := b.read(k); err != nil {
		return err
	}
	return b.generation(k, nil, "")
}

// read makes the Spec.
func (b *builder) read(k *keys.Keys) error {
	embed := k.Shape(arch.EmbedName)
	if len(embed) != 2 {
		return b.fail(ErrInvalid, "tensor %s is missing or no matrix", b.say(arch.EmbedName))
	}
	k.SetVocab(embed[0])
	var err error
	if b.m.Spec, err = b.m.family.Read(k); err != nil {
		return fmt.Errorf("weights: %s: %w", b.m.Path, err)
	}
	return nil
}

// unsupportedArch is the sentence for any architecture that is not in the table.
func (b *builder) unsupportedArch(name string) error {
	return b.fail(ErrUnsupported, "architecture %q; the supported ones are %s", name, families.Names())
}

// maxList bounds the lists that are read as hyper-parameters: one value for each layer, or one for each pair
// of a rotation.
const maxList = 1 << 12

// ggufShape is the shape of a tensor, rows first; nil where there is none.
func ggufShape(f *gguf.File, name string) []int {
	t := f.Tensor(name)
	if t == nil {
		return nil
	}
	out := make([]int, len(t.Dims))
	for i, d := range t.Dims {
		out[len(out)-1-i] = int(min(d, math.MaxInt32))
	}
	return out
}

// token reads a token id, -1 where there is none.
func token(k *keys.Keys, name string) int32 {
	v := k.FloatOr("tokenizer.ggml."+name+"_token_id|", -1)
	if !(v >= 0 && v < math.MaxInt32) {
		return -1 // writers use 2³²-1 for none
	}
	return int32(v)
}

// ggufFactors hands over rope_freqs.weight and its like, which are settings in the form of tensors.
func (b *builder) ggufFactors(f *gguf.File, k *keys.Keys) error {
	all := map[string][]float32{}
	for _, name := range factorNames() {
		t := f.Tensor(name)
		if t == nil {
			continue
		}
		format := t.Type.Format()
		if !format.Valid() || len(t.Dims) != 1 || t.Dims[0] < 1 || t.Dims[0] > arch.MaxHeadDim {
			return b.fail(ErrInvalid, "tensor %s has shape %v: want one row", t.Name, t.Dims)
		}
		all[name] = make([]float32, t.Dims[0])
		quant.Decode(format, all[name], t.Data)
	}
	k.SetFactors(all[factorNames()[0]])
	k.SetValues(func(name string) []float32 { return all[name] })
	return nil
}

// factorNames are tensors that divide the frequencies of a rotation.
func factorNames() []string {
	return []string{"rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"}
}

// ggufTensor adds one tensor under its canonical name or names.
func (b *builder) ggufTensor(t *gguf.Tensor) error {
	if slices.Contains(factorNames(), t.Name) {
		return nil
	}
	format := t.Type.Format()
	if !format.Valid() {
		return b.fail(ErrUnsupported, "tensor %s is %s; the supported types are %s", t.Name, t.Type, quant.Names())
	}
	stack, numbers, suffix := expertsOf(t.Name)
	if module, _ := cutSuffix(t.Name); stack == nil && len(numbers) == 0 {
		stack = b.m.Spec.StackOf(module)
	}
	dims := t.Dims
	for len(dims) > 2 && dims[len(dims)-1] == 1 && stack == nil {
		dims = dims[:len(dims)-1]
	}
	cols64, rows64 := dims[0], int64(1)
	for _, d := range dims[1:] {
		rows64 *= d
	}
	rows, cols, err := b.dims(t.Name, rows64, cols64)
	if err != nil {
		return err
	}
	switch {
	case stack != nil && len(dims) == 3 && suffix == ".weight":
		return b.stack(stack, numbers, suffix, format, int(dims[2]), int(dims[1]), int(dims[0]), t.Data)
	case stack != nil && len(dims) == 2 && suffix == ".bias":
		return b.stack(stack, numbers, suffix, format, int(dims[1]), int(dims[0]), 1, t.Data)
	case len(dims) == 1:
		return b.place(b.ggufName(t.Name), format, 0, cols, t.Data)
	case len(dims) == 2:
		name := b.ggufName(t.Name)
		if format.BlockSize() == 1 && b.wantsVector(name) { // some are stored by heads or by groups
			_, cols, err := b.dims(t.Name, 1, rows64*cols64)
			if err != nil {
				return err
			}
			return b.place(name, format, 0, cols, t.Data)
		}
		return b.place(name, format, rows, cols, t.Data)
	default:
		return b.fail(ErrUnsupported, "tensor %s has %d dimensions %v, which no tensor of a %s model has", t.Name, len(dims), dims, b.m.Spec.Family)
	}
}

// ggufName is the name here of a file's tensor: a few have no suffix (ssm_a).
func (b *builder) ggufName(name string) string {
	if !strings.HasSuffix(name, ".weight") && !strings.HasSuffix(name, ".bias") {
		name += ".weight"
	}
	return b.m.family.FromGGUF(name)
}

// bareName is the file's name of a tensor, without .weight where the file has it so.
func bareName(f *gguf.File, name string) string {
	if bare := strings.TrimSuffix(name, ".weight"); f.Tensor(name) == nil && f.Tensor(bare) != nil {
		return bare
	}
	return name
}

// expertsOf says how llama.cpp's converter stacks the matrices of all experts: NAME_exps holds NAME of each,
// and ffn_gate_up_exps the rows of both. nil: the tensor is no stack.
func expertsOf(name string) (stack *arch.Stack, numbers []string, suffix string) {
	module, suffix := cutSuffix(name)
	pattern, numbers := arch.SplitNumbers(module)
	one, ok := strings.CutSuffix(pattern, "_exps")
	if strings.HasSuffix(pattern, ".attn_k_b") || strings.HasSuffix(pattern, ".attn_v_b") { // of all heads
		one, ok = pattern, true
	}
	if !ok || len(numbers) == 0 { // of no layer
		return nil, nil, suffix
	}
	if into, fused := strings.CutSuffix(one, "ffn_gate_up"); fused {
		return &arch.Stack{Of: pattern, Into: []string{into + "ffn_gate.E", into + "ffn_up.E"}}, numbers, suffix
	}
	return &arch.Stack{Of: pattern, Into: []string{one + ".E"}}, numbers, suffix
}
