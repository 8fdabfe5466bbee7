package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"edged/core/infer/engine/compute"
	"edged/core/infer/kv/pagestore"
	"edged/core/protocol/backend"
	"edged/quant/kernel"
)

// onDiskFor is an engine over a fake whose prefixes are kept in dir, until end.
func onDiskFor(t *testing.T, dir string, least int, options ...option) (e *Engine, f *fake, end func()) {
	t.Helper()
	f = &fake{t: t, total: 1000, size: sizes{Sizes: compute.Sizes{Rows: fakeRows, Context: 256, Page: 8, Batch: 64, Logits: 16, Sequences: 8}, waiting: 100}}
	for _, o := range options {
		o(f)
	}
	f.makeStates()
	e = New(Options{Name: "fake"})
	m := &loaded{size: f.size, model: f}
	m.loop = newLoop(f, f.size, make([]float32, f.size.Logits*f.size.Rows), e.opt.Log)
	s, err := pagestore.Open(pagestore.Options{Dir: dir, Bytes: 1 << 20, Daily: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.loop.cache.Attach(s, "fake", least, m.loop.commands); err != nil {
		t.Fatal(err)
	}
	go m.loop.run()
	e.loaded = m
	if err := e.SetVocabulary(t.Context(), fakeVocabulary()); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if f.used != 0 {
			t.Errorf("%d pages are lost", f.used)
		}
		if f.FreeStates() != f.slots {
			t.Errorf("%d of %d states are free at the end", f.FreeStates(), f.slots)
		}
	})
	t.Cleanup(end)
	return e, f, end
}

