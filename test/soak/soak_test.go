// Package soak runs an engine for a long time on what a house sends at its worst: random requests, cancels, deadlines,
// adapters that come and go, answers in every kind of form, scores, embeddings and pinned prefixes, over prompts that share
// their beginnings. In the end every request has had its last event, every answer kept to its form, every KV page is back,
// and memory is what it was.
//
// The set is short by default and the same in every run; EDGED_SOAK=1 makes it as long as EDGED_SOAK_TIME says (30m).
package soak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edged/core/infer/engine"
	"edged/core/infer/grammar"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/plugins/backend-generic/x86"
	"edged/plugins/tokenizer-bpe/service"
	"edged/test/oracle"
)

const (
	workers   = 6
	shortRuns = 40 // requests of each worker
	context_  = 256
	// Memory may grow by what a longer life knows more of: pages of the pool that were never touched before, thread stacks.
	// A leak of a kilobyte for each request would be ten times that in half an hour.
	slackHeap = 4 << 20
)

// rig is an engine under load.
type rig struct {
	t        *testing.T
	e        *engine.Engine
	rows     int
	adapters [3]string // paths
	loaded   sync.Map  // id → struct{}{}
	tok      *service.Service
	ended    [7]atomic.Int64
	held     [kindsOfForm]atomic.Int64 // answers that were checked
	started  atomic.Int64
}

// The ways in which a request may end.
const (
	answered = iota
	cancelled
	late
	noAdapter
	tooLong
	full
	refused // its form: not served, or its shortest text is longer than max_tokens
)

