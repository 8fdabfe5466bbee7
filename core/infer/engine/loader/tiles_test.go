package loader

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"edged/core/protocol/backend"
	"edged/quant"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// tilesOf is portable arithmetic that asks for tiles, and does not read them.
type tilesOf struct {
	kernel.Portable
	rows int
}

func (k tilesOf) WantsTiles() bool { return true }

func (k tilesOf) TileRows(*quant.Matrix) int { return k.rows }

// TestTiles loads with a fresh cache directory, with the file of the first load, with a damaged one and without a place to
// write: what is served is the same, and only a matrix that is multiplied has tiles.
func TestTiles(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	load := func(req backend.LoadRequest) (stages []string, tiles bool) {
		t.Helper()
		o := Options{Kernels: tilesOf{rows: 8}, Log: slog.New(slog.DiscardHandler)}
		req.Path, req.Context, req.MaxSequences, req.ThreadsPrefill, req.ThreadsDecode = filepath.Join(oracle.Repo(t), "demo", "hf-nf4"), 64, 1, 1, 1
		m, err := o.Open(t.Context(), req, func(p backend.LoadProgress) { stages = append(stages, p.Stage) })
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range m.File.Products() {
			tiles = tiles || w.Tile.Rows > 0
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		return slices.Compact(stages), tiles
	}
	expect := func(what string, req backend.LoadRequest, written, want bool) {
		t.Helper()
		stages, tiles := load(req)
		if slices.Contains(stages, "tiles") != written || tiles != want {
			t.Errorf("%s: stages %v, tiles %v; want tiles written %v, served %v", what, stages, tiles, written, want)
		}
	}
	expect("first", backend.LoadRequest{CacheDir: cache}, true, true)
	expect("again", backend.LoadRequest{CacheDir: cache}, false, true)
	files, err := filepath.Glob(filepath.Join(cache, "tiles", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if err := os.Truncate(files[0], 5000); err != nil {
		t.Fatal(err)
	}
	expect("damaged", backend.LoadRequest{CacheDir: cache}, true, true)
	expect("off", backend.LoadRequest{CacheDir: cache, NoTiles: true}, false, false)
	expect("exact", backend.LoadRequest{CacheDir: cache, Precision: backend.Exact}, false, false)
	expect("no cache", backend.LoadRequest{}, false, false)
	blocked := t.TempDir()
	if err := os.WriteFile(filepath.Join(blocked, "tiles"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("nowhere to write", backend.LoadRequest{CacheDir: blocked}, false, false)
}
