package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// An entry is one tensor as the header declares it; nothing in it is checked against the data yet.
type entry struct {
	name       string
	dtype      DType
	shape      []int64
	begin, end uint64
}

// size is the number of bytes that dtype and shape ask for.
func (e *entry) size() (uint64, error) {
	width := e.dtype.Size()
	if width == 0 {
		return 0, fmt.Errorf("tensor %q: dtype %q is not known", e.name, e.dtype)
	}
	total := int64(1)
	for _, d := range e.shape {
		if d == 0 {
			return 0, nil
		}
		if d > (1<<60)/total {
			return 0, fmt.Errorf("tensor %q: shape %v is larger than any file", e.name, e.shape)
		}
		total *= d
	}
	return uint64(total) * uint64(width), nil
}

// A header is read token by token: encoding/json's maps would silently keep the last of two tensors of one name.
type headerReader struct {
	dec *json.Decoder
}

func parseHeader(header []byte) ([]entry, map[string]string, error) {
	dec := json.NewDecoder(bytes.NewReader(header))
	dec.UseNumber()
	r := headerReader{dec}
	var entries []entry
	metadata := map[string]string{}
	seen := map[string]bool{}
	err := r.object(func(name string) error {
		if seen[name] {
			return fmt.Errorf("tensor %q appears twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			return r.object(func(key string) error {
				v, err := r.str()
				metadata[key] = v
				return err
			})
		}
		if len(entries) == maxTensors {
			return fmt.Errorf("more than %d tensors", maxTensors)
		}
		e, err := r.entry(name)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("its header is not valid: %w", err)
	}
	// The header may be padded with spaces.
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("its header is not valid: text follows the JSON object")
	}
	return entries, metadata, nil
}

func (r *headerReader) token() (json.Token, error) {
	t, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	return t, err
}

func (r *headerReader) delim(want json.Delim) error {
	t, err := r.token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%v stands where %v was expected, at byte %d", t, want, r.dec.InputOffset())
	}
	return nil
}

func (r *headerReader) str() (string, error) {
	t, err := r.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("%v stands where a string was expected, at byte %d", t, r.dec.InputOffset())
	}
	return s, nil
}

// object reads an object, calling field after each name.
func (r *headerReader) object(field func(name string) error) error {
	if err := r.delim('{'); err != nil {
		return err
	}
	for r.dec.More() {
		name, err := r.str()
		if err != nil {
			return err
		}
		if err := field(name); err != nil {
			return err
		}
	}
	return r.delim('}')
}

// numbers reads an array of at most limit integers that are not negative.
func (r *headerReader) numbers(limit int) ([]int64, error) {
	if err := r.delim('['); err != nil {
		return nil, err
	}
	out := []int64{}
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		number, ok := t.(json.Number)
		if !ok {
			return nil, fmt.Errorf("%v stands where a number was expected", t)
		}
		n, err := strconv.ParseInt(number.String(), 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s is no size", number)
		}
		if len(out) == limit {
			return nil, fmt.Errorf("more than %d numbers", limit)
		}
		out = append(out, n)
	}
	return out, r.delim(']')
}

func (r *headerReader) entry(name string) (entry, error) {
	e := entry{name: name}
	seen := map[string]bool{}
	err := r.object(func(field string) error {
		if seen[field] {
			return fmt.Errorf("field %q appears twice", field)
		}
		seen[field] = true
		var err error
		switch field {
		case "dtype":
			var s string
			s, err = r.str()
			e.dtype = DType(s)
		case "shape":
			e.shape, err = r.numbers(maxDims)
		case "data_offsets":
			var o []int64
			o, err = r.numbers(2)
			if err == nil && len(o) != 2 {
				err = errors.New("want two numbers")
			}
			if err == nil {
				e.begin, e.end = uint64(o[0]), uint64(o[1])
			}
		default:
			return fmt.Errorf("field %q is not known", field)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
		return nil
	})
	if err != nil {
		return e, fmt.Errorf("tensor %q: %w", name, err)
	}
	for _, field := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[field] {
			return e, fmt.Errorf("tensor %q: %s is missing", name, field)
		}
	}
	return e, nil
}
