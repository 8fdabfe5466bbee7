package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edged/core/infer/engine/compute"
	"edged/core/protocol/backend"
)

func withHabits(f *fake) { f.habits = true }

// withGuesses tries every guess, whatever it costs.
func withGuesses(f *fake) { f.size.lookup, f.eager = true, true }

// withThrift tries what pays.
func withThrift(f *fake) { f.size.lookup = true }

// withDraft has a model guess that is mostly of the same opinion.
func withDraft(pages int) option {
	return func(f *fake) {
		f.draft = &fake{t: f.t, total: pages, habits: f.habits, salt: 99, size: sizes{Sizes: compute.Sizes{Rows: fakeRows, Context: 200, Page: 8, Batch: 16, Sequences: 4}}}
	}
}

// guessable makes requests whose prompts and answers repeat themselves.
func guessable() []backend.Request {
	reqs := requests()
	for i := range reqs {
		r := &reqs[i]
		r.PromptIDs = slices.Concat(r.PromptIDs, r.PromptIDs[len(r.PromptIDs)/2:])
		r.MaxTokens = 60
		r.Sampling.Temperature /= 4
		if i == 4 {
			r.Sampling.PresencePenalty, r.Sampling.FrequencyPenalty = 0.01, 0.001
		}
	}
	forced := prompt(12, 77)
	return append(reqs,
		backend.Request{ID: "forced", PromptIDs: prompt(20, 78), ForcedIDs: slices.Concat(forced, forced, forced), MaxTokens: 70, Logprobs: true, TopLogprobs: 2},
		backend.Request{ID: "goes on", PromptIDs: prompt(20, 79), GeneratedIDs: slices.Concat(forced, forced), MaxTokens: 60, Logprobs: true},
		backend.Request{ID: "full", PromptIDs: prompt(180, 80), IgnoreEOS: true},
		backend.Request{ID: "grammar", PromptIDs: prompt(20, 81), Grammar: `root ::= ("ab" [a-f] "xyz" [a-c])+`, MaxTokens: 70, Logprobs: true},
		backend.Request{ID: "grammar, drawn", PromptIDs: prompt(20, 82), Grammar: `root ::= ("ab" [a-f] "xyz")+`, MaxTokens: 70, Sampling: backend.Sampling{Temperature: 1, Seed: 3}},
		backend.Request{ID: "grammar, guessed", PromptIDs: prompt(20, 83), Grammar: `root ::= ([a-f]{1,4} ("w" [0-7] "x")?)+`, MaxTokens: 90, Sampling: backend.Sampling{Temperature: 0.3, Seed: 5}},
		backend.Request{ID: "after a mark", PromptIDs: prompt(20, 84), Grammar: afterGrammar("w"), MaxTokens: 90, Sampling: backend.Sampling{Temperature: 1, Seed: 6, LogitBias: likely("w", "w1x")}},
		backend.Request{ID: "stop id", PromptIDs: slices.Concat(forced, forced), ForcedIDs: forced, StopIDs: forced[7:8], Stream: true},
	)
}

// TestGuesses: what a request gives does not depend on what is guessed, whether everything is tried or what pays, alone or
// in company, with and without a cache, and where pages, rows or logits are short.
func TestGuesses(t *testing.T) {
	t.Parallel()
	reqs := guessable()
	alone := make([]backend.Event, len(reqs))
	one, _ := serve(t, withHabits)
	for i, r := range reqs {
		alone[i] = must(t, one, r).last
	}
	for name, options := range map[string][]option{
		"every guess":       {withGuesses},
		"what pays":         {withThrift},
		"without cache":     {withGuesses, withSize(func(s *sizes) { s.forgets = true })},
		"few pages":         {withGuesses, withPages(36)},
		"small batches":     {withGuesses, withSize(func(s *sizes) { s.Batch = 9 })},
		"one row of logits": {withGuesses, withSize(func(s *sizes) { s.Logits = 1 })},
		"a model":           {withHabits, withDraft(1000), func(f *fake) { f.eager = true }},
		"both":              {withHabits, withDraft(1000), withGuesses},
		"what pays of both": {withHabits, withDraft(1000), withThrift},
		"a poor model":      {withHabits, withDraft(9), withGuesses, withPages(40)},
		"few of everything": {withGuesses, withPages(33), withSize(func(s *sizes) { s.Batch, s.Logits, s.Sequences = 17, 5, 5 })},
	} {
		t.Run(name, func(t *testing.T) {
			e, f := serve(t, append(options, withHabits, withTurn(50*time.Microsecond))...)
			answers := make([]reply, len(reqs))
			var wg sync.WaitGroup
			for i, r := range reqs {
				if name == "every guess" || name == "a model" { // one after the other, so that nothing but guesses differs
					answers[i] = generate(t.Context(), e, r)
				} else {
					wg.Go(func() { answers[i] = generate(t.Context(), e, r) })
				}
			}
			wg.Wait()
			for i, a := range answers {
				if a.err != nil {
					t.Errorf("%s: %v", reqs[i].ID, a.err)
					continue
				}
				check(t, reqs[i], a)
				if d := cmp.Diff(alone[i], a.last, ignoreTimes); d != "" {
					t.Errorf("%s differs from the one without guesses: %s", reqs[i].ID, d)
				}
			}
			l := e.loaded.loop
			if err := l.do(t.Context(), func() {
				if l.cache.Tree() != nil {
					sound(t, l, f)
				}
			}); err != nil {
				t.Error(err)
			}
			st, err := e.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d guesses, %d right; %d turns for %d tokens", st.DraftedTokens, st.AcceptedTokens, f.turns.Load(), st.DecodedTokens)
			if name == "every guess" && (st.AcceptedTokens < 40 || st.DraftedTokens < st.AcceptedTokens+40) {
				t.Errorf("%d guesses, %d right: the test does not test", st.DraftedTokens, st.AcceptedTokens)
			}
			if name == "a model" && (st.AcceptedTokens < 40 || st.DraftedTokens < st.AcceptedTokens+10) {
				t.Errorf("%d guesses of a model, %d right: the test does not test", st.DraftedTokens, st.AcceptedTokens)
			}
			if name == "one row of logits" && st.DraftedTokens > 0 {
				t.Errorf("%d guesses without a row for them", st.DraftedTokens)
			}
		})
	}
}