func statsOf(t *testing.T, e *Engine) backend.Stats {
	t.Helper()
	st, err := e.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// adopt gives an engine adapter "a".
func adopt(t *testing.T, e *Engine, f *fake, sum string, content uint64) {
	t.Helper()
	if err := e.loaded.loop.do(t.Context(), func() {
		f.content = content
		if _, err := e.loaded.loop.adopt(backend.AdapterInfo{ID: "a", SHA256: sum}, nil, &closer{}); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// kept waits until so many pages are on disk.
func kept(t *testing.T, e *Engine, pages int) {
	t.Helper()
	waitFor(t, "pages are on disk", func() bool { return statsOf(t, e).PrefixDiskPages >= pages })
}

// written waits until nothing is on its way to the disk any more.
func written(t *testing.T, e *Engine) {
	t.Helper()
	waitFor(t, "all is written", func() bool {
		done := false
		if err := e.loaded.loop.do(t.Context(), func() {
			done = !e.loaded.loop.cache.Writing()
		}); err != nil {
			t.Fatal(err)
		}
		return done
	})
}

// TestDiskPrefixes: another process finds what an earlier one computed, the answer is the same, and a damaged page costs no
// more than what is behind it.
func TestDiskPrefixes(t *testing.T) {
	dir := t.TempDir()
	req := backend.Request{ID: "long", PromptIDs: prompt(100, 1), MaxTokens: 20, IgnoreEOS: true, Logprobs: true}
	e, _, end := onDiskFor(t, dir, 64)
	follows(t, req, must(t, e, req))
	must(t, e, backend.Request{ID: "short", PromptIDs: prompt(40, 2), MaxTokens: 20, IgnoreEOS: true})
	kept(t, e, 12)
	end()

	life := func(name string, cached, read, pages int) {
		t.Helper()
		e, f, end := onDiskFor(t, dir, 64)
		defer end()
		a := must(t, e, req)
		follows(t, req, a)
		// The last token is computed, and what is beyond the last full page.
		if got := a.last.Usage.CachedTokens; got != cached {
			t.Errorf("%s: %d tokens were cached, want %d", name, got, cached)
		}
		if rows := int(f.rows.Load()); rows != 100-cached+19 {
			t.Errorf("%s: %d rows were computed", name, rows)
		}
		waitFor(t, "it has left", func() bool { return statsOf(t, e).Running == 0 })
		kept(t, e, pages)
		if st := statsOf(t, e); int(st.PrefixDiskTokens) != read {
			t.Errorf("%s: %+v", name, st)
		}
		// In memory, it is found as before.
		if again := must(t, e, req); again.last.Usage.CachedTokens != 99 {
			t.Errorf("%s: %d tokens were cached the second time", name, again.last.Usage.CachedTokens)
		}
	}
	life("after a restart", 96, 96, 12)
	files, err := filepath.Glob(filepath.Join(dir, "*-5.page"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-3] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	life("with a damaged page", 40, 40, 12) // and it is written again
	life("mended", 96, 96, 12)
}

// TestDiskStates: of a model with a fixed state another process goes on where the deepest state on disk is, and the answer is the same;
// with a damaged state from the one before, without one from nothing. Pages have 8 tokens, and 64 bytes or none.
func TestDiskStates(t *testing.T) {
	for _, c := range []struct {
		name string
		wide int
		bare bool
	}{
		{"small states", 16, false},
		{"states as large as a prompt", 1024, false},
		{"states alone", 16, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			options := []option{withStates(20), func(f *fake) { f.wide, f.bare = c.wide, c.bare }}
			req := backend.Request{ID: "long", PromptIDs: prompt(100, 1), MaxTokens: 20, IgnoreEOS: true, Logprobs: true}
			states := func(n int) {
				t.Helper()
				waitFor(t, "states are on disk", func() bool {
					files, err := filepath.Glob(filepath.Join(dir, "*.state"))
					return err == nil && len(files) == n
				})
			}
			life := func(name string, cached int) {
				t.Helper()
				e, f, end := onDiskFor(t, dir, 64, options...)
				defer end()
				a := must(t, e, req)
				follows(t, req, a)
				if got := a.last.Usage.CachedTokens; got != cached {
					t.Errorf("%s: %d tokens were cached, want %d", name, got, cached)
				}
				if rows := int(f.rows.Load()); rows != 100-cached+19 {
					t.Errorf("%s: %d rows were computed", name, rows)
				}
				if again := must(t, e, req); again.last.Usage.CachedTokens != 99 {
					t.Errorf("%s: %d tokens were cached the second time", name, again.last.Usage.CachedTokens)
				}
				if !c.bare {
					kept(t, e, 12)
				}
				states(2) // the end of the prompt, since a request came back to it
			}
			damage := func(rest string) {
				t.Helper()
				files, err := filepath.Glob(filepath.Join(dir, "*"+rest+".state"))
				if err != nil || len(files) != 1 {
					t.Fatal(files, err)
				}
				b, err := os.ReadFile(files[0])
				if err != nil {
					t.Fatal(err)
				}
				b[len(b)-3] ^= 1
				if err := os.WriteFile(files[0], b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			life("cold", 0)
			life("after a restart", 99)
			damage("-12-3")
			life("with a damaged state", 96)
			damage("-12-3")
			damage("-12-0")
			life("with two", 0)
			life("mended", 99)
		})
	}
}

// TestDiskStatesWorth: which states of a prompt are written: small ones along its way, of large ones that of its last page end alone, and
// of a short prompt none until a request goes on from it.
func TestDiskStatesWorth(t *testing.T) {
	for _, c := range []struct {
		wide, tokens, rounds int
		want                 []string // DEPTH-REST
	}{
		{16, 200, 1, []string{"16-0", "24-0", "24-7"}}, // each 16 pages, the last page end, the end
		{1024, 200, 1, []string{"16-0", "24-0"}},       // 128 tokens are 1024 bytes
		{1100, 200, 1, []string{"24-0"}},
		{16, 45, 1, nil},
		{16, 45, 2, []string{"5-4"}},
	} {
		dir := t.TempDir()
		e, _, end := onDiskFor(t, dir, 64, withStates(20), func(f *fake) { f.wide = c.wide })
		for range c.rounds {
			must(t, e, backend.Request{ID: "a", PromptIDs: prompt(c.tokens, 1), MaxTokens: 30, IgnoreEOS: true})
		}
		written(t, e)
		end()
		files, err := filepath.Glob(filepath.Join(dir, "*.state"))
		var got []string
		for _, f := range files {
			_, at, _ := strings.Cut(strings.TrimSuffix(filepath.Base(f), ".state"), "-")
			got = append(got, at)
		}
		if slices.Sort(got); !slices.Equal(got, c.want) || err != nil {
			t.Errorf("%+v: states end at %v, %v", c, got, err)
		}
	}
}

// TestDiskBorders: what stays of a prompt whose template shows borders is where its last message begins, and its first border: another
// message behind the same ones is warm after a restart, and so is a system message with another time in it.
func TestDiskBorders(t *testing.T) {
	dir := t.TempDir()
	system := prompt(150, 1)
	ask := func(e *Engine, name string, shared, salt, cached int) {
		t.Helper()
		r := backend.Request{ID: name, PromptIDs: slices.Concat(system[:shared], prompt(40, salt)), Borders: []int32{101, 150, 186}, MaxTokens: 9, IgnoreEOS: true}
		a := must(t, e, r)
		follows(t, r, a)
		if got := a.last.Usage.CachedTokens; got != cached {
			t.Errorf("%s: %d tokens were cached, want %d", name, got, cached)
		}
		written(t, e)
	}
	options := []option{withStates(20), func(f *fake) { f.wide = 4000 }}
	e, _, end := onDiskFor(t, dir, 64, options...)
	ask(e, "first", 150, 2, 0)
	end()
	if files, err := filepath.Glob(filepath.Join(dir, "*.state")); err != nil || len(files) != 2 {
		t.Errorf("%d states, %v", len(files), err)
	}
	for name, c := range map[string][3]int{"another message": {150, 3, 150}, "another time": {101, 4, 101}} {
		e, _, end = onDiskFor(t, dir, 1000, options...)
		ask(e, name, c[0], c[1], c[2])
		end()
	}
}

// TestDiskStatesTogether: requests with common beginnings, with few and with many states and pages, over restarts: every answer is that of a
// request alone, and later lives find what earlier ones wrote.
func TestDiskStatesTogether(t *testing.T) {
	for _, shape := range [][3]int{{34, 4, 16}, {60, 12, 200}, {200, 40, 16}} {
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			dir, read := t.TempDir(), uint64(0)
			for life := range 3 {
				e, _, end := onDiskFor(t, dir, 24, withPages(shape[0]), withStates(shape[1]),
					func(f *fake) { f.wide = shape[2] }, withSize(func(s *sizes) { s.Batch, s.Logits = 30, 6 }))
				// First one alone: where slots are few, those that run together leave none for the disk.
				alone := backend.Request{ID: "alone", PromptIDs: prompt(90, 9), MaxTokens: 10, IgnoreEOS: true}
				follows(t, alone, must(t, e, alone))
				written(t, e)
				var wg sync.WaitGroup
				for i := range 24 {
					r := backend.Request{ID: strconv.Itoa(i), MaxTokens: 10 + i%17, IgnoreEOS: true, Logprobs: i%5 == 0}
					r.PromptIDs = slices.Concat(prompt(30+i%4*17, i%3), prompt(i%9, i))
					if i%6 == 1 {
						r.N, r.Sampling = 3, backend.Sampling{Temperature: 1, Seed: uint64(i)}
					}
					wg.Go(func() {
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						a := generate(ctx, e, r)
						if i%7 == 6 {
							_ = e.Generate(ctx, r, func(backend.Event) error { cancel(); return nil })
						}
						if a.err != nil {
							t.Error(a.err)
							return
						}
						follows(t, r, a)
					})
				}
				wg.Wait()
				written(t, e)
				if life > 0 {
					read += statsOf(t, e).PrefixDiskTokens
				}
				end()
			}
			if read == 0 {
				t.Error("nothing was read")
			}
		})
	}
}

// TestDiskComeBack: a short prompt is kept on disk once a request came back to it; what was computed under other adapters,
// or by a scoring, is not found.
func TestDiskComeBack(t *testing.T) {
	dir := t.TempDir()
	e, f, end := onDiskFor(t, dir, 1000)
	req := backend.Request{ID: "short", PromptIDs: prompt(41, 1), MaxTokens: 10, IgnoreEOS: true}
	must(t, e, req)
	if st := statsOf(t, e); st.PrefixDiskPages != 0 {
		t.Errorf("%d pages were kept though nobody came back to them", st.PrefixDiskPages)
	}
	must(t, e, req)
	kept(t, e, 5)
	adopt(t, e, f, "sum", 7)
	other := req
	other.Adapters = []backend.AdapterUse{{ID: "a", Scale: 1}}
	if a := must(t, e, other); a.last.Usage.CachedTokens != 0 {
		t.Errorf("%d tokens of the bare model were found", a.last.Usage.CachedTokens)
	}
	must(t, e, other)
	kept(t, e, 10)
	end()

	e, f, end = onDiskFor(t, dir, 1000)
	adopt(t, e, f, "sum", 7)
	for _, r := range []backend.Request{req, other} {
		if a := must(t, e, r); a.last.Usage.CachedTokens != 40 {
			t.Errorf("%d tokens were read for %v", a.last.Usage.CachedTokens, r.Adapters)
		}
	}
	end()
	e, f, _ = onDiskFor(t, dir, 1000)
	adopt(t, e, f, "another sum", 8) // a new file under the old name
	if a := must(t, e, other); a.last.Usage.CachedTokens != 0 {
		t.Errorf("%d tokens of another adapter were found", a.last.Usage.CachedTokens)
	}
}

// TestDiskTogether: requests that arrive at once after a restart read their common beginning once, beside others, with a pool
// that is too small for all of them; cancels leave nothing behind.
func TestDiskTogether(t *testing.T) {
	dir := t.TempDir()
	long := prompt(120, 1)
	e, _, end := onDiskFor(t, dir, 64)
	must(t, e, backend.Request{ID: "first", PromptIDs: long, MaxTokens: 5, IgnoreEOS: true})
	kept(t, e, 15)
	end()
	for _, pages := range []int{1000, 40} {
		e, _, end := onDiskFor(t, dir, 64, withPages(pages))
		var wg sync.WaitGroup
		for i := range 12 {
			req := backend.Request{
				ID: "one of many", PromptIDs: slices.Concat(long, prompt(10+i, i+2)), MaxTokens: 30, IgnoreEOS: true, N: 1 + i%3,
				Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i)},
			}
			if i%4 == 3 {
				req.PromptIDs = prompt(50+i, i)
			}
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%5 == 4 {
					cancel()
				}
				a := generate(ctx, e, req)
				switch {
				case a.err == nil:
					follows(t, req, a)
				case !errors.Is(a.err, context.Canceled):
					t.Error(a.err)
				}
			})
		}
		wg.Wait()
		if st := statsOf(t, e); pages == 1000 && st.PrefixDiskTokens != 120 {
			t.Errorf("%d tokens were read", st.PrefixDiskTokens)
		}
		end()
	}
}

