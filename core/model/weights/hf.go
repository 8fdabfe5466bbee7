package weights

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
	"edged/core/model/digest"
	"edged/core/model/mmap"
	"edged/core/model/safetensors"
	"edged/quant"
)

// openHF fills the model from a Hugging Face folder.
func (b *builder) openHF(dir string) error {
	config, err := b.readConfig(dir)
	if err != nil {
		var link *mmap.DanglingLinkError
		if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &link) {
			return fmt.Errorf("%w: a model folder holds config.json and model*.safetensors", err)
		}
		return err
	}
	b.folder = true
	_, b.composite = config["text_config"]
	b.foreign = func(name string) string {
		module, suffix := cutSuffix(name)
		return b.m.family.ToHF(b.m.Spec, module) + suffix
	}
	files, err := safetensors.OpenFolder(dir)
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	b.m.files = []digest.File{{Name: configName, Path: filepath.Join(dir, configName)}}
	if path := filepath.Join(dir, generationName); exists(path) {
		b.m.files = append(b.m.files, digest.File{Name: generationName, Path: path})
	}
	if path := files.Index(); path != "" {
		b.m.files = append(b.m.files, digest.File{Name: filepath.Base(path), Path: path})
	}
	for _, f := range files.Files() {
		b.keep(f.Mapping())
		b.m.files = append(b.m.files, digest.File{Name: filepath.Base(f.Path), Path: f.Path, Mapping: f.Mapping()})
	}
	modules, consumed := b.packed(files)
	shapes := map[string][]int{}
	for _, name := range files.Names() {
		if to, ok := b.canonical(name); ok && !consumed[name] {
			shapes[to] = shapeIn(files, name)
		}
	}
	weights := make([]*quant.Matrix, len(modules))
	for i := range modules {
		if b.scheme.method == "mxfp4" {
			break // they are experts of a shape that the Spec tells
		}
		m, err := b.module(&modules[i])
		if err != nil {
			return err
		}
		weights[i] = m
		if to, ok := b.canonical(modules[i].name + ".weight"); ok {
			shapes[to] = []int{m.Rows, m.Cols}
		}
	}
	k := keys.Config(config, func(name string) []int { return shapes[name] })
	k.SetValues(func(name string) []float32 { return b.hfValues(files, name) })
	if err := b.read(k); err != nil {
		return err
	}
	if err := b.generation(k, config, dir); err != nil {
		return err
	}
	switch {
	case b.m.Spec.Kind == arch.Encoder:
		if err := b.pooling(dir); err != nil {
			return err
		}
	case exists(filepath.Join(dir, "modules.json")): // an embedder, which generates all the same
		if err := b.pooling(dir); errors.Is(err, ErrUnsupported) {
			b.m.notes = append(b.m.notes, "embeddings are the mean over all tokens: "+err.Error())
			b.m.Spec.Pool.Kind, b.m.Spec.Dense = arch.PoolMean, nil
		} else if err != nil {
			return err
		} else if kind := b.m.Spec.Pool.Kind; kind != arch.PoolMean && kind != arch.PoolCLS && kind != arch.PoolLast {
			b.m.notes = append(b.m.notes, "embeddings are the mean over all tokens: of a decoder the kinds mean, cls and lasttoken are served")
			b.m.Spec.Pool.Kind = arch.PoolMean
		}
		b.m.Spec.Pool.Normalize = true
	}
	if v := k.IntOr("|vocab_size", b.m.Spec.Vocab); v != b.m.Spec.Vocab {
		return b.fail(ErrInvalid, "config.json has vocab_size %d, but tensor %s has %d rows", v, b.say(arch.EmbedName), b.m.Spec.Vocab)
	}
	for i, p := range modules {
		if b.scheme.method == "mxfp4" {
			if err := b.placeMXFP4(&p); err != nil {
				return err
			}
			continue
		}
		to, ok := b.canonical(p.name + ".weight")
		if !ok {
			return b.fail(ErrUnsupported, "module %s is none that a %s model has", p.name, b.m.Spec.Family)
		}
		if b.unread(to) || b.m.Spec.Unread(to) {
			continue
		}
		if err := b.placeRows(weights[i], to); err != nil {
			return err
		}
	}
	if err := b.hfTensors(files, consumed); err != nil {
		return err
	}
	b.noteHead(k)
	return nil
}

