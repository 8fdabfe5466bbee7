package engine

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Ids of the fake's vocabulary that thinkingVocabulary makes marks of.
const (
	fakeOpen  = fakeBell
	fakeClose = 93
	fakeLine  = 92
)

// thinkingVocabulary is the fake's with marks of a thought that are control tokens, and a line end.
func thinkingVocabulary() backend.Vocabulary {
	v := fakeVocabulary()
	v.Pieces[fakeOpen], v.Pieces[fakeClose], v.Pieces[fakeLine] = []byte("<think>"), []byte("</think>"), []byte("\n")
	v.Control[fakeClose] = true
	return v
}

// thinker is an engine over a fake that writes what a text of its vocabulary is, marks included.
func thinker(t *testing.T, options ...option) (e *Engine, written func(ids []int32) string) {
	t.Helper()
	e, _ = serve(t, options...)
	v := thinkingVocabulary()
	if err := e.SetVocabulary(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	return e, func(ids []int32) string {
		var out strings.Builder
		for _, id := range ids {
			out.Write(v.Pieces[id])
		}
		return out.String()
	}
}

// closings are marks that end a thought: one token, and one that the model writes in two.
func closings() map[string]*backend.Thinking {
	return map[string]*backend.Thinking{
		"one token": {Open: "<think>", Close: "</think>", CloseIDs: []int32{fakeLine, fakeClose, fakeLine}, ThenIDs: []int32{fakeLine}},
		"in two":    {Open: "<think>", Close: "q B", CloseIDs: []int32{fakeLine, 'q' - 'a', 26 + 1, fakeLine}, ThenIDs: []int32{fakeLine}},
	}
}

// TestThinkingBudget: up to the budget an answer is what it is without one; there the mark is decoded, and it goes on behind it.
// A thought that ends in time stays as it is, and so does an answer without any. The ids are the same with log-probabilities,
// beside other choices, from any id on and with guessed tokens.
func TestThinkingBudget(t *testing.T) {
	for name, marks := range closings() {
		t.Run(name, func(t *testing.T) {
			e, written := thinker(t)
			guessing, _ := thinker(t, func(f *fake) { f.eager, f.size.lookup = true, true })
			spent, early, none, waited := 0, 0, 0, 0
			for i := range 120 {
				req := backend.Request{
					ID: "budget", PromptIDs: prompt(1+i%20, i), MaxTokens: 60, IgnoreEOS: true, Stream: true,
					Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i), LogitBias: map[int32]float32{fakeOpen: 3, fakeClose: 1, 'q' - 'a': 3, 26 + 1: 3}},
				}
				plain := must(t, e, req).last.Choices[0].IDs
				th := *marks
				th.Budget, th.Begun = 1+i%12, i%3 > 0
				req.Thinking = &th
				got := must(t, e, req).last.Choices[0].IDs

				// By the definition: where the thought begins and ends in the plain answer, and how many of its tokens there are.
				from := 0
				if !th.Begun {
					for from < len(plain) && strings.TrimLeft(written(plain[:from+1]), " \n") == "" {
						from++
					}
					if from == len(plain) || plain[from] != fakeOpen {
						none++
						if !slices.Equal(got, plain) {
							t.Errorf("%d: nothing is thought: %v became %v", i, plain, got)
						}
						continue
					}
					from++
				}
				end := from
				for end < len(plain) && !strings.Contains(written(plain[from:end]), th.Close) {
					if end-from >= th.Budget && markBegun([]byte(written(plain[from:end])), th.Close) == 0 {
						break
					}
					end++
				}
				switch n := end - from; {
				case end == len(plain):
					continue
				case strings.Contains(written(plain[from:end]), th.Close):
					early++
					if n > th.Budget {
						waited++
					}
					if !slices.Equal(got, plain) {
						t.Errorf("%d: a thought of %d tokens for %d: %v became %v", i, n, th.Budget, plain, got)
					}
				default:
					spent++
					if want := slices.Concat(plain[:end], th.CloseIDs); !slices.Equal(got[:min(len(got), len(want))], want) {
						t.Errorf("%d: %d tokens for thoughts: %v became %v", i, th.Budget, plain, got)
					}
				}
				if g := must(t, guessing, req).last.Choices[0].IDs; !slices.Equal(g, got) {
					t.Errorf("%d: %v, and with guesses %v", i, got, g)
				}
				told := req
				told.Logprobs = true
				if g := must(t, e, told).last.Choices[0].IDs; !slices.Equal(g, got) {
					t.Errorf("%d: %v, and with log-probabilities %v", i, got, g)
				}
				several := req
				several.N = 3
				if g := must(t, e, several).last.Choices[0].IDs; !slices.Equal(g, got) {
					t.Errorf("%d: %v, and beside others %v", i, got, g)
				}
				for n := range got {
					if i%8 > 0 {
						break
					}
					again := req
					again.GeneratedIDs = got[:n]
					if g := must(t, e, again).last.Choices[0].IDs; !slices.Equal(g, got) {
						t.Fatalf("%d: %v, and from %d ids on %v", i, got, n, g)
					}
				}
			}
			t.Logf("%d budgets spent, %d thoughts ended before, %d of them beyond it since their mark had begun, %d answers without", spent, early, waited, none)
			if spent < 20 || early < 5 || none < 5 {
				t.Error("too few to test anything")
			}
		})
	}
}

