package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"edged/quant"
)

// Writer builds a GGUF file (version 3). A small one is built in memory, with Add; of a large one Declare
// states the tensors, Header gives what stands before their data, and the caller writes the data. The zero
// value is ready to use.
type Writer struct {
	keys     int
	meta     bytes.Buffer
	infos    bytes.Buffer
	tensors  int
	data     bytes.Buffer
	declared int64 // bytes of data that Declare has given out
	err      error
}

// Put adds a metadata pair. v is a string, a bool, a number of fixed width, an int (written as int32), or a
// slice of one of those; a [][]T nests. Errors are kept for WriteTo.
func (w *Writer) Put(key string, v any) {
	var b bytes.Buffer
	putString(&b, key)
	if err := putTyped(&b, v); err != nil {
		w.fail(fmt.Errorf("gguf: write: key %q: %w", key, err))
		return
	}
	w.keys++
	w.meta.Write(b.Bytes())
}

// Copy adds a pair of another file as it stands there.
func (w *Writer) Copy(f *File, key string) {
	v, ok := f.values[key]
	if !ok {
		w.fail(fmt.Errorf("gguf: write: %s: key %q: %w", f.Path, key, ErrMissing))
		return
	}
	putString(&w.meta, key)
	putScalar(&w.meta, uint32(v.kind))
	switch v.kind {
	case typeString:
		putScalar(&w.meta, uint64(len(v.data)))
	case typeArray:
		putScalar(&w.meta, uint32(v.elem))
		putScalar(&w.meta, v.count)
	}
	w.meta.Write(v.data)
	w.keys++
}

// Declare adds a tensor whose data the caller writes behind Header: Padded(size) bytes, in the order of the
// calls. It returns the size of the data.
func (w *Writer) Declare(name string, t Type, dims []int64) (size int64) {
	info, ok := t.info()
	elements := int64(1)
	for _, d := range dims {
		elements *= d
	}
	if !ok || len(dims) < 1 || len(dims) > maxDims || elements < 1 || dims[0]%info.block != 0 {
		w.fail(fmt.Errorf("gguf: write: tensor %q: %v of %s cannot be written", name, dims, t))
		return 0
	}
	size = elements / info.block * info.bytes
	w.info(name, t, dims, w.declared)
	w.declared += Padded(size)
	return size
}

// Padded is how much of the file data of n bytes takes.
func Padded(n int64) int64 { return (n + 31) &^ 31 }

// Header is everything before the data of declared tensors.
func (w *Writer) Header() ([]byte, error) {
	if w.err == nil && w.data.Len() > 0 {
		w.fail(errors.New("gguf: write: Add and Declare in one file"))
	}
	return w.header(), w.err
}

// info adds a tensor info.
func (w *Writer) info(name string, t Type, dims []int64, offset int64) {
	w.tensors++
	putString(&w.infos, name)
	putScalar(&w.infos, uint32(len(dims)))
	for _, d := range dims {
		putScalar(&w.infos, uint64(d))
	}
	putScalar(&w.infos, uint32(t))
	putScalar(&w.infos, uint64(offset))
}

// header is everything before the data.
func (w *Writer) header() []byte {
	var head bytes.Buffer
	head.WriteString("GGUF")
	putScalar(&head, uint32(3))
	putScalar(&head, uint64(w.tensors))
	putScalar(&head, uint64(w.keys))
	head.Write(w.meta.Bytes())
	head.Write(w.infos.Bytes())
	pad(&head)
	return head.Bytes()
}

// Add adds a tensor with its data. dims is innermost first, data as the format lays it out.
func (w *Writer) Add(name string, f quant.Format, dims []int64, data []byte) {
	t, err := TypeOf(f)
	if err != nil {
		w.fail(err)
		return
	}
	rows := int64(1)
	for _, d := range dims[1:] {
		rows *= d
	}
	if want := f.Bytes(rows, dims[0]); want != int64(len(data)) {
		w.fail(fmt.Errorf("gguf: write: tensor %q: %s %v takes %d bytes, not %d", name, f, dims, want, len(data)))
		return
	}
	w.info(name, t, dims, int64(w.data.Len()))
	w.data.Write(data)
	pad(&w.data)
}

