package answer

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// words are the tests' pieces: their ids are places in it. The last two are control tokens, of which the second ends a generation.
var words = []string{"a", "b", "st", "op", " ", "{", "}", "1", "<think>", "</think>", "<bell>", "<end>"}

const (
	idA, idB, idSt, idOp, idSpace, idOpen, idClose, idOne, idThink, idThought, idBell, idEnd = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
)

func vocabulary(t *testing.T) *Vocabulary {
	t.Helper()
	in := backend.Vocabulary{EOG: []int32{idEnd}}
	for i, w := range words {
		in.Pieces, in.Control = append(in.Pieces, []byte(w)), append(in.Control, i >= idBell)
	}
	v, err := NewVocabulary(in, len(words), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// draw has each choice in turn draw as if the model had wanted the listed ids most, until all have ended or the lists have; it returns
// what was given out on the way.
func draw(t *testing.T, a *Answers, lists ...[]int32) (events []backend.Event) {
	t.Helper()
	var d Drawer
	for step := 0; ; step++ {
		drew := false
		for i, c := range a.Choices {
			if c.Finish != "" || step >= len(lists[i]) {
				continue
			}
			drew = true
			logits := make([]float32, len(words))
			for k := range logits {
				logits[k] = -float32(k) // so that what is masked has a definite successor
			}
			logits[lists[i][step]] = 10
			norm, err := c.Norm(logits)
			if err != nil {
				t.Fatal(err)
			}
			id, err := d.Draw(c, logits, nil, len(c.IDs))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Take(c, id, logits, norm); err != nil {
				t.Fatal(err)
			}
			if ev, ok := c.Release(); ok {
				events = append(events, ev)
			}
		}
		if !drew {
			return events
		}
	}
}

func TestAnswers(t *testing.T) {
	thinking := &backend.Thinking{Open: "<think>", Close: "</think>", CloseIDs: []int32{idThought}, Budget: 2, Begun: true}
	for name, c := range map[string]struct {
		req    backend.Request
		wanted []int32 // by the model, step by step
		ids    []int32
		text   string
		finish backend.FinishReason
		given  []string // texts of the events
	}{
		"limit": {
			req: backend.Request{MaxTokens: 3}, wanted: []int32{idA, idB, idA, idB},
			ids: []int32{idA, idB, idA}, text: "aba", finish: backend.FinishLength, given: []string{"a", "b", "a"},
		},
		"end of generation": {
			wanted: []int32{idA, idEnd, idA}, ids: []int32{idA}, text: "a", finish: backend.FinishStop, given: []string{"a"},
		},
		"end of generation ignored": {
			req: backend.Request{IgnoreEOS: true, MaxTokens: 3}, wanted: []int32{idA, idEnd, idA},
			ids: []int32{idA, idEnd, idA}, text: "aa", finish: backend.FinishLength, given: []string{"a", "", "a"},
		},
		"stop id": {
			req: backend.Request{StopIDs: []int32{idB}}, wanted: []int32{idA, idB}, ids: []int32{idA}, text: "a", finish: backend.FinishStop, given: []string{"a"},
		},
		"stop string over two tokens": {
			req: backend.Request{Stop: []string{"stop"}}, wanted: []int32{idA, idSt, idOp, idA},
			ids: []int32{idA}, text: "a", finish: backend.FinishStop, given: []string{"a"},
		},
		"what began like a stop string and is none": {
			req: backend.Request{Stop: []string{"stop"}, MaxTokens: 3}, wanted: []int32{idA, idSt, idA},
			ids: []int32{idA, idSt, idA}, text: "asta", finish: backend.FinishLength, given: []string{"a", "sta"},
		},
		"forced ids": {
			req: backend.Request{ForcedIDs: []int32{idB, idB}, MaxTokens: 3}, wanted: []int32{idA, idA, idA},
			ids: []int32{idB, idB, idA}, text: "bba", finish: backend.FinishLength, given: []string{"b", "b", "a"},
		},
		"grammar decides all but one": {
			req: backend.Request{Grammar: `root ::= "{" [1a] "}"`}, wanted: []int32{idOne, idA},
			ids: []int32{idOpen, idOne, idClose}, text: "{1}", finish: backend.FinishStop, given: []string{"{1}"},
		},
		"grammar masks": {
			req: backend.Request{Grammar: `root ::= "{" [1a] "}"`}, wanted: []int32{idB},
			ids: []int32{idOpen, idA, idClose}, text: "{a}", finish: backend.FinishStop, given: []string{"{a}"},
		},
		"thought that spends its budget": {
			req: backend.Request{Thinking: thinking, MaxTokens: 4}, wanted: []int32{idA, idB, idB, idB},
			ids: []int32{idA, idB, idThought, idB}, text: "ab</think>b", finish: backend.FinishLength, given: []string{"a", "b</think>", "b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := c.req
			req.PromptIDs, req.Stream = []int32{idSpace}, true
			a, err := New(t.Context(), req, vocabulary(t), len(words), 100)
			if err != nil {
				t.Fatal(err)
			}
			events := draw(t, a, c.wanted)
			got := a.Last().Choices[0]
			if !slices.Equal(got.IDs, c.ids) || got.Text != c.text || got.Finish != c.finish {
				t.Errorf("got %v %q %q, want %v %q %q", got.IDs, got.Text, got.Finish, c.ids, c.text, c.finish)
			}
			var given []string
			var ids []int32
			for _, ev := range events {
				given, ids = append(given, ev.Text), append(ids, ev.IDs...)
			}
			if !slices.Equal(given, c.given) || !slices.Equal(ids, c.ids) {
				t.Errorf("given out: %q %v, want %q %v", given, ids, c.given, c.ids)
			}
			// Another attempt that begins behind any of the ids ends alike and gives out the rest.
			for n := range len(c.ids) {
				if c.req.Grammar != "" || c.req.Thinking != nil {
					break // of these the wanted ids are not one for each step
				}
				again := req
				again.GeneratedIDs = c.ids[:n]
				a, err := New(t.Context(), again, vocabulary(t), len(words), 100)
				if err != nil {
					t.Fatal(err)
				}
				rest := ""
				for _, ev := range draw(t, a, c.wanted[n:]) {
					rest += ev.Text
				}
				if x := a.Last().Choices[0]; !slices.Equal(x.IDs, c.ids) || x.Text != c.text || !strings.HasSuffix(c.text, rest) {
					t.Errorf("from %d ids on: %v %q, then %q", n, x.IDs, x.Text, rest)
				}
			}
		})
	}
}

// TestBestOf: the choice whose drawn tokens have the higher mean log-probability is answered, and nothing is given out before.
func TestBestOf(t *testing.T) {
	a, err := New(t.Context(), backend.Request{PromptIDs: []int32{idA}, BestOf: 2, Stream: true, ForcedIDs: []int32{idA}, MaxTokens: 1}, vocabulary(t), len(words), 100)
	if err != nil {
		t.Fatal(err)
	}
	// Both take the forced a, which the first choice's logits find unlikely.
	if events := draw(t, a, []int32{idB}, []int32{idA}); len(events) > 0 {
		t.Errorf("given out before the end: %+v", events)
	}
	if !a.Best || a.Choices[0].mean() >= a.Choices[1].mean() {
		t.Fatalf("means %v and %v", a.Choices[0].mean(), a.Choices[1].mean())
	}
	if ev := a.Last(); len(ev.Choices) != 1 || ev.Usage.CompletionTokens != 2 {
		t.Errorf("%d choices, %+v", len(ev.Choices), ev.Usage)
	}
}

// TestPrepend: virtual tokens take positions that the answer then lacks.
func TestPrepend(t *testing.T) {
	req := backend.Request{PromptIDs: []int32{idA, idB}}
	a, err := New(t.Context(), req, vocabulary(t), len(words), 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Prepend(3, 10); err != nil {
		t.Fatal(err)
	}
	if want := []int32{-1, -2, -3, idA, idB}; !slices.Equal(a.Req.PromptIDs, want) || a.Virtual != 3 || a.Limit != 5 || a.Choices[0].History() != 5 {
		t.Errorf("prompt %v, %d virtual, limit %d", a.Req.PromptIDs, a.Virtual, a.Limit)
	}
	req.Grammar = `root ::= "a" [ab] [ab] [ab] "b"`
	if a, err = New(t.Context(), req, vocabulary(t), len(words), 10); err != nil {
		t.Fatal(err)
	}
	if err := a.Prepend(5, 10); !errors.Is(err, protocol.ErrContextLength) {
		t.Errorf("a grammar's shortest text finds no room: %v", err)
	}
}

func TestKnown(t *testing.T) {
	a := NewKnown(backend.Request{PromptIDs: []int32{idA}, Logprobs: true}, []int32{idB, idA})
	var d Drawer
	logits := make([]float32, 4)
	for _, id := range a.Choices[0].IDs {
		norm, err := a.Choices[0].Norm(logits)
		if err != nil {
			t.Fatal(err)
		}
		d.AddLogprob(a.Choices[0], id, logits, norm)
	}
	for _, p := range a.Last().Choices[0].Logprobs { // of four equal logits
		if p.Logprob > -1.386 || p.Logprob < -1.387 {
			t.Errorf("log-probability %v, want that of a quarter", p.Logprob)
		}
	}
}
