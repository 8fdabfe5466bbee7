package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

func TestGreedyFollowsTheModel(t *testing.T) {
	e, _ := serve(t)
	for _, n := range []int{1, 2, 8, 9, 70, 200} {
		req := backend.Request{ID: strconv.Itoa(n), PromptIDs: prompt(n, n), MaxTokens: 40, IgnoreEOS: true, Stream: true, Logprobs: true}
		a := must(t, e, req)
		want, lp, _ := reference(t, req, 0, 40)
		c := a.last.Choices[0]
		if !slices.Equal(c.IDs, want) {
			t.Fatalf("prompt of %d: got %v, want %v", n, c.IDs, want)
		}
		for i := range lp {
			if c.Logprobs[i].ID != want[i] || c.Logprobs[i].Logprob != lp[i] {
				t.Fatalf("step %d: %+v, want %v", i, c.Logprobs[i], lp[i])
			}
		}
		if c.Finish != backend.FinishLength || a.last.Usage != (backend.Usage{PromptTokens: n, CompletionTokens: 40}) {
			t.Errorf("%s, %+v", c.Finish, a.last.Usage)
		}
	}
}

// requests makes varied requests, one of each kind that a run may mix.
func requests() []backend.Request {
	var out []backend.Request
	for i, s := range []backend.Sampling{
		{},
		{Temperature: 1},
		{Temperature: 1.5, TopK: 20},
		{Temperature: 0.8, TopP: 0.9, RepeatPenalty: 1.2},
		{Temperature: 1, MinP: 0.05, PresencePenalty: 0.5, FrequencyPenalty: 0.2, PenaltyLastN: -1},
		{Temperature: 1, TypicalP: 0.8},
		{Temperature: 1, LogitBias: map[int32]float32{3: 2, 94: -100}},
		{},
		{Temperature: 1.5},
		{Temperature: 1.5, RepeatPenalty: 1.3},
		{Temperature: 1.2},
	} {
		s.Seed = uint64(100 + i)
		r := backend.Request{
			ID: fmt.Sprint("r", i), PromptIDs: prompt(3+i*11, i), Sampling: s, MaxTokens: 20 + 7*i,
			Stream: i%2 == 0, Logprobs: i%3 == 0, TopLogprobs: i % 3, Client: strconv.Itoa(i % 3), Priority: i % 2,
		}
		switch i {
		case 2:
			r.N = 3
		case 3:
			r.Stop = []string{"==", "abc"}
		case 5:
			r.N, r.BestOf = 2, 4
		case 7:
			r.IgnoreEOS = true
		case 8:
			r.Grammar, r.MaxTokens = fakeGrammar, 40
		case 9:
			r.Grammar, r.MaxTokens, r.N = fakeGrammar, 50, 3
		case 10:
			r.Grammar, r.MaxTokens, r.N, r.BestOf = fakeGrammar, 30, 2, 4
		}
		out = append(out, r)
	}
	return out
}

// What a request gives is the same however it ran; how long it took, and how much was known already, is not.
var ignoreTimes = cmp.Options{cmpopts.IgnoreFields(backend.Event{}, "Timings"), cmpopts.IgnoreFields(backend.Usage{}, "CachedTokens")}

// TestAloneOrTogether is the promise of DESIGN.md §4: the same requests give the same answers alone, together, with few
// pages (so that some are set aside and computed again), with short chunks, and with few rows of logits.
func TestAloneOrTogether(t *testing.T) {
	reqs := requests()
	alone := make([]backend.Event, len(reqs))
	one, _ := serve(t)
	for i, r := range reqs {
		alone[i] = must(t, one, r).last
	}
	for name, options := range map[string][]option{
		"together":           nil,
		"few pages":          {withPages(40)},
		"very few pages":     {withPages(33)},
		"small batches":      {withSize(func(s *sizes) { s.Batch = 9 })},
		"one row of logits":  {withSize(func(s *sizes) { s.Logits = 1 })},
		"two at once":        {withSize(func(s *sizes) { s.Sequences = 2 })},
		"one at once":        {withSize(func(s *sizes) { s.Sequences = 1 })},
		"few of everything":  {withPages(33), withSize(func(s *sizes) { s.Batch, s.Logits, s.Sequences = 17, 2, 5 })},
		"pages of one token": {withPages(260), withSize(func(s *sizes) { s.Page = 1 })},
	} {
		t.Run(name, func(t *testing.T) {
			// Every request is longer than a turn, so that they meet.
			e, f := serve(t, append(options, withTurn(50*time.Microsecond))...)
			answers := make([]reply, len(reqs))
			var wg sync.WaitGroup
			for i, r := range reqs {
				wg.Go(func() { answers[i] = generate(t.Context(), e, r) })
			}
			wg.Wait()
			for i, a := range answers {
				if a.err != nil {
					t.Errorf("%s: %v", reqs[i].ID, a.err)
					continue
				}
				check(t, reqs[i], a)
				if d := cmp.Diff(alone[i], a.last, ignoreTimes); d != "" {
					t.Errorf("%s differs from the one that ran alone: %s", reqs[i].ID, d)
				}
			}
			if name == "together" && f.widest.Load() < 6 {
				t.Errorf("at most %d sequences shared a batch", f.widest.Load())
			}
			if name == "very few pages" {
				t.Logf("%d forwards found no pages", f.refused.Load())
			}
		})
	}
}

