package weights_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"edged/core/model/safetensors"
	"edged/core/model/weights"
	"edged/test/oracle"
)

// TestDemo opens the shipped model in both containers.
func TestDemo(t *testing.T) {
	demo := filepath.Join(oracle.Repo(t), "demo")
	for _, path := range []string{"hf-nf4", "gguf/hearth-4m-q4_0.gguf"} {
		m := open(t, filepath.Join(demo, path))
		if hyperOf(m).Layers != 6 || hyperOf(m).EOS != 2 || !hyperOf(m).Tied {
			t.Errorf("%s: %+v", path, hyperOf(m))
		}
	}
}

// TestSharded cuts a folder in two and leaves a shard away.
func TestSharded(t *testing.T) {
	dir := tiny("qwen2").WriteHF(t)
	want := open(t, dir)
	f, err := safetensors.OpenFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	shards := t.TempDir()
	write(t, filepath.Join(shards, "config.json"), read(t, filepath.Join(dir, "config.json")))
	names := []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
	where := map[string]string{}
	half := len(f.Tensors()) / 2
	for i, part := range [][]safetensors.Tensor{f.Tensors()[:half], f.Tensors()[half:]} {
		for _, x := range part {
			where[x.Name] = names[i]
		}
		if err := safetensors.WriteFile(filepath.Join(shards, names[i]), part, nil); err != nil {
			t.Fatal(err)
		}
	}
	index, err := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 1}, "weight_map": where})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(shards, "model.safetensors.index.json"), index)
	for _, path := range []string{"", "model.safetensors.index.json", names[1]} {
		got := open(t, filepath.Join(shards, path))
		for _, n := range want.Names() {
			if x := want.Matrix(n); x != nil && !equal(decode(x), decode(got.Matrix(n))) {
				t.Errorf("%s differs", n)
			}
		}
		one, err := got.Hash()
		if err != nil {
			t.Fatal(err)
		}
		if other, err := want.Hash(); err != nil || one == other {
			t.Errorf("hashes %s and %s: %v", one, other, err)
		}
	}
	if err := os.Remove(filepath.Join(shards, names[1])); err != nil {
		t.Fatal(err)
	}
	_, err = weights.Open(shards)
	wantText := "weights: safetensors: " + shards + ": shard " + names[1] + " (2 of 2) is missing: copy it into the folder: file does not exist"
	if err == nil || err.Error() != wantText {
		t.Errorf("%v, want %s", err, wantText)
	}
}

// TestFrequencyFactors opens a Llama 3 file, whose scaling of RoPE is a tensor.
func TestFrequencyFactors(t *testing.T) {
	m := tiny("llama")
	m.Positive = "rope_freqs.weight"
	m.GGUF[m.Positive] = []int64{tinyHeadDim / 2}
	got := hyperOf(open(t, m.WriteGGUF(t))).RopeScaling
	if len(got.Factors) != tinyHeadDim/2 || got.Kind != "" {
		t.Fatalf("%+v", got)
	}
	for _, x := range got.Factors {
		if !(x > 0 && x < 3) || math.IsNaN(float64(x)) {
			t.Errorf("%v", got.Factors)
		}
	}
}
