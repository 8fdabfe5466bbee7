package engine

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/protocol/backend"
)

// Eight requests of sixteen choices each keep another client's short request waiting for a few turns, and those turns are no wider
// than a full house; and whatever is set aside for it, every answer is what it is alone.
func TestManyChoicesOfAnotherClient(t *testing.T) {
	for _, c := range []struct {
		name    string
		pages   int
		tokens  int
		choices int
		prio    int
	}{
		{"room for all", 2000, 100, 16, 0},
		{"room for all, with the highest priority", 2000, 60, 16, 10},
		{"pages for one request", 160, 60, 16, 0},
		{"pages for a few choices", 60, 60, 16, 10},
		{"many requests of one choice", 80, 60, 1, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, f := serve(t, withPages(c.pages), withTurn(100*time.Microsecond))
			var turns, widest int // while the short one is there; the loop's until it has ended
			f.hook = func(rows []compute.Row) error {
				l := e.loaded.loop
				if there := func(j *job) bool { return j.Req.Client == "b" }; slices.ContainsFunc(l.running, there) || slices.ContainsFunc(l.waiting, there) {
					turns++
					if l.batch.prefill == 0 {
						widest = max(widest, len(rows))
					}
				}
				return nil
			}
			many := backend.Request{
				ID: "many", Client: "a", Priority: c.prio, PromptIDs: prompt(20, 1), MaxTokens: c.tokens, N: c.choices, IgnoreEOS: true,
				Sampling: backend.Sampling{Temperature: 1, Seed: 3},
			}
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					req := many
					req.Sampling.Seed += uint64(i)
					a := must(t, e, req)
					for k, choice := range a.last.Choices {
						if want, _, _ := reference(t, req, k, c.tokens); !slices.Equal(want, choice.IDs) {
							t.Errorf("choice %d of request %d is not what it is alone", k, i)
						}
					}
				})
			}
			waitFor(t, "they run", func() bool { return f.turns.Load() > 20 })
			few := backend.Request{ID: "few", Client: "b", PromptIDs: prompt(20, 2), MaxTokens: 15, IgnoreEOS: true, Stream: true}
			must(t, e, few)
			wg.Wait()
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			// A turn for each token, and some for the prompt.
			if turns < 15 || turns > 40 || widest > 8 {
				t.Errorf("15 tokens took %d turns, of up to %d rows", turns, widest)
			}
		})
	}
}

// dealt runs deal over units that are written as one letter for each client.
func dealt(l *loop, units []unit, n int) string {
	var out strings.Builder
	for _, u := range l.deal(slices.Clone(units), n) {
		u.b.served = l.count.Steps + 1
		out.WriteString(u.job.Req.Client)
	}
	l.count.Steps++
	return out.String()
}

func TestDeal(t *testing.T) {
	var units []unit
	l := &loop{}
	for client := range strings.SplitSeq("aaaaaabbc", "") {
		j := jobOf(answer.NewKnown(backend.Request{Client: client, PromptIDs: []int32{1, 2}}, nil))
		b := j.branches[0]
		b.seq = &fakeSeq{}
		l.running = append(l.running, j)
		units = append(units, unit{job: j, b: b, to: 1})
	}
	for range 3 {
		if got := dealt(l, units, 4); got != "aabc" {
			t.Errorf("four places: %s", got)
		}
	}
	if got := dealt(l, units, 7); got != "aaaabbc" {
		t.Errorf("seven places: %s", got)
	}
	for _, u := range units { // within a client all have had their turns
		if u.b.served == 0 {
			t.Errorf("one of %s never had a turn", u.job.Req.Client)
		}
	}
	// Who keeps others waiting outside of the model waits as long.
	l.spend("a", 30*time.Millisecond)
	l.spend("b", settled/2) // what everybody's tokens take
	if got := dealt(l, units, 9); got != "bbc" {
		t.Errorf("beside a's debt: %s", got)
	}
	l.batch.units = units[6:]
	for range 2 {
		l.repay(10 * time.Millisecond)
	}
	if got := dealt(l, units, 9); got != "bbc" {
		t.Errorf("beside the rest of a's debt: %s", got)
	}
	l.repay(10 * time.Millisecond)
	if got := dealt(l, units, 9); got != "aaaaaabbc" {
		t.Errorf("after it: %s", got)
	}
	l.spend("a", time.Second)
	l.running = l.running[:6]
	if got := dealt(l, units[:6], 9); got != "aaaaaa" {
		t.Errorf("alone with a debt: %s", got)
	}
}
