package engine

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edged/core/infer/kv"
	"edged/core/model/arch"
	"edged/core/model/weights"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/quant/kernel"
	"edged/test/oracle"
	"edged/test/race"
)

// TestSameIDs is the promise that a request and its seed decide the answer, on the shipped model: the same eight requests,
// greedy and sampled, with penalties, choices, stop strings and a text that quotes its prompt, give the same ids and
// log-probabilities one by one without cache and guesses, one by one with each of them, all at once, a second time with a warm cache,
// and with so few pages that some are set aside.
func TestSameIDs(t *testing.T) {
	sameIDs(t, filepath.Join(oracle.Repo(t), "demo/gguf/hearth-4m-q4_0.gguf"), " 1", 300)
}

// TestSameIDsOfFamilies: so it is for experts that each row chooses, for a cache of latent rows, and for states that cannot be taken back,
// beside keys and values and alone.
func TestSameIDsOfFamilies(t *testing.T) {
	for _, family := range []string{"qwen3_moe", "deepseek_v3", "lfm2", "mamba2", "qwen3_5", "qwen3_5_moe", "qwen3_next", "granitemoehybrid", "falcon_h1", "jamba", "recurrent_gemma", "kimi_linear"} {
		t.Run(family, func(t *testing.T) { sameIDs(t, filepath.Join(oracle.Dir(t), "families", family, "hf"), " 1", 100) })
	}
}

func sameIDs(t *testing.T, path, stop string, first int32) {
	t.Helper()
	race.SkipArithmetic(t)
	var reqs []backend.Request
	for i := range 8 {
		line := make([]int32, 9+i)
		for k := range line {
			line[k] = int32(mix(uint64(i/2*1000+k))%400) + first // requests 0 and 1 begin alike, 2 and 3, …
		}
		r := backend.Request{
			ID: strconv.Itoa(i), PromptIDs: slices.Concat(line, line[2:], line[:5]), MaxTokens: 24, IgnoreEOS: true, Logprobs: i == 5,
			Sampling: backend.Sampling{Temperature: []float32{0, 0.7, 1}[i%3], TopP: 0.95, Seed: uint64(i), RepeatPenalty: 1 + float32(i%2)/20},
		}
		switch i {
		case 3:
			r.N = 2
		case 4:
			r.Stop = []string{stop}
		case 6:
			r.ForcedIDs = slices.Concat(line, line)
		case 7:
			r.Sampling = backend.Sampling{}
		}
		reqs = append(reqs, r)
	}
	m, err := weights.OpenHeaders(path)
	if err != nil {
		t.Fatal(err)
	}
	one, fixed := 3*kv.PageBytes(m.Spec, kernel.KVF16), len(arch.States(m.Spec)) > 0
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	var want []backend.Event
	for _, c := range []struct {
		name     string
		load     backend.LoadRequest
		together bool
		eager    bool
		rounds   int
	}{
		{"alone", backend.LoadRequest{MaxSequences: 1, NoPrefixCache: true, NoLookup: true}, false, false, 1},
		{"with cache", backend.LoadRequest{MaxSequences: 1, NoLookup: true}, false, false, 2},
		{"with guesses", backend.LoadRequest{MaxSequences: 1, NoPrefixCache: true}, false, true, 1},
		{"together", backend.LoadRequest{MaxSequences: 16, NoPrefixCache: true, NoLookup: true}, true, false, 1},
		{"together with both", backend.LoadRequest{MaxSequences: 16}, true, true, 2},
		{"set aside", backend.LoadRequest{MaxSequences: 16, KVBytes: one}, true, true, 1},
	} {
		c.load.Path, c.load.Context, c.load.ThreadsDecode, c.load.ThreadsPrefill = path, 96, 1, 1
		e, _ := load(t, c.load)
		if err := e.loaded.loop.do(t.Context(), func() { e.loaded.loop.drafts.Eager = c.eager }); err != nil {
			t.Fatal(err)
		}
		for round := range c.rounds {
			got := make([]backend.Event, len(reqs))
			var wg sync.WaitGroup
			// Requests that come together are queued in their order before the first of them runs.
			begin, held := make(chan struct{}), make(chan struct{})
			if c.together {
				wg.Go(func() {
					if err := e.loaded.loop.do(t.Context(), func() { close(held); <-begin }); err != nil {
						t.Error(err)
					}
				})
				<-held
			}
			for i, r := range reqs {
				run := func() {
					a := generate(t.Context(), e, r)
					if a.err != nil {
						t.Errorf("%s: request %s: %v", c.name, r.ID, a.err)
					}
					got[i] = a.last
				}
				if !c.together {
					run()
					continue
				}
				wg.Go(run)
				for len(e.loaded.loop.commands) <= i {
					time.Sleep(time.Millisecond)
				}
			}
			close(begin)
			wg.Wait()
			if want == nil {
				want = got
			}
			for i := range got {
				if d := cmp.Diff(want[i], got[i], ignoreTimes); d != "" {
					t.Errorf("%s, round %d: request %s differs: %s", c.name, round, reqs[i].ID, d)
				}
			}
		}
		st, err := e.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d turns, %d tokens from the cache, %d guesses, %d right", c.name, st.Steps, st.PrefixTokens, st.DraftedTokens, st.AcceptedTokens)
		if fixed { // a state cannot be taken back behind a wrong guess
			if st.DraftedTokens > 0 {
				t.Errorf("%s: %d guesses", c.name, st.DraftedTokens)
			}
		} else if c.eager && (st.AcceptedTokens == 0 || st.DraftedTokens == st.AcceptedTokens) {
			t.Errorf("%s: %d guesses, %d right: the test does not test", c.name, st.DraftedTokens, st.AcceptedTokens)
		}
		if c.load.KVBytes > 0 {
			if err := e.loaded.loop.do(t.Context(), func() {
				t.Logf("%s: %d times", c.name, e.loaded.loop.preemptions)
				if e.loaded.loop.preemptions == 0 {
					t.Errorf("%s: none was", c.name)
				}
			}); err != nil {
				t.Error(err)
			}
		}
		// A state is known at the end of its prompt only, which three pages do not keep for eight requests.
		if c.rounds > 1 && st.PrefixTokens == 0 && (!fixed || c.together) {
			t.Errorf("%s: nothing was known", c.name)
		}
	}
}

