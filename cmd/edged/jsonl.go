package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxLine bounds a line of a JSON Lines file.
const maxLine = 64 << 20

// eachLine calls f with every line of a JSON Lines file that is not blank, and its number. "-" is standard input.
func (a *app) eachLine(path string, f func(number int, line []byte) error) error {
	r, name, err := a.open(path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; s.Scan(); n++ {
		line := bytes.TrimSpace(s.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := f(n, bytes.Clone(line)); err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (a *app) open(path string) (io.ReadCloser, string, error) {
	if path == "-" {
		return io.NopCloser(a.in), "standard input", nil
	}
	f, err := os.Open(path)
	return f, path, err
}

// readAll reads a file, or standard input for "-", up to maxLine bytes.
func (a *app) readAll(path string) ([]byte, error) {
	r, name, err := a.open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(r, maxLine+1))
	if err == nil && len(data) > maxLine {
		err = fmt.Errorf("%s: is larger than %d MiB", name, maxLine>>20)
	}
	return data, err
}

// strict decodes one JSON object and refuses fields that dst has not.
func strict(data []byte, dst any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(dst); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// field is a key of a JSON object and its value as it was written.
type field struct {
	key   string
	value json.RawMessage
}

// ordered reads a JSON object and keeps the order of its keys, which templates print.
func ordered(data []byte) ([]field, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	var out []field
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		out = append(out, field{key, v})
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return out, nil
}

// object writes fields as a JSON object, in their order.
func object(fields []field) (json.RawMessage, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(f.key)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(f.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encoder writes JSON as people would: without escapes for HTML.
func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}
