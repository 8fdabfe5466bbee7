package cli

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

// EachLine calls f with every line of a JSON Lines file that is not blank, and its number. "-" is standard input.
func (a *App) EachLine(path string, f func(number int, line []byte) error) error {
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

func (a *App) open(path string) (io.ReadCloser, string, error) {
	if path == "-" {
		return io.NopCloser(a.In), "standard input", nil
	}
	f, err := os.Open(path)
	return f, path, err
}

// ReadAll reads a file, or standard input for "-", up to maxLine bytes.
func (a *App) ReadAll(path string) ([]byte, error) {
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

// Strict decodes one JSON object and refuses fields that dst has not.
func Strict(data []byte, dst any) error {
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

// Encoder writes JSON as people would: without escapes for HTML.
func Encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}
