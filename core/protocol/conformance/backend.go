//nolint:thelper // the steps are tests themselves: a failure is to name the line in them
package conformance

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// BackendOptions say what to try a backend with.
type BackendOptions struct {
	// Model is a file or folder that the backend serves.
	Model string
	// Vocabulary is that of Model.
	Vocabulary backend.Vocabulary
	// Prompt is a prompt of a few tokens, after which the model goes on for at least eight.
	Prompt []int32
	// Adapter is an adapter of Model; "": adapters are not tried.
	Adapter string
}

// Backend tries a fresh backend, on which nothing was called before. It loads o.Model.
func Backend(t *testing.T, b backend.Backend, o BackendOptions) {
	s := &backendSuite{b: b, o: o}
	// The order matters: what comes before Load, Load, what comes after.
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"describe", s.describe},
		{"not loaded", s.notLoaded},
		{"plan", s.plan},
		{"forecast", s.forecast},
		{"load of nothing", s.loadNothing},
		{"load", s.load},
		{"vocabulary", s.vocabulary},
		{"greedy", s.greedy},
		{"events", s.events},
		{"seed", s.seed},
		{"company", s.company},
		{"another attempt", s.resume},
		{"forced ids", s.forced},
		{"stops", s.stops},
		{"logprobs", s.logprobs},
		{"logit bias", s.bias},
		{"choices", s.choices},
		{"refusals", s.refusals},
		{"cancel", s.cancel},
		{"adapter", s.adapter},
		{"embed", s.embed},
		{"observe", s.observe},
		{"stats", s.stats},
	} {
		if !t.Run(step.name, step.run) && step.name == "load" {
			t.Fatal("nothing else can be tried without a model")
		}
	}
}

type backendSuite struct {
	b    backend.Backend
	o    BackendOptions
	info backend.ModelInfo
}

// tokens is how long the answers are that are compared.
const tokens = 8

func (s *backendSuite) request() backend.Request {
	return backend.Request{ID: "conformance", PromptIDs: s.o.Prompt, MaxTokens: tokens, IgnoreEOS: true}
}

// sampled is a request whose answer is drawn.
func (s *backendSuite) sampled(seed uint64) backend.Request {
	r := s.request()
	r.Sampling = backend.Sampling{Temperature: 1, TopP: 0.95, Seed: seed}
	return r
}

// answer runs a request and checks what holds for every one: the order of events, and that they say what the
// last one says.
func answer(ctx context.Context, t *testing.T, b backend.Backend, r backend.Request) (backend.Event, error) {
	t.Helper()
	var last backend.Event
	events := 0
	texts, ids := map[int]string{}, map[int][]int32{}
	err := b.Generate(ctx, r, func(e backend.Event) error {
		events++
		switch {
		case last.Done:
			t.Error("an event after the last one")
		case e.Prefill != nil:
			if e.Prefill.Done < 0 || e.Prefill.Done > e.Prefill.Of || e.Text != "" || len(e.IDs) > 0 {
				t.Errorf("prefill event %+v", e)
			}
		case e.Done:
			last = e
		default:
			texts[e.Index] += e.Text
			ids[e.Index] = append(ids[e.Index], e.IDs...)
			if !r.Stream && (e.Text != "" || len(e.IDs) > 0) {
				t.Errorf("a delta without stream: %+v", e)
			}
			if !utf8.ValidString(e.Text) {
				t.Errorf("a delta that is not UTF-8: %q", e.Text)
			}
		}
		return nil
	})
	if err != nil {
		return last, err
	}
	if !last.Done {
		t.Fatal("no last event")
	}
	if want := max(1, r.N); len(last.Choices) != want {
		t.Fatalf("%d choices, want %d", len(last.Choices), want)
	}
	if u := last.Usage; u.PromptTokens != len(r.PromptIDs) || u.CachedTokens < 0 || u.CachedTokens > u.PromptTokens {
		t.Errorf("usage %+v for a prompt of %d tokens", u, len(r.PromptIDs))
	}
	for _, c := range last.Choices {
		if c.Finish != backend.FinishStop && c.Finish != backend.FinishLength {
			t.Errorf("finish reason %q", c.Finish)
		}
		if r.MaxTokens > 0 && len(c.IDs) > r.MaxTokens {
			t.Errorf("%d tokens, allowed are %d", len(c.IDs), r.MaxTokens)
		}
		if len(r.GeneratedIDs) > len(c.IDs) || !slices.Equal(c.IDs[:len(r.GeneratedIDs)], r.GeneratedIDs) {
			t.Errorf("ids %v do not begin with generated_ids %v", c.IDs, r.GeneratedIDs)
		} else if r.Stream {
			if fresh := c.IDs[len(r.GeneratedIDs):]; !slices.Equal(ids[c.Index], fresh) {
				t.Errorf("choice %d: deltas bring ids %v, the last event has %v", c.Index, ids[c.Index], fresh)
			}
			if len(r.GeneratedIDs) == 0 && texts[c.Index] != c.Text {
				t.Errorf("choice %d: deltas join to %q, the last event has %q", c.Index, texts[c.Index], c.Text)
			}
		}
	}
	return last, nil
}