// TestDiskEnds: an engine that closes while pages are read and written gives all of them back.
func TestDiskEnds(t *testing.T) {
	dir := t.TempDir()
	for i := range 8 {
		e, _, end := onDiskFor(t, dir, 8)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = e.Generate(t.Context(), backend.Request{ID: "cut off", PromptIDs: prompt(200, 1), MaxTokens: 50, IgnoreEOS: true}, func(backend.Event) error { return nil })
		}()
		if i > 0 {
			waitFor(t, "it has begun", func() bool { return statsOf(t, e).Steps > uint64(i) })
		}
		end()
		<-done
	}
}

// TestPin: a pinned prefix stays when everything else has to go, another one may take its name, and one that leaves no room
// for a whole conversation is refused.
func TestPin(t *testing.T) {
	e, _ := serve(t, withPages(60)) // of 8 tokens; a conversation takes 32
	pinned := prompt(80, 1)
	must(t, e, backend.Request{ID: "pin", PromptIDs: pinned, MaxTokens: 1, Pin: "house"})
	cached := func(want int) {
		t.Helper()
		for i := range 10 { // everything that is idle goes
			must(t, e, backend.Request{ID: "flood", PromptIDs: prompt(230, 100+i), MaxTokens: 20, IgnoreEOS: true})
		}
		a := must(t, e, backend.Request{ID: "ask", PromptIDs: slices.Concat(pinned, prompt(9, 50)), MaxTokens: 5, IgnoreEOS: true})
		if got := a.last.Usage.CachedTokens; got != want {
			t.Errorf("%d tokens were cached, want %d", got, want)
		}
	}
	cached(80)
	must(t, e, backend.Request{ID: "too much", PromptIDs: prompt(220, 2), MaxTokens: 1, Pin: "second"})
	if st := statsOf(t, e); st.PrefixPinnedPages != 10 {
		t.Errorf("%d pages are pinned", st.PrefixPinnedPages)
	}
	cached(80)
	must(t, e, backend.Request{ID: "pin", PromptIDs: prompt(40, 3), MaxTokens: 1, Pin: "house"})
	cached(0)
}

