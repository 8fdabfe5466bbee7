package transformertest

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/infer/transformer"
	"edged/core/model/lora"
	"edged/core/model/weights"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// Kernels runs the demo models of this repository on k: RowBits with random adapters, at both precisions, and the same
// bits as the portable kernels give.
func Kernels(t *testing.T, k kernel.Kernels) {
	t.Helper()
	for _, file := range []string{"hf-nf4", "gguf/hearth-4m-q4_0.gguf"} {
		for name, o := range map[string]transformer.Options{
			"fast": {KV: kernel.KVF16}, "fast, 8-bit cache": {KV: kernel.KVQ8}, "exact": {Precision: kernel.Exact},
		} {
			t.Run(file+"/"+name, func(t *testing.T) {
				w, err := weights.Open(filepath.Join(oracle.Repo(t), "demo", filepath.FromSlash(file)))
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := w.Close(); err != nil {
						t.Error(err)
					}
				}()
				c := Case{
					Positions: 40, Threads: []int{1, 2},
					Adapters: []*lora.Adapter{RandomAdapter(1, 8, linears(w, "")), RandomAdapter(2, 5, linears(w, "attn_v"))},
				}
				with := func(k kernel.Kernels) func(*testing.T, transformer.Options) *transformer.Model {
					return func(t *testing.T, sized transformer.Options) *transformer.Model {
						t.Helper()
						sized.Kernels, sized.KV, sized.Precision = k, o.KV, o.Precision
						m, err := transformer.New(w, sized)
						if err != nil {
							t.Fatal(err)
						}
						return m
					}
				}
				c.Open = with(kernel.Portable{})
				portable := c.golden(t)
				c.Open = with(k)
				for i, got := range c.golden(t) {
					if math.Float32bits(got) != math.Float32bits(portable[i]) {
						t.Fatalf("logit %d is %v, with portable kernels %v", i, got, portable[i])
					}
				}
				RowBits(t, c)
			})
		}
	}
}

// golden runs one sequence with an adapter, in one chunk.
func (c *Case) golden(t *testing.T) []float32 {
	t.Helper()
	b := c.open(t, 1)
	defer b.close()
	return b.alone(&stream{ids: b.randomIDs(3, c.Positions), uses: c.uses()[1]}, c.Positions)
}

// linears are the shapes of the linear layers whose names contain part.
func linears(w *weights.Model, part string) map[string][2]int {
	shapes := map[string][2]int{}
	for _, name := range append(w.Names(), "output.weight") {
		if m := w.Matrix(name); m != nil && strings.Contains(name, part) && !strings.HasSuffix(name, "_embd.weight") {
			shapes[name] = [2]int{m.Rows, m.Cols}
		}
	}
	return shapes
}
