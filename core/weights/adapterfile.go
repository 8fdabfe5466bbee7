package weights

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edged/core/mmap"
	"edged/quant"
)

// maxRank bounds the rank of an adapter: published ones go to 512.
const maxRank = 1 << 13

// AdapterHeader is what an adapter's files say without a model.
type AdapterHeader struct {
	Path    string
	Rank    int      // the largest of its modules'
	Targets []string // module names in Hugging Face's words, sorted
	Modules int      // matrices that it changes; a GPT-2 c_attn and a stack of experts count once
	Bytes   int64    // of its tensors
	Base    string   // what it says it was trained on, "" where it does not: base_model_name_or_path, general.base_model.0.name
	Arch    string   // of the base, "" where it does not say (PEFT)
}

// ReadAdapterHeader reads and checks an adapter's configuration and tensor names, shapes and types: all that can be
// checked without the model. Tensor data is not read.
func ReadAdapterHeader(path string) (*AdapterHeader, error) {
	f, err := readAdapter(path)
	if err != nil {
		return nil, err
	}
	h := &AdapterHeader{
		Path: path, Rank: f.rank(), Targets: f.targets(), Modules: len(f.loras), Bytes: f.bytes(), Base: f.base, Arch: f.arch,
	}
	return h, f.close()
}

// AdapterFiles lists the files that an adapter is made of, sorted by name: the two of a PEFT folder, or the GGUF file, whose
// name is always adapter.gguf so that renaming a drop changes no hash. The files need not be valid, but must be there.
func AdapterFiles(path string) ([]File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("weights: adapter: %w", err)
	}
	if !info.IsDir() {
		return []File{{Name: "adapter.gguf", Path: path}}, nil
	}
	var files []File
	for _, name := range []string{adapterConfigName, adapterModelName} {
		file := filepath.Join(path, name)
		if _, err := os.Stat(file); err != nil {
			if name == adapterModelName && exists(filepath.Join(path, "adapter_model.bin")) {
				return nil, adapterError(path, ErrUnsupported, "adapter_model.bin is a Python pickle, which can run code when it is read: save the adapter as %s", adapterModelName)
			}
			return nil, adapterError(path, ErrInvalid, "%s is missing: a PEFT folder holds %s and %s", name, adapterConfigName, adapterModelName)
		}
		files = append(files, File{Name: name, Path: file})
	}
	return files, nil
}

// An adapterFile is an adapter as its container has it.
type adapterFile struct {
	gguf  bool
	base  string
	arch  string
	loras []rawLoRA
	files []File
	maps  []*mmap.Mapping
}

// A rawLoRA is one module. Its shapes agree with each other; nothing is known of the base.
type rawLoRA struct {
	module string // Hugging Face name without prefix, or GGUF tensor name
	target string // last part of the Hugging Face name
	a, b   rawTensor
	scale  float64
}

// A rawTensor is (rows, cols) in the container's bytes.
type rawTensor struct {
	name       string
	format     quant.Format
	rows, cols int
	data       []byte
}

func (t *rawTensor) matrix(name string) *quant.Matrix {
	return &quant.Matrix{Name: name, Format: t.format, Rows: t.rows, Cols: t.cols, Data: t.data}
}

// readAdapter reads either kind. The caller closes it, or takes its maps over.
func readAdapter(path string) (*adapterFile, error) {
	files, err := AdapterFiles(path)
	if err != nil {
		return nil, err
	}
	f := &adapterFile{files: files}
	if files[0].Name == adapterConfigName {
		err = f.readPEFT(path)
	} else {
		f.gguf = true
		err = f.readGGUF(path)
	}
	if err == nil && len(f.loras) == 0 {
		err = adapterError(path, ErrInvalid, "it has no LoRA tensors")
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *adapterFile) close() error {
	var errs []error
	for _, m := range f.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// pairUp joins the A and B tensors of each module, in the order of module names.
func (f *adapterFile) pairUp(path string, as, bs map[string]rawTensor) error {
	modules := map[string]bool{}
	for m := range as {
		modules[m] = true
	}
	for m := range bs {
		modules[m] = true
	}
	for _, m := range slices.Sorted(maps.Keys(modules)) {
		a, okA := as[m]
		b, okB := bs[m]
		switch {
		case !okA:
			return adapterError(path, ErrInvalid, "tensor %s has no A beside it", b.name)
		case !okB:
			return adapterError(path, ErrInvalid, "tensor %s has no B beside it", a.name)
		case a.rows != b.cols:
			return adapterError(path, ErrInvalid, "tensors %s (%d, %d) and %s (%d, %d) are of different ranks", a.name, a.rows, a.cols, b.name, b.rows, b.cols)
		case a.rows > maxRank:
			return adapterError(path, ErrInvalid, "tensor %s has rank %d, more than the %d allowed", a.name, a.rows, maxRank)
		}
		f.loras = append(f.loras, rawLoRA{module: m, target: lastWord(m), a: a, b: b})
	}
	return nil
}

// lastWord is the last part of a dotted name.
func lastWord(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

func (f *adapterFile) rank() int {
	r := 0
	for i := range f.loras {
		r = max(r, f.loras[i].a.rows)
	}
	return r
}

func (f *adapterFile) targets() []string {
	var out []string
	for i := range f.loras {
		out = append(out, f.loras[i].target)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (f *adapterFile) bytes() int64 {
	n := int64(0)
	for i := range f.loras {
		n += int64(len(f.loras[i].a.data)) + int64(len(f.loras[i].b.data))
	}
	return n
}
