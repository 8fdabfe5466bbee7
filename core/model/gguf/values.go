package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Has reports whether the file has the key.
func (f *File) Has(key string) bool {
	_, ok := f.values[key]
	return ok
}

// Describe names the type of a key's value, for messages: "uint32", "array of 128256 string"; "" where it is missing.
func (f *File) Describe(key string) string {
	v, ok := f.values[key]
	switch {
	case !ok:
		return ""
	case v.kind == typeArray:
		return fmt.Sprintf("array of %d %s", v.count, v.elem)
	default:
		return v.kind.String()
	}
}

func (f *File) get(key, want string, fits func(v value) bool) (value, error) {
	v, ok := f.values[key]
	if !ok {
		return v, fmt.Errorf("gguf: %s: key %q: %w", f.Path, key, ErrMissing)
	}
	if !fits(v) {
		return v, fmt.Errorf("gguf: %s: key %q: %w: it is %s, want %s", f.Path, key, ErrType, f.Describe(key), want)
	}
	return v, nil
}

// String returns a string value. Getters return an error that wraps ErrMissing or ErrType and names file and key.
func (f *File) String(key string) (string, error) {
	v, err := f.get(key, "a string", func(v value) bool { return v.kind == typeString })
	return string(v.data), err
}

// Bool returns a bool value.
func (f *File) Bool(key string) (bool, error) {
	v, err := f.get(key, "a bool", func(v value) bool { return v.kind == typeBool })
	return err == nil && v.data[0] == 1, err
}

// Uint returns an integer of any width that is not negative.
func (f *File) Uint(key string) (uint64, error) {
	v, err := f.get(key, "an integer that is not negative", func(v value) bool {
		n, signed, ok := integer(v.kind, v.data)
		return ok && (!signed || int64(n) >= 0)
	})
	if err != nil {
		return 0, err
	}
	n, _, _ := integer(v.kind, v.data)
	return n, nil
}

// Int returns an integer of any width that fits an int64.
func (f *File) Int(key string) (int64, error) {
	v, err := f.get(key, "an integer below 2^63", func(v value) bool { return isInt64(v.kind, v.data) })
	if err != nil {
		return 0, err
	}
	n, _, _ := integer(v.kind, v.data)
	return int64(n), nil
}

// Float returns a float of either width, or an integer as a float.
func (f *File) Float(key string) (float64, error) {
	v, err := f.get(key, "a number", func(v value) bool {
		_, ok := float(v.kind, v.data)
		return ok
	})
	if err != nil {
		return 0, err
	}
	x, _ := float(v.kind, v.data)
	return x, nil
}

// Strings returns an array of strings. They share one copy of the array's bytes (the tokens of a large vocabulary would
// be 150 000 small allocations otherwise) and outlive Close.
func (f *File) Strings(key string) ([]string, error) {
	v, err := f.get(key, "an array of strings", func(v value) bool {
		return v.kind == typeArray && (v.elem == typeString || v.count == 0)
	})
	if err != nil {
		return nil, err
	}
	all := string(v.data)
	out := make([]string, v.count)
	pos := 0
	for i := range out {
		n := int(binary.LittleEndian.Uint64(v.data[pos:]))
		pos += 8
		out[i] = all[pos : pos+n]
		pos += n
	}
	return out, nil
}

// Ints returns an array of integers of any width.
func (f *File) Ints(key string) ([]int64, error) {
	return numbers(f, key, "an array of integers", func(kind valueType, b []byte) (int64, bool) {
		n, _, _ := integer(kind, b)
		return int64(n), isInt64(kind, b)
	})
}

// Floats returns an array of numbers as float64.
func (f *File) Floats(key string) ([]float64, error) {
	return numbers(f, key, "an array of numbers", float)
}

// Bools returns an array of bools.
func (f *File) Bools(key string) ([]bool, error) {
	return numbers(f, key, "an array of bools", func(kind valueType, b []byte) (bool, bool) {
		return b[0] == 1, kind == typeBool
	})
}

// Len is the length of an array; 0, false where the key is missing or no array.
func (f *File) Len(key string) (int, bool) {
	v, ok := f.values[key]
	if !ok || v.kind != typeArray {
		return 0, false
	}
	return int(v.count), true
}

func numbers[T any](f *File, key, want string, read func(valueType, []byte) (T, bool)) ([]T, error) {
	v, err := f.get(key, want, func(v value) bool {
		return v.kind == typeArray && (v.elem.size() > 0 || v.count == 0)
	})
	if err != nil {
		return nil, err
	}
	out := make([]T, v.count)
	size := int(v.elem.size())
	for i := range out {
		x, ok := read(v.elem, v.data[i*size:(i+1)*size])
		if !ok {
			return nil, fmt.Errorf("gguf: %s: key %q: %w: it is %s, want %s", f.Path, key, ErrType, f.Describe(key), want)
		}
		out[i] = x
	}
	return out, nil
}

// integer reads an integer of any width; a negative one is sign-extended.
func integer(kind valueType, b []byte) (n uint64, signed, ok bool) {
	switch kind {
	case typeUint8:
		return uint64(b[0]), false, true
	case typeInt8:
		return uint64(int8(b[0])), true, true
	case typeUint16:
		return uint64(binary.LittleEndian.Uint16(b)), false, true
	case typeInt16:
		return uint64(int16(binary.LittleEndian.Uint16(b))), true, true
	case typeUint32:
		return uint64(binary.LittleEndian.Uint32(b)), false, true
	case typeInt32:
		return uint64(int32(binary.LittleEndian.Uint32(b))), true, true
	case typeUint64:
		return binary.LittleEndian.Uint64(b), false, true
	case typeInt64:
		return binary.LittleEndian.Uint64(b), true, true
	default:
		return 0, false, false
	}
}

func isInt64(kind valueType, b []byte) bool {
	n, signed, ok := integer(kind, b)
	return ok && (signed || n <= math.MaxInt64)
}

func float(kind valueType, b []byte) (float64, bool) {
	switch kind {
	case typeFloat32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), true
	case typeFloat64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), true
	default:
		n, signed, ok := integer(kind, b)
		if signed {
			return float64(int64(n)), ok
		}
		return float64(n), ok
	}
}
