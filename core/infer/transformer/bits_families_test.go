package transformer_test

import (
	"os"
	"path/filepath"
	"testing"

	"edged/core/infer/transformer"
	"edged/core/infer/transformer/transformertest"
	"edged/core/model/arch"
	"edged/core/model/lora"
	"edged/core/model/weights"
	"edged/plugins/backend-generic/x86"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// TestRowBitsOfFamilies: a row's bits depend on its own inputs only, for every family that is served, with adapters on all of its
// linear layers.
func TestRowBitsOfFamilies(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "families")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		w, err := weights.Open(filepath.Join(dir, e.Name(), "hf"))
		if err != nil {
			continue // TestFamilies knows which are served
		}
		defer w.Close()
		if seen[w.Spec.Family] { // one of each is enough
			continue
		}
		seen[w.Spec.Family] = true
		t.Run(e.Name(), func(t *testing.T) {
			shapes := map[string][2]int{}
			for _, name := range w.Names() {
				if x := w.Tensor(name); x.Role == arch.Product || x.Role == arch.Expert {
					shapes[name] = [2]int{x.Rows, x.Cols}
				}
			}
			transformertest.RowBits(t, transformertest.Case{
				Open: func(t *testing.T, o transformer.Options) *transformer.Model {
					t.Helper()
					o.Kernels, o.KV = x86.Best(), kernel.KVF16
					m, err := transformer.New(w, o)
					if err != nil {
						t.Fatal(err)
					}
					return m
				},
				Adapters:  []*lora.Adapter{transformertest.RandomAdapter(1, 4, shapes), transformertest.RandomAdapter(2, 3, shapes)},
				Positions: 40, // beyond windows and within the shortest border of a stretched rope
				Threads:   []int{3},
			})
		})
	}
	if len(seen) < 30 {
		t.Errorf("only %d families were opened", len(seen))
	}
}