// TestDraftModel: the shipped model guesses for itself, in another format: nearly all comes true, answers are the same, and the
// plan counts it. A model of another vocabulary is refused.
func TestDraftModel(t *testing.T) {
	race.SkipArithmetic(t)
	repo := oracle.Repo(t)
	path, small := filepath.Join(repo, "demo/gguf/hearth-4m-q4_0.gguf"), filepath.Join(repo, "demo/hf-nf4")
	req := backend.LoadRequest{Path: path, Context: 96, MaxSequences: 2, NoLookup: true, ThreadsDecode: 1, ThreadsPrefill: 1}
	plain, _ := load(t, req)
	req.DraftModel = small
	e, info := load(t, req)
	if info.Plan.Draft == 0 || info.Plan.Total != info.Plan.Weights+info.Plan.Derived+info.Plan.KV+info.Plan.Scratch+info.Plan.Adapters+info.Plan.Draft {
		t.Errorf("%+v", info.Plan)
	}
	if err := e.loaded.loop.do(t.Context(), func() { e.loaded.loop.drafts.Eager = true }); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		r := backend.Request{
			ID: strconv.Itoa(i), PromptIDs: prompt(10+70*(i%2), i), MaxTokens: 14, IgnoreEOS: true,
			Sampling: backend.Sampling{Temperature: float32(i) / 4, TopP: 0.9, Seed: 5},
		}
		want, got := generate(t.Context(), plain, r), generate(t.Context(), e, r)
		if want.err != nil || got.err != nil {
			t.Fatal(want.err, got.err)
		}
		if d := cmp.Diff(want.last, got.last, ignoreTimes); d != "" {
			t.Errorf("request %d differs: %s", i, d)
		}
	}
	st, err := e.Stats(t.Context())
	t.Logf("%d guesses, %d right, %v", st.DraftedTokens, st.AcceptedTokens, err)
	if st.AcceptedTokens < 10 {
		t.Errorf("%d guesses, %d right", st.DraftedTokens, st.AcceptedTokens)
	}
	other, err := filepath.Glob(filepath.Join(oracle.Dir(t), "models", "*", "*-F16.gguf"))
	if err != nil || len(other) == 0 {
		t.Fatal("no other models", err)
	}
	req.DraftModel = other[0]
	refused := New(Options{Kernels: kernel.Portable{}})
	if _, err := refused.Load(t.Context(), req, nil); !errors.Is(err, protocol.ErrModel) {
		t.Errorf("a draft model of another vocabulary: %v", err)
	}
}