// TestSetAside makes two answers grow until their pages run out: the younger is set aside and goes on later.
func TestSetAside(t *testing.T) {
	e, f := serve(t, withPages(34), withTurn(20*time.Microsecond))
	reqs := []backend.Request{
		{ID: "old", PromptIDs: prompt(30, 1), MaxTokens: 150, IgnoreEOS: true, Stream: true},
		{ID: "young", PromptIDs: prompt(30, 2), MaxTokens: 150, IgnoreEOS: true, Stream: true, Sampling: backend.Sampling{Temperature: 1, Seed: 5}},
	}
	var wg sync.WaitGroup
	answers := make([]reply, 2)
	for i, r := range reqs {
		wg.Go(func() { answers[i] = generate(t.Context(), e, r) })
	}
	wg.Wait()
	for i, r := range reqs {
		if answers[i].err != nil {
			t.Fatal(answers[i].err)
		}
		check(t, r, answers[i])
		want, _, _ := reference(t, r, 0, 150)
		if !slices.Equal(want, answers[i].last.Choices[0].IDs) {
			t.Errorf("%s is not what it is alone", r.ID)
		}
	}
	if f.refused.Load() == 0 {
		t.Error("the pages never ran out: the test does not test")
	}
}

func TestChoices(t *testing.T) {
	e, _ := serve(t)
	for _, promptLen := range []int{1, 2, 24, 25} {
		req := backend.Request{
			ID: "n", PromptIDs: prompt(promptLen, 9), MaxTokens: 30, N: 4, Stream: true, Logprobs: true,
			Sampling: backend.Sampling{Temperature: 1, Seed: 3},
		}
		a := must(t, e, req)
		steps := 0
		for i, c := range a.last.Choices {
			want, _, _ := reference(t, req, i, 30)
			if !slices.Equal(want, c.IDs) {
				t.Errorf("choice %d of a prompt of %d: got %v, want %v", i, promptLen, c.IDs, want)
			}
			steps += len(c.IDs)
			if c.Finish == backend.FinishStop {
				steps++
			}
		}
		if a.last.Usage.CompletionTokens != steps || a.last.Usage.PromptTokens != promptLen {
			t.Errorf("usage %+v, %d steps were drawn", a.last.Usage, steps)
		}
	}
}

// TestBranchesTakeTurns: choices that do not fit into the pool together run one after another.
func TestBranchesTakeTurns(t *testing.T) {
	e, f := serve(t, withPages(12))
	req := backend.Request{
		ID: "n", PromptIDs: prompt(20, 3), MaxTokens: 60, N: 4, IgnoreEOS: true, Logprobs: true,
		Sampling: backend.Sampling{Temperature: 1, Seed: 3},
	}
	a := must(t, e, req)
	for i, c := range a.last.Choices {
		if want, _, _ := reference(t, req, i, 60); !slices.Equal(want, c.IDs) {
			t.Errorf("choice %d: got %v, want %v", i, c.IDs, want)
		}
	}
	if f.refused.Load() == 0 {
		t.Error("the pages never ran out: the test does not test")
	}
}

// TestScoreBesideRequests: a long list that is scored does not keep a request from its first token.
func TestScoreBesideRequests(t *testing.T) {
	e, f := serve(t, withTurn(time.Millisecond), withSize(func(s *sizes) { s.Logits, s.Sequences = 2, 2 }))
	scored := make(chan error)
	go func() {
		_, err := e.Score(t.Context(), backend.ScoreRequest{Lists: [][]int32{prompt(256, 1)}})
		scored <- err
	}()
	waitFor(t, "it runs", func() bool { return f.turns.Load() > 2 })
	before := f.turns.Load()
	must(t, e, backend.Request{ID: "beside", PromptIDs: prompt(20, 2), MaxTokens: 5, IgnoreEOS: true})
	if turns := f.turns.Load() - before; turns > 12 {
		t.Errorf("5 tokens took %d turns", turns)
	}
	if err := <-scored; err != nil {
		t.Error(err)
	}
}

func TestBestOf(t *testing.T) {
	e, _ := serve(t)
	req := backend.Request{
		ID: "best", PromptIDs: prompt(20, 4), MaxTokens: 25, N: 2, BestOf: 6, Stream: true,
		Sampling: backend.Sampling{Temperature: 1.2, Seed: 8},
	}
	type ranked struct {
		ids  []int32
		mean float64
	}
	var want []ranked
	for i := range 6 {
		ids, _, total := reference(t, req, i, 25)
		n := len(ids)
		if n < 25 {
			n++ // the end of generation counts
		}
		want = append(want, ranked{ids, total / float64(n)})
	}
	slices.SortStableFunc(want, func(a, b ranked) int {
		if a.mean > b.mean {
			return -1
		}
		return 1
	})
	a := must(t, e, req)
	for i, c := range a.last.Choices {
		if !slices.Equal(c.IDs, want[i].ids) {
			t.Errorf("rank %d: got %v, want %v", i, c.IDs, want[i].ids)
		}
	}
	for _, ev := range a.events {
		if ev.Text != "" || len(ev.IDs) > 0 {
			t.Error("text was streamed before it was known which choice is the best")
		}
	}
}

