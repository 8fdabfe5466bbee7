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

	"edged/core/infer/engine/answer"
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

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name        string
		prompt, ids []int32
		n           int
		want        []int32
		match       int
	}{
		{"nothing", nil, nil, 4, nil, 0},
		{"too short", []int32{1, 1}, nil, 4, nil, 0},
		{"no repeat", []int32{1, 2, 3, 4}, []int32{5, 6}, 4, nil, 0},
		{"one token is no match", []int32{1, 2, 3, 9, 2}, nil, 4, nil, 0},
		{"prompt alone", []int32{1, 2, 3, 4, 1, 2}, nil, 2, []int32{3, 4}, 2},
		{"across", []int32{1, 2, 3, 4, 5}, []int32{9, 2, 3}, 3, []int32{4, 5, 9}, 2},
		{"the longest", []int32{1, 2, 3, 7, 0, 2, 3, 8, 0}, []int32{1, 2, 3}, 1, []int32{7}, 3},
		{"the latest of equals", []int32{2, 3, 7, 9, 2, 3, 8, 0}, []int32{2, 3}, 1, []int32{8}, 2},
		{"over the border", []int32{4, 5}, []int32{6, 0, 4, 5}, 2, []int32{6, 0}, 2},
		{"in the answer", []int32{0}, []int32{4, 5, 6, 4, 5}, 9, []int32{6, 4, 5, 6, 4, 5, 6, 4, 5}, 2},
		{"a run", []int32{7, 7, 7}, nil, 3, []int32{7, 7, 7}, 2},
		{"at the beginning", []int32{5, 6, 1, 0, 5, 6}, nil, 1, []int32{1}, 2},
		{"none wanted", []int32{5, 6, 1, 0, 5, 6}, nil, 0, nil, 0},
	} {
		got, match := lookup(nil, c.prompt, c.ids, c.n)
		if !slices.Equal(got, c.want) || match != c.match {
			t.Errorf("%s: %v after %d, want %v after %d", c.name, got, match, c.want, c.match)
		}
	}
}

// TestLookupAtRandom compares with the definition.
func TestLookupAtRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 3000 {
		all := make([]int32, 3+rng.IntN(60))
		for i := range all {
			all[i] = rng.Int32N(4)
		}
		split, n := rng.IntN(len(all)+1), 1+rng.IntN(8)
		best, where := 0, -1
		for i := len(all) - 2; i > 0; i-- {
			k := 0
			for k < maxMatch && k <= i && all[i-k] == all[len(all)-1-k] {
				k++
			}
			if k >= minMatch && k > best {
				best, where = k, i
			}
		}
		long := slices.Clone(all)
		for k := 0; where >= 0 && k < n; k++ {
			long = append(long, long[where+1+k])
		}
		got, match := lookup(nil, all[:split], all[split:], n)
		if match != best || !slices.Equal(got, long[len(all):]) && where >= 0 {
			t.Fatalf("%v split at %d: %v after %d, want %v after %d", all, split, got, match, long[len(all):], best)
		}
		if where >= 0 {
			found++
		}
	}
	if found < 1000 {
		t.Errorf("only %d histories had a match", found)
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
				if l.prefixes != nil {
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

// run computes turns until a job has ended.
func (l *loop) runOut(t *testing.T, j *job, turn func(rows, prefill int) time.Duration) time.Duration {
	t.Helper()
	l.submit(j)
	total := time.Duration(0)
	for !j.done() {
		l.admit()
		if !l.form() {
			t.Fatal("nothing to do")
		}
		pace := l.pace
		l.turn()
		l.pace = pace
		took := turn(len(l.batch.rows)-l.batch.prefill, l.batch.prefill)
		l.pace.Observe(len(l.batch.rows)-l.batch.prefill, l.batch.prefill, took)
		total += took
	}
	return total
}

// TestGuessesPay gives turns lengths of their own, and texts that quote their prompt, or do not, or do so by chance: what is
// guessed never costs more than the bound, and pays where it can.
func TestGuessesPay(t *testing.T) {
	v, err := answer.NewVocabulary(fakeVocabulary(), fakeRows, nil)
	if err != nil {
		t.Fatal(err)
	}
	random := func(n, values int, salt uint64) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(mix(salt*1e6+uint64(i)) % uint64(values))
		}
		return out
	}
	document := random(1200, 90, 1)
	for _, c := range []struct {
		name         string
		prompt, text []int32
		Row          time.Duration // beyond the first one, which takes 10 ms
		least, most  float64       // speed against no guesses
	}{
		{"quotes", document, document[100:900], 1500 * time.Microsecond, 2, 17},
		{"quotes where rows are dear", document, document[100:900], 11 * time.Millisecond, 0.97, 1.05},
		{"quotes in pieces", document, slices.Concat(document[100:140], random(20, 90, 2), document[300:340], random(20, 90, 3), document[500:560]), 1500 * time.Microsecond, 1.3, 17},
		{"free", document, random(800, 90, 4), 1500 * time.Microsecond, 0.97, 1.1},
		{"free, few words", random(1200, 6, 5), random(800, 6, 6), 1500 * time.Microsecond, 0.97, 2},
		{"free, few words, rows are dear", random(1200, 6, 5), random(800, 6, 6), 6 * time.Millisecond, 0.97, 2},
		{"quotes first", document, slices.Concat(document[100:200], random(700, 6, 7)), 3 * time.Millisecond, 1, 17},
	} {
		t.Run(c.name, func(t *testing.T) {
			spent := [2]time.Duration{}
			for i := range spent {
				f := &fake{t: t, total: 1000, size: sizes{Sizes: compute.Sizes{Rows: fakeRows, Context: 4096, Page: 32, Batch: 128, Logits: 27, Sequences: 8}, waiting: 8, lookup: i == 1}}
				l := newLoop(f, f.size, make([]float32, f.size.Logits*f.size.Rows), New(Options{}).opt.Log)
				j, err := newJob(t.Context(), backend.Request{PromptIDs: c.prompt, ForcedIDs: c.text, MaxTokens: len(c.text), IgnoreEOS: true}, v, f.size)
				if err != nil {
					t.Fatal(err)
				}
				spent[i] = l.runOut(t, j, func(rows, prefill int) time.Duration {
					if prefill > 0 {
						return time.Duration(prefill) * time.Millisecond
					}
					return 10*time.Millisecond + time.Duration(rows-1)*c.Row
				}) - time.Duration(len(c.prompt))*time.Millisecond
				if i == 1 {
					t.Logf("%d guesses, %d right", j.drafted, j.accepted)
				}
				if !slices.Equal(j.branches[0].IDs, c.text) {
					t.Error("the text is another one")
				}
				l.prefixes.Clear()
			}
			speed := float64(spent[0]) / float64(spent[1])
			t.Logf("%.2f × as fast", speed)
			if speed < c.least || speed > c.most {
				t.Errorf("%.3f × as fast, want %v to %v", speed, c.least, c.most)
			}
		})
	}
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
