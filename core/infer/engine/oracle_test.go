package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/plugins/backend-generic/x86"
	"edged/quant/kernel"
	"edged/test/oracle"
	"edged/test/race"
)

// load serves a real model on the processor's own kernels. Its pieces are the ids in words, so that text is not what is tested.
func load(t *testing.T, req backend.LoadRequest) (*Engine, backend.ModelInfo) {
	t.Helper()
	e := New(Options{Name: "test", Version: "test", Kernels: x86.Best()})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	info, err := e.Load(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	v := backend.Vocabulary{BOS: -1}
	for i := range info.VocabRows {
		v.Pieces = append(v.Pieces, fmt.Append(nil, i, " "))
	}
	if err := e.SetVocabulary(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	return e, info
}

// answers are an oracle's file, as oracle/README.md describes it.
type answers struct {
	File    *string `json:"file"`
	Prompts []struct {
		IDs        []int32   `json:"ids"`
		Greedy     []int32   `json:"greedy"`
		Margins    []float64 `json:"margins"`
		RefGreedy  []int32   `json:"ref_greedy"`
		RefMargins []float64 `json:"ref_margins"`
	} `json:"prompts"`
	PPLText  []int32 `json:"ppl_text_ids"`
	RefNLL   float64 `json:"ref_nll_sum"`
	NLLTerms int     `json:"nll_terms"`
}

func read[T any](t *testing.T, path string) (out T) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out
}

// equalUntil compares greedy ids step by step, up to the first step whose margin does not decide.
func equalUntil(t *testing.T, what string, got, want []int32, margins []float64, least float64) {
	t.Helper()
	for i := range want {
		if margins[i] < least {
			t.Logf("%s: compared up to step %d, whose margin is %.3g", what, i, margins[i])
			return
		}
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("%s: step %d differs: got %v, want %v", what, i, got, want)
			return
		}
	}
}

