package weights_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"edged/core/model/gguf"
	"edged/core/model/weights"
	"edged/quant"
	"edged/test/oracle"
	"edged/test/race"
)

// touch opens a model that may be damaged and, where that works, reads every matrix to its end.
func touch(tb testing.TB, path string) error {
	tb.Helper()
	m, err := weights.Open(path)
	if err != nil {
		if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "weights: ") {
			tb.Errorf("not one sentence: %v", err)
		}
		return err
	}
	defer m.Close()
	for _, n := range m.Names() {
		if x := m.Matrix(n); x != nil {
			row := make([]float32, x.Cols)
			quant.Row(row, x, 0)
			quant.Row(row, x, x.Rows-1)
		} else if _, err := m.Vector(n); err != nil {
			tb.Error(err)
		}
	}
	return nil
}

func write(tb testing.TB, path string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func read(tb testing.TB, path string) []byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// copyFolder copies the files of a model folder.
func copyFolder(tb testing.TB, from string) string {
	tb.Helper()
	to := tb.TempDir()
	for _, name := range []string{"config.json", "generation_config.json", "model.safetensors"} {
		write(tb, filepath.Join(to, name), read(tb, filepath.Join(from, name)))
	}
	return to
}

// TestTruncated cuts model files at 200 random points each: always an error, never a panic.
func TestTruncated(t *testing.T) {
	dir := oracle.Dir(t)
	rng := rand.New(rand.NewPCG(11, 12))
	folder := copyFolder(t, filepath.Join(dir, "nf4/llama-tied-nf4-dq"))
	for _, c := range []struct{ name, from, at, open string }{
		{"gguf", filepath.Join(dir, "models/mixtral/mixtral-Q4_0.gguf"), filepath.Join(t.TempDir(), "m.GGUF"), ""},
		{"nf4", filepath.Join(folder, "model.safetensors"), filepath.Join(folder, "model.safetensors"), folder},
	} {
		whole := read(t, c.from)
		if c.open == "" {
			c.open = c.at
		}
		for i := range 200 {
			n := rng.IntN(len(whole))
			if i%4 == 0 {
				n = rng.IntN(40000) // the header
			}
			write(t, c.at, whole[:n])
			if err := touch(t, c.open); err == nil || !strings.Contains(err.Error(), c.open) {
				t.Errorf("%s cut at %d of %d: %v", c.name, n, len(whole), err)
			}
		}
		write(t, c.at, whole)
		if err := touch(t, c.open); err != nil {
			t.Errorf("%s whole: %v", c.name, err)
		}
	}
}

// TestFlippedBits flips bits of headers and configurations: an error, or a model that can be read to its end.
func TestFlippedBits(t *testing.T) {
	dir := oracle.Dir(t)
	rng := rand.New(rand.NewPCG(13, 14))
	folder := copyFolder(t, filepath.Join(dir, "models/gpt2/hf"))
	nf4 := copyFolder(t, filepath.Join(dir, "nf4/llama-tied-nf4-dq"))
	single := filepath.Join(t.TempDir(), "m.GGUF")
	write(t, single, read(t, filepath.Join(dir, "models/qwen2/qwen2-Q4_0.gguf")))
	header := func(b []byte) int { return 8 + int(binary.LittleEndian.Uint64(b)) }
	ggufHeader := func(b []byte) int { return bytes.Index(b, []byte("blk.1.ffn_up.weight")) + 1000 }
	whole := func(b []byte) int { return len(b) }
	for _, c := range []struct {
		at, open string
		end      func([]byte) int
	}{
		{single, single, ggufHeader},
		{filepath.Join(folder, "model.safetensors"), folder, header},
		{filepath.Join(folder, "config.json"), folder, whole},
		{filepath.Join(nf4, "config.json"), nf4, whole},
		{filepath.Join(nf4, "model.safetensors"), nf4, header},
	} {
		good := read(t, c.at)
		end := c.end(good)
		opened := 0
		for range 250 {
			i, bit := rng.IntN(end), byte(1)<<rng.IntN(8)
			f, err := os.OpenFile(c.at, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteAt([]byte{good[i] ^ bit}, int64(i))
			if touch(t, c.open) == nil {
				opened++
			}
			_, _ = f.WriteAt(good[i:i+1], int64(i))
			_ = f.Close()
		}
		t.Logf("%s: %d of 250 opened", filepath.Base(c.at), opened)
		if err := touch(t, c.open); err != nil {
			t.Errorf("restored: %v", err)
		}
	}
}

// TestDamagedFamilies cuts a folder and a file of each family at 50 random points each, which is always an error, and flips 50 bits of
// their headers and of the configuration: an error, or a model that can be read to its end.
func TestDamagedFamilies(t *testing.T) {
	race.SkipArithmetic(t)
	dir := filepath.Join(oracle.Dir(t), "families")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	rng, seen := rand.New(rand.NewPCG(15, 16)), map[string]bool{}
	for _, e := range entries {
		from := filepath.Join(dir, e.Name(), "hf")
		m, err := weights.Open(from)
		if err != nil {
			continue // TestFamilies of package transformer knows which are served
		}
		family := m.Spec.Family
		_ = m.Close()
		if seen[family] {
			continue
		}
		seen[family] = true
		t.Run(e.Name(), func(t *testing.T) {
			folder := t.TempDir()
			tensors, config, file := filepath.Join(folder, "model.safetensors"), filepath.Join(folder, "config.json"), filepath.Join(folder, "m.gguf")
			for _, name := range []string{"config.json", "model.safetensors"} {
				write(t, filepath.Join(folder, name), read(t, filepath.Join(from, name)))
			}
			header := func(b []byte) int { return 8 + int(binary.LittleEndian.Uint64(b)) }
			damage(t, rng, tensors, folder, header, true)
			damage(t, rng, config, folder, func(b []byte) int { return len(b) }, false)
			if stored := filepath.Join(dir, e.Name(), e.Name()+"-F16.gguf"); exists(stored) {
				write(t, file, read(t, stored))
				damage(t, rng, file, file, func(b []byte) int { return bytes.LastIndex(b[:len(b)/2], []byte(".weight")) + 100 }, true)
			}
		})
	}
	if len(seen) < 30 {
		t.Errorf("only %d families were opened", len(seen))
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// damage flips 50 bits of the file at, one at a time, before the offset end, and then cuts it shorter and shorter where it is to be
// cut. open is what the file is a part of.
func damage(t *testing.T, rng *rand.Rand, at, open string, end func([]byte) int, cut bool) {
	t.Helper()
	good := read(t, at)
	f, err := os.OpenFile(at, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 50 {
		i := rng.IntN(min(end(good), len(good)))
		_, _ = f.WriteAt([]byte{good[i] ^ byte(1)<<rng.IntN(8)}, int64(i))
		_ = touch(t, open)
		_, _ = f.WriteAt(good[i:i+1], int64(i))
	}
	if err := touch(t, open); err != nil {
		t.Errorf("restored: %v", err)
	}
	if !cut {
		return
	}
	for n := len(good) - 1; n > 0; n = rng.IntN(n)/4 + n*3/4 {
		if err := f.Truncate(int64(n)); err != nil {
			t.Fatal(err)
		}
		if touch(t, open) == nil {
			t.Errorf("%s, cut after %d of %d bytes, opens", filepath.Base(at), n, len(good))
		}
	}
	if _, err := f.WriteAt(good, 0); err != nil {
		t.Fatal(err)
	}
}

// TestNoHeapGrowth opens a folder that needs copies and one of quantised weights: neither may be on the Go heap.
func TestNoHeapGrowth(t *testing.T) {
	dir := oracle.Dir(t)
	for _, path := range []string{"models/gpt2/hf", "nf4/llama-tied-nf4-dq", "models/llama-tied/llama-tied-F16.gguf"} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := open(t, filepath.Join(dir, path))
		runtime.GC()
		runtime.ReadMemStats(&after)
		if n := int64(after.HeapAlloc) - int64(before.HeapAlloc); n > 150<<10 {
			t.Errorf("%s: %d bytes of heap for %d of weights", path, n, m.Figures().Total)
		}
		runtime.KeepAlive(m)
	}
}

// FuzzModel opens a GGUF file of any header as a model; zeros follow it, so that inputs stay small.
func FuzzModel(f *testing.F) {
	for _, arch := range []string{"llama", "qwen3"} {
		g, err := gguf.Open(tiny(arch).WriteGGUF(f))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(read(f, g.Path)[:g.Tensors()[0].Offset])
		if err := g.Close(); err != nil {
			f.Fatal(err)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "m.GGUF")
		write(t, path, append(bytes.Clone(data), make([]byte, 150000)...))
		_ = touch(t, path)
	})
}

// FuzzConfig opens a folder with any config.json.
func FuzzConfig(f *testing.F) {
	for _, m := range []*tinyModel{tiny("llama"), tiny("qwen2"), tinyGPT2()} {
		f.Add(read(f, filepath.Join(m.WriteHF(f), "config.json")))
	}
	dir := tiny("llama").WriteHF(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		write(t, filepath.Join(dir, "config.json"), data)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = touch(t, dir)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64*uint64(len(data))+4<<20 {
			t.Errorf("%d bytes allocated for a configuration of %d", n, len(data))
		}
	})
}