// TestGuessesAtRandom lets requests that are guessed come and go: pages add up and the cache is sound between all turns.
func TestGuessesAtRandom(t *testing.T) {
	t.Parallel()
	e, f := serve(t, withHabits, withGuesses, withPages(60), withSize(func(s *sizes) { s.Batch, s.Logits = 30, 20 }))
	cold, _ := serve(t, withHabits, withSize(func(s *sizes) { s.forgets = true }))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 8))
			for i := range 40 {
				p := prompt(1+rng.IntN(60), rng.IntN(3))
				req := backend.Request{
					ID: fmt.Sprint(w, "/", i), PromptIDs: slices.Concat(p, p[rng.IntN(len(p)):]), MaxTokens: 1 + rng.IntN(100), N: 1 + rng.IntN(2),
					Sampling: backend.Sampling{Temperature: 0.3, Seed: uint64(i % 5)}, Stream: true, Logprobs: rng.IntN(3) == 0,
				}
				if rng.IntN(3) == 0 {
					req.Stop = []string{"=", " Q"}
				}
				ctx, cancel := context.WithCancel(t.Context())
				left := rng.IntN(60)
				var got backend.Event
				err := e.Generate(ctx, req, func(ev backend.Event) error {
					got = ev
					if left--; left == 0 && w%2 == 0 {
						cancel()
					}
					return nil
				})
				cancel()
				switch {
				case err == nil && i%3 == 0:
					if d := cmp.Diff(must(t, cold, req).last, got, ignoreTimes); d != "" {
						t.Errorf("%s: %s", req.ID, d)
					}
				case err != nil && !errors.Is(err, context.Canceled):
					t.Errorf("%s: %v", req.ID, err)
				}
				l := e.loaded.loop
				if err := l.do(t.Context(), func() { sound(t, l, f) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	waitFor(t, "all pages back", func() bool { st, err := e.Stats(t.Context()); return err == nil && st.KVPagesUsed == 0 })
}

// TestDraftsAreBounded: a draft never has more rows than the answer has tokens left, nor than the batch has logits.
func TestDraftsAreBounded(t *testing.T) {
	t.Parallel()
	e, f := serve(t, withGuesses, withSize(func(s *sizes) { s.Logits = 6 }))
	line := prompt(10, 3)
	most := 0
	f.hook = func(rows []compute.Row) error {
		n := 0
		for _, r := range rows {
			if r.Logits != nil {
				n++
			}
		}
		most = max(most, n)
		return nil
	}
	text := slices.Repeat(line, 6)
	for n := 1; n <= 40; n++ {
		a := must(t, e, backend.Request{ID: strconv.Itoa(n), PromptIDs: text, ForcedIDs: text, MaxTokens: n, IgnoreEOS: true})
		if got := a.last.Choices[0].IDs; !slices.Equal(got, text[:n]) || a.last.Usage.CompletionTokens != n {
			t.Fatalf("%d tokens: %v, %+v", n, got, a.last.Usage)
		}
	}
	if most != 6 {
		t.Errorf("up to %d rows of logits in a turn, want 6", most)
	}
	// An answer that ends with a guessed token leaves all its full pages to the next request.
	a := must(t, e, backend.Request{ID: "next", PromptIDs: slices.Concat(text, text[:40], line[:1]), MaxTokens: 1})
	if got := a.last.Usage.CachedTokens; got < len(text)+32 {
		t.Errorf("%d tokens are known, want %d", got, len(text)+32)
	}
}
