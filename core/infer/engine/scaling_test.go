package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"edged/core/protocol/backend"
	"edged/quant/kernel"
	"edged/test/oracle"
	"edged/test/race"
)

// TestAcrossTheBorder: answers that grow beyond the length at which longrope turns a sequence in another way are those of
// transformers, which computes it anew there: alone, with the prefix cache, with guesses, together, and with so few pages that some are
// set aside.
func TestAcrossTheBorder(t *testing.T) {
	race.SkipArithmetic(t)
	base := filepath.Join(oracle.Dir(t), "families", "phi3-longrope-crossing")
	text, err := os.ReadFile(filepath.Join(base, "oracle", "hf.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Prompts []struct {
			IDs       []int32 `json:"ids"`
			RefGreedy []int32 `json:"ref_greedy"`
		} `json:"prompts"`
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	const context, border = 320, 256
	path := filepath.Join(base, "hf")
	one, err := New(Options{Kernels: kernel.Portable{}}).Plan(t.Context(), backend.LoadRequest{Path: path, Context: context, MaxSequences: 1, Precision: backend.Exact})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		load     backend.LoadRequest
		together bool
		eager    bool
		rounds   int
	}{
		{"alone", backend.LoadRequest{MaxSequences: 1, NoPrefixCache: true, NoLookup: true}, false, false, 1},
		{"with cache", backend.LoadRequest{MaxSequences: 1, NoLookup: true}, false, false, 2},
		{"with guesses", backend.LoadRequest{MaxSequences: 1}, false, true, 1},
		{"together", backend.LoadRequest{MaxSequences: 4}, true, true, 2},
		{"set aside", backend.LoadRequest{MaxSequences: 4, KVBytes: one.KV}, true, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.load.Path, c.load.Context, c.load.Precision = path, context, backend.Exact
			e, _ := load(t, c.load)
			if err := e.loaded.loop.do(t.Context(), func() { e.loaded.loop.drafts.Eager = c.eager }); err != nil {
				t.Fatal(err)
			}
			crossed := false
			for range c.rounds {
				var wg sync.WaitGroup
				for i, p := range want.Prompts {
					crossed = crossed || len(p.IDs) <= border && len(p.IDs)+len(p.RefGreedy) > border
					ask := func() {
						r := backend.Request{ID: strconv.Itoa(i), PromptIDs: p.IDs, MaxTokens: len(p.RefGreedy), IgnoreEOS: true}
						a := generate(t.Context(), e, r)
						if a.err != nil || len(a.last.Choices) != 1 || !slices.Equal(a.last.Choices[0].IDs, p.RefGreedy) {
							t.Errorf("prompt %d: %v %v, want %v", i, a.err, a.last.Choices, p.RefGreedy)
						}
					}
					if c.together {
						wg.Go(ask)
					} else {
						ask()
					}
				}
				wg.Wait()
			}
			if !crossed {
				t.Error("no answer crosses the border")
			}
		})
	}
}