// TestNoThoughtBegins: the mark that would begin a thought is not drawn where one could begin, and may come later.
func TestNoThoughtBegins(t *testing.T) {
	e, written := thinker(t)
	for name, c := range map[string]struct {
		open string
		bias map[int32]float32
	}{
		"one token":  {"<think>", map[int32]float32{fakeOpen: 4, fakeLine: 3}},
		"in several": {"q B", map[int32]float32{'q' - 'a': 4, 26 + 1: 4, fakeLine: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			began, later := 0, 0
			for i := range 80 {
				req := backend.Request{
					ID: "never", PromptIDs: prompt(1+i%20, i), MaxTokens: 30, IgnoreEOS: true,
					Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i), LogitBias: c.bias},
				}
				begins := func() bool {
					text := strings.TrimLeft(written(must(t, e, req).last.Choices[0].IDs), " \n")
					if strings.Contains(strings.TrimPrefix(text, c.open), c.open) {
						later++
					}
					return strings.HasPrefix(text, c.open)
				}
				if begins() {
					began++
				}
				req.Thinking = &backend.Thinking{Open: c.open, Close: "</think>", Never: true}
				if begins() {
					t.Errorf("%d: a thought begins", i)
				}
			}
			if began < 3 || later < 3 {
				t.Errorf("%d answers begin with the mark without the rule, %d hold it later: too few to test anything", began, later)
			}
		})
	}
}

// TestFormBehindThought: an answer that is held to a form begins behind the thought, whichever way that ends, and is complete
// within its limit.
func TestFormBehindThought(t *testing.T) {
	for name, marks := range closings() {
		t.Run(name, func(t *testing.T) {
			e, written := thinker(t)
			bare := regexp.MustCompile(strings.TrimPrefix(fakePattern.String(), "^"))
			closed, cut := 0, 0
			for i := range 100 {
				th := *marks
				th.Begun, th.Budget = true, []int{0, 5, 20}[i%3]
				req := backend.Request{
					ID: "form", PromptIDs: prompt(1+i%20, i), MaxTokens: 24 + i%40, Grammar: fakeGrammar, Stream: true, Thinking: &th,
					Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i), LogitBias: map[int32]float32{fakeClose: 1, fakeEOG: 3, 'q' - 'a': 4, 26 + 1: 4}},
				}
				a := must(t, e, req)
				c := a.last.Choices[0]
				thought, answer, found := strings.Cut(written(c.IDs), th.Close)
				if !found || !strings.HasPrefix(answer, "\n") || !bare.MatchString(strings.TrimLeft(answer, "\n")) ||
					bare.FindStringIndex(strings.TrimLeft(answer, "\n"))[0] != 0 || c.Finish != backend.FinishStop {
					t.Errorf("%d, %d tokens at most: %q, %s", i, req.MaxTokens, written(c.IDs), c.Finish)
				}
				if strings.HasSuffix(thought, "\n") {
					cut++
				} else {
					closed++
				}
				n := 0
				for _, ev := range a.events { // as many ids as an earlier attempt may have given out
					again := req
					again.GeneratedIDs = c.IDs[:n]
					if d := cmp.Diff(c, must(t, e, again).last.Choices[0]); d != "" {
						t.Fatalf("%d: from %d ids on: %s", i, n, d)
					}
					n += len(ev.IDs)
				}
			}
			t.Logf("%d thoughts ended by themselves, %d were ended", closed, cut)
			if closed < 5 || cut < 5 {
				t.Error("too few to test anything")
			}
		})
	}
}

// TestCallsInThoughtsAreFree: what is thought of a call is no call, and is not held to its form.
func TestCallsInThoughtsAreFree(t *testing.T) {
	e, written := thinker(t)
	inside, behind := 0, 0
	for i := range 120 {
		req := backend.Request{
			ID: "call", PromptIDs: prompt(1+i%20, i), MaxTokens: 60, IgnoreEOS: true,
			Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i), LogitBias: likely("w", "w1x")},
			Thinking: &backend.Thinking{Open: "<think>", Close: "</think>", CloseIDs: []int32{fakeClose}, Begun: true, Budget: 20},
		}
		plain := must(t, e, req).last.Choices[0].IDs
		req.Grammar = afterGrammar("w")
		text := written(must(t, e, req).last.Choices[0].IDs)
		thought, answer, _ := strings.Cut(text, "</think>")
		if !strings.HasPrefix(written(plain), thought) {
			t.Errorf("%d: the thought %q is not that of the answer without tools, %q", i, thought, written(plain))
		}
		if strings.Contains(thought, "w") {
			inside++
		}
		if _, call, found := strings.Cut(answer, "w"); found && afterPattern.MatchString(call) {
			behind++
		}
	}
	if inside < 10 || behind < 10 {
		t.Errorf("%d marks within thoughts and %d calls behind: too few to test anything", inside, behind)
	}
}

