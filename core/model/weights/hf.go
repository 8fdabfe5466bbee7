package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"edged/core/model/safetensors"
	"edged/quant"
)

// openHF fills the model from a Hugging Face folder.
func (b *builder) openHF(dir string) error {
	c, err := b.readConfig(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: a model folder holds config.json and model*.safetensors", err)
		}
		return err
	}
	b.foreign = func(name string) string { return toHF(b.m.Arch, name) }
	files, err := safetensors.OpenFolder(dir)
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	b.m.files = []File{{Name: configName, Path: filepath.Join(dir, configName)}}
	if path := filepath.Join(dir, generationName); exists(path) {
		b.m.files = append(b.m.files, File{Name: generationName, Path: path})
	}
	if path := files.Index(); path != "" {
		b.m.files = append(b.m.files, File{Name: filepath.Base(path), Path: path})
	}
	for _, f := range files.Files() {
		b.keep(f.Mapping())
		b.m.files = append(b.m.files, File{Name: filepath.Base(f.Path), Path: f.Path, mapping: f.Mapping()})
	}
	if err := b.hfTensors(files); err != nil {
		return err
	}
	h := &b.m.Hyper
	embed := b.m.matrices[embedName]
	if embed == nil {
		return b.fail(ErrInvalid, "tensor %s is missing or no matrix", b.say(embedName))
	}
	h.VocabRows = embed.Rows
	if c.Vocab != nil && *c.Vocab != embed.Rows {
		return b.fail(ErrInvalid, "config.json has vocab_size %d, but tensor %s has %d rows", *c.Vocab, b.say(embedName), embed.Rows)
	}
	if h.Tied {
		delete(b.m.matrices, outputName) // a copy that some writers save
	}
	return b.validate()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// bnbSuffixes are the tensors that bitsandbytes puts beside a quantised weight.
func bnbSuffixes() []string {
	return []string{".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", bnbState + "nf4", bnbState + "fp4"}
}

func (b *builder) hfTensors(files *safetensors.Folder) error {
	for _, name := range files.Names() {
		if b.skipped(files, name) {
			continue
		}
		module, suffix := name, ""
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			module, suffix = name[:i], name[i:]
		}
		to, ok := toGGUF(b.m.Arch, module)
		if !ok || suffix != ".weight" && suffix != ".bias" {
			return b.fail(ErrUnsupported, "tensor %s is none that a %s model has", name, b.m.Arch)
		}
		if err := b.hfTensor(files, files.Tensor(name), to+suffix); err != nil {
			return err
		}
	}
	return nil
}

// skipped reports whether a tensor is no weight: the parts of bitsandbytes, read with their weight, and buffers that
// older transformers saved and that follow from the configuration.
func (b *builder) skipped(files *safetensors.Folder, name string) bool {
	for _, s := range bnbSuffixes() {
		if base, ok := strings.CutSuffix(name, s); ok && files.Tensor(base) != nil {
			return true
		}
	}
	if b.m.Arch == "gpt2" {
		return strings.HasSuffix(name, ".attn.masked_bias") || strings.HasSuffix(name, ".attn.bias")
	}
	return strings.HasSuffix(name, ".rotary_emb.inv_freq")
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
		return b.fail(ErrUnsupported, "tensor %s is %s; the supported types are F32, F16, BF16 and bitsandbytes 4-bit", t.Name, t.DType)
	}
	pattern, numbers := splitNumbers(name)
	fused := strings.HasPrefix(pattern, "blk.N.attn_qkv.")
	switch len(t.Shape) {
	case 1:
		_, n, err := b.dims(t.Name, 1, t.Shape[0])
		switch {
		case err != nil:
			return err
		case fused:
			return b.splitQKVBias(numbers[0], format, n, t.Data)
		default:
			return b.vector(name, format, n, t.Data)
		}
	case 2:
		rows, cols, err := b.dims(t.Name, t.Shape[0], t.Shape[1])
		if err != nil {
			return err
		}
		data := t.Data
		if b.m.Arch == "gpt2" && strings.HasPrefix(pattern, "blk.N.") {
			// Conv1D stores (inputs, outputs).
			if data, err = b.transposed(format, data, rows, cols); err != nil {
				return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, t.Name, err)
			}
			rows, cols = cols, rows
		}
		if fused {
			return b.splitQKV(numbers[0], format, rows, cols, data)
		}
		return b.matrix(name, format, rows, cols, data)
	default:
		return b.fail(ErrUnsupported, "tensor %s has shape %v: want a vector or a matrix", t.Name, t.Shape)
	}
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
	b.m.derived += int64(len(data))
	if b.m.headersOnly {
		return nil, nil
	}
	out, err := b.m.arena.alloc(len(data))
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