func TestSoak(t *testing.T) {
	duration := time.Duration(0)
	if os.Getenv("EDGED_SOAK") == "1" {
		duration = 30 * time.Minute
		if text := os.Getenv("EDGED_SOAK_TIME"); text != "" {
			var err error
			if duration, err = time.ParseDuration(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := newRig(t)
	began := time.Now()
	r.round(1, shortRuns, 0)
	first := r.quiet()
	if duration > 0 {
		for round := uint64(2); time.Since(began) < duration; round++ {
			r.round(round, 0, min(time.Minute, duration-time.Since(began)))
			now := r.quiet()
			t.Logf("%6.0f s: %d requests, heap %d KiB, resident %d MiB, pages cached %d, on disk %d", time.Since(began).Seconds(), r.started.Load(),
				now.HeapBytes>>10, now.ResidentBytes>>20, now.KVPagesCached, now.PrefixDiskPages)
		}
	} else {
		r.round(2, shortRuns, 0)
	}
	last := r.quiet()
	if grown := last.HeapBytes - first.HeapBytes; grown > slackHeap {
		t.Errorf("the heap has grown by %d bytes, from %d", grown, first.HeapBytes)
	}
	if last.PrefixDiskDamaged != 0 || last.PrefixHits == 0 || last.PrefixDiskWritten == 0 {
		t.Errorf("%+v", last)
	}
	for way, n := range map[string]int64{
		"answered": r.ended[answered].Load(), "cancelled": r.ended[cancelled].Load(), "late": r.ended[late].Load(),
		"without their adapter": r.ended[noAdapter].Load(), "too long": r.ended[tooLong].Load(),
		"refused": r.ended[refused].Load(),
	} {
		if n == 0 {
			t.Errorf("no request was %s: the set does not try it", way)
		}
		t.Logf("%d requests %s", n, way)
	}
	for kind := range kindsOfForm {
		if r.held[kind].Load() == 0 {
			t.Errorf("no answer was in the form %s: the set does not try it", kind)
		}
		t.Logf("%d answers in the form %s", r.held[kind].Load(), kind)
	}
	t.Logf("%d tokens in forms, %d of them decided by their grammar", last.ConstrainedTokens, last.DecidedTokens)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	repo := oracle.Repo(t)
	r := &rig{t: t, e: engine.New(engine.Options{Name: "soak", Version: "soak", Kernels: x86.Best()})}
	t.Cleanup(func() {
		if err := r.e.Close(); err != nil {
			t.Error(err)
		}
	})
	// A pool that is too small for all, so that requests are set aside.
	req := backend.LoadRequest{
		Path: filepath.Join(repo, "demo/gguf/hearth-4m-q4_0.gguf"), Context: context_, MaxSequences: 4, CacheDir: t.TempDir(),
		PrefixDiskBytes: 8 << 20, PrefixDiskDaily: 64 << 20, PrefixDiskTokens: 64, ThreadsPrefill: 1, ThreadsDecode: 1,
	}
	plan, err := r.e.Plan(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	req.KVBytes = plan.KV / 4 * 2
	info, err := r.e.Load(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.rows = info.VocabRows
	r.tok = &service.Service{Log: slog.New(slog.DiscardHandler)}
	if _, err := r.tok.Load(t.Context(), req.Path); err != nil {
		t.Fatal(err)
	}
	v, err := r.tok.Vocabulary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.e.SetVocabulary(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"deutsch", "json", "pirate"} {
		r.adapters[i] = filepath.Join(repo, "demo/adapters", name)
	}
	return r
}

// round has all workers send requests: so many each, or for so long.
func (r *rig) round(seed uint64, runs int, d time.Duration) {
	until := time.Now().Add(d)
	var wg sync.WaitGroup
	for w := range uint64(workers) {
		rng := rand.New(rand.NewPCG(seed, w))
		wg.Go(func() {
			for i := 0; i < runs || runs == 0 && time.Now().Before(until); i++ {
				r.one(rng)
			}
		})
	}
	wg.Wait()
}

// one does one thing that a house does.
func (r *rig) one(rng *rand.Rand) {
	r.started.Add(1)
	switch n := rng.IntN(20); {
	case n == 0:
		r.swap(rng)
	case n == 1:
		_, err := r.e.Embed(r.t.Context(), [][]int32{r.prompt(rng, 1+rng.IntN(80))})
		r.end("embed", err)
	case n == 2:
		_, err := r.e.Score(r.t.Context(), backend.ScoreRequest{Lists: [][]int32{r.prompt(rng, 2+rng.IntN(40))}})
		r.end("score", err)
	default:
		r.generate(rng)
	}
}

// prompt begins as one of three system prompts does, for the most part.
func (r *rig) prompt(rng *rand.Rand, n int) []int32 {
	ids := make([]int32, n)
	house := rand.New(rand.NewPCG(7, uint64(rng.IntN(3))))
	for i := range ids {
		from := house
		if i >= 96 {
			from = rng
		}
		ids[i] = 3 + from.Int32N(int32(r.rows)-3)
	}
	return ids
}

// swap loads an adapter, or takes one away while others may use it.
func (r *rig) swap(rng *rand.Rand) {
	path := r.adapters[rng.IntN(len(r.adapters))]
	if rng.IntN(3) > 0 {
		info, err := r.e.LoadAdapter(r.t.Context(), backend.AdapterRequest{Path: path, Name: filepath.Base(path)})
		if err != nil {
			r.t.Error(err)
			return
		}
		r.loaded.Store(info.ID, struct{}{})
		r.end("load", nil)
		return
	}
	var err error
	r.loaded.Range(func(id, _ any) bool {
		err = r.e.UnloadAdapter(r.t.Context(), id.(string))
		return false
	})
	r.end("unload", err)
}

// generate sends one request, and breaks some off.
func (r *rig) generate(rng *rand.Rand) {
	req := backend.Request{
		ID: "soak", PromptIDs: r.prompt(rng, 1+rng.IntN(200)), MaxTokens: 1 + rng.IntN(60), N: 1, Priority: rng.IntN(3) - 1,
		Stream: rng.IntN(2) == 0, Logprobs: rng.IntN(4) == 0, IgnoreEOS: rng.IntN(2) == 0,
		Sampling: backend.Sampling{Temperature: float32(rng.IntN(3)) / 2, TopK: 40, Seed: rng.Uint64()},
	}
	switch rng.IntN(10) {
	case 0:
		req.N, req.BestOf = 2, 3
	case 1:
		req.Pin = "house"
		req.PromptIDs = r.prompt(rng, 64)
	case 2:
		req.PromptIDs = r.prompt(rng, context_+rng.IntN(3))
	case 3:
		req.Stop = []string{"e"}
	}
	if rng.IntN(3) == 0 {
		id := "gone"
		if rng.IntN(10) > 0 {
			r.loaded.Range(func(k, _ any) bool { id = k.(string); return rng.IntN(2) == 0 })
		}
		req.Adapters = []backend.AdapterUse{{ID: id, Scale: 1}}
	}
	var f form
	if rng.IntN(3) == 0 {
		f = r.form(rng)
		req.Grammar, req.MaxTokens, req.PromptIDs = f.grammar, 20+rng.IntN(200), req.PromptIDs[:min(len(req.PromptIDs), 100)]
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	left := -1
	switch rng.IntN(8) {
	case 0:
		left = rng.IntN(6) // events until it is cancelled
	case 1:
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.Duration(rng.IntN(20))*time.Millisecond)
		defer stop()
	}
	if left == 0 {
		cancel()
	}
	last := 0
	err := r.e.Generate(ctx, req, func(ev backend.Event) error {
		if ev.Done {
			last++
			r.check(f, req, ev.Choices)
		}
		if left--; left == 0 {
			cancel()
		}
		return nil
	})
	if err == nil && last != 1 {
		r.t.Errorf("%d last events", last)
	}
	r.end("generate", err)
}

// check holds answers against their form. A stop text cuts where it likes.
func (r *rig) check(f form, req backend.Request, choices []backend.Choice) {
	if f.grammar == "" || len(req.Stop) > 0 {
		return
	}
	for _, c := range choices {
		if err := f.valid(c.Text); err != nil {
			r.t.Errorf("%s: %q: %v\n%s", f.kind, c.Text, err, f.grammar)
		}
		r.held[f.kind].Add(1)
	}
}

// end counts how something ended; there is a closed list of ways.
func (r *rig) end(what string, err error) {
	if errors.Is(err, protocol.ErrUnsupported) || errors.Is(err, protocol.ErrInvalid) && strings.Contains(err.Error(), "grammar: limit too small") {
		r.ended[refused].Add(1)
		return
	}
	for way, want := range []error{
		answered: nil, cancelled: context.Canceled, late: context.DeadlineExceeded, noAdapter: protocol.ErrAdapterNotFound,
		tooLong: protocol.ErrContextLength, full: protocol.ErrQueueFull,
	} {
		if want == nil && err == nil || want != nil && errors.Is(err, want) {
			r.ended[way].Add(1)
			return
		}
	}
	r.t.Errorf("%s: %v", what, err)
}

// quiet waits until nothing runs, checks that every page is back, and returns the figures.
func (r *rig) quiet() backend.Stats {
	r.t.Helper()
	// The engine keeps the grammars that were used last with what it found out about them; so that memory can be compared,
	// those are small ones.
	for i := range 8 {
		req := backend.Request{ID: "small", PromptIDs: []int32{5}, Grammar: grammar.Choices([]string{fmt.Sprint("a", i)})}
		if err := r.e.Generate(r.t.Context(), req, func(backend.Event) error { return nil }); err != nil {
			r.t.Fatal(err)
		}
	}
	var st backend.Stats
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		var err error
		if st, err = r.e.Stats(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
		if st.Running == 0 && st.Waiting == 0 && st.KVPagesUsed == st.PrefixPinnedPages {
			break
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not everything came back: %+v", st)
		}
	}
	runtime.GC()
	runtime.GC()
	st, err := r.e.Stats(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}
