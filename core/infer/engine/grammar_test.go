package engine

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/infer/grammar"
	"edged/core/protocol/backend"
)

// fakeGrammar has what the fake's vocabulary can write: runs without a choice, repetitions, a character in four tokens.
const fakeGrammar = `root ::= "start" item+ (tail | "==")
item ::= "w" [0-7] "x" | [a-f] | " " [A-C] root-like
root-like ::= "mno" | "mnp" | "😀" | ""
tail ::= "end of" | "endof"`

// The pattern of the same texts, without the one that needs a blank that the vocabulary has not.
var fakePattern = regexp.MustCompile(`^start(w[0-7]x|[a-f]| [A-C](mno|mnp|😀)?)+(endof|==)$`)

// TestGrammar: every answer has the form, whatever the limit, and ends where nothing can follow.
func TestGrammar(t *testing.T) {
	e, f := serve(t)
	drawn := 0
	for i := range 120 {
		req := backend.Request{
			ID: fmt.Sprint("g", i), PromptIDs: prompt(1+i%20, i), MaxTokens: 8 + i%60, Grammar: fakeGrammar, Stream: true, N: 1 + i%3,
			Sampling: backend.Sampling{Temperature: 1.5, Seed: uint64(i)},
		}
		a := must(t, e, req)
		for _, c := range a.last.Choices {
			if !fakePattern.MatchString(c.Text) || c.Finish != backend.FinishStop || len(c.IDs) > req.MaxTokens {
				t.Errorf("%d tokens at most: %q, %s", req.MaxTokens, c.Text, c.Finish)
			}
			drawn += len(c.IDs)
		}
	}
	st, err := e.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if int(st.ConstrainedTokens) != drawn || st.DecidedTokens == 0 || st.DecidedTokens >= st.ConstrainedTokens {
		t.Errorf("%d tokens in answers; counted %d, %d of them decided", drawn, st.ConstrainedTokens, st.DecidedTokens)
	}
	t.Logf("%d tokens, %d of them decided by the grammar, in %d turns", drawn, st.DecidedTokens, f.turns.Load())
}

// streamed is the text of the first choice's events.
func streamed(a reply) string {
	var out strings.Builder
	for _, ev := range a.events {
		if ev.Index == 0 {
			out.WriteString(ev.Text)
		}
	}
	return out.String()
}

// TestGrammarShowsControlTokens: one that the grammar names, or that is to be shown, is a part of the text, streamed and whole,
// and of no other answer's.
func TestGrammarShowsControlTokens(t *testing.T) {
	e, _ := serve(t)
	bell := strings.Repeat("=", fakeBell-75)
	req := backend.Request{ID: "named", PromptIDs: prompt(5, 1), Grammar: fmt.Sprintf(`root ::= "a" %%token %q [bc]`, bell), Stream: true}
	a := must(t, e, req)
	if c := a.last.Choices[0]; !strings.HasPrefix(c.Text, "a"+bell) || len(c.Text) != len(bell)+2 || c.IDs[1] != fakeBell || streamed(a) != c.Text {
		t.Errorf("%+v, streamed %q", c, streamed(a))
	}
	req = backend.Request{ID: "free", PromptIDs: prompt(5, 1), MaxTokens: 3, Stream: true, Sampling: backend.Sampling{LogitBias: map[int32]float32{fakeBell: 1e6}}}
	if c := must(t, e, req).last.Choices[0]; c.Text != "" || len(c.IDs) != 3 {
		t.Errorf("a control token that nobody names: %+v", c)
	}
	req.ID, req.Grammar = "shown", grammar.Show([]string{bell}, "")
	if a := must(t, e, req); a.last.Choices[0].Text != strings.Repeat(bell, 3) || streamed(a) != a.last.Choices[0].Text {
		t.Errorf("%+v, streamed %q", a.last.Choices[0], streamed(a))
	}
}

