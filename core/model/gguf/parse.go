package gguf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
)

// Limits beyond which a file is damaged or hostile rather than large. The largest published models have some 2 000
// tensors and 100 keys; ggml allows names of 64 bytes.
const (
	maxKeys      = 1 << 16
	maxTensors   = 1 << 17
	maxKeyBytes  = 1<<16 - 1
	maxNameBytes = 1 << 10
	maxNesting   = 4
	maxAlignment = 1 << 20
	maxDims      = 4
)

// alignmentKey is the one key that the container itself has a use for.
const alignmentKey = "general.alignment"

// A value is a metadata value where it stands in the file.
type value struct {
	kind  valueType
	elem  valueType // of an array
	count uint64    // of an array
	data  []byte    // the scalar, the bytes of the string, or the elements of the array as they stand
}

// A cursor walks over the header. The first error sticks; reads after it return zero values.
type cursor struct {
	data []byte
	pos  uint64
	err  error
}

func (c *cursor) left() uint64 { return uint64(len(c.data)) - c.pos }

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// ends is fail for a file that has less than it should.
func (c *cursor) ends(format string, args ...any) {
	if c.err == nil {
		c.err = shortError{fmt.Errorf(format, args...)}
	}
}

// shortError is io.ErrUnexpectedEOF in a sentence of its own.
type shortError struct{ error }

