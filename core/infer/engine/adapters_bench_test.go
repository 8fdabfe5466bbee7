package engine

import (
	"cmp"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"edged/core/infer/engine/compute"
	"edged/core/infer/transformer"
	"edged/core/infer/transformer/transformertest"
	"edged/core/protocol/backend"
	"edged/plugins/backend-generic/x86"
	"edged/test/oracle"
)

// BenchmarkAdapters decodes rows that carry different adapters on all linear layers of the blocks, in turns with the same rows
// without any, and reports the share of the plain speed that is left. EDGED_BENCH_MODEL names the model (the demo's where
// it is not set), EDGED_BENCH_THREADS the number of threads, EDGED_BENCH_CACHE where its tiles are kept (none without).
func BenchmarkAdapters(b *testing.B) {
	path := cmp.Or(os.Getenv("EDGED_BENCH_MODEL"), filepath.Join(oracle.Repo(b), "demo/gguf/hearth-4m-q4_0.gguf"))
	threads, _ := strconv.Atoi(os.Getenv("EDGED_BENCH_THREADS")) // 0: all
	e := New(Options{Name: "bench", Kernels: x86.Best()})
	defer e.Close()
	if _, err := e.Load(b.Context(), backend.LoadRequest{
		Path: path, Context: 512, MaxSequences: 8, CacheDir: os.Getenv("EDGED_BENCH_CACHE"),
		ThreadsDecode: cmp.Or(threads, runtime.NumCPU()), ThreadsPrefill: cmp.Or(threads, runtime.NumCPU()),
	}, nil); err != nil {
		b.Fatal(err)
	}
	m, t := e.loaded, e.loaded.model.(*compute.Transformer).Network()
	shapes := map[string][2]int{}
	for _, name := range m.file.Names() {
		if w := m.file.Matrix(name); w != nil && strings.HasPrefix(name, "blk.") {
			shapes[name] = [2]int{w.Rows, w.Cols}
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
			var adapters []*transformer.Adapter
			for i := range c.adapters {
				a, err := t.LoadAdapter(transformertest.RandomAdapter(uint64(i), c.rank, shapes))
				if err != nil {
					b.Fatal(err)
				}
				defer a.Close()
				adapters = append(adapters, a)
			}
			// The loop owns the model: what is measured runs between two of its turns.
			if err := m.loop.do(b.Context(), func() { measureAdapters(b, t, c.rows, adapters) }); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func measureAdapters(b *testing.B, t *transformer.Model, n int, adapters []*transformer.Adapter) {
	b.Helper()
	var plain, with []transformer.Row
	for i := range n {
		seq := t.NewSeq()
		defer seq.Free()
		for range 32 {
			plain = append(plain, transformer.Row{Seq: seq, Token: int32(100 + i)})
		}
		if err := t.Forward(plain); err != nil {
			b.Error(err)
			return
		}
		plain = plain[:0]
		with = append(with, transformer.Row{
			Seq: seq, Token: int32(i), Logits: make([]float32, t.Info().VocabRows),
			Adapters: []transformer.Use{{Adapter: adapters[i%len(adapters)], Scale: 1}},
		})
	}
	for _, r := range with {
		r.Adapters = nil
		plain = append(plain, r)
	}
	step := func(rows []transformer.Row) time.Duration {
		began := time.Now()
		if err := t.Forward(rows); err != nil {
			b.Error(err)
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
}
