package engine

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"edged/core/transformer"
	"edged/core/transformer/transformertest"
	"edged/core/weights"
	"edged/plugins/backend-generic/x86"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// BenchmarkAdapters decodes rows that carry different adapters on all linear layers of the blocks, in turns with the same rows
// without any, and reports the share of the plain speed that is left. EDGED_BENCH_MODEL names the model (the demo's where
// it is not set), EDGED_BENCH_THREADS the number of threads.
func BenchmarkAdapters(b *testing.B) {
	path := cmp.Or(os.Getenv("EDGED_BENCH_MODEL"), filepath.Join(oracle.Repo(b), "demo/gguf/hearth-4m-q4_0.gguf"))
	threads, _ := strconv.Atoi(os.Getenv("EDGED_BENCH_THREADS")) // 0: all
	file, err := weights.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // opened for reading: nothing to lose
	shapes := map[string][2]int{}
	for _, name := range file.Names() {
		if m := file.Matrix(name); m != nil && strings.HasPrefix(name, "blk.") {
			shapes[name] = [2]int{m.Rows, m.Cols}
		}
	}
	for _, c := range []struct {
		name                 string
		rows, rank, adapters int
	}{
		{"1 row, 1 of rank 16", 1, 16, 1},
		{"8 rows, 8 of rank 8", 8, 8, 8},
		{"8 rows, 1 of rank 16", 8, 16, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			t, err := transformer.New(file, transformer.Options{
				Kernels: x86.Best(), KV: kernel.KVF16, Context: 512, KVPages: 8 * 16, ThreadsPrefill: threads,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer t.Close() //nolint:errcheck // nothing is written
			var adapters []*transformer.Adapter
			for i := range c.adapters {
				a, err := t.LoadAdapter(transformertest.RandomAdapter(uint64(i), c.rank, shapes))
				if err != nil {
					b.Fatal(err)
				}
				defer a.Close()
				adapters = append(adapters, a)
			}
			var plain, with []transformer.Row
			for i := range c.rows {
				seq := t.NewSeq()
				for range 32 {
					plain = append(plain, transformer.Row{Seq: seq, Token: int32(100 + i)})
				}
				if err := t.Forward(plain); err != nil {
					b.Fatal(err)
				}
				plain = plain[:0]
				with = append(with, transformer.Row{
					Seq: seq, Token: int32(i), Logits: make([]float32, t.Info().VocabRows),
					Adapters: []transformer.Use{{Adapter: adapters[i%c.adapters], Scale: 1}},
				})
			}
			for _, r := range with {
				r.Adapters = nil
				plain = append(plain, r)
			}
			step := func(rows []transformer.Row) time.Duration {
				began := time.Now()
				if err := t.Forward(rows); err != nil {
					b.Fatal(err)
				}
				took := time.Since(began)
				for _, r := range rows {
					r.Seq.Truncate(32)
				}
				return took
			}
			var ratios, base []float64
			for b.Loop() {
				x, y := step(plain), step(with)
				ratios, base = append(ratios, float64(x)/float64(y)), append(base, x.Seconds())
			}
			slices.Sort(ratios)
			slices.Sort(base)
			b.ReportMetric(ratios[len(ratios)/2], "of-plain-speed")
			b.ReportMetric(1000*base[len(base)/2], "plain-ms")
		})
	}
}
