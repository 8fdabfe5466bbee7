package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edged/core/protocol/backend"
	"edged/quant/kernel"
	"edged/test/oracle"
	"edged/test/race"
)

// follows holds an answer against the plainest way to compute it.
func follows(t *testing.T, req backend.Request, a reply) {
	t.Helper()
	for i, c := range a.last.Choices {
		ids, logprobs, _ := reference(t, req, i, req.MaxTokens)
		if !slices.Equal(c.IDs, ids) {
			t.Errorf("%s, choice %d: got %v, want %v", req.ID, i, c.IDs, ids)
		}
		for k, p := range c.Logprobs {
			if p.Logprob != logprobs[k] {
				t.Errorf("%s, choice %d, step %d: log-probability %v, want %v", req.ID, i, k, p.Logprob, logprobs[k])
			}
		}
	}
}

// TestPrefixes: what an earlier request computed is not computed again, and the answer is the same. Pages have 8 tokens.
func TestPrefixes(t *testing.T) {
	e, f := serve(t)
	seen := prompt(100, 1)
	for _, c := range []struct {
		name   string
		change func(*backend.Request)
		cached int
	}{
		{"cold", func(*backend.Request) {}, 0},
		{"the same: its last token is computed", func(*backend.Request) {}, 99},
		{"sampled", func(r *backend.Request) { r.Sampling = backend.Sampling{Temperature: 1, Seed: 7} }, 99},
		{"shorter", func(r *backend.Request) { r.PromptIDs = seen[:50] }, 49},
		{"ends with a page", func(r *backend.Request) { r.PromptIDs = seen[:48] }, 47},
		{"one token more than a page", func(r *backend.Request) { r.PromptIDs = seen[:49] }, 48},
		{"shorter than a page", func(r *backend.Request) { r.PromptIDs = seen[:7] }, 6},
		{"goes on", func(r *backend.Request) { r.PromptIDs = slices.Concat(seen, prompt(30, 9)) }, 100},
		{"turns off inside a page", func(r *backend.Request) { r.PromptIDs = slices.Concat(seen[:44], prompt(30, 8)) }, 44},
		{"differs in its first token", func(r *backend.Request) { r.PromptIDs = slices.Concat([]int32{93}, seen[1:]) }, 0},
		{"four choices", func(r *backend.Request) { r.N, r.Sampling = 4, backend.Sampling{Temperature: 1, Seed: 3} }, 99},
		{"four choices, all of the root known", func(r *backend.Request) {
			r.PromptIDs, r.N, r.Sampling = seen[:49], 4, backend.Sampling{Temperature: 1, Seed: 3}
		}, 48},
		{"log-probabilities", func(r *backend.Request) { r.Logprobs = true }, 99},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := backend.Request{ID: c.name, PromptIDs: seen, MaxTokens: 30, IgnoreEOS: true, Stream: true}
			c.change(&req)
			before := f.rows.Load()
			a := must(t, e, req)
			follows(t, req, a)
			if got := a.last.Usage.CachedTokens; got != c.cached {
				t.Errorf("%d tokens were cached, want %d", got, c.cached)
			}
			n := max(req.N, 1)
			// Branches compute the prompt's last token each, and every token of their answers but the last.
			if rows := int(f.rows.Load() - before); rows != len(req.PromptIDs)-c.cached-1+n*req.MaxTokens {
				t.Errorf("%d rows were computed", rows)
			}
		})
	}
	var st backend.Stats
	waitFor(t, "the last one has left", func() bool {
		var err error
		st, err = e.Stats(t.Context())
		return err == nil && st.Running == 0
	})
	if st.PrefixHits != 11 || st.PrefixTokens < 9*40 || st.KVPagesCached == 0 || st.KVPagesUsed != 0 {
		t.Errorf("%+v", st)
	}
}