func TestThinkingRefusals(t *testing.T) {
	e, _ := thinker(t)
	marks := func(change func(*backend.Thinking)) *backend.Thinking {
		th := *closings()["one token"]
		change(&th)
		return &th
	}
	for want, th := range map[string]*backend.Thinking{
		"names no marks":      marks(func(t *backend.Thinking) { t.Open = "" }),
		"more than 256 bytes": marks(func(t *backend.Thinking) { t.Close = strings.Repeat("x", 257) }),
		"budget is negative":  marks(func(t *backend.Thinking) { t.Budget = -1 }),
		"none may begin":      marks(func(t *backend.Thinking) { t.Begun, t.Never = true, true }),
		"no ids are given":    marks(func(t *backend.Thinking) { t.Budget, t.CloseIDs = 3, nil }),
		"outside the model's": marks(func(t *backend.Thinking) { t.Budget, t.CloseIDs = 3, []int32{fakeRows} }),
		"held to a form":      marks(func(*backend.Thinking) {}),
		"the shortest text":   marks(func(t *backend.Thinking) { t.Begun = true }),
	} {
		req := backend.Request{ID: "refused", PromptIDs: prompt(5, 1), MaxTokens: 10, Thinking: th}
		if want == "held to a form" || want == "the shortest text" {
			req.Grammar = fakeGrammar
		}
		a := generate(t.Context(), e, req)
		if !errors.Is(a.err, protocol.ErrInvalid) || !strings.Contains(fmt.Sprint(a.err), want) {
			t.Errorf("%s: %v", want, a.err)
		}
	}
}

// TestSecondThoughts: where a family may think again behind a thought, the budget is that of all its thoughts.
func TestSecondThoughts(t *testing.T) {
	e, written := thinker(t)
	again, spent := 0, 0
	for i := range 150 {
		req := backend.Request{
			ID: "again", PromptIDs: prompt(1+i%20, i), MaxTokens: 60, IgnoreEOS: true,
			Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i), LogitBias: map[int32]float32{fakeOpen: 4, fakeClose: 4, 0: 5}},
			Thinking: &backend.Thinking{Open: "<think>", Close: "</think>", Again: "a", CloseIDs: []int32{fakeClose, 0}, Begun: true, Budget: 12},
		}
		rest, thoughts, tokens := must(t, e, req).last.Choices[0].IDs, 0, 0
		for {
			n := slices.Index(rest, fakeClose)
			if n < 0 {
				t.Fatalf("%d: the thought has no end: %s", i, written(rest))
			}
			thoughts, tokens = thoughts+1, tokens+n
			rest = rest[n+1:]
			if len(rest) < 2 || rest[0] != 0 || rest[1] != fakeOpen {
				break
			}
			rest = rest[2:]
		}
		if tokens > 12+thoughts {
			t.Errorf("%d: %d tokens in %d thoughts", i, tokens, thoughts)
		}
		if thoughts > 1 {
			again++
		}
		if tokens >= 12 {
			spent++
		}
	}
	if again < 5 || spent < 5 {
		t.Errorf("%d answers thought again, %d spent the budget: too few to test anything", again, spent)
	}
}

// TestThoughtHasItsEnd: an end of generation within a thought that must have its end is the mark, and the answer goes on behind it.
func TestThoughtHasItsEnd(t *testing.T) {
	e, written := thinker(t)
	ended := 0
	for i := range 60 {
		req := backend.Request{
			ID: "must", PromptIDs: prompt(1+i%20, i), MaxTokens: 80, Stream: true, Stop: []string{"\nq B c"},
			Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i), LogitBias: map[int32]float32{fakeEOG: 3}},
			Thinking: closings()["in two"],
		}
		req.Thinking.Begun, req.Thinking.Must = true, true
		a := must(t, e, req)
		c := a.last.Choices[0]
		thought, _, found := strings.Cut(written(c.IDs), "q B")
		if !found && c.Finish != backend.FinishLength {
			t.Errorf("%d: the thought has no end: %q", i, thought)
		}
		if found && strings.HasSuffix(thought, "\n") {
			ended++
		}
		n := 0
		for _, ev := range a.events {
			again := req
			again.GeneratedIDs = c.IDs[:n]
			if d := cmp.Diff(c, must(t, e, again).last.Choices[0]); d != "" {
				t.Fatalf("%d: from %d ids on: %s", i, n, d)
			}
			n += len(ev.IDs)
		}
	}
	if ended < 20 {
		t.Errorf("%d answers would have ended within a thought: too few to test anything", ended)
	}
}

// markBegun is how many bytes at the end of a text may begin a mark.
func markBegun(text []byte, mark string) int {
	for n := len(mark) - 1; n > 0; n-- {
		if strings.HasSuffix(string(text), mark[:n]) {
			return n
		}
	}
	return 0
}