// TestOracleModels runs every file of oracle/models in float32: greedy ids and the likelihood of a text.
func TestOracleModels(t *testing.T) {
	race.SkipArithmetic(t)
	files, err := filepath.Glob(filepath.Join(oracle.Dir(t), "models", "*", "oracle", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no oracles", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		family := filepath.Base(filepath.Dir(filepath.Dir(file)))
		if strings.HasSuffix(name, ".dequant") {
			continue
		}
		t.Run(family+"/"+name, func(t *testing.T) {
			if testing.Short() && name != "hf" && !strings.HasSuffix(name, "Q4_0") {
				t.Skip("short")
			}
			t.Parallel()
			want := read[answers](t, file)
			path := filepath.Join(oracle.Dir(t), "models", family, "hf")
			if name != "hf" {
				if want.File == nil {
					t.Skip("the file is not shipped: its weights are the F16 file's")
				}
				path = filepath.Join(oracle.Dir(t), "models", family, *want.File)
			}
			e, _ := load(t, backend.LoadRequest{Path: path, Precision: backend.Exact, Context: 256})
			least := 0.004
			if family == "gpt2" {
				least = 0.02
			}
			for i, p := range want.Prompts {
				a := generate(t.Context(), e, backend.Request{PromptIDs: p.IDs, MaxTokens: 32, IgnoreEOS: true})
				if a.err != nil {
					t.Fatal(a.err)
				}
				ids, margins := p.RefGreedy, p.RefMargins
				if ids == nil {
					// llama.cpp's own, with activations in 8 bits where weights are quantised.
					ids, margins = p.Greedy, p.Margins
					least = 2
					if strings.HasSuffix(name, "F16") || strings.HasSuffix(name, "F32") {
						least = 0.1
					}
				}
				equalUntil(t, fmt.Sprint("prompt ", i), a.last.Choices[0].IDs, ids, margins, least)
			}
			scores, err := e.Score(t.Context(), backend.ScoreRequest{Lists: [][]int32{want.PPLText}})
			if err != nil {
				t.Fatal(err)
			}
			nll := 0.0
			for _, lp := range scores[0].Logprobs {
				nll -= float64(lp)
			}
			per := (nll - want.RefNLL) / float64(want.NLLTerms)
			t.Logf("%+.2g nats per token from the reference", per)
			if len(scores[0].Logprobs) != want.NLLTerms || !(math.Abs(per) <= 1e-3) {
				t.Errorf("%d terms sum to %.4f, want %d and %.4f", len(scores[0].Logprobs), nll, want.NLLTerms, want.RefNLL)
			}
		})
	}
}

// TestOracleAdapters runs every adapter case of oracle/lora on the folder that the adapters were made for, all prompts and
// cases at once: rows of one batch carry different adapters.
func TestOracleAdapters(t *testing.T) {
	race.SkipArithmetic(t)
	for _, base := range []string{"llama-tied", "qwen2"} {
		t.Run(base, func(t *testing.T) {
			dir := filepath.Join(oracle.Dir(t), "lora", base)
			type file struct {
				Cases []struct {
					Key      string `json:"key"`
					Adapters []struct {
						Name  string  `json:"name"`
						Scale float32 `json:"scale"`
					} `json:"adapters"`
					answers
				} `json:"cases"`
			}
			want := read[file](t, filepath.Join(dir, "oracle.json"))
			for _, form := range []string{"", ".gguf"} {
				model := filepath.Join(oracle.Dir(t), "models", base, "hf")
				if form == ".gguf" {
					model = filepath.Join(oracle.Dir(t), "models", base, base+"-F16.gguf")
				}
				e, _ := load(t, backend.LoadRequest{Path: model, Precision: backend.Exact, Context: 128, MaxSequences: 16})
				ids := map[string]string{}
				var wg sync.WaitGroup
				for _, c := range want.Cases {
					var uses []backend.AdapterUse
					for _, a := range c.Adapters {
						if ids[a.Name] == "" {
							info, err := e.LoadAdapter(t.Context(), backend.AdapterRequest{Path: filepath.Join(dir, a.Name+form), Name: a.Name})
							if err != nil {
								t.Fatal(err)
							}
							ids[a.Name] = info.ID
						}
						uses = append(uses, backend.AdapterUse{ID: ids[a.Name], Scale: a.Scale})
					}
					for i, p := range c.Prompts {
						wg.Go(func() {
							a := generate(t.Context(), e, backend.Request{PromptIDs: p.IDs, MaxTokens: 32, IgnoreEOS: true, Adapters: uses})
							if a.err != nil {
								t.Error(a.err)
								return
							}
							equalUntil(t, fmt.Sprint(c.Key, form, " prompt ", i), a.last.Choices[0].IDs, p.RefGreedy, p.RefMargins, 0.004)
						})
					}
				}
				wg.Wait()
			}
		})
	}
}

// TestOracleNF4 runs the NF4 folder with and without its adapter: what the issue calls bit-true.
func TestOracleNF4(t *testing.T) {
	race.SkipArithmetic(t)
	root := filepath.Join(oracle.Dir(t), "nf4")
	dir := filepath.Join(root, "llama-tied-nf4-dq")
	type file struct {
		Cases []struct {
			LoRA *string `json:"lora"`
			answers
		} `json:"cases"`
	}
	want := read[file](t, filepath.Join(dir, "oracle", "oracle.json"))
	e, info := load(t, backend.LoadRequest{Path: dir, Precision: backend.Exact, Context: 128})
	if info.Format != "NF4" || info.KVType != "f32" || info.Precision != backend.Exact || len(info.Hash) != 64 {
		t.Errorf("%+v", info)
	}
	for _, c := range want.Cases {
		var uses []backend.AdapterUse
		if c.LoRA != nil {
			a, err := e.LoadAdapter(t.Context(), backend.AdapterRequest{Path: filepath.Join(root, *c.LoRA)})
			if err != nil {
				t.Fatal(err)
			}
			uses = append(uses, backend.AdapterUse{ID: a.ID, Scale: 1})
		}
		for i, p := range c.Prompts {
			a := generate(t.Context(), e, backend.Request{PromptIDs: p.IDs, MaxTokens: 32, IgnoreEOS: true, Adapters: uses})
			if a.err != nil {
				t.Fatal(a.err)
			}
			equalUntil(t, fmt.Sprint("adapters ", len(uses), ", prompt ", i), a.last.Choices[0].IDs, p.RefGreedy, p.RefMargins, 0.004)
		}
	}
}

// TestDemoAloneOrTogether is TestAloneOrTogether on the shipped model and its adapters, in both precisions.
func TestDemoAloneOrTogether(t *testing.T) {
	repo := oracle.Repo(t)
	models := []backend.LoadRequest{
		{Path: "demo/hf-nf4"},
		{Path: "demo/hf-nf4", Precision: backend.Exact},
		{Path: "demo/gguf/hearth-4m-q4_0.gguf", KVType: "q8_0"},
	}
	requests := 6
	if race.Enabled || testing.Short() {
		models, requests = models[:1], 3
	}
	for _, c := range models {
		t.Run(fmt.Sprint(filepath.Base(c.Path), c.Precision), func(t *testing.T) {
			c.Path, c.Context = filepath.Join(repo, c.Path), 128
			var want []backend.Event
			for _, shape := range []struct {
				sequences int
				kvBytes   int64
				threads   int
			}{{1, 0, 1}, {8, 0, 2}, {8, 1, 2}} {
				req := c
				req.MaxSequences, req.ThreadsDecode, req.ThreadsPrefill = shape.sequences, shape.threads, shape.threads
				if shape.kvBytes > 0 { // as few as one context needs
					plan, err := New(Options{Kernels: kernel.Portable{}}).Plan(t.Context(), backend.LoadRequest{
						Path: c.Path, Context: c.Context, MaxSequences: 1, KVType: c.KVType, Precision: c.Precision,
					})
					if err != nil {
						t.Fatal(err)
					}
					req.KVBytes = plan.KV
				}
				e, info := load(t, req)
				var uses [][]backend.AdapterUse
				uses = append(uses, nil)
				for _, name := range []string{"pirate", "json", "deutsch"} {
					a, err := e.LoadAdapter(t.Context(), backend.AdapterRequest{Path: filepath.Join(repo, "demo/adapters", name), Name: name})
					if err != nil {
						t.Fatal(err)
					}
					uses = append(uses, []backend.AdapterUse{{ID: a.ID, Scale: 1}})
				}
				uses = append(uses, slices.Concat(uses[1], uses[2]))
				got := make([]backend.Event, requests)
				var wg sync.WaitGroup
				for i := range got {
					run := func() {
						p := make([]int32, 3+7*i)
						for k := range p {
							p[k] = int32(mix(uint64(i*1000+k)) % uint64(info.VocabRows))
						}
						a := generate(t.Context(), e, backend.Request{
							ID: strconv.Itoa(i), PromptIDs: p, MaxTokens: 10, IgnoreEOS: true, Adapters: uses[i%len(uses)], Logprobs: true, TopLogprobs: 2,
							Sampling: backend.Sampling{Temperature: float32(i%3) / 2, TopP: 0.95, Seed: uint64(i), RepeatPenalty: 1.1}, N: 1 + i%2,
						})
						if a.err != nil {
							t.Error(a.err)
						}
						got[i] = a.last
					}
					if shape.sequences == 1 {
						run()
					} else {
						wg.Go(run)
					}
				}
				wg.Wait()
				if want == nil {
					want = got
					continue
				}
				for i := range got {
					if d := cmp.Diff(want[i], got[i], ignoreTimes); d != "" {
						t.Errorf("%+v: request %d differs: %s", shape, i, d)
					}
				}
			}
		})
	}
}

func TestLoadRefusals(t *testing.T) {
	demo := filepath.Join(oracle.Repo(t), "demo/hf-nf4")
	for name, c := range map[string]struct {
		req  backend.LoadRequest
		kind error
		says string
	}{
		"no file":       {backend.LoadRequest{Path: "/nowhere.gguf"}, protocol.ErrModel, "/nowhere.gguf"},
		"precision":     {backend.LoadRequest{Path: demo, Precision: "rough"}, protocol.ErrInvalid, "rough"},
		"kv":            {backend.LoadRequest{Path: demo, KVType: "f8"}, protocol.ErrInvalid, "f8"},
		"kv when exact": {backend.LoadRequest{Path: demo, KVType: "f16", Precision: backend.Exact}, protocol.ErrInvalid, "exact"},
		"head":          {backend.LoadRequest{Path: demo, Head: "q2_k"}, protocol.ErrInvalid, "q2_k"},
		"quantize":      {backend.LoadRequest{Path: demo, Quantize: "f16"}, protocol.ErrInvalid, "f16"},
		"sequences":     {backend.LoadRequest{Path: demo, MaxSequences: 1000}, protocol.ErrInvalid, "max_sequences"},
		"negative":      {backend.LoadRequest{Path: demo, KVBytes: -1}, protocol.ErrInvalid, "kv_bytes"},
		"context":       {backend.LoadRequest{Path: demo, Context: 1 << 30}, protocol.ErrInvalid, "context"},
		"kv_bytes":      {backend.LoadRequest{Path: demo, KVBytes: 100}, protocol.ErrInvalid, "kv_bytes"},
		"memory":        {backend.LoadRequest{Path: demo, MemoryLimit: 1 << 20}, protocol.ErrNoMemory, "MiB are free"},
	} {
		t.Run(name, func(t *testing.T) {
			e := New(Options{Kernels: kernel.Portable{}})
			_, err := e.Load(t.Context(), c.req, nil)
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v that says %q", err, c.kind, c.says)
			}
			// It failed, so that another try may succeed.
			if _, err := e.Load(t.Context(), backend.LoadRequest{Path: demo}, nil); err != nil {
				t.Error(err)
			}
			if _, err := e.Load(t.Context(), backend.LoadRequest{Path: demo}, nil); !errors.Is(err, protocol.ErrInvalid) {
				t.Errorf("twice: got %v", err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("regardless", func(t *testing.T) {
		load(t, backend.LoadRequest{Path: demo, MemoryLimit: 1 << 20, IgnorePlan: true})
	})
}

func TestLoadStages(t *testing.T) {
	e := New(Options{Kernels: kernel.Portable{}})
	var stages []string
	req := backend.LoadRequest{Path: filepath.Join(oracle.Repo(t), "demo/hf-nf4"), Head: "q8_0", CacheDir: t.TempDir()}
	info, err := e.Load(t.Context(), req, func(p backend.LoadProgress) { stages = append(stages, p.Stage) })
	if err != nil {
		t.Fatal(err)
	}
	// A stage may report more than once.
	if d := cmp.Diff([]string{"plan", "open", "pack", "map", "tune", "ready"}, slices.Compact(stages)); d != "" {
		t.Error(d)
	}
	if info.Plan.HeadSaves <= 0 || info.Plan.Derived == 0 || !info.HasTokenizer || info.Context == 0 || info.Name == "" {
		t.Errorf("%+v", info)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestPlan(t *testing.T) {
	e := New(Options{Kernels: kernel.Portable{}})
	path := filepath.Join(oracle.Repo(t), "demo/hf-nf4")
	plans := map[string]backend.MemoryPlan{}
	for _, head := range []string{"as-is", "q8_0", "q4_0"} {
		p, err := e.Plan(t.Context(), backend.LoadRequest{Path: path, Head: head, Context: 512, MaxSequences: 4})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %+v", head, p)
		if !p.Fits || p.Available == 0 || p.Total != p.Weights+p.Derived+p.KV+p.Scratch+p.Adapters {
			t.Errorf("%s: %+v", head, p)
		}
		plans[head] = p
	}
	as, q8, q4 := plans["as-is"], plans["q8_0"], plans["q4_0"]
	if as.HeadSaves != 0 || q8.HeadBytes+q8.HeadSaves != as.HeadBytes || q4.HeadBytes+q4.HeadSaves != as.HeadBytes {
		t.Error("bytes and savings do not add up")
	}
	if as.HeadBytes*17 != q8.HeadBytes*32 || as.HeadBytes*9 != q4.HeadBytes*32 { // 16 bits against 8.5 and 4.5
		t.Errorf("head of %d, %d, %d bytes", as.HeadBytes, q8.HeadBytes, q4.HeadBytes)
	}
	// KV: twice the sequences, twice the bytes; a small machine gets what is left, but never less than one context.
	p, err := e.Plan(t.Context(), backend.LoadRequest{Path: path, Context: 512, MaxSequences: 8})
	if err != nil || p.KV != 2*as.KV {
		t.Errorf("%d, %v", p.KV, err)
	}
	p, err = e.Plan(t.Context(), backend.LoadRequest{Path: path, Context: 512, MaxSequences: 4, MemoryLimit: 1})
	if err != nil || p.KV != as.KV/4 || p.Fits {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestHeapDoesNotGrow holds the Go heap of a loaded engine below a bound that the model's 3 MB would break, and the same
// after requests.
func TestHeapDoesNotGrow(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	e, info := load(t, backend.LoadRequest{Path: filepath.Join(oracle.Repo(t), "demo/hf-nf4")})
	loaded := heap() - before
	t.Logf("%d kB of heap for %d kB of weights", loaded>>10, info.Plan.Weights>>10)
	if race.Enabled {
		t.Skip("scratch is on the heap with the race detector")
	}
	if loaded > 2<<20 {
		t.Errorf("%d bytes of heap for a loaded model", loaded)
	}
	for i := range 10 {
		if a := generate(t.Context(), e, backend.Request{PromptIDs: []int32{1, 2, 3}, MaxTokens: 20, IgnoreEOS: true, Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i)}}); a.err != nil {
			t.Fatal(a.err)
		}
	}
	if more := heap() - before - loaded; more > 1<<20 {
		t.Errorf("%d bytes more after 10 requests", more)
	}
}