// noteHead notes that a head counts, as in transformers 5, although the configuration says that the embedding
// is the head, or that there is none.
func (b *builder) noteHead(k *keys.Keys) {
	head, embed := b.m.matrices[arch.HeadName], b.m.matrices[arch.EmbedName]
	if b.m.Spec.Kind == arch.Decoder && k.Headless() && !k.Bool("|tie_word_embeddings", false) {
		b.m.notes = append(b.m.notes, "the class that config.json names has no output head, and none is stored: it is for embeddings, and what it generates means nothing")
		return
	}
	if head == nil || embed == nil || !k.Bool("|tie_word_embeddings", false) || sameEnds(head, embed) {
		return
	}
	b.m.notes = append(b.m.notes, fmt.Sprintf("config.json has tie_word_embeddings, but %s is there and is not the embedding: it is the head", b.say(arch.HeadName)))
}

// sameEnds compares the first and last rows of two matrices: one that was trained differs everywhere, and
// reading all of both takes a board half a minute.
func sameEnds(a, b *quant.Matrix) bool {
	const most = 1 << 20 // bytes
	if a.Format != b.Format || len(a.Data) != len(b.Data) {
		return false
	}
	n := min(most, len(a.Data))
	return bytes.Equal(a.Data[:n], b.Data[:n]) && bytes.Equal(a.Data[len(a.Data)-n:], b.Data[len(b.Data)-n:])
}

// hfValues are the values of a small tensor; nil where there is none.
func (b *builder) hfValues(files *safetensors.Folder, want string) []float32 {
	for _, name := range files.Names() {
		if to, ok := b.canonical(name); !ok || to != want {
			continue
		}
		t := files.Tensor(name)
		format, ok := floatFormat(t.DType)
		if n := t.Elements(); !ok || n < 1 || n > maxList {
			return nil
		}
		out := make([]float32, t.Elements())
		quant.Decode(format, out, t.Data)
		return out
	}
	return nil
}

// sizes makes ints of a shape.
func sizes(shape []int64) []int {
	out := make([]int, len(shape))
	for i, n := range shape {
		out[i] = int(min(n, math.MaxInt32))
	}
	return out
}

