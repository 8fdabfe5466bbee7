package transformer

import (
	"math"
	"testing"

	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// TestLogitsHaveOneValue pins the bits of whole forward passes: they are the same on every architecture and with every
// kernel, so that a board answers as the machine did on which the model was tried. The values are FNV-1a hashes made by
// this package with the portable kernels on linux/amd64; they change when the specified arithmetic does.
func TestLogitsHaveOneValue(t *testing.T) {
	for _, c := range []struct {
		arch        string
		format      quant.Format
		fast, exact uint64
	}{
		{"llama", quant.Q4_0, 0x40b4df51e076ed80, 0x5782c7b30d4388c3},
		{"mistral", quant.Q8_0, 0x579711b6930c316f, 0x18c437ecf0aaa852},
		{"qwen2", quant.Q4_0, 0x5924a9a8aa0fe3ee, 0x6258fedb41ae3405},
		{"qwen3", quant.Q8_0, 0x1e2f0f6c66ef6554, 0xfe8f6f850ce11be6},
		{"gpt2", quant.Q8_0, 0xf17366fb8cb07723, 0xbab12b89b4bd8269},
		{"mixtral", quant.Q4_0, 0x25f78cb5c79205c2, 0xd765e5964699df16},
	} {
		t.Run(c.arch, func(t *testing.T) {
			h := tiny(c.arch)
			h.Context = 600
			if c.arch == "mistral" {
				h.Window = 540
			}
			if h.RopeDim > 0 {
				h.RopeScaling = arch.Scaling{Kind: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, Original: 64}
			}
			s := newMemory(c.arch, h).encode(t, c.format)
			for _, p := range []struct {
				name string
				o    Options
				want uint64
			}{
				{"fast", Options{KV: kernel.KVF16, MaxRows: 64}, c.fast},
				{"exact", Options{Precision: kernel.Exact, MaxRows: 64}, c.exact},
			} {
				m := s.open(t, p.o)
				all, seq := (&runner{t: t, m: m}).logits(randomIDs(560, h.VocabRows, 8))
				seq.Free()
				sum := uint64(14695981039346656037)
				for _, v := range all {
					sum = (sum ^ uint64(math.Float32bits(v))) * 1099511628211
				}
				if sum != p.want {
					t.Errorf("%s: %#x, want %#x", p.name, sum, p.want)
				}
			}
		})
	}
}