// WriteTo writes the file.
func (w *Writer) WriteTo(out io.Writer) (int64, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := out.Write(w.header())
	if err != nil {
		return int64(n), fmt.Errorf("gguf: write: %w", err)
	}
	k, err := out.Write(w.data.Bytes())
	if err != nil {
		return int64(n + k), fmt.Errorf("gguf: write: %w", err)
	}
	return int64(n + k), nil
}

// WriteFile writes the file to path.
func (w *Writer) WriteFile(path string) error {
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		return err
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("gguf: write: %w", err)
	}
	return nil
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func pad(b *bytes.Buffer) {
	for b.Len()%32 != 0 {
		b.WriteByte(0)
	}
}

func putString(b *bytes.Buffer, s string) {
	putScalar(b, uint64(len(s)))
	b.WriteString(s)
}

func putScalar[T any](b *bytes.Buffer, v T) {
	// Writing to a bytes.Buffer fails for types of no fixed size only, which no caller passes.
	_ = binary.Write(b, binary.LittleEndian, v)
}

func putTyped(b *bytes.Buffer, v any) error {
	if n, ok := v.(int); ok {
		if n < math.MinInt32 || n > math.MaxInt32 {
			return fmt.Errorf("int %d does not fit int32: give it a width", n)
		}
		v = int32(n)
	}
	kind, ok := typeOf(v)
	if !ok {
		return fmt.Errorf("type %T cannot be written", v)
	}
	putScalar(b, uint32(kind))
	return putBare(b, v)
}

// putBare writes a value without its type.
func putBare(b *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case string:
		putString(b, v)
	case []string:
		return putArray(b, typeString, v)
	case []bool:
		return putArray(b, typeBool, v)
	case []uint8:
		return putArray(b, typeUint8, v)
	case []int8:
		return putArray(b, typeInt8, v)
	case []uint16:
		return putArray(b, typeUint16, v)
	case []int16:
		return putArray(b, typeInt16, v)
	case []uint32:
		return putArray(b, typeUint32, v)
	case []int32:
		return putArray(b, typeInt32, v)
	case []uint64:
		return putArray(b, typeUint64, v)
	case []int64:
		return putArray(b, typeInt64, v)
	case []float32:
		return putArray(b, typeFloat32, v)
	case []float64:
		return putArray(b, typeFloat64, v)
	case [][]string:
		return putArray(b, typeArray, v)
	case [][]int32:
		return putArray(b, typeArray, v)
	case [][][]int32:
		return putArray(b, typeArray, v)
	default:
		putScalar(b, v)
	}
	return nil
}

func putArray[T any](b *bytes.Buffer, elem valueType, v []T) error {
	putScalar(b, uint32(elem))
	putScalar(b, uint64(len(v)))
	for _, x := range v {
		if err := putBare(b, x); err != nil {
			return err
		}
	}
	return nil
}

func typeOf(v any) (valueType, bool) {
	switch v.(type) {
	case uint8:
		return typeUint8, true
	case int8:
		return typeInt8, true
	case uint16:
		return typeUint16, true
	case int16:
		return typeInt16, true
	case uint32:
		return typeUint32, true
	case int32:
		return typeInt32, true
	case float32:
		return typeFloat32, true
	case bool:
		return typeBool, true
	case string:
		return typeString, true
	case uint64:
		return typeUint64, true
	case int64:
		return typeInt64, true
	case float64:
		return typeFloat64, true
	case []string, []bool, []uint8, []int8, []uint16, []int16, []uint32, []int32, []uint64, []int64, []float32, []float64,
		[][]string, [][]int32, [][][]int32:
		return typeArray, true
	default:
		return 0, false
	}
}