// TestPrefixCollision: a hash only finds a candidate. Here all are equal, and pages of equal tokens follow each other.
func TestPrefixCollision(t *testing.T) {
	e, _ := serve(t)
	l := e.loaded.loop
	if err := l.do(t.Context(), func() { l.cache.Tree().Collide(0) }); err != nil {
		t.Fatal(err)
	}
	for _, cached := range []int{0, 8, 8} {
		req := backend.Request{ID: "equal", PromptIDs: slices.Repeat([]int32{5}, 50), MaxTokens: 20, IgnoreEOS: true, Logprobs: true}
		a := must(t, e, req)
		follows(t, req, a)
		if got := a.last.Usage.CachedTokens; got != cached {
			t.Errorf("%d tokens were cached, want %d", got, cached)
		}
		other := backend.Request{ID: "other", PromptIDs: prompt(50, 1), MaxTokens: 20, IgnoreEOS: true}
		if b := must(t, e, other); b.last.Usage.CachedTokens != 0 {
			t.Error("another prompt's page was found")
		}
	}
}

// TestPrefixOfAnswer: the next turn of a conversation finds the answer before it.
func TestPrefixOfAnswer(t *testing.T) {
	e, _ := serve(t)
	first := backend.Request{ID: "first", PromptIDs: prompt(45, 1), MaxTokens: 60, IgnoreEOS: true}
	a := must(t, e, first)
	next := first
	next.ID, next.PromptIDs = "next", slices.Concat(first.PromptIDs, a.last.Choices[0].IDs, prompt(20, 2))
	b := must(t, e, next)
	follows(t, next, b)
	if got := b.last.Usage.CachedTokens; got != 104 { // the answer's last token was not computed
		t.Errorf("%d tokens were cached", got)
	}
}

// TestPrefixGoesOn: a request that starts from what an earlier attempt gave out computes what its log-probabilities need.
func TestPrefixGoesOn(t *testing.T) {
	for _, logprobs := range []bool{false, true} {
		e, _ := serve(t)
		req := backend.Request{ID: "whole", PromptIDs: prompt(45, 1), MaxTokens: 60, IgnoreEOS: true, Logprobs: logprobs, Sampling: backend.Sampling{Temperature: 1, Seed: 1}}
		whole := must(t, e, req)
		follows(t, req, whole)
		req.GeneratedIDs = whole.last.Choices[0].IDs[:30]
		again := must(t, e, req)
		if d := cmp.Diff(whole.last, again.last, ignoreTimes); d != "" {
			t.Error(d)
		}
		if want := map[bool]int{false: 45, true: 44}[logprobs]; again.last.Usage.CachedTokens != want {
			t.Errorf("logprobs %v: %d tokens were cached, want %d", logprobs, again.last.Usage.CachedTokens, want)
		}
		lists := [][]int32{slices.Concat(req.PromptIDs, whole.last.Choices[0].IDs)}
		scores, err := e.Score(t.Context(), backend.ScoreRequest{Lists: lists})
		if err != nil || len(scores[0].Logprobs) != len(lists[0])-1 {
			t.Errorf("%d scores, %v", len(scores[0].Logprobs), err)
		}
		if logprobs {
			for i, p := range whole.last.Choices[0].Logprobs {
				if got := scores[0].Logprobs[44+i]; got != p.Logprob {
					t.Errorf("score %d: got %v, want %v", i, got, p.Logprob)
				}
			}
		}
	}
}

// TestPrefixInTheMaking: requests that arrive together share the computation of what they begin with.
func TestPrefixInTheMaking(t *testing.T) {
	e, f := serve(t, withTurn(time.Millisecond), withSize(func(s *sizes) { s.Batch = 40 }))
	shared := prompt(200, 1)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			req := backend.Request{ID: strconv.Itoa(i), PromptIDs: slices.Concat(shared, prompt(10, 20+i)), MaxTokens: 10, IgnoreEOS: true}
			a := generate(t.Context(), e, req)
			if a.err != nil {
				t.Error(a.err)
				return
			}
			follows(t, req, a)
		})
	}
	wg.Wait()
	// 6 · 219 rows without; 200 + 6 · 19 are the least.
	if rows := f.rows.Load(); rows > 500 {
		t.Errorf("%d rows were computed", rows)
	}
}