// TestGrammarDecides: a text without a choice costs no turn, and the same ids come where their log-probabilities are wanted.
func TestGrammarDecides(t *testing.T) {
	e, f := serve(t)
	req := backend.Request{ID: "one", PromptIDs: prompt(5, 1), Grammar: `root ::= "start" "end"`, Stream: true}
	a := must(t, e, req)
	if c := a.last.Choices[0]; c.Text != "startend" || c.Finish != backend.FinishStop || f.turns.Load() != 0 {
		t.Errorf("%+v after %d turns", c, f.turns.Load())
	}
	long := backend.Request{
		ID: "long", PromptIDs: prompt(5, 1), Grammar: fakeGrammar, MaxTokens: 60, Stream: true, Sampling: backend.Sampling{Temperature: 1.5, Seed: 4},
	}
	plain := must(t, e, long).last.Choices[0]
	long.Logprobs = true
	told := must(t, e, long).last.Choices[0]
	if told.Text != plain.Text || !slices.Equal(told.IDs, plain.IDs) {
		t.Errorf("with log-probabilities %q, without %q", told.Text, plain.Text)
	}
}

// TestGrammarContinues: another attempt finds its place in the grammar from the ids so far, wherever the first one broke off.
func TestGrammarContinues(t *testing.T) {
	e, _ := serve(t)
	for _, logprobs := range []bool{false, true} {
		req := backend.Request{
			ID: "whole", PromptIDs: prompt(9, 2), Grammar: fakeGrammar, MaxTokens: 40, Logprobs: logprobs, Sampling: backend.Sampling{Temperature: 1.5, Seed: 8},
		}
		whole := must(t, e, req).last.Choices
		for n := range len(whole[0].IDs) + 1 {
			again := req
			again.GeneratedIDs = whole[0].IDs[:n]
			if d := cmp.Diff(whole, must(t, e, again).last.Choices); d != "" {
				t.Errorf("from %d ids on: %s", n, d)
			}
		}
	}
	again := backend.Request{ID: "wrong", PromptIDs: prompt(9, 2), Grammar: fakeGrammar, GeneratedIDs: []int32{25}}
	if a := generate(t.Context(), e, again); a.err == nil {
		t.Error("ids that do not follow the grammar were taken")
	}
}

// TestGrammarEnd: an end of generation is drawn only where the text may end, and ends it.
func TestGrammarEnd(t *testing.T) {
	e, _ := serve(t)
	ends := 0
	for i := range 60 {
		req := backend.Request{
			ID: "end", PromptIDs: prompt(4, i), Grammar: `root ::= "ab" [a-c]{2,}`, MaxTokens: 30,
			Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i), LogitBias: map[int32]float32{fakeEOG: 3}},
		}
		a := must(t, e, req)
		c := a.last.Choices[0]
		if len(c.Text) < 4 || c.Finish == backend.FinishLength != (len(c.IDs) == 30) {
			t.Errorf("%q, %s", c.Text, c.Finish)
		}
		if c.Finish == backend.FinishStop {
			ends++
			if a.last.Usage.CompletionTokens != len(c.IDs)+1 {
				t.Errorf("%d tokens were counted for %d ids and an end", a.last.Usage.CompletionTokens, len(c.IDs))
			}
		}
		req.IgnoreEOS = true
		if c := must(t, e, req).last.Choices[0]; c.Finish != backend.FinishLength || len(c.IDs) != 30 {
			t.Errorf("with ignore_eos: %q, %s", c.Text, c.Finish)
		}
	}
	if ends == 0 {
		t.Error("no answer ended: the test does not test")
	}
}

// afterGrammar holds what follows a mark in the fake's texts, and afterPattern are the same texts.
func afterGrammar(mark string) string {
	return grammar.After(mark, "call", `call ::= "x"? [a-c] [m-p]{2,5} "z"`)
}

var afterPattern = regexp.MustCompile(`^x?[a-c][m-p]{2,5}z`)

