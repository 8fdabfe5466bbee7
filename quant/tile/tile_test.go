package tile_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"edged/quant"
	"edged/quant/kernel/kerneltest"
	"edged/quant/tile"
)

func testSet(model string) *tile.Set {
	r := rand.New(rand.NewPCG(1, 2))
	s := &tile.Set{Model: model}
	for i, f := range []quant.Format{quant.Q4_0, quant.NF4, quant.Q6_K} {
		w := kerneltest.Matrix(r, f, 37+i, 512, false)
		w.Name = f.String()
		s.Add(w, 16)
	}
	return s
}

func quiet(int64, int64) error { return nil }

func build(t *testing.T, dir string, s *tile.Set) string {
	t.Helper()
	if err := tile.Build(t.Context(), dir, s, quiet); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, s.Name())
}

func TestBuildAndOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tiles")
	s := testSet("0123456789abcdef")
	var last, total int64
	if err := tile.Build(t.Context(), dir, s, func(done, of int64) error { last, total = done, of; return nil }); err != nil {
		t.Fatal(err)
	}
	if last != total || total != s.Bytes() || total == 0 {
		t.Errorf("progress ended at %d of %d, want %d", last, total, s.Bytes())
	}
	f, err := tile.Open(dir, s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	f.Attach()
	for _, p := range s.Parts {
		groups := p.Matrix.Rows / p.Rows
		size := tile.Bytes(p.Matrix, p.Rows) / groups
		if p.Matrix.Tile.Rows != 16 || len(p.Matrix.Tile.Data) != size*groups {
			t.Fatalf("%s: tiles of %d rows, %d bytes", p.Matrix.Name, p.Matrix.Tile.Rows, len(p.Matrix.Tile.Data))
		}
		want := make([]byte, size)
		for g := range groups {
			tile.Pack(want, p.Matrix, p.Rows, g)
			if string(want) != string(p.Matrix.Tile.Data[g*size:(g+1)*size]) {
				t.Errorf("%s: group %d differs", p.Matrix.Name, g)
			}
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if s.Parts[0].Matrix.Tile.Data != nil {
		t.Error("a closed file's tiles are still attached")
	}
}

// TestDamaged changes, cuts and lengthens the file at many places: it is refused, or the byte has no meaning.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	s := testSet("0123456789abcdef")
	path := build(t, dir, s)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := tile.Open(dir, s, quiet)
		if err == nil {
			_ = f.Close()
			t.Errorf("%s: taken", what)
		} else if !errors.Is(err, tile.ErrStale) {
			t.Errorf("%s: %v, want ErrStale", what, err)
		}
	}
	for _, at := range []int{0, 7, 8, 11, 12, 15, 16, 40, 300, 4096, 4097, 20000, len(good) - 5000} {
		b := append([]byte(nil), good...)
		b[at] ^= 0x10
		refused("byte changed", b)
	}
	for _, n := range []int{0, 1, 15, 16, 4095, 4096, len(good) - 1} {
		refused("cut off", good[:n])
	}
	refused("longer", append(append([]byte(nil), good...), 0))
	other := testSet("another model")
	if err := os.WriteFile(filepath.Join(dir, other.Name()), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tile.Open(dir, other, quiet); !errors.Is(err, tile.ErrStale) {
		t.Errorf("another model's file: %v, want ErrStale", err)
	}
	build(t, dir, s) // over the damaged one
	f, err := tile.Open(dir, s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

// TestInterrupted ends a build half-way: nothing is left that could be taken for a file, and what a crash leaves is swept.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	s := testSet("0123456789abcdef")
	stop := errors.New("stop")
	if err := tile.Build(t.Context(), dir, s, func(int64, int64) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("%v, want the error of step", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tile.Build(ctx, dir, s, quiet); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want context.Canceled", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
	if err := os.WriteFile(filepath.Join(dir, ".tmp-crashed"), make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	build(t, dir, s)
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != s.Name() {
		t.Fatalf("in the folder: %v", left)
	}
}

func TestNowhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tile.Build(t.Context(), filepath.Join(file, "tiles"), testSet("m"), quiet); err == nil {
		t.Error("built below a file")
	}
	if _, err := tile.Open(t.TempDir(), testSet("m"), quiet); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want os.ErrNotExist", err)
	}
}
