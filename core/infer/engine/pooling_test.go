package engine

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"edged/core/model/gguf"
	"edged/core/protocol/backend"
	"edged/test/oracle"
	"edged/test/race"
)

// TestPoolingType: a decoder's file says which states its vector is of. The first token's is that of a text of one token, as no later
// token changes it, and the mean of two lies between theirs.
func TestPoolingType(t *testing.T) {
	race.SkipArithmetic(t)
	src, err := gguf.Open(filepath.Join(oracle.Repo(t), "demo/gguf/hearth-4m-q4_0.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	list := prompt(2, 3)
	embed := func(pooling uint32, list []int32) []float32 {
		var w gguf.Writer
		for _, key := range src.Keys() {
			w.Copy(src, key)
		}
		w.Put("llama.pooling_type", pooling)
		for _, x := range src.Tensors() {
			w.Add(x.Name, x.Type.Format(), x.Dims, x.Data)
		}
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := w.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		e, _ := load(t, backend.LoadRequest{Path: path, Context: 64, MaxSequences: 1})
		got, err := e.Embed(t.Context(), [][]int32{list})
		if err != nil {
			t.Fatal(err)
		}
		return got[0]
	}
	mean, first, last := embed(1, list), embed(2, list), embed(3, list)
	if !slices.Equal(embed(0, list), mean) || !slices.Equal(embed(4, list), mean) {
		t.Error("none and rank are not the mean")
	}
	dot := func(a, b []float32) (sum float64) {
		for i := range a {
			sum += float64(a[i]) * float64(b[i])
		}
		return sum
	}
	if alone := embed(1, list[:1]); dot(first, alone) < 0.9999 {
		t.Errorf("the first token's state, and alone: cosine %v", dot(first, alone))
	}
	angle := func(a, b []float32) float64 { return math.Acos(min(1, dot(a, b))) }
	if whole, parts := angle(first, last), angle(first, mean)+angle(mean, last); whole < 0.1 || math.Abs(whole-parts) > 0.01 {
		t.Errorf("angles: first to last %v, by way of the mean %v", whole, parts)
	}
}
