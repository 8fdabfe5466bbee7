package weights_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/model/gguf"
	"edged/core/model/weights"
	"edged/test/oracle"
)

// split writes a GGUF file again as parts with n tensors each, and returns their paths.
func split(t *testing.T, path string, n int) []string {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := f.Tensors()
	count := (len(all) + n - 1) / n
	prefix := filepath.Join(t.TempDir(), "m")
	var paths []string
	for i := range count {
		var w gguf.Writer
		if i == 0 {
			for _, key := range f.Keys() {
				w.Copy(f, key)
			}
		}
		w.Put("split.no", uint16(i))
		w.Put("split.count", uint16(count))
		w.Put("split.tensors.count", int32(len(all)))
		for _, x := range all[i*n : min(len(all), (i+1)*n)] {
			w.Add(x.Name, x.Type.Format(), x.Dims, x.Data)
		}
		paths = append(paths, fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, i+1, count))
		if err := w.WriteFile(paths[i]); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// sameModel opens both and compares everything that a backend takes from them. It returns their hashes.
func sameModel(t *testing.T, a, b string) (hashA, hashB string) {
	t.Helper()
	var models []*weights.Model
	var hashes []string
	for _, path := range []string{a, b} {
		m, err := weights.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		hash, err := m.Hash()
		if err != nil {
			t.Fatal(err)
		}
		models, hashes = append(models, m), append(hashes, hash)
	}
	x, y := models[0], models[1]
	if diff := cmp.Diff(x.Names(), y.Names()); diff != "" {
		t.Errorf("%s: names differ:\n%s", b, diff)
	}
	if x.BOS != y.BOS || !cmp.Equal(x.EOG, y.EOG) || x.Spec.Vocab != y.Spec.Vocab || len(x.Spec.Layers) != len(y.Spec.Layers) {
		t.Errorf("%s: another vocabulary or number of layers", b)
	}
	for _, name := range x.Names() {
		if v, w := x.Matrix(name), y.Matrix(name); v != nil {
			if w == nil || v.Format != w.Format || v.Rows != w.Rows || v.Cols != w.Cols || !bytes.Equal(v.Data, w.Data) {
				t.Errorf("%s: matrix %s differs", b, name)
			}
			continue
		}
		v, err := x.Vector(name)
		w, err2 := y.Vector(name)
		if err != nil || err2 != nil || !cmp.Equal(v, w) {
			t.Errorf("%s: vector %s differs: %v, %v", b, name, err, err2)
		}
	}
	return hashes[0], hashes[1]
}

// TestSplitGGUF: a split model is the whole one, whichever part is named, and has one hash.
func TestSplitGGUF(t *testing.T) {
	m := tiny("qwen2")
	whole := m.WriteGGUF(t)
	paths := split(t, whole, 7)
	if len(paths) < 3 {
		t.Fatal(paths)
	}
	hashes := map[string]bool{}
	for _, path := range paths {
		_, hash := sameModel(t, whole, path)
		hashes[hash] = true
	}
	if len(hashes) != 1 {
		t.Errorf("hashes %v, want one", hashes)
	}
	open, err := weights.Open(paths[1])
	if err != nil || open.Name != "m" {
		t.Errorf("name %q, %v: want that of the files", open.Name, err)
	}
	_ = open.Close()
	if err := os.Remove(paths[2]); err != nil {
		t.Fatal(err)
	}
	if _, err := weights.OpenHeaders(paths[0]); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), filepath.Base(paths[2])) {
		t.Errorf("%v: want the missing file's name", err)
	}
	if err := weights.SameVocabulary(paths[0], whole); err == nil || !strings.Contains(err.Error(), filepath.Base(paths[2])) {
		t.Errorf("%v: want the missing file's name", err)
	}
}

// TestSplitByLlamaCpp does the same with what llama-gguf-split wrote.
func TestSplitByLlamaCpp(t *testing.T) {
	whole := filepath.Join(oracle.Dir(t), "models/qwen2/qwen2-Q8_0.gguf")
	for _, name := range []string{"q-00001-of-00002.gguf", "q-00002-of-00002.gguf"} {
		path := filepath.Join(oracle.Cases(t), "B1", name)
		sameModel(t, whole, path)
		if err := weights.SameVocabulary(whole, path); err != nil {
			t.Error(err)
		}
	}
}