func TestEnds(t *testing.T) {
	e, _ := serve(t)
	base := backend.Request{PromptIDs: prompt(10, 1), Stream: true, Logprobs: true}
	text := func(s string) []int32 { // of the pieces a to z and " A" to " Z"
		var ids []int32
		for i := 0; i < len(s); i++ {
			if s[i] == ' ' {
				i++
				ids = append(ids, int32(s[i]-'A')+26)
			} else {
				ids = append(ids, int32(s[i]-'a'))
			}
		}
		return ids
	}
	for name, c := range map[string]struct {
		change func(*backend.Request)
		ids    []int32
		text   string
		finish backend.FinishReason
		steps  int
	}{
		"max_tokens": {func(r *backend.Request) { r.ForcedIDs, r.MaxTokens = text("abcdef"), 3 }, text("abc"), "abc", backend.FinishLength, 3},
		"end of generation": {
			func(r *backend.Request) { r.ForcedIDs = append(text("ab"), fakeEOG, 1) },
			text("ab"), "ab", backend.FinishStop, 3,
		},
		"nothing but the end": {func(r *backend.Request) { r.ForcedIDs = []int32{fakeEOG} }, nil, "", backend.FinishStop, 1},
		"ignore_eos keeps the token": {
			func(r *backend.Request) {
				r.ForcedIDs, r.IgnoreEOS, r.MaxTokens = append(text("ab"), fakeEOG, 2), true, 4
			}, append(text("ab"), fakeEOG, 2), "abc", backend.FinishLength, 4,
		},
		"stop id": {
			func(r *backend.Request) { r.ForcedIDs, r.StopIDs = text("abz"), []int32{25} },
			text("ab"), "ab", backend.FinishStop, 3,
		},
		"stop id beside ignore_eos": {
			func(r *backend.Request) {
				r.ForcedIDs, r.IgnoreEOS, r.StopIDs = append(text("ab"), fakeEOG), true, []int32{fakeEOG}
			}, text("ab"), "ab", backend.FinishStop, 3,
		},
		"stop string in one token": {
			func(r *backend.Request) { r.ForcedIDs, r.Stop = append(text("ab"), 52), []string{"0"} }, // "w0x"
			append(text("ab"), 52), "abw", backend.FinishStop, 3,
		},
		"stop string takes whole tokens": {
			func(r *backend.Request) { r.ForcedIDs, r.Stop = text("abcdx"), []string{"cdx"} },
			text("ab"), "ab", backend.FinishStop, 5,
		},
		"stop string takes half a token": {
			func(r *backend.Request) { r.ForcedIDs, r.Stop = append(text("ab"), 52, 24), []string{"xy"} },
			append(text("ab"), 52), "abw0", backend.FinishStop, 4,
		},
		"stop string wins over length": {
			func(r *backend.Request) { r.ForcedIDs, r.Stop, r.MaxTokens = text("abc"), []string{"c"}, 3 },
			text("ab"), "ab", backend.FinishStop, 3,
		},
		"half a stop string is text": {
			func(r *backend.Request) { r.ForcedIDs, r.Stop, r.MaxTokens = text("abcd"), []string{"cdx"}, 4 },
			text("abcd"), "abcd", backend.FinishLength, 4,
		},
		"half a stop string before the end": {
			func(r *backend.Request) { r.ForcedIDs, r.Stop = append(text("abcd"), fakeEOG), []string{"cdx"} },
			text("abcd"), "abcd", backend.FinishStop, 5,
		},
		"half a character before the end": {
			func(r *backend.Request) { r.ForcedIDs, r.MaxTokens = append(text("a"), 60, 61), 3 },
			append(text("a"), 60, 61), "a\uFFFD", backend.FinishLength, 3,
		},
		"character over four tokens": {
			func(r *backend.Request) { r.ForcedIDs, r.MaxTokens = []int32{60, 61, 62, 63}, 4 },
			[]int32{60, 61, 62, 63},
			"😀", backend.FinishLength, 4,
		},
		"character as stop string": {
			func(r *backend.Request) { r.ForcedIDs, r.Stop = []int32{0, 60, 61, 62, 63}, []string{"😀"} },
			[]int32{0},
			"a", backend.FinishStop, 5,
		},
		"control tokens have no text": {
			func(r *backend.Request) { r.ForcedIDs, r.MaxTokens = []int32{0, fakeBell, 1}, 3 },
			[]int32{0, fakeBell, 1},
			"ab", backend.FinishLength, 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, stream := range []bool{true, false} {
				r := base
				r.ID, r.Stream = name, stream
				c.change(&r)
				a := must(t, e, r)
				got := a.last.Choices[0]
				if !slices.Equal(got.IDs, c.ids) || got.Text != c.text || got.Finish != c.finish {
					t.Errorf("got %v %q %s, want %v %q %s", got.IDs, got.Text, got.Finish, c.ids, c.text, c.finish)
				}
				if a.last.Usage.CompletionTokens != c.steps {
					t.Errorf("%d completion tokens, want %d", a.last.Usage.CompletionTokens, c.steps)
				}
			}
		})
	}
}

func TestContextFull(t *testing.T) {
	e, _ := serve(t)
	a := must(t, e, backend.Request{ID: "fill", PromptIDs: prompt(200, 1), IgnoreEOS: true, Stream: true})
	if c := a.last.Choices[0]; len(c.IDs) != 56 || c.Finish != backend.FinishLength {
		t.Errorf("%d tokens, %s: 200 and 56 fill a context of 256", len(c.IDs), c.Finish)
	}
	a = must(t, e, backend.Request{ID: "last", PromptIDs: prompt(255, 1), IgnoreEOS: true, MaxTokens: 9})
	if c := a.last.Choices[0]; len(c.IDs) != 1 || c.Finish != backend.FinishLength {
		t.Errorf("%d tokens, %s: one fits", len(c.IDs), c.Finish)
	}
	err := generate(t.Context(), e, backend.Request{ID: "over", PromptIDs: prompt(256, 1)}).err
	if !errors.Is(err, protocol.ErrContextLength) || !strings.Contains(err.Error(), "256") {
		t.Errorf("got %v, want ErrContextLength with the counts", err)
	}
}

