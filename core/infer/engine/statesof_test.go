package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/model/arch"
	"edged/core/model/weights"
	"edged/core/protocol/backend"
	"edged/test/oracle"
	"edged/test/race"
)

// stateFamilies are the oracle's folders whose models have a fixed state and are served.
func stateFamilies(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(oracle.Dir(t), "families", "*", "hf"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, path := range all {
		m, err := weights.OpenHeaders(path)
		if err != nil {
			continue // a family that is not served, or other spellings of one that is, which lack weights
		}
		if len(arch.States(m.Spec)) > 0 && m.Spec.Kind == arch.Decoder {
			out = append(out, path)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(out) < 14 {
		t.Fatalf("%d families with a state: %v", len(out), out)
	}
	return out
}

// TestStateFamilies: of each family with a fixed state, an answer has the bits that it has alone and cold, whatever happens to it: beside
// others, with its prompt cut anywhere, as one of four choices, set aside, behind a request that was cancelled, behind a prefix in memory, and
// behind one that a process left on disk that was killed. So has one whose prompt differs in the middle from what was seen.
func TestStateFamilies(t *testing.T) {
	race.SkipArithmetic(t)
	for _, path := range stateFamilies(t) {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) { stateFamily(t, path) })
	}
}

func stateFamily(t *testing.T, path string) {
	t.Helper()
	ids := func(n, salt int) []int32 {
		out := prompt(n, salt)
		for i := range out {
			out[i] = out[i]*5 + 1 // below 512
		}
		return out
	}
	seen := ids(150, 1)
	reqs := map[string]backend.Request{
		"greedy":  {PromptIDs: seen, MaxTokens: 9, IgnoreEOS: true, Logprobs: true, TopLogprobs: 3},
		"choices": {PromptIDs: seen, MaxTokens: 6, IgnoreEOS: true, Logprobs: true, N: 4, Sampling: backend.Sampling{Temperature: 1, Seed: 7}},
		"changed": {PromptIDs: slices.Concat(seen[:101], ids(4, 2), seen[105:]), MaxTokens: 6, IgnoreEOS: true, Logprobs: true},
		"longer":  {PromptIDs: slices.Concat(seen, ids(21, 3)), MaxTokens: 6, IgnoreEOS: true, Logprobs: true},
		"other":   {PromptIDs: ids(43, 4), MaxTokens: 12, IgnoreEOS: true, Logprobs: true},
	}
	cold := backend.LoadRequest{Path: path, Context: 256, ThreadsDecode: 1, ThreadsPrefill: 1, MaxSequences: 8, NoPrefixCache: true, NoLookup: true}
	e, _ := load(t, cold)
	want := map[string]backend.Event{}
	for name, r := range reqs {
		want[name] = must(t, e, r).last
	}
	holds := func(how, name string, a reply) {
		t.Helper()
		if a.err != nil {
			t.Errorf("%s: %s: %v", how, name, a.err)
		} else if d := cmp.Diff(want[name].Choices, a.last.Choices); d != "" {
			t.Errorf("%s: %s differs: %s", how, name, d)
		}
	}
	run := func(e *Engine, how string) {
		t.Helper()
		for _, name := range []string{"greedy", "changed", "longer", "choices", "other"} {
			holds(how, name, generate(t.Context(), e, reqs[name]))
		}
	}
	within := func(e *Engine, f func(l *loop)) {
		t.Helper()
		if err := e.loaded.loop.do(t.Context(), func() { f(e.loaded.loop) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, rows := range []int{1, 7, 33} { // of a turn
		within(e, func(l *loop) { l.size.Batch = rows })
		holds("cut into "+strconv.Itoa(rows), "changed", generate(t.Context(), e, reqs["changed"]))
	}

	dir := t.TempDir()
	warm := cold
	warm.NoPrefixCache, warm.NoLookup = false, false
	warm.CacheDir, warm.PrefixDiskBytes, warm.PrefixDiskDaily, warm.PrefixDiskTokens = dir, 1<<28, 1<<28, 32
	e, _ = load(t, warm)
	within(e, func(l *loop) { l.drafts.Eager = true })
	run(e, "filling the cache")
	run(e, "from memory")
	if st := statsOf(t, e); st.PrefixTokens < 149+149+96 {
		t.Errorf("from memory: %d tokens were found", st.PrefixTokens)
	}
	written(t, e)
	killed := t.TempDir() // what is on disk when a process dies
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for round := range 3 {
		for name, r := range reqs {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				a := reply{}
				a.err = e.Generate(ctx, r, func(ev backend.Event) error {
					if ev.Done {
						a.last = ev
					} else if round == 1 {
						cancel()
					}
					return nil
				})
				if round != 1 || !errors.Is(a.err, context.Canceled) {
					holds("together", name, a)
				}
			})
		}
	}
	wg.Wait()
	aside := false
	r := reqs["greedy"]
	r.Stream = true
	a := reply{}
	a.err = e.Generate(t.Context(), r, func(ev backend.Event) error {
		if ev.Done {
			a.last = ev
		} else if !aside && len(ev.IDs) > 0 {
			aside = true
			within(e, func(l *loop) {
				if len(l.running) > 0 {
					l.preempt(l.running[0])
				}
			})
		}
		return nil
	})
	holds("set aside", "greedy", a)

	warm.CacheDir = killed
	e, _ = load(t, warm)
	run(e, "from disk")
	if st := statsOf(t, e); st.PrefixDiskTokens < 128 {
		t.Errorf("from disk: %d tokens were read", st.PrefixDiskTokens)
	}
}