// ids runs a request of one choice that must succeed.
func (s *backendSuite) ids(t *testing.T, r backend.Request) []int32 {
	t.Helper()
	e, err := answer(t.Context(), t, s.b, r)
	if err != nil {
		t.Fatal(err)
	}
	return e.Choices[0].IDs
}

func wants(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (s *backendSuite) describe(t *testing.T) {
	d, err := s.b.Describe(t.Context())
	if err != nil || d.Name == "" || len(d.Kernels) == 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

func (s *backendSuite) notLoaded(t *testing.T) {
	ctx := t.Context()
	nothing := func(backend.Event) error { return nil }
	wants(t, "generate", s.b.Generate(ctx, s.request(), nothing), protocol.ErrNotLoaded)
	_, err := s.b.Score(ctx, backend.ScoreRequest{Lists: [][]int32{s.o.Prompt}})
	wants(t, "score", err, protocol.ErrNotLoaded)
	_, err = s.b.LoadAdapter(ctx, backend.AdapterRequest{Path: "/nowhere"})
	wants(t, "load adapter", err, protocol.ErrNotLoaded)
	wants(t, "set vocabulary", s.b.SetVocabulary(ctx, s.o.Vocabulary), protocol.ErrNotLoaded)
}

func (s *backendSuite) plan(t *testing.T) {
	p, err := s.b.Plan(t.Context(), backend.LoadRequest{Path: s.o.Model, Context: 256})
	if err != nil {
		t.Fatal(err)
	}
	if p.Weights <= 0 || p.KV <= 0 || p.Total < p.KV || p.Available <= 0 {
		t.Errorf("%+v", p)
	}
	longer, err := s.b.Plan(t.Context(), backend.LoadRequest{Path: s.o.Model, Context: 512})
	if err != nil || longer.KV <= p.KV {
		t.Errorf("twice the context plans %d bytes of keys and values after %d, %v", longer.KV, p.KV, err)
	}
}

// forecast is optional: a backend that makes none says so.
func (s *backendSuite) forecast(t *testing.T) {
	b, ok := s.b.(backend.Forecaster)
	if !ok {
		t.Skip("this backend makes no forecast")
	}
	f, err := b.Forecast(t.Context(), backend.LoadRequest{Path: s.o.Model, Context: 256})
	if errors.Is(err, protocol.ErrUnsupported) {
		t.Skip("this backend makes no forecast")
	}
	if err != nil {
		t.Fatal(err)
	}
	if f.TokenBytes <= 0 || f.TokenProducts <= 0 || f.BytesPerSecond <= 0 || f.ProductsPerSecond <= 0 {
		t.Errorf("%+v", f)
	}
	_, err = b.Forecast(t.Context(), backend.LoadRequest{Path: "/nowhere/conformance.gguf"})
	wants(t, "forecast", err, protocol.ErrModel)
}

// observe is optional: one that observes gives the logits of every position, from which Score's
// log-probabilities follow.
func (s *backendSuite) observe(t *testing.T) {
	b, ok := s.b.(backend.Observer)
	if !ok {
		t.Skip("this backend does not observe")
	}
	lists := [][]int32{s.o.Prompt}
	next := 0
	var got []float64
	inputs, err := b.Observe(
		t.Context(),
		backend.ObserveRequest{Lists: lists, Inputs: true, Logits: true},
		func(list, position int, logits []float32) error {
			if list != 0 || position != next || len(logits) != s.info.VocabRows {
				t.Errorf("list %d, position %d: %d logits; want position %d", list, position, len(logits), next)
			}
			if next++; next < len(s.o.Prompt) {
				sum := 0.0
				for _, x := range logits {
					sum += math.Exp(float64(x))
				}
				got = append(got, float64(logits[s.o.Prompt[next]])-math.Log(sum))
			}
			return nil
		},
	)
	if errors.Is(err, protocol.ErrUnsupported) {
		t.Skip("this backend does not observe")
	}
	if err != nil {
		t.Fatal(err)
	}
	if next != len(s.o.Prompt) || len(inputs) == 0 {
		t.Errorf("%d rows of %d, %d matrices", next, len(s.o.Prompt), len(inputs))
	}
	scores, err := s.b.Score(t.Context(), backend.ScoreRequest{Lists: lists})
	if err != nil || len(scores) != 1 || len(scores[0].Logprobs) != len(got) {
		t.Fatalf("score: %v, %v", scores, err)
	}
	for i, want := range scores[0].Logprobs {
		if math.Abs(got[i]-float64(want)) > 1e-3 {
			t.Errorf("position %d: the logits say %v, score says %v", i, got[i], want)
		}
	}
}

func (s *backendSuite) loadNothing(t *testing.T) {
	const path = "/nowhere/conformance.gguf"
	_, err := s.b.Plan(t.Context(), backend.LoadRequest{Path: path})
	wants(t, "plan", err, protocol.ErrModel)
	_, err = s.b.Load(t.Context(), backend.LoadRequest{Path: path}, nil)
	wants(t, "load", err, protocol.ErrModel)
	if err != nil && !strings.Contains(err.Error(), path) {
		t.Errorf("%q does not name the file", err)
	}
}

func (s *backendSuite) load(t *testing.T) {
	info, err := s.b.Load(t.Context(), backend.LoadRequest{Path: s.o.Model, Context: 256}, func(p backend.LoadProgress) {
		if p.Stage == "" || p.Done < 0 || (p.Total > 0 && p.Done > p.Total) {
			t.Errorf("progress %+v", p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.info = info
	if info.Arch == "" || len(info.Hash) != 64 || info.VocabRows <= 0 || info.Layers <= 0 || info.Width <= 0 || info.Context != 256 {
		t.Errorf("%+v", info)
	}
}

func (s *backendSuite) vocabulary(t *testing.T) {
	if err := s.b.SetVocabulary(t.Context(), s.o.Vocabulary); err != nil {
		t.Error(err)
	}
}

func (s *backendSuite) greedy(t *testing.T) {
	first := s.ids(t, s.request())
	if len(first) != tokens {
		t.Errorf("%d tokens, want %d", len(first), tokens)
	}
	if again := s.ids(t, s.request()); !slices.Equal(first, again) {
		t.Errorf("the same request gave %v and %v", first, again)
	}
}

func (s *backendSuite) events(t *testing.T) {
	r := s.request()
	plain := s.ids(t, r)
	r.Stream = true
	e, err := answer(t.Context(), t, s.b, r)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(e.Choices[0].IDs, plain) {
		t.Errorf("streamed %v, else %v", e.Choices[0].IDs, plain)
	}
	if e.Choices[0].Finish != backend.FinishLength || e.Usage.CompletionTokens != tokens {
		t.Errorf("finish %q, usage %+v", e.Choices[0].Finish, e.Usage)
	}
	if e.Timings.FirstToken <= 0 {
		t.Errorf("timings %+v", e.Timings)
	}
}

func (s *backendSuite) seed(t *testing.T) {
	first := s.ids(t, s.sampled(1))
	if again := s.ids(t, s.sampled(1)); !slices.Equal(first, again) {
		t.Errorf("the same seed gave %v and %v", first, again)
	}
}

// company: a row's bits depend on its own inputs only, so other requests change nothing.
func (s *backendSuite) company(t *testing.T) {
	const n = 6
	var alone, together [n][]int32
	request := func(i int) backend.Request {
		r := s.sampled(uint64(i))
		r.PromptIDs = append(slices.Clone(s.o.Prompt), s.o.Prompt[:i%len(s.o.Prompt)]...)
		return r
	}
	for i := range n {
		alone[i] = s.ids(t, request(i))
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			e, err := answer(t.Context(), t, s.b, request(i))
			if err != nil {
				t.Error(err)
				return
			}
			together[i] = e.Choices[0].IDs
		})
	}
	all.Wait()
	for i := range n {
		if !slices.Equal(alone[i], together[i]) {
			t.Errorf("request %d gave %v alone and %v in company", i, alone[i], together[i])
		}
	}
}

func (s *backendSuite) resume(t *testing.T) {
	r := s.sampled(7)
	r.Sampling.RepeatPenalty = 1.3
	r.Stream = true
	whole, err := answer(t.Context(), t, s.b, r)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, tokens / 2, tokens - 1} {
		r.GeneratedIDs = whole.Choices[0].IDs[:n]
		e, err := answer(t.Context(), t, s.b, r)
		if err != nil {
			t.Fatal(err)
		}
		if c := e.Choices[0]; !slices.Equal(c.IDs, whole.Choices[0].IDs) || c.Text != whole.Choices[0].Text {
			t.Errorf(
				"after %d tokens another attempt gave %v %q, undisturbed %v %q",
				n,
				c.IDs,
				c.Text,
				whole.Choices[0].IDs,
				whole.Choices[0].Text,
			)
		}
	}
}

func (s *backendSuite) forced(t *testing.T) {
	r := s.request()
	r.ForcedIDs = []int32{s.o.Prompt[0], s.o.Prompt[len(s.o.Prompt)-1]}
	if got := s.ids(t, r); len(got) < 2 || !slices.Equal(got[:2], r.ForcedIDs) {
		t.Errorf("ids %v do not begin with the forced %v", got, r.ForcedIDs)
	}
}

func (s *backendSuite) stops(t *testing.T) {
	whole := s.ids(t, s.request())
	stop := whole[len(whole)-1]
	at := slices.Index(whole, stop)
	r := s.request()
	r.StopIDs = []int32{stop}
	e, err := answer(t.Context(), t, s.b, r)
	if err != nil {
		t.Fatal(err)
	}
	if c := e.Choices[0]; c.Finish != backend.FinishStop || !slices.Equal(c.IDs, whole[:at]) {
		t.Errorf("stop id %d in %v: %v, %q", stop, whole, c.IDs, c.Finish)
	}
	full, err := answer(t.Context(), t, s.b, s.request())
	if err != nil {
		t.Fatal(err)
	}
	text := full.Choices[0].Text
	if len(text) < 4 || strings.ContainsRune(text, utf8.RuneError) {
		// What stands for broken bytes is no text that a stop could match.
		t.Skipf("the answer %q is too short or too broken to be stopped", text)
	}
	half := len(text) / 2
	for half < len(text) && text[half]&0xc0 == 0x80 {
		half++
	}
	r = s.request()
	r.Stop, r.Stream = []string{text[half:]}, true
	if e, err = answer(t.Context(), t, s.b, r); err != nil {
		t.Fatal(err)
	}
	want, _, _ := strings.Cut(text, text[half:])
	if c := e.Choices[0]; c.Finish != backend.FinishStop || c.Text != want {
		t.Errorf("stop %q in %q: %q, %q", r.Stop, text, c.Text, c.Finish)
	}
}

func (s *backendSuite) logprobs(t *testing.T) {
	r := s.request()
	r.Logprobs, r.TopLogprobs = true, 3
	e, err := answer(t.Context(), t, s.b, r)
	if err != nil {
		t.Fatal(err)
	}
	c := e.Choices[0]
	if len(c.Logprobs) != len(c.IDs) {
		t.Fatalf("%d log-probabilities for %d ids", len(c.Logprobs), len(c.IDs))
	}
	for i, l := range c.Logprobs {
		descending := slices.IsSortedFunc(l.Top, func(a, b backend.Alternative) int {
			switch {
			case a.Logprob > b.Logprob:
				return -1
			case a.Logprob < b.Logprob:
				return 1
			}
			return 0
		})
		if l.ID != c.IDs[i] || l.Logprob > 0 || len(l.Top) != 3 || !descending || l.Top[0].Logprob != l.Logprob {
			t.Errorf("step %d, id %d: %+v", i, c.IDs[i], l)
		}
	}
	scores, err := s.b.Score(
		t.Context(),
		backend.ScoreRequest{Lists: [][]int32{append(slices.Clone(s.o.Prompt), c.IDs...), s.o.Prompt[:1], {}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	tail := scores[0].Logprobs[len(s.o.Prompt)-1:]
	for i, l := range c.Logprobs {
		// Not equality: a backend may score with another kernel than it decodes with.
		if math.Abs(float64(tail[i]-l.Logprob)) > 0.05 {
			t.Errorf("step %d: score says %v, generate %v", i, tail[i], l.Logprob)
		}
	}
	if len(scores[1].Logprobs)+len(scores[2].Logprobs) != 0 {
		t.Errorf("scores of lists too short to score: %v", scores[1:])
	}
}

func (s *backendSuite) bias(t *testing.T) {
	whole := s.ids(t, s.request())
	r := s.request()
	r.Sampling.LogitBias = map[int32]float32{whole[0]: float32(math.Inf(-1))}
	if got := s.ids(t, r); slices.Contains(got, whole[0]) {
		t.Errorf("forbidden id %d in %v", whole[0], got)
	}
	other := (whole[0] + 1) % int32(len(s.o.Vocabulary.Pieces))
	r.Sampling.LogitBias = map[int32]float32{other: 1e6}
	if got := s.ids(t, r); got[0] != other {
		t.Errorf("ids %v in spite of a bias for %d", got, other)
	}
}

func (s *backendSuite) choices(t *testing.T) {
	one := s.ids(t, s.sampled(5))
	r := s.sampled(5)
	r.N = 3
	r.Stream = true
	e, err := answer(t.Context(), t, s.b, r)
	if errors.Is(err, protocol.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(e.Choices[0].IDs, one) {
		t.Errorf("the first of three choices is %v, the only one of one %v", e.Choices[0].IDs, one)
	}
	for i, c := range e.Choices {
		if c.Index != i {
			t.Errorf("choice %d has index %d", i, c.Index)
		}
	}
}

func (s *backendSuite) refusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*backend.Request)
		want   error
	}{
		{"no prompt", func(r *backend.Request) { r.PromptIDs = nil }, protocol.ErrInvalid},
		{"negative id", func(r *backend.Request) { r.PromptIDs = []int32{-1} }, protocol.ErrInvalid},
		{"id outside", func(r *backend.Request) { r.PromptIDs = []int32{int32(s.info.VocabRows)} }, protocol.ErrInvalid},
		{"forced id outside", func(r *backend.Request) { r.ForcedIDs = []int32{math.MaxInt32} }, protocol.ErrInvalid},
		{"negative limit", func(r *backend.Request) { r.MaxTokens = -1 }, protocol.ErrInvalid},
		{"temperature", func(r *backend.Request) { r.Sampling.Temperature = float32(math.NaN()) }, protocol.ErrInvalid},
		{"best_of below n", func(r *backend.Request) { r.N, r.BestOf = 3, 2 }, protocol.ErrInvalid},
		{"too long", func(r *backend.Request) { r.PromptIDs = slices.Repeat(s.o.Prompt[:1], s.info.Context+1) }, protocol.ErrContextLength},
		{"unknown adapter", func(r *backend.Request) { r.Adapters = []backend.AdapterUse{{ID: "no such", Scale: 1}} }, protocol.ErrAdapterNotFound},
	} {
		r := s.request()
		c.change(&r)
		_, err := answer(t.Context(), t, s.b, r)
		wants(t, c.name, err, c.want)
	}
	wants(t, "unload", s.b.UnloadAdapter(t.Context(), "no such"), protocol.ErrAdapterNotFound)
	_, err := s.b.Score(t.Context(), backend.ScoreRequest{Lists: [][]int32{{s.o.Prompt[0], -5}}})
	wants(t, "score", err, protocol.ErrInvalid)
	// It still answers.
	s.ids(t, s.request())
}

func (s *backendSuite) cancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := s.request()
	r.MaxTokens, r.Stream = 0, true
	events := 0
	err := s.b.Generate(ctx, r, func(e backend.Event) error {
		if len(e.IDs) > 0 {
			events++
			cancel()
		}
		return nil
	})
	if events == 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d events, %v", events, err)
	}
	// The plugin learns of it a moment later.
	for end := time.Now().Add(5 * time.Second); ; {
		st, err := s.b.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Running == 0 && st.Waiting == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("a cancelled request still runs: %+v", st)
		}
		timer := time.NewTimer(10 * time.Millisecond)
		<-timer.C
	}
}

func (s *backendSuite) adapter(t *testing.T) {
	if s.o.Adapter == "" {
		t.Skip("no adapter to try")
	}
	ctx := t.Context()
	_, err := s.b.LoadAdapter(ctx, backend.AdapterRequest{Path: "/nowhere", Name: "x"})
	wants(t, "load of nothing", err, protocol.ErrModel)
	a, err := s.b.LoadAdapter(ctx, backend.AdapterRequest{Path: s.o.Adapter, Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if a.ID == "" || len(a.SHA256) != 64 || a.Rank <= 0 || len(a.Targets) == 0 || a.Bytes <= 0 {
		t.Errorf("%+v", a)
	}
	again, err := s.b.LoadAdapter(ctx, backend.AdapterRequest{Path: s.o.Adapter, SHA256: a.SHA256, Name: "x"})
	if err != nil || again.ID != a.ID {
		t.Errorf("loaded again it is %q after %q, %v", again.ID, a.ID, err)
	}
	base := s.ids(t, s.request())
	r := s.request()
	r.Adapters = []backend.AdapterUse{{ID: a.ID, Scale: 1}}
	with := s.ids(t, r)
	if after := s.ids(t, s.request()); !slices.Equal(base, after) {
		t.Errorf("without adapter %v before and %v after it was used", base, after)
	}
	if after := s.ids(t, r); !slices.Equal(with, after) {
		t.Errorf("with adapter %v and %v", with, after)
	}
	if err := s.b.UnloadAdapter(ctx, a.ID); err != nil {
		t.Error(err)
	}
	_, err = answer(ctx, t, s.b, r)
	wants(t, "generate with what was unloaded", err, protocol.ErrAdapterNotFound)
}

func (s *backendSuite) embed(t *testing.T) {
	d, err := s.b.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, ok := s.b.(backend.Embedder)
	if !ok || !d.Embeds {
		t.Skip("it embeds nothing")
	}
	vectors, err := e.Embed(t.Context(), [][]int32{s.o.Prompt, s.o.Prompt[:1], s.o.Prompt})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		if len(v) != s.info.Width {
			t.Errorf("vector %d has %d values, want %d", i, len(v), s.info.Width)
		}
	}
	if !slices.Equal(vectors[0], vectors[2]) {
		t.Error("the same list gave two vectors")
	}
}

func (s *backendSuite) stats(t *testing.T) {
	before, err := s.b.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.ids(t, s.request())
	after, err := s.b.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.Steps <= before.Steps || after.DecodedTokens <= before.DecodedTokens || after.PromptTokens < before.PromptTokens {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if after.ResidentBytes <= 0 || after.Running != 0 {
		t.Errorf("%+v", after)
	}
}
