package transformer

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/weights"
	"edged/plugins/backend-generic/x86"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// TestOracleDemo runs the demo model's reference conversations, base and adapters, as whole greedy answers.
func TestOracleDemo(t *testing.T) {
	dir := oracle.Demo(t)
	var want struct {
		Prompts []struct {
			IDs []int32 `json:"ids"`
		} `json:"prompts"`
		Outputs map[string][]struct {
			IDs    []int32      `json:"ids"`
			Margin float64      `json:"margin"`
			Top    [][2]float64 `json:"first_logits_top5"`
		} `json:"outputs"`
	}
	readJSON(t, filepath.Join(dir, "eval", "oracle.json"), &want)
	folders := map[string]string{"f16": "hf-f16", "nf4": "hf-nf4"}
	for kind, outputs := range want.Outputs {
		base, adapter, _ := strings.Cut(kind, "+")
		folder, ok := folders[base]
		if !ok {
			t.Fatalf("outputs of %q", kind)
		}
		t.Run(kind, func(t *testing.T) {
			r, w := openRunner(t, filepath.Join(dir, folder), Options{Kernels: x86.Best(), Precision: kernel.Exact, ThreadsPrefill: 1, ThreadsDecode: 1, MaxRows: 128})
			if adapter != "" {
				r.use(w, filepath.Join(dir, "adapters", adapter), 1)
			}
			vocab := r.m.Info().VocabRows
			res := &result{cosine: 1}
			for i, o := range outputs[:min(2, len(outputs))] { // all twenty take five minutes
				prompt := want.Prompts[i].IDs
				all, seq := r.logits(slices.Concat(prompt, o.IDs[:len(o.IDs)-1]))
				seq.Free()
				all = all[(len(prompt)-1)*vocab:]
				for _, top := range o.Top {
					res.maxAbs = max(res.maxAbs, math.Abs(float64(all[int(top[0])])-top[1]))
				}
				res.steps += len(o.IDs)
				if o.Margin < 0.004 { // the smallest along the path
					continue
				}
				res.greedy += len(o.IDs)
				for j, id := range o.IDs {
					if got := argmax(all[j*vocab : (j+1)*vocab]); got != id {
						t.Errorf("prompt %d, step %d: id %d, want %d (margin %g)", i, j, got, id, o.Margin)
					}
				}
			}
			t.Logf("oracle: demo %s, exact: %v", kind, res)
			if res.maxAbs > 2e-3 {
				t.Errorf("largest error of the first logits %g, want at most 2e-3", res.maxAbs)
			}
		})
	}
}

// benchModel opens a file of the demo model that is in the repository.
func benchModel(b *testing.B, file string) *Model {
	b.Helper()
	w, err := weights.Open(filepath.Join(oracle.Repo(b), "demo", file))
	if err != nil {
		b.Skip(err)
	}
	m, err := New(w, Options{Kernels: kernel.Portable{}, KV: kernel.KVF16, MaxRows: 128})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
		if err := w.Close(); err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	return m
}

// demoFiles are the demo model in both containers.
func demoFiles() []string { return []string{"hf-nf4", "gguf/hearth-4m-q4_0.gguf"} }

// BenchmarkDecode appends one token to 64 others.
func BenchmarkDecode(b *testing.B) {
	for _, file := range demoFiles() {
		b.Run(file, func(b *testing.B) {
			m := benchModel(b, file)
			seq := m.NewSeq()
			if err := m.Forward(slices.Repeat([]Row{{Seq: seq, Token: 5}}, 64)); err != nil {
				b.Fatal(err)
			}
			row := []Row{{Seq: seq, Token: 7, Logits: make([]float32, m.Info().VocabRows)}}
			for b.Loop() {
				if err := m.Forward(row); err != nil {
					b.Fatal(err)
				}
				seq.Truncate(64)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
			b.SetBytes(m.Info().WeightBytes)
		})
	}
}

// BenchmarkPrefill reads 128 tokens at once.
func BenchmarkPrefill(b *testing.B) {
	for _, file := range demoFiles() {
		b.Run(file, func(b *testing.B) {
			m := benchModel(b, file)
			seq := m.NewSeq()
			rows := slices.Repeat([]Row{{Seq: seq, Token: 5}}, 128)
			rows[127].Logits = make([]float32, m.Info().VocabRows)
			for b.Loop() {
				if err := m.Forward(rows); err != nil {
					b.Fatal(err)
				}
				seq.Truncate(0)
			}
			b.ReportMetric(128*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
