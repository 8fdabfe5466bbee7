package convert_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/gguf"
	"edged/core/model/lora"
	"edged/core/model/lora/convert"
	"edged/core/model/safetensors"
	"edged/core/model/weights"
	"edged/quant"
	"edged/test/oracle"
)

func decode(m *quant.Matrix) []float32 {
	out := make([]float32, m.Rows*m.Cols)
	for r := range m.Rows {
		quant.Row(out[r*m.Cols:], m, r)
	}
	return out
}

func open(t *testing.T, path string) *weights.Model {
	t.Helper()
	m, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// toGGUF writes an adapter for a GGUF file, and opens what was written.
func toGGUF(t *testing.T, from *lora.Adapter, m *weights.Model, model string) (string, *lora.Adapter) {
	t.Helper()
	f, err := gguf.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	w, err := convert.GGUF(from, m, func(name string) []int64 {
		if x := f.Tensor(name); x != nil {
			return x.Dims
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path, openAdapter(t, path, m)
}

func openAdapter(t *testing.T, path string, m *weights.Model) *lora.Adapter {
	t.Helper()
	a, err := lora.Open(path, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// change is Scale · B · A.
func change(d *lora.Delta) []float64 {
	a, b := decode(d.A), decode(d.B)
	out := make([]float64, d.B.Rows*d.A.Cols)
	for o := range d.B.Rows {
		for k := range d.B.Cols {
			f := float64(d.Scale) * float64(b[o*d.B.Cols+k])
			for i := range d.A.Cols {
				out[o*d.A.Cols+i] += f * float64(a[k*d.A.Cols+i])
			}
		}
	}
	return out
}

func sameChange(t *testing.T, name string, a, b *lora.Delta) {
	t.Helper()
	if b == nil {
		t.Fatalf("%s is gone", name)
	}
	x, y := change(a), change(b)
	size, apart := 0.0, 0.0
	for i, v := range x {
		size, apart = max(size, math.Abs(v)), max(apart, math.Abs(v-y[i]))
	}
	if apart > 1e-6*size {
		t.Errorf("%s: the change differs by %g of %g", name, apart, size)
	}
}

// TestConvertFiles: a PEFT folder becomes the GGUF file that lies beside it, tensor by tensor, and that file the folder.
func TestConvertFiles(t *testing.T) {
	dir := oracle.Dir(t)
	for _, c := range []struct{ base, name string }{{"llama-tied", "loraA"}, {"llama-tied", "loraB-rs"}, {"qwen2", ""}} {
		folders, err := filepath.Glob(oracle.Path(t, dir, "lora", c.base) + "/*.gguf")
		if err != nil || len(folders) == 0 {
			t.Fatal(err, folders)
		}
		model := oracle.Path(t, dir, "models", c.base, c.base+"-F16.gguf")
		stored, folder := open(t, model), open(t, oracle.Path(t, dir, "models", c.base, "hf"))
		for _, file := range folders {
			name := strings.TrimSuffix(filepath.Base(file), ".gguf")
			if c.name != "" && c.name != name {
				continue
			}
			t.Run(c.base+" "+name, func(t *testing.T) {
				peft := strings.TrimSuffix(file, ".gguf")
				path, _ := toGGUF(t, openAdapter(t, peft, stored), stored, model)
				got, err := gguf.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer got.Close()
				want, err := gguf.Open(file)
				if err != nil {
					t.Fatal(err)
				}
				defer want.Close()
				if len(got.Tensors()) != len(want.Tensors()) {
					t.Errorf("%d tensors, want %d", len(got.Tensors()), len(want.Tensors()))
				}
				for i := range want.Tensors() {
					x := &want.Tensors()[i]
					y := got.Tensor(x.Name)
					if y == nil || y.Type != x.Type || !slices.Equal(y.Dims, x.Dims) || !bytes.Equal(y.Data, x.Data) {
						t.Fatalf("tensor %s differs", x.Name)
					}
				}
				for _, key := range []string{"general.architecture", "general.type", "adapter.type"} {
					x, _ := want.String(key)
					if y, err := got.String(key); err != nil || x != y {
						t.Errorf("%s: %q, want %q (%v)", key, y, x, err)
					}
				}
				x, _ := want.Float("adapter.lora.alpha")
				if y, err := got.Float("adapter.lora.alpha"); err != nil || math.Abs(x-y) > 1e-6*x {
					t.Errorf("alpha %g, want %g (%v)", y, x, err)
				}
				backAgain(t, openAdapter(t, file, folder), folder, peft)
			})
		}
	}
}

// backAgain writes the adapter as PEFT's, and holds its tensors against a folder.
func backAgain(t *testing.T, a *lora.Adapter, m *weights.Model, peft string) {
	t.Helper()
	config, tensors, err := convert.PEFT(a, m)
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.OpenFile(filepath.Join(peft, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Mapping().Close()
	if len(tensors) != len(f.Tensors()) {
		t.Errorf("%d tensors, want %d", len(tensors), len(f.Tensors()))
	}
	for i := range tensors {
		x := &tensors[i]
		at := slices.IndexFunc(f.Tensors(), func(y safetensors.Tensor) bool { return y.Name == x.Name })
		if at < 0 || !bytes.Equal(f.Tensors()[at].Data, x.Data) || !slices.Equal(f.Tensors()[at].Shape, x.Shape) {
			t.Fatalf("tensor %s differs", x.Name)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), tensors, nil); err != nil {
		t.Fatal(err)
	}
	b := openAdapter(t, dir, m)
	for name, d := range a.Mods {
		sameChange(t, name, d, b.Mods[name])
	}
	if !json.Valid(config) {
		t.Errorf("%s", config)
	}
}

// TestConvertKinds: what is of low rank is the same change in a GGUF file, whatever its kind, its patterns and its stacks of experts.
func TestConvertKinds(t *testing.T) {
	dir := oracle.Dir(t)
	for _, c := range []struct{ base, kind string }{
		{"llama-tied", "adalora-pruned"},
		{"llama-tied", "vera-noproj"},
		{"llama-tied", "pattern-order"},
		{"llama-tied", "embed-lora"},
		{"llama-tied", "alora"},
		{"llama-tied", "vblora"},
		{"llama-tied", "hra"},
		{"qwen2", "pattern-rslora"},
		{"gpt2", "all-linear-gpt2"},
		{"mixtral", "all-linear-mixtral"},
		{"mixtral", "experts-mixtral-attn"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			model := oracle.Path(t, dir, "models", c.base, c.base+"-F16.gguf")
			m := open(t, model)
			a := openAdapter(t, oracle.Path(t, dir, "adapters", "peft", c.kind, "adapter"), m)
			_, b := toGGUF(t, a, m, model)
			if len(a.Mods) == 0 || len(b.Mods) < len(a.Mods) || (a.Embed == nil) != (b.Embed == nil) || !slices.Equal(a.Invocation, b.Invocation) {
				t.Fatalf("%d matrices, want %d; embedding %v, want %v; on from %v, want %v", len(b.Mods), len(a.Mods), b.Embed != nil, a.Embed != nil, b.Invocation, a.Invocation)
			}
			for name, d := range a.Mods {
				sameChange(t, name, d, b.Mods[name])
			}
			if d := a.Embed; d != nil && (!slices.Equal(decode(d.A), decode(b.Embed.A)) || !slices.Equal(decode(d.B), decode(b.Embed.B)) || d.Scale != b.Embed.Scale) {
				t.Error("the embedding's adapter differs")
			}
		})
	}
}

// TestConvertRefuses: what neither container has as LoRA is refused by a sentence.
func TestConvertRefuses(t *testing.T) {
	dir := oracle.Dir(t)
	model := oracle.Path(t, dir, "models", "llama-tied", "llama-tied-F16.gguf")
	m, folder := open(t, model), open(t, oracle.Path(t, dir, "models", "llama-tied", "hf"))
	all := func(string) []int64 { return []int64{1, 1} }
	for kind, want := range map[string]string{
		"dora-embed": "it has DoRA of", "prompt": "it has virtual tokens", "prefix": "it has virtual tokens", "mts-norm": "it has trained norms", "ia3": "that has no low rank",
		"fourierft": "that has no low rank",
	} {
		a := openAdapter(t, oracle.Path(t, dir, "adapters", "peft", kind, "adapter"), m)
		if _, err := convert.GGUF(a, m, all); !errors.Is(err, lora.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", kind, err, want)
		}
		b := openAdapter(t, oracle.Path(t, dir, "adapters", "peft", kind, "adapter"), folder)
		if _, _, err := convert.PEFT(b, folder); !errors.Is(err, lora.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, for PEFT: %v, want %q", kind, err, want)
		}
	}
	head := openAdapter(t, oracle.Path(t, dir, "adapters", "peft", "head-lora-tied", "adapter"), m)
	f, err := gguf.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := convert.GGUF(head, m, func(name string) []int64 {
		if x := f.Tensor(name); x != nil {
			return x.Dims
		}
		return nil
	}); err == nil || !strings.Contains(err.Error(), "tied to another matrix") {
		t.Errorf("the head of a tied model: %v", err)
	}
}
