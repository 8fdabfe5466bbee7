// Package oracle finds the reference answers that tests compare with: models, token ids, logits and adapters
// computed by independent implementations. They live beside the checkout and are not part of it, so tests
// skip without them.
package oracle

import (
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Dir returns the folder of reference answers, or skips the test where it is absent.
func Dir(tb testing.TB) string {
	tb.Helper()
	return shared(tb, "oracle")
}

// Demo returns the folder with every variant of the demo model and its held-out sets, or skips the test.
func Demo(tb testing.TB) string {
	tb.Helper()
	return shared(tb, "demo")
}

// Cases returns the folder of inputs that failed for somebody, or skips the test where it is absent.
func Cases(tb testing.TB) string {
	tb.Helper()
	return shared(tb, "cases")
}

// Vocabulary unpacks the vocabulary-only GGUF of a public tokenizer, qwen2 for instance, or skips the test.
// It is gone when the test has ended.
func Vocabulary(tb testing.TB, name string) (path string) {
	tb.Helper()
	src, err := os.Open(filepath.Join(Dir(tb), "tokenizer", "vocab", "ggml-vocab-"+name+".gguf.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer src.Close() //nolint:errcheck // only read
	z, err := gzip.NewReader(src)
	if err != nil {
		tb.Fatal(err)
	}
	path = filepath.Join(tb.TempDir(), name+".gguf")
	dst, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.Copy(dst, z); err != nil { //nolint:gosec // a file of ours
		tb.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Repo returns the root of the checkout.
func Repo(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}

// Path is a file or folder below a folder of reference data. It skips the test, by the name of what is
// missing, where that is absent.
func Path(tb testing.TB, dir string, parts ...string) string {
	tb.Helper()
	path := filepath.Join(append([]string{dir}, parts...)...)
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		missing(tb, "reference data not found at "+path)
	case err != nil:
		tb.Fatal(err)
	}
	return path
}

// Read is the content of such a file.
func Read(tb testing.TB, dir string, parts ...string) []byte {
	tb.Helper()
	data, err := os.ReadFile(Path(tb, dir, parts...))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func shared(tb testing.TB, name string) string {
	tb.Helper()
	base := os.Getenv("EDGED_TEST_SHARED")
	if base == "" {
		base = filepath.Join(Repo(tb), "..", "shared")
	}
	dir := filepath.Join(base, name)
	if _, err := os.Stat(dir); err != nil {
		missing(tb, "reference data not found at "+dir+": set EDGED_TEST_SHARED to the folder that holds "+name)
	}
	return dir
}

// missing skips a test whose data this machine lacks; in continuous integration, which has it, that is a failure.
func missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(what)
	}
	tb.Skip(what)
}
