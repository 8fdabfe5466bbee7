// Package gguf reads and writes GGUF, the container of ggml models, adapters and vocabularies.
//
//	offset  bytes  field
//	0       4      "GGUF"
//	4       4      version, 2 or 3; all numbers are little-endian
//	8       8      number of tensors
//	16      8      number of metadata pairs
//	24      …      pairs: key (string), value type (uint32), value
//	…       …      tensor infos: name (string), number of dimensions (uint32), dimensions (uint64 each, the innermost
//	               first), type (uint32), offset into the data (uint64)
//	…       …      zeros up to a multiple of general.alignment (32 unless given)
//	…       …      tensor data, each at a multiple of the alignment
//
// A string is its length (uint64) and its bytes. An array is its element type (uint32), its length (uint64) and its
// elements. Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
//
// A large file may have been split: PREFIX-00001-of-00003.gguf and so on, each a file of its own with the
// pairs split.no, split.count and split.tensors.count; the other pairs stand in the first. Opening any opens
// all of them as one.
//
// The package must not know what keys and tensors mean. Files are hostile: every count, length and offset is checked
// before it is used, and opening allocates no more than in proportion to the file's header. A File may be read
// concurrently until Close.
package gguf

import (
	"errors"
	"fmt"
	"slices"

	"edged/core/model/mmap"
)

// Errors that callers can act on.
var (
	// ErrMissing means that the file has no such key.
	ErrMissing = errors.New("missing")
	// ErrType means that a key's value has another type than was asked for.
	ErrType = errors.New("wrong type")
	// ErrFormat means that the file is no GGUF file, or a damaged one. An error that is io.ErrUnexpectedEOF
	// too is of a file with less in it than its header says: one that is still being copied looks like that.
	ErrFormat = errors.New("invalid GGUF file")
)

// File is an open GGUF file. Metadata values stay where they are in the mapping until a getter asks for them.
type File struct {
	Path      string
	Version   uint32
	Alignment uint64

	data    []byte // the whole file
	start   uint64 // offset of the tensor data
	keys    []string
	values  map[string]value
	tensors []Tensor
	byName  map[string]int
	parts   []Part
}

// Tensor describes one tensor and views its data.
type Tensor struct {
	Name   string
	Type   Type
	Dims   []int64 // 1 to 4, the innermost (row length) first
	Part   int     // the file that it stands in, an index of Parts
	Offset int64   // from the start of that file
	Data   []byte  // in its mapping
}

// Elements is the number of weights.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Dims {
		n *= d
	}
	return n
}

// Open maps the file at path and reads its header. Where it is a part of a split file, all parts are opened,
// whichever path names; those that cannot be found are named by an error that wraps fs.ErrNotExist.
func Open(path string) (*File, error) {
	f, err := openOne(path)
	if err != nil {
		return nil, err
	}
	whole, err := f.join()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return whole, nil
}

// openOne opens one file.
func openOne(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	f, err := Parse(path, m.Bytes())
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	f.parts = []Part{{path, m}}
	return f, nil
}

// Close unmaps the file or its parts; tensor data is gone then. Metadata that getters returned stays. A
// parsed File needs no Close.
func (f *File) Close() error {
	var errs []error
	for _, p := range f.parts {
		errs = append(errs, p.Mapping.Close())
	}
	return errors.Join(errs...)
}

// Tensors lists all tensors in file order, part by part. The slice is the file's own.
func (f *File) Tensors() []Tensor { return f.tensors }

// Tensor finds a tensor by name, nil where there is none.
func (f *File) Tensor(name string) *Tensor {
	i, ok := f.byName[name]
	if !ok {
		return nil
	}
	return &f.tensors[i]
}

// Keys lists the metadata keys in file order.
func (f *File) Keys() []string { return slices.Clone(f.keys) }