// canonical is the name here of a Hugging Face tensor.
func (b *builder) canonical(name string) (string, bool) {
	module, suffix := cutSuffix(name)
	if suffix == ".weight" || suffix == ".bias" {
		if to, ok := b.m.family.ToGGUF(module); ok {
			return to + suffix, true
		}
	}
	to, ok := b.m.family.ToGGUF(name) // a parameter that is no module's
	if strings.HasSuffix(to, ".bias") {
		return to, ok
	}
	return to + ".weight", ok
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// bnbSuffixes are the tensors that bitsandbytes puts beside a quantised weight.
func bnbSuffixes() []string {
	return []string{".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", bnbState + "nf4", bnbState + "fp4"}
}

func (b *builder) hfTensors(files *safetensors.Folder, consumed map[string]bool) error {
	for _, name := range files.Names() {
		if consumed[name] || b.skipped(files, name) || b.drafting(name) {
			continue
		}
		to, ok := b.canonical(name)
		if !ok {
			return b.fail(ErrUnsupported, "tensor %s is none that a %s model has", name, b.m.Spec.Family)
		}
		if b.m.family.IsSetting(to) || b.unread(to) || b.m.Spec.Unread(to) {
			continue
		}
		if err := b.hfTensor(files, files.Tensor(name), to); err != nil {
			return err
		}
	}
	return nil
}

// unread reports whether a tensor belongs to a layer behind the network that no head of the model has: the
// pooler of BERT's pretraining, beside which there is no classifier.
func (b *builder) unread(to string) bool {
	module, _ := cutSuffix(to)
	return module == arch.ScoreName && b.m.Spec.Score == nil && b.m.Spec.Kind == arch.Encoder &&
		(b.m.Spec.Mask == nil || b.m.Spec.Mask.Steps[0].Name != arch.ScoreName)
}

// skipped reports whether a tensor is no weight: the parts of bitsandbytes, read with their weight, and buffers that
// older transformers saved and that follow from the configuration.
func (b *builder) skipped(files *safetensors.Folder, name string) bool {
	for _, s := range bnbSuffixes() {
		if base, ok := strings.CutSuffix(name, s); ok && files.Tensor(base) != nil {
			return true
		}
	}
	if tower := family.Tower(name); tower != "" && b.composite {
		if !slices.Contains(b.m.towers, tower) {
			b.m.towers = append(b.m.towers, tower)
		}
		return true
	}
	return b.m.family.Skips(name)
}

// hfTensor adds one tensor under its canonical name or names.
func (b *builder) hfTensor(files *safetensors.Folder, t *safetensors.Tensor, name string) error {
	if m, err := b.bnb(files, t, name); m != nil || err != nil {
		if err != nil {
			return err
		}
		return b.hfBnB(m, name)
	}
	format, ok := floatFormat(t.DType)
	if !ok {
		return b.fail(ErrUnsupported, "tensor %s is %s, and nothing beside it tells how to read it; "+
			"the supported types are F32, F16, BF16 and the quantised kinds of docs/formats.md", t.Name, t.DType)
	}
	shape := t.Shape
	if len(shape) > 3 { // Kimi's decays are (1, 1, heads, 1)
		shape = slices.DeleteFunc(slices.Clone(shape), func(n int64) bool { return n == 1 })
	}
	switch len(shape) {
	case 1:
		_, n, err := b.dims(t.Name, 1, shape[0])
		if err != nil {
			return err
		}
		return b.place(name, format, 0, n, t.Data)
	case 2:
		rows, cols, err := b.dims(t.Name, shape[0], shape[1])
		if err != nil {
			return err
		}
		return b.place(name, format, rows, cols, t.Data)
	case 3:
		if shape[1] == 1 { // a convolution over each channel by itself: (channels, 1, positions)
			rows, cols, err := b.dims(t.Name, shape[0], shape[2])
			if err != nil {
				return err
			}
			return b.place(name, format, rows, cols, t.Data)
		}
		module, suffix := cutSuffix(name)
		pattern, numbers := arch.SplitNumbers(module)
		stack := b.m.Spec.StackOf(pattern)
		rows, cols, err := b.dims(t.Name, shape[1], shape[2])
		if err != nil {
			return err
		}
		if stack != nil && shape[0] <= arch.MaxExperts {
			return b.stack(stack, numbers, suffix, format, int(shape[0]), rows, cols, t.Data)
		}
	}
	return b.fail(ErrUnsupported, "tensor %s has shape %v: want a vector or a matrix", t.Name, t.Shape)
}

func floatFormat(d safetensors.DType) (quant.Format, bool) {
	switch d {
	case safetensors.F32:
		return quant.F32, true
	case safetensors.F16:
		return quant.F16, true
	case safetensors.BF16:
		return quant.BF16, true
	default:
		return quant.FormatInvalid, false
	}
}

// transposed returns a (cols, rows) copy of a (rows, cols) matrix of floats, off the heap; nil for headers only.
func (b *builder) transposed(f quant.Format, data []byte, rows, cols int) ([]byte, error) {
	b.m.derived += f.Bytes(int64(rows), int64(cols)) // not len(data): of what is decoded first, headers only have none
	if b.m.headersOnly {
		return nil, nil
	}
	out, err := b.m.arena.Alloc(len(data))
	if err != nil {
		return nil, err
	}
	size := f.BlockBytes()
	// In tiles of 32 × 32, so that neither side leaves the cache: GPT-2 XL is 6 GB to turn.
	const tile = 32
	for r0 := 0; r0 < rows; r0 += tile {
		for c0 := 0; c0 < cols; c0 += tile {
			for r := r0; r < min(r0+tile, rows); r++ {
				for c := c0; c < min(c0+tile, cols); c++ {
					copy(out[(c*rows+r)*size:(c*rows+r+1)*size], data[(r*cols+c)*size:])
				}
			}
		}
	}
	return out, nil
}
