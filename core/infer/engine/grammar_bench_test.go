package engine

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"edged/core/infer/engine/answer"
	"edged/core/infer/grammar"
	"edged/core/infer/sample"
	"edged/core/protocol/backend"
	"edged/plugins/backend-generic/x86"
	"edged/plugins/tokenizer-bpe/service"
	"edged/test/oracle"
)

// BenchmarkForms is what a token costs that is held to a form, against a free one: answers of the same length in turns, and
// the median of the ratios of their time for each token. "first" answers are the first ones in their grammar, and "later"
// ones find the sets of tokens that earlier ones came by. Tokens that the grammar decides are counted: they are not sampled,
// but computed. EDGED_BENCH_MODEL, EDGED_BENCH_THREADS and EDGED_BENCH_CACHE are those of BenchmarkAdapters.
func BenchmarkForms(b *testing.B) {
	path := cmp.Or(os.Getenv("EDGED_BENCH_MODEL"), filepath.Join(oracle.Repo(b), "demo/gguf/hearth-4m-q4_0.gguf"))
	threads, _ := strconv.Atoi(os.Getenv("EDGED_BENCH_THREADS")) // 0: all
	e := New(Options{Name: "bench", Kernels: x86.Best()})
	defer e.Close()
	if _, err := e.Load(b.Context(), backend.LoadRequest{
		Path: path, Context: 512, MaxSequences: 2, CacheDir: os.Getenv("EDGED_BENCH_CACHE"),
		ThreadsDecode: cmp.Or(threads, runtime.NumCPU()), ThreadsPrefill: cmp.Or(threads, runtime.NumCPU()),
	}, nil); err != nil {
		b.Fatal(err)
	}
	tok := &service.Service{Log: slog.New(slog.DiscardHandler)}
	if _, err := tok.Load(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	v, err := tok.Vocabulary(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := e.SetVocabulary(b.Context(), v); err != nil {
		b.Fatal(err)
	}
	m := bench{m: e.loaded, v: e.loaded.vocab.Load()}
	for name, text := range benchForms() {
		if text == "" {
			continue
		}
		for _, s := range []struct {
			name     string
			sampling backend.Sampling
		}{{"greedy", backend.Sampling{}}, {"sampled", backend.Sampling{Temperature: 0.7, TopK: 40, TopP: 0.95}}} {
			for _, first := range []bool{true, false} {
				b.Run(fmt.Sprintf("%s/%s/first=%v", name, s.name, first), func(b *testing.B) {
					measureForm(b, &m, text, s.sampling, first)
				})
			}
		}
	}
}

func measureForm(b *testing.B, m *bench, text string, s backend.Sampling, first bool) {
	b.Helper()
	const tokens = 64
	one := func(i int, text string) (perToken float64) {
		s.Seed = uint64(i)
		req := backend.Request{PromptIDs: m.random(i, 16), Sampling: s, MaxTokens: tokens, Grammar: text}
		t, j, err := m.run(b.Context(), req, true)
		if err != nil {
			b.Fatal(err)
		}
		return seconds(t.Decode) / float64(len(j.branches[0].IDs)-1)
	}
	one(0, "")
	if !first {
		for i := range 3 {
			one(i, text)
		}
	}
	before := m.m.loop.stats()
	var ratios, free []float64
	for i := 0; b.Loop(); i++ {
		form := text
		if first {
			form += fmt.Sprint("# ", i, "\n")
		}
		x, y := one(i, ""), one(i, form)
		ratios, free = append(ratios, y/x), append(free, x)
	}
	after := m.m.loop.stats()
	b.ReportMetric(100*(median(ratios)-1), "%more")
	b.ReportMetric(100*(slices.Max(ratios)-1), "%most")
	b.ReportMetric(1000*median(free), "free-ms")
	b.ReportMetric(100*float64(after.DecidedTokens-before.DecidedTokens)/float64(after.ConstrainedTokens-before.ConstrainedTokens), "%decided")
}

// BenchmarkFormSteps is the same without the forward pass, whose time varies by more than what is looked for: what drawing and
// taking in one token costs, free and held to a form, with Qwen 2's vocabulary and logits at random. A forward pass of
// the 0.5B shape takes about 11 ms here.
func BenchmarkFormSteps(b *testing.B) {
	tok := &service.Service{Log: slog.New(slog.DiscardHandler)}
	if _, err := tok.Load(b.Context(), oracle.Vocabulary(b, "qwen2")); err != nil {
		b.Fatal(err)
	}
	words, err := tok.Vocabulary(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	v, err := answer.NewVocabulary(words, len(words.Pieces), nil)
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	logits, peaks := make([][]float32, 8), make([][]float32, 8) // as a model gives them
	for i := range logits {
		logits[i] = make([]float32, v.Limit())
		for k := range logits[i] {
			logits[i][k] = float32(2 * rng.NormFloat64())
		}
		peaks[i] = make([]float32, (v.Limit()+sample.PeakLen-1)/sample.PeakLen)
		sample.Peaks(peaks[i], logits[i])
	}
	const tokens = 64
	for _, s := range []backend.Sampling{{}, {Temperature: 0.7, TopK: 40, TopP: 0.95}} {
		for name, text := range benchForms() {
			for _, kind := range []string{"first", "later", "limited"} {
				if name == "free" && kind != "later" {
					continue
				}
				b.Run(fmt.Sprintf("temperature=%v/%s/%s", s.Temperature, name, kind), func(b *testing.B) {
					var d answer.Drawer
					drawn := 0
					var took, longest time.Duration
					for i := 0; b.Loop(); i++ {
						form := text
						if kind == "first" && text != "" {
							form += fmt.Sprint("# ", i, "\n")
						}
						s.Seed = uint64(i)
						req := backend.Request{PromptIDs: []int32{1}, Sampling: s, MaxTokens: 400, Grammar: form, IgnoreEOS: true}
						if kind == "limited" {
							req.MaxTokens = tokens
						}
						a, err := answer.New(b.Context(), req, v, v.Limit(), 1000)
						if err != nil {
							b.Fatal(err)
						}
						c := a.Choices[0]
						for n := 0; n < tokens && c.Finish == ""; n++ {
							began := time.Now()
							row := (i + n) % len(logits)
							id, err := d.Draw(c, logits[row], peaks[row], len(c.IDs))
							if err != nil {
								b.Fatal(err)
							}
							if _, err := d.Take(c, id, logits[row], 0); err != nil {
								b.Fatal(err)
							}
							step := time.Since(began)
							took, longest, drawn = took+step, max(longest, step), drawn+1
						}
					}
					b.ReportMetric(took.Seconds()*1e6/float64(drawn), "µs/token")
					b.ReportMetric(longest.Seconds()*1e6, "µs-longest")
				})
			}
		}
	}
}

// benchForms are what answers are held to, by name.
func benchForms() map[string]string {
	const light = `{"type":"object","properties":{"room":{"enum":["hall","kitchen","shed"]},"on":{"type":"boolean"},"level":{"type":"integer","minimum":0,"maximum":100},"reason":{"type":"string","maxLength":60}},"required":["room","on","level","reason"]}`
	return map[string]string{
		"free":    "",
		"text":    grammar.Schema([]byte(`{"type":"string","minLength":20}`)),
		"any":     grammar.Schema([]byte(`{"type":"array","items":{},"minItems":2}`)),
		"schema":  grammar.Schema([]byte(`{"type":"array","items":` + light + `,"minItems":1}`)),
		"numbers": grammar.Schema([]byte(`{"type":"array","items":{"type":"number"},"minItems":2}`)),
		"regex":   grammar.Regex(`([A-Z][a-z]+( [a-z]+){3,9}\. ){1,}`),
	}
}
