package hub

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edged/test/oracle"
)

// nowhere takes what is written at an offset.
type nowhere struct{}

func (nowhere) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// FuzzHeader: whatever a file begins with, its header is walked over within the file.
func FuzzHeader(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(oracle.Repo(f), "demo", "gguf", "hearth-4m-q4_0.gguf"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:4096])
	f.Add([]byte("GGUF\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	c, err := New(Options{Endpoint: "http://127.0.0.1:1", Pause: func(context.Context, time.Duration) error { return errors.New("nobody is there") }})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, walk := range []func(*remote) error{
			func(r *remote) error { return r.gguf(t.Context(), nowhere{}) },
			func(r *remote) error { return r.safetensors(t.Context()) },
		} {
			r := &remote{c: c, f: File{Name: "x", Size: int64(len(data))}, data: data}
			if walk(r) == nil && int64(len(r.data)) > r.f.Size {
				t.Errorf("a header of %d bytes in a file of %d", len(r.data), r.f.Size)
			}
		}
	})
}

// FuzzRef: a name that is taken leads to no path outside.
func FuzzRef(f *testing.F) {
	for _, text := range []string{"o/r", "o/r:Q4_K_M", "o/r@v1/x.gguf", "https://huggingface.co/o/r/blob/main/x.gguf"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRef(text)
		if err != nil {
			return
		}
		if r.File != "" && !filepath.IsLocal(r.File) || !filepath.IsLocal(r.Repo) {
			t.Errorf("%q is taken as %+v", text, r)
		}
	})
}