// TestGoOn breaks a request off after each of its events and starts another attempt from the ids so far: the last event
// is the same, and the texts of both attempts join to the answer.
func TestGoOn(t *testing.T) {
	e, _ := serve(t)
	for name, req := range map[string]backend.Request{
		"free":      {Sampling: backend.Sampling{Temperature: 1, Seed: 1}, IgnoreEOS: true, MaxTokens: 60},
		"penalties": {Sampling: backend.Sampling{Temperature: 1, Seed: 2, RepeatPenalty: 1.3, FrequencyPenalty: 0.3, PenaltyLastN: 20}, MaxTokens: 60, IgnoreEOS: true},
		"stops":     {Sampling: backend.Sampling{Temperature: 1, Seed: 4}, IgnoreEOS: true, MaxTokens: 60, Stop: []string{"===a=", "===", "w0x Aq", "éa"}},
		"logprobs":  {Sampling: backend.Sampling{Temperature: 1, Seed: 3}, IgnoreEOS: true, MaxTokens: 30, Logprobs: true, TopLogprobs: 3},
		"repeats":   {ForcedIDs: []int32{0, 0, 0, 0, 0, 1, 0, 0, 60, 61, 62, 63, 60, 0, 0, 1}, IgnoreEOS: true, MaxTokens: 16, Stop: []string{"aaab!", "aab!"}},
		"ends":      {ForcedIDs: []int32{0, 1, 2, fakeEOG}, MaxTokens: 16},
	} {
		t.Run(name, func(t *testing.T) {
			req.ID, req.Stream, req.PromptIDs = name, true, prompt(12, 7)
			whole := must(t, e, req)
			want := whole.last.Choices[0]
			var ids []int32
			text := ""
			for _, ev := range whole.events {
				if ev.Done {
					break
				}
				ids, text = append(ids, ev.IDs...), text+ev.Text
				again := req
				again.GeneratedIDs = slices.Clone(ids)
				a := must(t, e, again)
				if d := cmp.Diff(whole.last, a.last, ignoreTimes); d != "" {
					t.Fatalf("after %d ids: %s", len(ids), d)
				}
				rest, more := "", []int32{}
				for _, ev := range a.events {
					rest, more = rest+ev.Text, append(more, ev.IDs...)
				}
				if len(ids) < len(want.IDs) && (text+rest != want.Text || !slices.Equal(append(slices.Clone(ids), more...), want.IDs)) {
					t.Fatalf("after %d ids: %q and %q do not join to %q", len(ids), text, rest, want.Text)
				}
			}
		})
	}
}

func TestGoOnWithNothingLeft(t *testing.T) {
	e, f := serve(t)
	a := must(t, e, backend.Request{ID: "full", PromptIDs: prompt(4, 1), GeneratedIDs: []int32{0, 1, 2}, MaxTokens: 3, Stream: true})
	if c := a.last.Choices[0]; c.Text != "abc" || c.Finish != backend.FinishLength || a.last.Usage.CompletionTokens != 3 {
		t.Errorf("got %+v, %+v", c, a.last.Usage)
	}
	if f.turns.Load() != 0 {
		t.Error("something was computed")
	}
}

func TestRefusals(t *testing.T) {
	e, _ := serve(t)
	for name, c := range map[string]struct {
		req  backend.Request
		kind error
		says string
	}{
		"no prompt":        {backend.Request{}, protocol.ErrInvalid, "no tokens"},
		"token outside":    {backend.Request{PromptIDs: []int32{0, fakeRows}}, protocol.ErrInvalid, "token 96 at 1"},
		"negative token":   {backend.Request{PromptIDs: []int32{-1}}, protocol.ErrInvalid, "prompt"},
		"generated":        {backend.Request{PromptIDs: []int32{1}, GeneratedIDs: []int32{-1}}, protocol.ErrInvalid, "generated_ids"},
		"forced":           {backend.Request{PromptIDs: []int32{1}, ForcedIDs: []int32{999}}, protocol.ErrInvalid, "forced_ids"},
		"best_of below n":  {backend.Request{PromptIDs: []int32{1}, N: 3, BestOf: 2}, protocol.ErrInvalid, "best_of"},
		"too many":         {backend.Request{PromptIDs: []int32{1}, N: 1000}, protocol.ErrInvalid, "1000"},
		"negative n":       {backend.Request{PromptIDs: []int32{1}, N: -1}, protocol.ErrInvalid, "n:"},
		"max_tokens":       {backend.Request{PromptIDs: []int32{1}, MaxTokens: -1}, protocol.ErrInvalid, "max_tokens"},
		"top_logprobs":     {backend.Request{PromptIDs: []int32{1}, TopLogprobs: -1}, protocol.ErrInvalid, "top_logprobs"},
		"continued n":      {backend.Request{PromptIDs: []int32{1}, GeneratedIDs: []int32{1}, N: 2}, protocol.ErrInvalid, "generated_ids"},
		"sampling":         {backend.Request{PromptIDs: []int32{1}, Sampling: backend.Sampling{MinP: 2}}, protocol.ErrInvalid, "min_p"},
		"bias":             {backend.Request{PromptIDs: []int32{1}, Sampling: backend.Sampling{LogitBias: map[int32]float32{500: 1}}}, protocol.ErrInvalid, "500"},
		"empty stop":       {backend.Request{PromptIDs: []int32{1}, Stop: []string{"a", ""}}, protocol.ErrInvalid, "stop string"},
		"broken stop":      {backend.Request{PromptIDs: []int32{1}, Stop: []string{"\xff"}}, protocol.ErrInvalid, "UTF-8"},
		"grammar":          {backend.Request{PromptIDs: []int32{1}, Grammar: "root ::= x"}, protocol.ErrInvalid, "rule x is used and not defined"},
		"grammar's items":  {backend.Request{PromptIDs: []int32{1}, Grammar: "root ::= <x>"}, protocol.ErrUnsupported, "tokens as items"},
		"grammar's length": {backend.Request{PromptIDs: []int32{1}, Grammar: "root ::= [a-c]{9}", MaxTokens: 8}, protocol.ErrInvalid, "max_tokens: grammar: limit too small: the shortest text takes 9 tokens"},
		"grammar's room":   {backend.Request{PromptIDs: []int32{1}, Grammar: "root ::= [a-c]{300}"}, protocol.ErrContextLength, "300 tokens"},
		"grammar's bytes":  {backend.Request{PromptIDs: []int32{1}, Grammar: `root ::= "?"`}, protocol.ErrInvalid, "vocabulary cannot write"},
		"grammar, forced":  {backend.Request{PromptIDs: []int32{1}, Grammar: `root ::= "a"`, ForcedIDs: []int32{1}}, protocol.ErrInvalid, "forced_ids"},
		"grammar, biased":  {backend.Request{PromptIDs: []int32{1}, Grammar: `root ::= "a" | "b"`, Sampling: backend.Sampling{LogitBias: forbidAll()}}, protocol.ErrInvalid, "logit_bias"},
		"unknown adapter":  {backend.Request{PromptIDs: []int32{1}, Adapters: []backend.AdapterUse{{ID: "x", Scale: 1}}}, protocol.ErrAdapterNotFound, "x"},
		"adapter's scale":  {backend.Request{PromptIDs: []int32{1}, Adapters: []backend.AdapterUse{{ID: "x", Scale: float32(math.NaN())}}}, protocol.ErrInvalid, "scale"},
		"all is forbidden": {backend.Request{PromptIDs: []int32{1}, Sampling: backend.Sampling{LogitBias: forbidAll()}}, protocol.ErrModel, "no token"},
	} {
		t.Run(name, func(t *testing.T) {
			a := generate(t.Context(), e, c.req)
			if !errors.Is(a.err, c.kind) || !strings.Contains(a.err.Error(), c.says) {
				t.Errorf("got %v, want %v that says %q", a.err, c.kind, c.says)
			}
			if a.last.Done {
				t.Error("a refused request has a last event")
			}
		})
	}
	must(t, e, backend.Request{ID: "after", PromptIDs: []int32{1}, MaxTokens: 3})
}

