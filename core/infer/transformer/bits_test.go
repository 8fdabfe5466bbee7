package transformer_test

import (
	"testing"

	"edged/core/infer/transformer"
	"edged/core/infer/transformer/transformertest"
	"edged/core/model/lora"
	"edged/quant"
	"edged/quant/kernel"
)

// TestRowBits proves that a row's bits depend on its own inputs only, for every architecture and storage type.
func TestRowBits(t *testing.T) {
	wide := func(h *transformer.Hyper) { h.HeadDim, h.RopeDim = 32, 32 }
	for _, c := range []struct {
		name, arch string
		format     quant.Format
		precision  kernel.Precision
		kv         kernel.KVType
		positions  int
		change     func(h *transformer.Hyper)
	}{
		{"exact", "llama", quant.F32, kernel.Exact, kernel.KVF32, 80, nil},
		{"exact, quantised", "llama", quant.Q4_0, kernel.Exact, kernel.KVF32, 80, nil},
		{"fast", "llama", quant.Q4_0, kernel.Fast, kernel.KVF16, 80, nil},
		{"fast, 8-bit cache", "qwen2", quant.Q8_0, kernel.Fast, kernel.KVQ8, 80, wide},
		{"long", "llama", quant.Q8_0, kernel.Fast, kernel.KVF16, 1100, func(h *transformer.Hyper) { h.Layers = 1 }},
		{"long window", "mistral", quant.Q8_0, kernel.Fast, kernel.KVQ8, 1060, func(h *transformer.Hyper) { h.Layers, h.Window = 1, 530; wide(h) }},
		{"window", "mistral", quant.Q4_0, kernel.Fast, kernel.KVF16, 80, func(h *transformer.Hyper) { h.Window = 20 }},
		{"qwen3", "qwen3", quant.Q4_0, kernel.Fast, kernel.KVQ8, 80, nil},
		{"gpt2", "gpt2", quant.Q8_0, kernel.Fast, kernel.KVF16, 80, nil},
		{"experts", "mixtral", quant.Q4_0, kernel.Fast, kernel.KVF16, 80, nil},
		{"experts, exact", "mixtral", quant.F16, kernel.Exact, kernel.KVF32, 80, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := transformer.NewMemory(t, c.arch, c.format, c.change)
			shapes := m.Shapes()
			first := transformertest.RandomAdapter(1, 8, shapes)
			for name := range shapes {
				if len(shapes) > 3 && name != "output.weight" && name != "blk.0.attn_v.weight" {
					delete(shapes, name) // the second one touches little
				}
			}
			threads := []int{1, 2, 3}
			if c.positions > 200 {
				threads = []int{3}
			}
			transformertest.RowBits(t, transformertest.Case{
				Open: func(t *testing.T, o transformer.Options) *transformer.Model {
					t.Helper()
					o.Precision, o.KV = c.precision, c.kv
					return m.Open(t, o)
				},
				Adapters:  []*lora.Adapter{first, transformertest.RandomAdapter(2, 5, shapes)},
				Positions: c.positions,
				Threads:   threads,
			})
		})
	}
}