// likely makes some pieces of the fake's vocabulary likely.
func likely(texts ...string) map[int32]float32 {
	out := map[int32]float32{}
	for id, p := range fakeVocabulary().Pieces {
		if slices.Contains(texts, string(p)) {
			out[int32(id)] = 2
		}
	}
	return out
}

// TestGrammarAfterMark: an answer is free up to the mark, as without the grammar; what follows it keeps to its form, and
// is never broken off where it fits at all; then the answer is free again. The mark may be a token, the beginning of one, or
// cross several, or be one that is never text; where the rest of the token that it ends in contradicts the form, the answer
// stays free.
func TestGrammarAfterMark(t *testing.T) {
	e, _ := serve(t)
	v := fakeVocabulary()
	v.Pieces[fakeBell] = []byte("[CALL]")
	if err := e.SetVocabulary(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	written := func(ids []int32) (text string, ends []int) { // with control tokens
		for _, id := range ids {
			text += string(v.Pieces[id])
			ends = append(ends, len(text))
		}
		return text, ends
	}
	for mark, bias := range map[string]map[int32]float32{"w": likely("w", "w1x"), "w1": likely("w1x"), "q B": likely("q", " B", "q"), "[CALL]": {fakeBell: 2}} {
		held, again, free, contradicted := 0, 0, 0, 0
		for i := range 80 {
			req := backend.Request{
				ID: "after", PromptIDs: prompt(1+i%20, i), MaxTokens: 20 + i, IgnoreEOS: i%2 == 0,
				Sampling: backend.Sampling{Temperature: 1, Seed: uint64(i), LogitBias: bias},
			}
			plain := must(t, e, req).last.Choices[0]
			req.Grammar = afterGrammar(mark)
			c := must(t, e, req).last.Choices[0]
			text, ends := written(c.IDs)
			first := strings.Index(text, mark)
			if first < 0 {
				free++
				if !slices.Equal(c.IDs, plain.IDs) || c.Text != plain.Text {
					t.Errorf("%q: %q, and without a grammar %q", mark, c.Text, plain.Text)
				}
				continue
			}
			n, _ := slices.BinarySearch(ends, first+len(mark))
			if n++; !slices.Equal(c.IDs[:n], plain.IDs[:min(n, len(plain.IDs))]) {
				t.Errorf("%q: %v up to the mark, and without a grammar %v", mark, c.IDs[:n], plain.IDs)
			}
			for rest, calls := text[first:], 0; ; calls++ {
				_, after, found := strings.Cut(rest, mark)
				if !found {
					break
				}
				begun, _ := slices.BinarySearch(ends, len(text)-len(after))
				left := req.MaxTokens - begun - 1 // tokens behind the one that ends the mark
				match := afterPattern.FindString(after)
				if mark == "w" && len(after) > 1 && after[0] >= '0' && after[0] <= '7' {
					contradicted++
					rest = after
					continue
				}
				if match == "" {
					if left >= 4 { // as many as the shortest call has
						t.Errorf("%q, %d tokens, %s: what follows a mark is %q", text, req.MaxTokens, c.Finish, after)
					}
					rest = after
					continue
				}
				held++
				if calls > 0 {
					again++
				}
				rest = after[len(match):]
			}
			if i%20 == 0 {
				for n := range len(c.IDs) {
					part := req
					part.GeneratedIDs = c.IDs[:n]
					if d := cmp.Diff(c, must(t, e, part).last.Choices[0]); d != "" {
						t.Errorf("from %d ids on: %s", n, d)
					}
				}
			}
		}
		t.Logf("%q: %d calls, %d of them behind another, %d contradicted, %d answers without", mark, held, again, contradicted, free)
		if held < 10 || mark != "q B" && again == 0 || mark == "w" && contradicted == 0 || mark == "q B" && free == 0 {
			t.Errorf("%q: too few to test anything", mark)
		}
	}
}