func forbidAll() map[int32]float32 {
	m := map[int32]float32{}
	for i := range int32(fakeRows) {
		m[i] = float32(math.Inf(-1))
	}
	return m
}

func TestNotLoaded(t *testing.T) {
	e := New(Options{})
	ctx := t.Context()
	for name, err := range map[string]error{
		"generate": generate(ctx, e, backend.Request{PromptIDs: []int32{1}}).err,
		"unload":   e.UnloadAdapter(ctx, "x"),
		"vocab":    e.SetVocabulary(ctx, fakeVocabulary()),
	} {
		if !errors.Is(err, protocol.ErrNotLoaded) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := e.Score(ctx, backend.ScoreRequest{}); !errors.Is(err, protocol.ErrNotLoaded) {
		t.Errorf("score: got %v", err)
	}
	if _, err := e.Stats(ctx); !errors.Is(err, protocol.ErrNotLoaded) {
		t.Errorf("stats: got %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// waitFor polls what the loop publishes.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestCancel(t *testing.T) {
	long := backend.Request{PromptIDs: prompt(30, 1), IgnoreEOS: true, Stream: true, N: 2}
	for name, c := range map[string]struct {
		options []option
		when    func(backend.Event) bool // the event at which the consumer cancels
	}{
		"while decoding": {nil, func(ev backend.Event) bool { return len(ev.IDs) > 0 }},
		"during prefill": {
			[]option{withSize(func(s *sizes) { s.Batch = 4 })},
			func(ev backend.Event) bool { return ev.Prefill != nil && ev.Prefill.Done < ev.Prefill.Of },
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, f := serve(t, append(c.options, withTurn(time.Millisecond))...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var turns int64
			err := e.Generate(ctx, long, func(ev backend.Event) error {
				if turns == 0 && c.when(ev) {
					turns = f.turns.Load()
					cancel()
				}
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if after := f.turns.Load() - turns; turns == 0 || after > 2 {
				t.Errorf("%d turns after the cancel", after)
			}
			waitFor(t, "all pages back", func() bool {
				st, err := e.Stats(t.Context())
				return err == nil && st.KVPagesUsed == 0 && st.Running == 0
			})
		})
	}
	t.Run("while waiting", func(t *testing.T) {
		e, _ := serve(t, withTurn(time.Millisecond), withSize(func(s *sizes) { s.Sequences = 2 }))
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		go func() { first <- generate(ctx, e, long).err }()
		waitFor(t, "the first runs", func() bool { st, err := e.Stats(t.Context()); return err == nil && st.Running == 1 })
		ctx2, cancel2 := context.WithCancel(t.Context())
		second := make(chan error)
		go func() { second <- generate(ctx2, e, long).err }()
		waitFor(t, "the second waits", func() bool { st, err := e.Stats(t.Context()); return err == nil && st.Waiting == 1 })
		cancel2()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("before it began", func(t *testing.T) {
		e, _ := serve(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := generate(ctx, e, long).err; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("by the consumer's error", func(t *testing.T) {
		e, _ := serve(t)
		if err := e.Generate(t.Context(), long, func(backend.Event) error { return errTest }); !errors.Is(err, errTest) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRandomCancels lets requests come and go at random: whatever happens, pages come back and every request ends.
func TestRandomCancels(t *testing.T) {
	e, f := serve(t, withPages(40), withSize(func(s *sizes) { s.Batch, s.Logits = 20, 4 }))
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 60 {
				req := backend.Request{
					ID: fmt.Sprint(w, "/", i), PromptIDs: prompt(1+rng.IntN(100), i), MaxTokens: 1 + rng.IntN(120), N: 1 + rng.IntN(3),
					Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i)}, Stream: rng.IntN(2) == 0, Logprobs: rng.IntN(3) == 0,
					Priority: rng.IntN(3),
				}
				ctx, cancel := context.WithCancel(t.Context())
				left := rng.IntN(60)
				err := e.Generate(ctx, req, func(backend.Event) error {
					if left--; left == 0 {
						cancel()
					}
					return nil
				})
				cancel()
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", req.ID, err)
				}
			}
		})
	}
	wg.Wait()
	waitFor(t, "all pages back", func() bool { st, err := e.Stats(t.Context()); return err == nil && st.KVPagesUsed == 0 })
	t.Logf("%d turns, %d without pages", f.turns.Load(), f.refused.Load())
}

// TestSlowConsumer: who does not read holds nobody up, and finds everything joined.
func TestSlowConsumer(t *testing.T) {
	e, _ := serve(t)
	release := make(chan struct{})
	slow := backend.Request{ID: "slow", PromptIDs: prompt(10, 1), MaxTokens: 200, IgnoreEOS: true, Stream: true, Logprobs: true}
	result := make(chan reply)
	go func() {
		var a reply
		a.err = e.Generate(t.Context(), slow, func(ev backend.Event) error {
			if len(ev.IDs) > 0 {
				<-release
			}
			a.events = append(a.events, ev)
			if ev.Done {
				a.last = ev
			}
			return nil
		})
		result <- a
	}()
	waitFor(t, "the slow one is done", func() bool {
		st, err := e.Stats(t.Context())
		return err == nil && st.DecodedTokens >= 199 && st.Running == 0
	})
	must(t, e, backend.Request{ID: "quick", PromptIDs: prompt(10, 2), MaxTokens: 50, IgnoreEOS: true, Stream: true})
	close(release)
	a := <-result
	if a.err != nil {
		t.Fatal(a.err)
	}
	check(t, slow, a)
	if len(a.events) > 6 {
		t.Errorf("%d events: what nobody read was not joined", len(a.events))
	}
}

func TestQueueFull(t *testing.T) {
	e, _ := serve(t, withTurn(time.Millisecond), withSize(func(s *sizes) { s.Sequences, s.waiting = 1, 2 }))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			_ = generate(ctx, e, backend.Request{ID: strconv.Itoa(i), PromptIDs: prompt(5, i), IgnoreEOS: true})
		})
		waitFor(t, "it is in", func() bool { st, err := e.Stats(t.Context()); return err == nil && st.Running+st.Waiting == i+1 })
	}
	if err := generate(t.Context(), e, backend.Request{PromptIDs: prompt(5, 1)}).err; !errors.Is(err, protocol.ErrQueueFull) {
		t.Errorf("got %v, want ErrQueueFull", err)
	}
	cancel()
	wg.Wait()
}

func TestPriority(t *testing.T) {
	e, f := serve(t, withSize(func(s *sizes) { s.Sequences = 1 }))
	hold := make(chan struct{})
	var order []int32
	f.hook = func(rows []compute.Row) error {
		<-hold
		if len(rows) == 3 {
			order = append(order, rows[0].Token)
		}
		return nil
	}
	var wg sync.WaitGroup
	for i, priority := range []int{0, 0, 0, 5, -5} {
		wg.Go(func() {
			id := int32(i)
			if err := generate(t.Context(), e, backend.Request{PromptIDs: []int32{id, id, id}, MaxTokens: 2, Priority: priority}).err; err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			waitFor(t, "the first computes", func() bool { return f.turns.Load() == 1 })
			continue
		}
		m, err := e.current()
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, "it is sent", func() bool { return len(m.loop.commands) == i })
	}
	close(hold)
	wg.Wait()
	if d := cmp.Diff([]int32{0, 3, 1, 2, 4}, order); d != "" {
		t.Error(d)
	}
}

// TestClientsTakeTurns: a short prompt of another client does not wait for the end of a long one; of the same client it does.
func TestClientsTakeTurns(t *testing.T) {
	for _, other := range []string{"b", "a"} {
		e, f := serve(t, withSize(func(s *sizes) { s.Batch = 16 }))
		hold := make(chan struct{})
		var order []int // rows of each prompt that ends, in order
		f.hook = func(rows []compute.Row) error {
			<-hold
			for i, r := range rows {
				if r.Logits != nil {
					order = append(order, r.Seq.Len()+i+1)
				}
			}
			return nil
		}
		var wg sync.WaitGroup
		for i, r := range []backend.Request{
			{ID: "long", Client: "a", PromptIDs: prompt(200, 1), MaxTokens: 1},
			{ID: "short", Client: other, PromptIDs: prompt(40, 2), MaxTokens: 1},
		} {
			wg.Go(func() { must(t, e, r) })
			if i == 0 {
				waitFor(t, "the first computes", func() bool { return f.turns.Load() == 1 })
			} else {
				waitFor(t, "it is sent", func() bool { return len(e.loaded.loop.commands) == 1 })
			}
		}
		close(hold)
		wg.Wait()
		if short := len(order) == 2 && order[0] < 100; short != (other == "b") {
			t.Errorf("client %s: prompts of %v rows end in this order", other, order)
		}
	}
}

func TestForwardFails(t *testing.T) {
	e, f := serve(t)
	f.hook = func([]compute.Row) error { return errTest }
	if err := generate(t.Context(), e, backend.Request{ID: "x", PromptIDs: prompt(5, 1), N: 2}).err; !errors.Is(err, errTest) {
		t.Errorf("got %v", err)
	}
}

func TestBadLogits(t *testing.T) {
	e, f := serve(t)
	f.hook = nil
	for _, req := range []backend.Request{{}, {Logprobs: true}, {Sampling: backend.Sampling{Temperature: 1}}, {N: 2}} {
		req.PromptIDs = prompt(5, 1)
		m, err := e.current()
		if err != nil {
			t.Fatal(err)
		}
		good := m.loop.model
		if err := m.loop.do(t.Context(), func() { m.loop.model = nanModel{good} }); err != nil {
			t.Fatal(err)
		}
		if err := generate(t.Context(), e, req).err; !errors.Is(err, protocol.ErrModel) {
			t.Errorf("got %v, want ErrModel", err)
		}
		if err := m.loop.do(t.Context(), func() { m.loop.model = good }); err != nil {
			t.Fatal(err)
		}
	}
}

// nanModel gives what a damaged adapter gives.
type nanModel struct{ compute.Model }

func (m nanModel) Forward(rows []compute.Row) error {
	err := m.Model.Forward(rows)
	for _, r := range rows {
		if r.Logits != nil {
			r.Logits[3] = float32(math.NaN())
		}
	}
	return err
}

// TestPoolTooSmall: a pool that cannot hold one sequence fails it with the figures instead of trying for ever.
func TestPoolTooSmall(t *testing.T) {
	e, _ := serve(t, withPages(4))
	err := generate(t.Context(), e, backend.Request{ID: "x", PromptIDs: prompt(20, 1), IgnoreEOS: true, N: 2}).err
	if !errors.Is(err, protocol.ErrNoMemory) || !strings.Contains(err.Error(), "4 KV pages") {
		t.Errorf("got %v, want ErrNoMemory", err)
	}
	must(t, e, backend.Request{ID: "y", PromptIDs: prompt(20, 1), IgnoreEOS: true, MaxTokens: 12})
}

func TestClose(t *testing.T) {
	e, _ := serve(t, withTurn(time.Millisecond), withSize(func(s *sizes) { s.Sequences = 1 }))
	errs := make(chan error)
	for i := range 3 {
		go func() {
			errs <- generate(t.Context(), e, backend.Request{ID: strconv.Itoa(i), PromptIDs: prompt(5, i), IgnoreEOS: true}).err
		}()
	}
	waitFor(t, "all are in", func() bool { st, err := e.Stats(t.Context()); return err == nil && st.Running+st.Waiting == 3 })
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := <-errs; !errors.Is(err, errClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestScore(t *testing.T) {
	e, _ := serve(t, withSize(func(s *sizes) { s.Logits, s.Batch = 5, 12 }))
	lists := [][]int32{prompt(256, 1), {}, {5}, {5, 6}, prompt(40, 2)}
	got, err := e.Score(t.Context(), backend.ScoreRequest{Lists: lists})
	if err != nil {
		t.Fatal(err)
	}
	for i, list := range lists {
		want := []float32{}
		if len(list) > 1 {
			a := must(t, e, backend.Request{
				ID: "forced", PromptIDs: list[:1], ForcedIDs: list[1:], MaxTokens: len(list) - 1, Logprobs: true, IgnoreEOS: true,
			})
			for _, p := range a.last.Choices[0].Logprobs {
				want = append(want, p.Logprob)
			}
		}
		if d := cmp.Diff(want, got[i].Logprobs, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("list %d: %s", i, d)
		}
	}
	for name, c := range map[string]struct {
		list []int32
		kind error
	}{"too long": {prompt(257, 1), protocol.ErrContextLength}, "outside": {[]int32{1, 96}, protocol.ErrInvalid}, "one outside": {[]int32{-1}, protocol.ErrInvalid}} {
		if _, err := e.Score(t.Context(), backend.ScoreRequest{Lists: [][]int32{{1, 2}, c.list}}); !errors.Is(err, c.kind) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAdapters(t *testing.T) {
	e, _ := serve(t, withTurn(100*time.Microsecond))
	m, err := e.current()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	load := func(id string) (*fakeAdapter, *closer) {
		file := &closer{}
		var b compute.Adapter
		if err := m.loop.do(ctx, func() {
			if _, err := m.loop.adopt(backend.AdapterInfo{ID: id}, nil, file); err != nil {
				t.Error(err)
			}
			b = m.loop.adapters[id].bound
		}); err != nil {
			t.Fatal(err)
		}
		return b.(*fakeAdapter), file
	}
	a, file := load("a")
	base := backend.Request{ID: "base", PromptIDs: prompt(20, 1), MaxTokens: 40, IgnoreEOS: true, Stream: true}
	with := base
	with.Adapters = []backend.AdapterUse{{ID: "a", Scale: 1}}
	half := base
	half.Adapters = []backend.AdapterUse{{ID: "a", Scale: 0.5}}
	x, y, z := must(t, e, base), must(t, e, with), must(t, e, half)
	if slices.Equal(x.last.Choices[0].IDs, y.last.Choices[0].IDs) || slices.Equal(y.last.Choices[0].IDs, z.last.Choices[0].IDs) {
		t.Error("adapter or scale changes nothing")
	}

	// Unload while a request runs: it ends as if nothing had happened, a new one is refused, and then the adapter is freed.
	unloaded := false
	err = e.Generate(ctx, with, func(ev backend.Event) error {
		if len(ev.IDs) > 0 && !unloaded {
			unloaded = true
			if err := e.UnloadAdapter(ctx, "a"); err != nil {
				t.Error(err)
			}
			if a.closed || file.closed {
				t.Error("freed while it is used")
			}
			if err := generate(ctx, e, with).err; !errors.Is(err, protocol.ErrAdapterNotFound) {
				t.Errorf("a new request: got %v, want ErrAdapterNotFound", err)
			}
		}
		if ev.Done {
			if d := cmp.Diff(y.last, ev, ignoreTimes); d != "" {
				t.Error(d)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it is freed", func() bool { st, err := e.Stats(ctx); return err == nil && st.Adapters == 0 })
	if !a.closed || !file.closed {
		t.Error("not freed after its last request")
	}
	for _, id := range []string{"a", "b"} {
		if err := e.UnloadAdapter(ctx, id); !errors.Is(err, protocol.ErrAdapterNotFound) {
			t.Errorf("unload %s: got %v", id, err)
		}
	}

	// Loading again what is about to leave keeps it.
	a, _ = load("a")
	err = e.Generate(ctx, with, func(ev backend.Event) error {
		if ev.Prefill == nil || ev.Prefill.Done != ev.Prefill.Of {
			return nil
		}
		if err := e.UnloadAdapter(ctx, "a"); err != nil {
			t.Error(err)
		}
		return m.loop.do(ctx, func() {
			if _, ok := m.loop.known("a"); !ok {
				t.Error("an adapter that is used is not known")
			}
		})
	})
	if err != nil || a.closed {
		t.Errorf("got %v, closed %v", err, a.closed)
	}
	must(t, e, with)
}

type closer struct{ closed bool }

func (c *closer) Close() error { c.closed = true; return nil }

func TestVocabulary(t *testing.T) {
	e, _ := serve(t)
	// More pieces than rows are fine; fewer leave surplus rows, which are never drawn.
	many := fakeVocabulary()
	for range 50 {
		many.Pieces, many.Control = append(many.Pieces, []byte("!")), append(many.Control, false)
	}
	few := fakeVocabulary()
	few.Pieces, few.Control = few.Pieces[:10], few.Control[:10]
	for name, c := range map[string]struct {
		v     backend.Vocabulary
		limit int32
	}{"more pieces": {many, fakeRows}, "surplus rows": {few, 10}} {
		t.Run(name, func(t *testing.T) {
			if err := e.SetVocabulary(t.Context(), c.v); err != nil {
				t.Fatal(err)
			}
			for _, temperature := range []float32{0, 5} {
				a := must(t, e, backend.Request{
					ID: name, PromptIDs: prompt(5, 1), MaxTokens: 100, IgnoreEOS: true, Logprobs: true, TopLogprobs: 20,
					Sampling: backend.Sampling{Temperature: temperature},
				})
				for _, p := range a.last.Choices[0].Logprobs {
					if p.ID >= c.limit || slices.ContainsFunc(p.Top, func(alt backend.Alternative) bool { return alt.ID >= c.limit }) {
						t.Fatalf("a surplus row was drawn or shown: %+v", p)
					}
					if want := min(20, int(c.limit)); len(p.Top) != want {
						t.Fatalf("%d alternatives, want %d", len(p.Top), want)
					}
				}
			}
		})
	}
	for name, v := range map[string]backend.Vocabulary{"empty": {}, "flags": {Pieces: [][]byte{{'a'}}, Control: []bool{true, false}}} {
		if err := e.SetVocabulary(t.Context(), v); !errors.Is(err, protocol.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTopLogprobs(t *testing.T) {
	e, _ := serve(t)
	a := must(t, e, backend.Request{ID: "x", PromptIDs: prompt(5, 1), MaxTokens: 10, IgnoreEOS: true, Logprobs: true, TopLogprobs: 5})
	for _, p := range a.last.Choices[0].Logprobs {
		if p.Top[0].ID != p.ID || p.Top[0].Logprob != p.Logprob {
			t.Errorf("greedy drew %d %v, the best alternative is %+v", p.ID, p.Logprob, p.Top[0])
		}
		if !slices.IsSortedFunc(p.Top, func(a, b backend.Alternative) int {
			if a.Logprob > b.Logprob || a.Logprob == b.Logprob && a.ID < b.ID {
				return -1
			}
			return 1
		}) {
			t.Errorf("out of order: %v", p.Top)
		}
	}
}

func TestTimings(t *testing.T) {
	e, _ := serve(t, withTurn(2*time.Millisecond))
	ti := must(t, e, backend.Request{ID: "x", PromptIDs: prompt(50, 1), MaxTokens: 10, IgnoreEOS: true}).last.Timings
	if ti.Prefill < 2*time.Millisecond || ti.Decode < 18*time.Millisecond || ti.FirstToken < ti.Prefill+ti.Queue {
		t.Errorf("%+v", ti)
	}
	st, err := e.Stats(t.Context())
	if err != nil || st.Steps < 10 || st.PromptTokens != 50 || st.DecodedTokens != 9 || st.HeapBytes == 0 || st.ResidentBytes == 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestTurnAllocatesNothing: forming a batch and drawing tokens costs no garbage while nothing is streamed.
func TestTurnAllocatesNothing(t *testing.T) {
	f := &fake{t: t, total: 100, size: sizes{Sizes: compute.Sizes{Rows: fakeRows, Context: 4096, Page: 4096, Batch: 64, Logits: 16, Sequences: 8}, waiting: 8}}
	l := newLoop(still{f}, f.size, make([]float32, f.size.Logits*f.size.Rows), New(Options{}).opt.Log)
	v, err := answer.NewVocabulary(fakeVocabulary(), fakeRows, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		j, err := newJob(t.Context(), backend.Request{
			PromptIDs: prompt(3, i), IgnoreEOS: true, Stop: []string{"STOP"},
			Sampling: backend.Sampling{Temperature: 1, TopK: 20, TopP: 0.9, RepeatPenalty: 1.1, Seed: uint64(i)},
		}, v, f.size)
		if err != nil {
			t.Fatal(err)
		}
		l.submit(j)
	}
	turn := func() {
		l.admit()
		if !l.formBatch() {
			t.Fatal("nothing to do")
		}
		l.turn()
		l.publish()
	}
	for range 600 { // behind them the lists of ids grow again at 832
		turn()
	}
	if n := testing.AllocsPerRun(200, turn); n > 0.1 { // the text itself grows now and then
		t.Errorf("%v allocations a turn", n)
	}
}

// still is a fake that keeps no history, and so allocates nothing.
type still struct{ *fake }

type stillSeq struct {
	compute.Seq
	n int
}

func (s *stillSeq) Len() int       { return s.n }
func (s *stillSeq) Pages() int     { return 1 }
func (s *stillSeq) Need(int) int   { return 0 }
func (s *stillSeq) Free()          {}
func (s *stillSeq) Stretch(int)    {}
func (s *stillSeq) Stretched() int { return 0 }

func (m still) NewSeq() compute.Seq { return &stillSeq{} }

func (m still) Forward(rows []compute.Row) error {
	for _, r := range rows {
		s := r.Seq.(*stillSeq)
		s.n++
		if r.Logits != nil {
			fill(r.Logits, mix(uint64(s.n)*7+uint64(r.Token)))
		}
	}
	return nil
}