func (shortError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// take returns the next n bytes, nil when the file ends before them.
func (c *cursor) take(n uint64) []byte {
	if c.err != nil {
		return nil
	}
	if n > c.left() {
		c.ends("the file ends at byte %d, where %d more bytes were to follow from byte %d: it is cut off or damaged", len(c.data), n, c.pos)
		return nil
	}
	b := c.data[c.pos : c.pos+n : c.pos+n]
	c.pos += n
	return b
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) bytes(limit uint64) []byte {
	n := c.u64()
	if c.err == nil && n > limit {
		c.fail("a name of %d bytes at byte %d: at most %d are allowed", n, c.pos, limit)
	}
	return c.take(n)
}

// Parse reads the header of a whole GGUF file in memory, which stays in use until the File is no longer. path is for
// messages only.
func Parse(path string, data []byte) (*File, error) {
	f := &File{Path: path, Alignment: 32, data: data, values: map[string]value{}, byName: map[string]int{}}
	c := &cursor{data: data}
	f.read(c)
	if c.err != nil {
		return nil, fmt.Errorf("gguf: %s: %w: %w", path, ErrFormat, c.err)
	}
	return f, nil
}

func (f *File) read(c *cursor) {
	magic := c.take(4)
	switch {
	case c.err != nil:
		return
	case bytes.Equal(magic, []byte("GGUF")):
	case bytes.Equal(magic, make([]byte, 4)):
		c.ends("it starts with zeros, not with GGUF: it is another kind of file, or a copy that has not begun")
		return
	case bytes.Equal(magic, []byte("FUGG")):
		c.fail("it starts with FUGG: a big-endian file of another writer; convert it to little-endian")
		return
	default:
		c.fail("it starts with %q, not with GGUF: it is another kind of file", magic)
		return
	}
	f.Version = c.u32()
	if c.err == nil && (f.Version < 2 || f.Version > 3) {
		switch {
		case f.Version == 1:
			c.fail("version 1 is not supported, only 2 and 3: convert it with a current llama.cpp")
		case f.Version&0xffff == 0:
			c.fail("version %#x: this is a big-endian file; convert it to little-endian", f.Version)
		default:
			c.fail("version %d is not supported, only 2 and 3", f.Version)
		}
		return
	}
	nTensors, nKeys := c.u64(), c.u64()
	// A pair takes 13 bytes at least, a tensor info 32: more than fit cannot be there.
	switch {
	case c.err != nil:
	case nKeys > maxKeys:
		c.fail("%d metadata pairs: more than the %d that are allowed", nKeys, maxKeys)
	case nKeys > c.left()/13:
		c.ends("%d metadata pairs: more than the file can hold: it is cut off or damaged", nKeys)
	}
	switch {
	case c.err != nil:
	case nTensors > maxTensors:
		c.fail("%d tensors: more than the %d that are allowed", nTensors, maxTensors)
	case nTensors > c.left()/32:
		c.ends("%d tensors: more than the file can hold: it is cut off or damaged", nTensors)
	}
	for range nKeys {
		f.readPair(c)
		if c.err != nil {
			return
		}
	}
	f.readAlignment(c)
	for range nTensors {
		f.readTensor(c)
		if c.err != nil {
			return
		}
	}
	f.place(c)
}

func (f *File) readPair(c *cursor) {
	at := c.pos
	key := string(c.bytes(maxKeyBytes))
	kind := valueType(c.u32())
	if c.err != nil {
		return
	}
	if key == "" {
		c.fail("the key at byte %d is empty", at)
		return
	}
	if _, ok := f.values[key]; ok {
		c.fail("key %q appears twice", key)
		return
	}
	v := readValue(c, kind, 0)
	if c.err != nil {
		c.err = fmt.Errorf("key %q: %w", key, c.err)
		return
	}
	f.keys = append(f.keys, key)
	f.values[key] = v
}

func readValue(c *cursor, kind valueType, depth int) value {
	v := value{kind: kind}
	switch {
	case kind.size() > 0:
		v.data = c.take(kind.size())
		if kind == typeBool && c.err == nil && v.data[0] > 1 {
			c.fail("a bool is %d", v.data[0])
		}
	case kind == typeString:
		v.data = c.bytes(math.MaxUint64)
	case kind == typeArray:
		if depth == maxNesting {
			c.fail("arrays nest deeper than %d", maxNesting)
			return v
		}
		v.elem = valueType(c.u32())
		v.count = c.u64()
		start := c.pos
		skipElements(c, v.elem, v.count, depth+1)
		if c.err == nil {
			v.data = c.data[start:c.pos:c.pos]
		}
	default:
		c.fail("value type %d is unknown", uint32(kind))
	}
	return v
}

// skipElements moves c behind n elements, checking that they are there; it allocates nothing.
func skipElements(c *cursor, elem valueType, n uint64, depth int) {
	switch {
	case c.err != nil:
	case elem.size() > 0:
		if n > c.left()/elem.size() {
			c.fail("an array of %d %s values is longer than the file", n, elem)
			return
		}
		b := c.take(n * elem.size())
		if elem == typeBool {
			if i := slices.IndexFunc(b, func(x byte) bool { return x > 1 }); i >= 0 {
				c.fail("bool %d of an array is %d", i, b[i])
			}
		}
	case elem == typeString:
		if n > c.left()/8 {
			c.fail("an array of %d strings is longer than the file", n)
			return
		}
		for range n {
			if c.bytes(math.MaxUint64); c.err != nil {
				return
			}
		}
	case elem == typeArray:
		if n > c.left()/12 {
			c.fail("an array of %d arrays is longer than the file", n)
			return
		}
		for range n {
			if readValue(c, typeArray, depth); c.err != nil {
				return
			}
		}
	default:
		c.fail("array element type %d is unknown", uint32(elem))
	}
}

func (f *File) readAlignment(c *cursor) {
	if c.err != nil || !f.Has(alignmentKey) {
		return
	}
	a, err := f.Uint(alignmentKey)
	switch {
	case err != nil:
		c.err = err
	case a == 0 || a&(a-1) != 0 || a > maxAlignment:
		c.fail("%s is %d: want a power of two of at most %d", alignmentKey, a, maxAlignment)
	default:
		f.Alignment = a
	}
}

func (f *File) readTensor(c *cursor) {
	name := string(c.bytes(maxNameBytes))
	nDims := c.u32()
	if c.err != nil {
		return
	}
	if _, ok := f.byName[name]; ok {
		c.fail("tensor %q appears twice", name)
		return
	}
	if name == "" || nDims < 1 || nDims > maxDims {
		c.fail("tensor %q has %d dimensions: want a name and 1 to %d dimensions", name, nDims, maxDims)
		return
	}
	t := Tensor{Name: name, Dims: make([]int64, nDims)}
	total := uint64(1)
	for i := range t.Dims {
		d := c.u64()
		// Sizes are kept below 2⁶⁰ so that no later product of blocks and bytes (at most 8 a weight) overflows.
		if c.err == nil && (d < 1 || d > (1<<60)/total) {
			c.fail("tensor %q: dimension %d is %d: zero, or the tensor would be larger than any file", name, i, d)
			return
		}
		total *= max(d, 1)
		t.Dims[i] = int64(d)
	}
	t.Type = Type(c.u32())
	offset := c.u64()
	if c.err != nil {
		return
	}
	info, ok := t.Type.info()
	switch {
	case !ok:
		c.fail("tensor %q has the unknown type %d: %s", name, uint32(t.Type), t.Type.unknown())
	case t.Dims[0]%info.block != 0:
		c.fail("tensor %q: its rows of %d are no multiple of the %d weights in a %s block", name, t.Dims[0], info.block, info.name)
	case offset%f.Alignment != 0:
		c.fail("tensor %q: offset %d is no multiple of the alignment %d", name, offset, f.Alignment)
	case offset > math.MaxInt64/2:
		c.fail("tensor %q: offset %d is larger than any file", name, offset)
	}
	t.Offset = int64(offset & math.MaxInt64)
	f.byName[name] = len(f.tensors)
	f.tensors = append(f.tensors, t)
}

// place finds the tensors' bytes and refuses any that the file does not hold or that two tensors share.
func (f *File) place(c *cursor) {
	if c.err != nil {
		return
	}
	f.start = (c.pos + f.Alignment - 1) / f.Alignment * f.Alignment
	order := make([]int, len(f.tensors))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(f.tensors[a].Offset, f.tensors[b].Offset) })
	end, last := uint64(0), ""
	for _, i := range order {
		t := &f.tensors[i]
		info, _ := t.Type.info()
		size := uint64(t.Elements()/info.block) * uint64(info.bytes)
		from := f.start + uint64(t.Offset)
		switch {
		case from > uint64(len(f.data)) || size > uint64(len(f.data))-from:
			c.ends("tensor %q: its %d bytes start at byte %d, but the file has only %d: it is cut off or damaged", t.Name, size, from, len(f.data))
			return
		case uint64(t.Offset) < end:
			c.fail("tensors %q and %q overlap at byte %d", last, t.Name, from)
			return
		}
		end, last = uint64(t.Offset)+size, t.Name
		t.Data = f.data[from : from+size : from+size]
		t.Offset = int64(from)
	}
}
