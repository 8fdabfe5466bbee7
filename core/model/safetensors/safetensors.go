// Package safetensors reads and writes safetensors files, the container of Hugging Face models and adapters, single or
// sharded.
//
//	offset  bytes  field
//	0       8      N, length of the header (uint64, little-endian)
//	8       N      header: a JSON object, tensor name → {"dtype", "shape", "data_offsets": [begin, end]}, offsets
//	               relative to the byte after the header; "__metadata__" maps strings to strings
//	8+N     …      tensor data, row-major, little-endian, without gaps
//
// Source: https://huggingface.co/docs/safetensors/index#format. As the reference implementation does, the reader wants
// the tensors to cover the data exactly: a file that is too short, too long or that hides bytes between tensors is
// refused. Data need not be aligned to its element size.
//
// The package must not know what names mean. Opening allocates in proportion to the header only. A File may be read
// concurrently until Close.
package safetensors

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"edged/core/model/mmap"
)

// ErrFormat means that the file is no safetensors file, or a damaged one.
var ErrFormat = errors.New("invalid safetensors file")

// maxHeader is the reference implementation's limit.
const maxHeader = 100_000_000

// maxTensors and maxDims bound what a header may ask for; published models stay far below.
const (
	maxTensors = 1 << 18
	maxDims    = 8
)

// DType is an element type as the header spells it.
type DType string

// The element types that are known.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I64  DType = "I64"
	I32  DType = "I32"
	I16  DType = "I16"
	I8   DType = "I8"
	U8   DType = "U8"
	U64  DType = "U64"
	U32  DType = "U32"
	U16  DType = "U16"
	Bool DType = "BOOL"

	F8E4M3 DType = "F8_E4M3" // 4 bits of exponent, no infinities
	F8E5M2 DType = "F8_E5M2"
	F8E8M0 DType = "F8_E8M0" // a power of two
)

// Size is the number of bytes of an element, 0 for an unknown type.
func (d DType) Size() int64 {
	switch d {
	case F64, I64, U64:
		return 8
	case F32, I32, U32:
		return 4
	case F16, BF16, I16, U16:
		return 2
	case I8, U8, Bool, F8E4M3, F8E5M2, F8E8M0:
		return 1
	default:
		return 0
	}
}

// Tensor is one tensor: Data is a view of the file's mapping.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64 // empty for a scalar
	Data  []byte
	File  string // path of the file that holds it
}

// Elements is the number of elements.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// File is one open safetensors file.
type File struct {
	Path     string
	Metadata map[string]string

	tensors []Tensor // in order of their data
	byName  map[string]int
	mapping *mmap.Mapping
}

// OpenFile maps the file at path and reads its header.
func OpenFile(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	f, err := Parse(path, m.Bytes())
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	f.mapping = m
	return f, nil
}

// Parse reads the header of a whole file in memory, which stays in use until the File is no longer. path is
// for messages.
func Parse(path string, data []byte) (*File, error) {
	f := &File{Path: path, byName: map[string]int{}}
	if err := f.parse(data); err != nil {
		return nil, fmt.Errorf("safetensors: %s: %w: %w", path, ErrFormat, err)
	}
	return f, nil
}

// Close unmaps the file; tensor data is gone then. A parsed File needs no Close.
func (f *File) Close() error {
	if f.mapping == nil {
		return nil
	}
	return f.mapping.Close()
}

// Mapping is the file's mapping, for advice; nil for a parsed File.
func (f *File) Mapping() *mmap.Mapping { return f.mapping }

// Tensors lists the tensors in the order of their data. The slice is the file's own.
func (f *File) Tensors() []Tensor { return f.tensors }

// Tensor finds a tensor by name, nil where there is none.
func (f *File) Tensor(name string) *Tensor {
	i, ok := f.byName[name]
	if !ok {
		return nil
	}
	return &f.tensors[i]
}

func (f *File) parse(data []byte) error {
	if len(data) < 8 {
		return fmt.Errorf("it has %d bytes, and the length of the header alone takes 8: it is cut off", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	switch {
	case n > maxHeader:
		return fmt.Errorf("its header is %d bytes long, more than the %d allowed: it is damaged or another kind of file", n, maxHeader)
	case n > uint64(len(data)-8):
		return fmt.Errorf("its header of %d bytes does not fit the file of %d: it is cut off or damaged", n, len(data))
	}
	entries, metadata, err := parseHeader(data[8 : 8+n])
	if err != nil {
		return err
	}
	f.Metadata = metadata
	return f.place(entries, data[8+n:])
}

// place checks the entries against the data and each other, and makes tensors of them.
func (f *File) place(entries []entry, body []byte) error {
	// Empty tensors share their offset with the tensor that follows them: they sort before it by their end.
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), cmp.Compare(a.name, b.name))
	})
	f.tensors = make([]Tensor, 0, len(entries))
	end, last := uint64(0), ""
	for _, e := range entries {
		size, err := e.size()
		switch {
		case err != nil:
			return err
		case e.end < e.begin || e.end-e.begin != size:
			return fmt.Errorf("tensor %q: data_offsets [%d, %d] do not span the %d bytes of %s %v", e.name, e.begin, e.end, size, e.dtype, e.shape)
		case e.begin < end:
			return fmt.Errorf("tensors %q and %q overlap at data offset %d", last, e.name, e.begin)
		case e.begin > end:
			return fmt.Errorf("bytes %d to %d of the data belong to no tensor", end, e.begin)
		case e.end > uint64(len(body)):
			return fmt.Errorf("tensor %q: its data ends at offset %d, but the file has %d bytes of data: it is cut off", e.name, e.end, len(body))
		}
		f.byName[e.name] = len(f.tensors)
		f.tensors = append(f.tensors, Tensor{
			Name: e.name, DType: e.dtype, Shape: e.shape, Data: body[e.begin:e.end:e.end], File: f.Path,
		})
		end, last = e.end, e.name
	}
	if end != uint64(len(body)) {
		return fmt.Errorf("its tensors end at data offset %d, but %d bytes of data follow the header", end, len(body))
	}
	return nil
}