// TestPrefixSharedPagesFit: requests that share most of their pages run at once in a pool that could not hold them apart.
func TestPrefixSharedPagesFit(t *testing.T) {
	e, f := serve(t, withPages(48), withTurn(time.Millisecond))
	shared := prompt(200, 1)
	must(t, e, backend.Request{ID: "first", PromptIDs: shared, MaxTokens: 1})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			req := backend.Request{ID: strconv.Itoa(i), PromptIDs: slices.Concat(shared, prompt(3, 20+i)), MaxTokens: 20, IgnoreEOS: true}
			a := generate(t.Context(), e, req)
			if a.err != nil {
				t.Error(a.err)
				return
			}
			follows(t, req, a)
		})
	}
	wg.Wait()
	if f.widest.Load() < 4 || f.refused.Load() > 0 {
		t.Errorf("%d sequences at once, %d turns without pages", f.widest.Load(), f.refused.Load())
	}
}

// TestPrefixRest: of a page that no request has filled later ones copy what they have in common, whatever the answer was.
func TestPrefixRest(t *testing.T) {
	e, f := serve(t)
	system := prompt(45, 1) // five pages and five tokens
	first := backend.Request{ID: "first", PromptIDs: slices.Concat(system, prompt(2, 7)), MaxTokens: 1, IgnoreEOS: true}
	follows(t, first, must(t, e, first))
	if got := must(t, e, first).last.Usage.CachedTokens; got != 46 {
		t.Errorf("the same again: %d tokens were cached, want all but the last", got)
	}
	before := f.rows.Load()
	req := backend.Request{ID: "second", PromptIDs: slices.Concat(system, prompt(2, 8)), MaxTokens: 1, IgnoreEOS: true}
	a := must(t, e, req)
	follows(t, req, a)
	if a.last.Usage.CachedTokens != 45 || f.rows.Load()-before != 2 {
		t.Errorf("%d tokens were cached and %d rows computed, want 45 and 2", a.last.Usage.CachedTokens, f.rows.Load()-before)
	}
	st, err := e.Stats(t.Context())
	if err != nil || st.KVPagesCached != 7 {
		t.Errorf("%d pages are cached (%v), want five full ones and one for each question", st.KVPagesCached, err)
	}
}

// TestPrefixEviction: kept pages go before anything that runs is set aside, the least recently used ones first.
func TestPrefixEviction(t *testing.T) {
	e, f := serve(t, withPages(33))
	ask := func(name string, p []int32, cached int) {
		t.Helper()
		req := backend.Request{ID: name, PromptIDs: p, MaxTokens: 1, IgnoreEOS: true}
		a := must(t, e, req)
		follows(t, req, a)
		if got := a.last.Usage.CachedTokens; got != cached {
			t.Errorf("%s: %d tokens were cached, want %d", name, got, cached)
		}
	}
	a, b, c, d := prompt(73, 1), prompt(73, 2), prompt(73, 3), prompt(73, 4)
	ask("a", a, 0)
	ask("b", b, 0)
	ask("c", c, 0) // 30 pages are kept now, the last of each with one token
	ask("a again", a, 72)
	ask("d", d, 0)  // takes 10: three are free, seven come from the end of b
	ask("a", a, 72) // and one more
	ask("c", c, 72)
	ask("d", d, 72)
	ask("what is left of b", b[:20], 16)
	// A request that needs the whole pool gets it.
	whole := backend.Request{ID: "whole", PromptIDs: prompt(200, 5), MaxTokens: 56, IgnoreEOS: true}
	follows(t, whole, must(t, e, whole))
	for i := range 8 {
		ask("cold again", prompt(81, 10+i), 0)
	}
	if f.refused.Load() != 0 {
		t.Errorf("%d turns found no pages", f.refused.Load())
	}
}

