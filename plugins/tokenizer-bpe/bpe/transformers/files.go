package transformers

import (
	"fmt"
	"io"
	"os"

	"edged/core/model/mmap"
)

// Limits on the files of a folder. The largest published tokenizer.json, Gemma 3's, has 33 MB.
const (
	MaxTokenizerFile = 256 << 20
	MaxConfigFile    = 16 << 20
)

// ReadFile reads a regular file of limited size.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, mmap.Explain(path, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	s, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !s.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if s.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes: at most %d are supported", path, s.Size(), limit)
	}
	data := make([]byte, s.Size())
	_, err = io.ReadFull(f, data)
	return data, err
}