// TestDiskFormat1: pages that a build of format 1 wrote are refused by name and removed, and the answer is the one of then, which no
// page of another format had a part in. After that the folder is one of this build.
func TestDiskFormat1(t *testing.T) {
	// What that build answered, with log-probabilities, before it wrote the pages.
	want := []int32{216, 241, 62, 115, 47, 204, 155, 199, 130, 113, 37, 117, 154, 155, 169, 153, 36, 190, 26, 160}
	logprobs := []float32{
		-2.3633146, -3.146146, -2.7684693, -2.468171, -2.7252567, -2.111608, -2.7067008, -2.8972437, -2.0519447, -2.8278027,
		-2.2627416, -2.3103805, -2.4599445, -2.022513, -2.784716, -2.9390805, -3.0300906, -2.7071664, -2.4610362, -1.9511391,
	}
	cache := t.TempDir()
	dir := filepath.Join(cache, "prefixes")
	if err := os.CopyFS(dir, os.DirFS("testdata/prefixes-1")); err != nil {
		t.Fatal(err)
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.page"))
	if err != nil || len(old) != 3 {
		t.Fatal(old, err)
	}
	req := backend.Request{ID: "long", PromptIDs: prompt(100, 1), MaxTokens: 20, IgnoreEOS: true, Logprobs: true}
	run := func(cached int, refused bool) {
		t.Helper()
		var log bytes.Buffer
		e := New(Options{Name: "test", Version: "test", Kernels: kernel.Portable{}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		info, err := e.Load(t.Context(), backend.LoadRequest{
			Path: "../transformer/testdata/families/llama", Context: 256, CacheDir: cache,
			PrefixDiskBytes: 1 << 20, PrefixDiskDaily: 1 << 20, PrefixDiskTokens: 32, ThreadsDecode: 1, ThreadsPrefill: 1,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.SetVocabulary(t.Context(), backend.Vocabulary{BOS: -1, Pieces: make([][]byte, info.VocabRows)}); err != nil {
			t.Fatal(err)
		}
		a := must(t, e, req)
		if got := a.last.Usage.CachedTokens; got != cached {
			t.Errorf("%d tokens came from the disk, want %d", got, cached)
		}
		if got := a.last.Choices[0].IDs; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for i, p := range a.last.Choices[0].Logprobs {
			if i < len(logprobs) && p.Logprob != logprobs[i] {
				t.Errorf("step %d: log-probability %v, want %v", i, p.Logprob, logprobs[i])
			}
		}
		kept(t, e, 3)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "does not read"); got != refused {
			t.Errorf("refused by name: %v, want %v:\n%s", got, refused, log.String())
		}
	}
	run(0, true)
	for _, path := range old {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	run(96, false)
}