// TestPrefixOfAdapters: pages belong to adapters by content, order and scale; an id that comes to mean something else
// finds nothing of what it was.
func TestPrefixOfAdapters(t *testing.T) {
	e, f := serve(t)
	m, err := e.current()
	if err != nil {
		t.Fatal(err)
	}
	load := func(id, sum string, content uint64) {
		if err := m.loop.do(t.Context(), func() {
			f.content = content
			if _, err := m.loop.adopt(backend.AdapterInfo{ID: id, SHA256: sum}, nil, &closer{}); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	base := backend.Request{ID: "base", PromptIDs: prompt(100, 1), MaxTokens: 20, IgnoreEOS: true, Logprobs: true}
	with := func(uses ...backend.AdapterUse) backend.Request {
		r := base
		r.ID, r.Adapters = fmt.Sprint(uses), uses
		return r
	}
	// truth is an engine that keeps nothing.
	truth := func(r backend.Request, contents map[string]uint64) reply {
		cold, double := serve(t, withSize(func(s *sizes) { s.forgets = true }))
		c, err := cold.current()
		if err != nil {
			t.Fatal(err)
		}
		for id, content := range contents {
			if err := c.loop.do(t.Context(), func() {
				double.content = content
				if _, err := c.loop.adopt(backend.AdapterInfo{ID: id, SHA256: "?"}, nil, &closer{}); err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		return must(t, cold, r)
	}
	contents := map[string]uint64{"a": 1, "b": 2}
	ask := func(r backend.Request, cached int) {
		t.Helper()
		got := must(t, e, r)
		if d := cmp.Diff(truth(r, contents).last, got.last, ignoreTimes); d != "" {
			t.Errorf("%s: %s", r.ID, d)
		}
		if n := got.last.Usage.CachedTokens; n != cached {
			t.Errorf("%s: %d tokens were cached, want %d", r.ID, n, cached)
		}
	}
	load("a", "sum of 1", 1)
	load("b", "sum of 2", 2)
	a, half, b := backend.AdapterUse{ID: "a", Scale: 1}, backend.AdapterUse{ID: "a", Scale: 0.5}, backend.AdapterUse{ID: "b", Scale: 1}
	for _, cached := range []int{0, 99} {
		for _, r := range []backend.Request{base, with(a), with(half), with(b), with(a, b), with(b, a), with(a, a)} {
			ask(r, cached)
		}
	}
	// Another content under the same id, and the same content under another id.
	if err := e.UnloadAdapter(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	load("a", "sum of 3", 3)
	load("c", "sum of 1", 1)
	contents["a"], contents["c"] = 3, 1
	ask(with(a), 0)
	ask(with(a, b), 0)
	ask(with(backend.AdapterUse{ID: "c", Scale: 1}), 99)
	ask(with(backend.AdapterUse{ID: "c", Scale: 1}, b), 99)
	// What has no content sum shares nothing.
	load("nameless", "", 4)
	contents["nameless"] = 4
	for range 2 {
		ask(with(backend.AdapterUse{ID: "nameless", Scale: 1}), 0)
	}
}

func TestPrefixCacheOff(t *testing.T) {
	e, f := serve(t, withSize(func(s *sizes) { s.forgets = true }))
	req := backend.Request{ID: "off", PromptIDs: prompt(100, 1), MaxTokens: 10, IgnoreEOS: true}
	for range 2 {
		a := must(t, e, req)
		follows(t, req, a)
		if a.last.Usage.CachedTokens != 0 || f.used != 0 {
			t.Errorf("%+v, %d pages are held", a.last.Usage, f.used)
		}
	}
}

// TestPrefixesSurviveBadLogits: where logits are no numbers, the pages that they came from are not kept.
func TestPrefixesSurviveBadLogits(t *testing.T) {
	e, f := serve(t)
	m, err := e.current()
	if err != nil {
		t.Fatal(err)
	}
	must(t, e, backend.Request{ID: "kept", PromptIDs: prompt(100, 1), MaxTokens: 1})
	if err := m.loop.do(t.Context(), func() { m.loop.model = nanModel{f} }); err != nil {
		t.Fatal(err)
	}
	if a := generate(t.Context(), e, backend.Request{ID: "nan", PromptIDs: prompt(100, 1), MaxTokens: 1}); a.err == nil {
		t.Error("no error")
	}
	waitFor(t, "nothing is kept", func() bool {
		st, err := e.Stats(t.Context())
		return err == nil && st.Running == 0 && st.KVPagesCached == 0
	})
}

// sound checks what must hold of the tree and of the pages between two turns.
func sound(t *testing.T, l *loop, f *fake) {
	t.Helper()
	p := l.cache.Tree()
	// Every page is free, cached, or used by a sequence.
	holders := make([]int, f.total)
	for s := range f.seqs {
		for i, page := range s.pages {
			holders[page.number]++
			if i > 0 && page.kept && !s.pages[i-1].kept {
				t.Error("a sequence holds a node and not the one above it")
			}
			if page.kept && i > 0 && p.Parent(page.number) != s.pages[i-1].number {
				t.Error("a node's parent is not the page before it")
			}
		}
	}
	free, cached, used := f.total, 0, 0
	for i, page := range f.pages {
		want := holders[i]
		if _, kept := p.Kept(int32(i)); kept != page.kept {
			t.Errorf("page %d is in the tree: %v, kept: %v", i, kept, page.kept)
		}
		if page.kept {
			want++
		}
		if page.refs != want {
			t.Errorf("page %d has %d holders, want %d", i, page.refs, want)
		}
		switch {
		case holders[i] > 0:
			used++
			free--
		case page.kept:
			cached++
			free--
		}
	}
	if free != f.FreePages() || cached != f.IdlePages() || free+cached+used != f.total {
		t.Errorf("%d free, %d cached and %d used of %d; the model says %d free, %d idle", free, cached, used, f.total, f.FreePages(), f.IdlePages())
	}
	if err := p.Sound(); err != nil {
		t.Error(err)
	}
}

// TestPrefixesAtRandom lets requests with common beginnings, adapters, choices, cancels and few pages meet: pages always
// add up, the tree is sound, and every answer is that of an engine that keeps nothing.
func TestPrefixesAtRandom(t *testing.T) {
	for _, shape := range []struct {
		pages, batch int
		mask         uint64 // few bits: hashes that are equal by chance
	}{{34, 30, ^uint64(0)}, {60, 17, ^uint64(0)}, {200, 64, ^uint64(0)}, {60, 17, 15}} {
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			e, f := serve(t, withPages(shape.pages), withSize(func(s *sizes) { s.Batch, s.Logits = shape.batch, 6 }))
			cold, double := serve(t, withSize(func(s *sizes) { s.forgets = true }))
			if err := e.loaded.loop.do(t.Context(), func() { e.loaded.loop.cache.Tree().Collide(shape.mask) }); err != nil {
				t.Fatal(err)
			}
			for i, id := range []string{"a", "b"} {
				for engine, model := range map[*Engine]*fake{e: f, cold: double} {
					l := engine.loaded.loop
					if err := l.do(t.Context(), func() {
						model.content = uint64(i + 1)
						if _, err := l.adopt(backend.AdapterInfo{ID: id, SHA256: "sum of " + id}, nil, &closer{}); err != nil {
							t.Error(err)
						}
					}); err != nil {
						t.Fatal(err)
					}
				}
			}
			var wg sync.WaitGroup
			for w := range 5 {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(w), uint64(shape.pages)))
					for i := range 50 {
						p := prompt(1+rng.IntN(180), rng.IntN(3))
						if rng.IntN(2) == 0 {
							p = slices.Concat(p[:rng.IntN(len(p))], prompt(1+rng.IntN(20), rng.IntN(4)))
						}
						req := backend.Request{
							ID: fmt.Sprint(w, "/", i), PromptIDs: p, MaxTokens: 1 + rng.IntN(60), N: 1 + rng.IntN(3), Priority: rng.IntN(2),
							Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i % 5)}, Stream: rng.IntN(2) == 0, Logprobs: rng.IntN(3) == 0,
						}
						if n := rng.IntN(4); n < 2 {
							req.Adapters = []backend.AdapterUse{{ID: []string{"a", "b"}[n], Scale: 1}}
						}
						ctx, cancel := context.WithCancel(t.Context())
						left := -1
						if rng.IntN(3) == 0 {
							left = 1 + rng.IntN(20)
						}
						var got backend.Event
						err := e.Generate(ctx, req, func(ev backend.Event) error {
							if got = ev; left > 0 {
								if left--; left == 0 {
									cancel()
								}
							}
							return nil
						})
						cancel()
						switch {
						case err == nil && i%4 == 0:
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
			waitFor(t, "nothing runs", func() bool {
				st, err := e.Stats(t.Context())
				return err == nil && st.Running == 0 && st.KVPagesUsed == 0
			})
			st, err := e.Stats(t.Context())
			t.Logf("%d hits, %d tokens saved, %d rows computed, %d turns without pages, %v", st.PrefixHits, st.PrefixTokens, f.rows.Load(), f.refused.Load(), err)
			l := e.loaded.loop
			if err := l.do(t.Context(), func() {
				l.cache.Tree().Clear()
				sound(t, l, f)
				if f.FreePages() != f.total || l.cache.Tree().Roots() > 0 {
					t.Errorf("%d pages are free of %d, %d roots are left", f.FreePages(), f.total, l.cache.Tree().Roots())
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDemoPrefixes: on the shipped model, the same request gives the same ids and log-probabilities cold, warm, with a
// longer and a shorter common beginning, after eviction and with adapters, whose content may change under one path.
func TestDemoPrefixes(t *testing.T) {
	race.SkipArithmetic(t)
	repo := oracle.Repo(t)
	for _, c := range []backend.LoadRequest{
		{Path: "demo/hf-nf4"},
		{Path: "demo/hf-nf4", Precision: backend.Exact},
		{Path: "demo/gguf/hearth-4m-q4_0.gguf", KVType: "q8_0"},
	} {
		t.Run(fmt.Sprint(filepath.Base(c.Path), c.Precision), func(t *testing.T) {
			c.Path, c.Context, c.MaxSequences = filepath.Join(repo, c.Path), 128, 1
			plan, err := New(Options{Kernels: kernel.Portable{}}).Plan(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			c.MaxSequences, c.KVBytes = 4, 2*plan.KV // 8 pages
			off := c
			off.NoPrefixCache = true
			warm, info := load(t, c)
			cold, _ := load(t, off)
			path := filepath.Join(t.TempDir(), "adapter")
			put := func(name string) string {
				t.Helper()
				// Files are replaced, as a service that watches a folder finds them.
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				if err := os.CopyFS(path, os.DirFS(filepath.Join(repo, "demo/adapters", name))); err != nil {
					t.Fatal(err)
				}
				id := ""
				for _, e := range []*Engine{warm, cold} {
					a, err := e.LoadAdapter(t.Context(), backend.AdapterRequest{Path: path, Name: "swapped"})
					if err != nil {
						t.Fatal(err)
					}
					id = a.ID
				}
				return id
			}
			text := func(n, salt int) []int32 {
				p := make([]int32, n)
				for i := range p {
					p[i] = int32(mix(uint64(salt*1000+i)) % uint64(info.VocabRows))
				}
				return p
			}
			ask := func(p []int32, cached int, uses ...backend.AdapterUse) []int32 {
				t.Helper()
				req := backend.Request{
					PromptIDs: p, MaxTokens: 8, IgnoreEOS: true, Adapters: uses, Logprobs: true, TopLogprobs: 2, N: 2,
					Sampling: backend.Sampling{Temperature: 0.8, Seed: 11},
				}
				want, got := generate(t.Context(), cold, req), generate(t.Context(), warm, req)
				if want.err != nil || got.err != nil {
					t.Fatal(want.err, got.err)
				}
				if d := cmp.Diff(want.last, got.last, ignoreTimes); d != "" {
					t.Errorf("cached %d: %s", cached, d)
				}
				if n := got.last.Usage.CachedTokens; n != cached || want.last.Usage.CachedTokens != 0 {
					t.Errorf("%d tokens were cached, want %d; %d where nothing is kept", n, cached, want.last.Usage.CachedTokens)
				}
				return got.last.Choices[0].IDs
			}
			p := text(75, 1)
			ids := ask(p, 0)
			ask(p, 74) // the page that is not full is copied
			ask(p[:40], 39)
			ask(slices.Concat(p, ids, text(20, 3)), 82)  // 75 and 7 of the answer: the last token of one is not computed
			ask(slices.Concat(p, ids, text(20, 3)), 102) // 75 + 8 + 20
			first := backend.AdapterUse{ID: put("pirate"), Scale: 1}
			ask(p, 0, first)
			ask(p, 74, first)
			second := backend.AdapterUse{ID: put("deutsch"), Scale: 1}
			ask(p, 0, second)
			ask(p, 74, second)
			for i := range 3 {
				ask(text(70, 10+i), 0) // fills the pool
			}
			ask(p, 0) // it was evicted
			waitFor(t, "nothing but the cache holds pages", func() bool {
				st, err := warm.Stats(t.Context())
				return err == nil && st.KVPagesUsed == 0 && st.KVPagesCached > 0 && st.KVPagesCached <= st.KVPages
			})
		})
	}
}
