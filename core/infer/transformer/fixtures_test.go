package transformer

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"edged/quant/kernel"
)

// TestFixtures holds the committed tiny model of each family, which tools/oracle/families.py wrote, to what transformers computed
// from it: a clone proves the forward pass without any other data. TestFamilies does the same with more and larger models,
// on the processor's kernels; here the portable ones serve each family.
func TestFixtures(t *testing.T) {
	const dir = "testdata/families"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 50 {
		t.Errorf("only %d families", len(entries))
	}
	for _, e := range entries {
		folder := filepath.Join(dir, e.Name())
		var want struct {
			Prompts []struct {
				IDs     []int32   `json:"ids"`
				Logits  []float32 `json:"logits"` // of the last position
				Greedy  []int32   `json:"greedy"`
				Margins []float64 `json:"margins"`
			} `json:"prompts"`
		}
		readJSON(t, filepath.Join(folder, "golden.json"), &want)
		config, err := os.ReadFile(filepath.Join(folder, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		info := &familyInfo{GELU: bytes.Contains(config, []byte("gelu")), Experts: bytes.Contains(config, []byte("expert"))}
		paths := []string{folder}
		if file := filepath.Join(folder, e.Name()+".gguf"); exists(file) {
			paths = append(paths, file)
		}
		for _, path := range paths {
			for precision, o := range precisions() {
				o.Kernels, o.ThreadsPrefill, o.ThreadsDecode = kernel.Portable{}, 2, 2
				t.Run(e.Name()+"/"+filepath.Base(path)+"/"+precision, func(t *testing.T) {
					r, _ := openRunner(t, path, o)
					vocab := r.m.Info().VocabRows
					l := familyLimits(info, precision, false)
					res := &result{cosine: 1}
					for _, p := range want.Prompts {
						got := r.prompt(res, p.IDs, p.Greedy, p.Margins, l)
						res.compare(got[len(got)-vocab:], p.Logits, vocab, true)
					}
					if res.greedy == 0 && precision == "exact" {
						t.Error("no step was wide enough to be judged")
					}
					res.check(t, l)
				})
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
