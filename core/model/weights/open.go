package weights

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"edged/core/model/mmap"
	"edged/quant"
)

// Open opens a model: a GGUF file, or a Hugging Face folder (named by itself, by its config.json or by a .safetensors
// file in it). Weights are mapped, not read; what the layout of the file does not allow to serve in place (matrices
// that are stored transposed) is copied to memory off the Go heap.
//
// Errors name the file and the tensor or field; they wrap ErrUnsupported, ErrInvalid, or the error of the container.
func Open(path string) (*Model, error) { return open(path, false) }

// OpenHeaders is Open without any copy: Spec, names, formats, shapes and sizes are there, but matrices whose data would
// have to be laid out anew have none, and Requantize and Vector refuse. It is for memory plans.
func OpenHeaders(path string) (*Model, error) { return open(path, true) }

func open(path string, headersOnly bool) (*Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", mmap.Explain(path, err))
	}
	b := &builder{
		m: &Model{
			Path:        path,
			headersOnly: headersOnly,
			matrices:    map[string]*quant.Matrix{},
			vectors:     map[string]*quant.Matrix{},
			arena:       &mmap.Arena{},
		},
	}
	switch name := filepath.Base(path); {
	case info.IsDir():
		err = b.openHF(path)
	case name == configName || strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".safetensors.index.json"):
		err = b.openHF(filepath.Dir(path))
	default:
		err = b.openGGUF(path)
	}
	if err == nil {
		err = b.join()
	}
	if err == nil {
		err = b.prove()
	}
	if err != nil {
		return nil, errors.Join(err, b.m.Close())
	}
	return b.m, nil
}

// A builder fills a Model from a container.
type builder struct {
	m         *Model
	scheme    *scheme                  // of a quantised folder; nil: none
	folder    bool                     // a Hugging Face folder, whose tensors need all of the Spec's fixes
	composite bool                     // its configuration says that the text is a part of the model
	rows      map[string][]joined      // of matrices that stand row by row
	wanted    []map[string]bool        // by layer: patterns of its vectors, once one was asked for
	foreign   func(name string) string // the container's own name of a tensor, for messages; nil: the same
}

// fail makes an error that names the model.
func (b *builder) fail(kind error, format string, args ...any) error {
	return fmt.Errorf("weights: %s: %w: %s", b.m.Path, kind, fmt.Sprintf(format, args...))
}

// keep hands a file's mapping over to the model, which closes it.
func (b *builder) keep(m *mmap.Mapping) {
	if m != nil {
		b.m.maps = append(b.m.maps, m)
	}
}

// matrix adds a (rows, cols) matrix; data has the size that its format asks for.
func (b *builder) matrix(name string, f quant.Format, rows, cols int, data []byte) error {
	if b.m.matrices[name] != nil {
		return b.fail(ErrInvalid, "tensor %s appears twice", name)
	}
	data, err := b.aligned(f, data)
	if err != nil {
		return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, name, err)
	}
	b.m.matrices[name] = &quant.Matrix{Name: name, Format: f, Rows: rows, Cols: cols, Data: data}
	return nil
}

// vector adds n values.
func (b *builder) vector(name string, f quant.Format, n int, data []byte) error {
	if b.m.vectors[name] != nil {
		return b.fail(ErrInvalid, "tensor %s appears twice", name)
	}
	b.m.vectors[name] = &quant.Matrix{Name: name, Format: f, Rows: 1, Cols: n, Data: data}
	return nil
}

// aligned returns data, or a copy where its address is no multiple of the element size: kernels read 16- and 32-bit
// floats in place, and a safetensors file may have them at any address.
func (b *builder) aligned(f quant.Format, data []byte) ([]byte, error) {
	size := uintptr(1)
	switch f {
	case quant.F32:
		size = 4
	case quant.F16, quant.BF16:
		size = 2
	}
	if len(data) == 0 || uintptr(unsafe.Pointer(unsafe.SliceData(data)))%size == 0 {
		return data, nil
	}
	b.m.derived += int64(len(data))
	if b.m.headersOnly {
		return nil, nil
	}
	return b.m.arena.CopyOf(data)
}

// dims checks that a shape is that of a matrix whose sizes all fit an int of this system.
func (b *builder) dims(name string, rows, cols int64) (r, c int, err error) {
	if rows < 1 || cols < 1 || rows > math.MaxInt32 || cols > math.MaxInt32 || rows*cols > math.MaxInt {
		return 0, 0, b.fail(ErrInvalid, "tensor %s: shape (%d, %d) is empty or too large for this system", name, rows, cols)
	}
	return int(rows), int(cols), nil
}

// floats views little-endian float32 data in place, or copies it off the heap where it is misaligned. All systems that
// edged is built for are little-endian.
func (b *builder) floats(data []byte) ([]float32, error) {
	data, err := b.aligned(quant.F32, data)
	if err != nil || len(data) < 4 {
		return nil, err
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/4), nil
}
