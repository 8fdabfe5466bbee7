package engine

import (
	"slices"
	"strconv"
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
func dealt(s *scheduler, turn uint64, units []unit, n int) string {
	var out strings.Builder
	for _, u := range s.deal(slices.Clone(units), n) {
		u.b.served = turn
		out.WriteString(u.job.Req.Client)
	}
	return out.String()
}

func TestDeal(t *testing.T) {
	var units []unit
	s, turn := &scheduler{}, uint64(0)
	next := func(n int) string { turn++; return dealt(s, turn, units, n) }
	for client := range strings.SplitSeq("aaaaaabbc", "") {
		j := jobOf(answer.NewKnown(backend.Request{Client: client, PromptIDs: []int32{1, 2}}, nil))
		b := j.branches[0]
		b.seq = &fakeSeq{}
		s.running = append(s.running, j)
		units = append(units, unit{job: j, b: b, to: 1})
	}
	for range 3 {
		if got := next(4); got != "aabc" {
			t.Errorf("four places: %s", got)
		}
	}
	if got := next(7); got != "aaaabbc" {
		t.Errorf("seven places: %s", got)
	}
	for _, u := range units { // within a client all have had their turns
		if u.b.served == 0 {
			t.Errorf("one of %s never had a turn", u.job.Req.Client)
		}
	}
	// Who keeps others waiting outside of the model waits as long.
	s.charge("a", 30*time.Millisecond)
	s.charge("b", freeSpend/2) // what everybody's tokens take
	if got := next(9); got != "bbc" {
		t.Errorf("beside a's debt: %s", got)
	}
	for range 2 {
		s.repay(units[6:], 10*time.Millisecond)
	}
	if got := next(9); got != "bbc" {
		t.Errorf("beside the rest of a's debt: %s", got)
	}
	s.repay(units[6:], 10*time.Millisecond)
	if got := next(9); got != "aaaaaabbc" {
		t.Errorf("after it: %s", got)
	}
	s.charge("a", time.Second)
	s.running = s.running[:6]
	if got := dealt(s, turn, units[:6], 9); got != "aaaaaa" {
		t.Errorf("alone with a debt: %s", got)
	}
}

// schedulerOf has waiting and running jobs, each "client" or "client:priority" or "client*branches".
func schedulerOf(clients int, waiting, running string) *scheduler {
	s := &scheduler{clients: clients}
	list := func(text string) (out []*job) {
		for part := range strings.FieldsSeq(text) {
			name, n, _ := strings.Cut(part, "*")
			name, priority, _ := strings.Cut(name, ":")
			req := backend.Request{Client: name, PromptIDs: []int32{1}}
			req.Priority, _ = strconv.Atoi(priority)
			j := jobOf(answer.NewKnown(req, nil))
			for more, _ := strconv.Atoi(n); len(j.branches) < more; {
				j.branches = append(j.branches, &branch{Choice: j.Choices[0], job: j})
			}
			s.arrivals++
			j.order = s.arrivals
			out = append(out, j)
		}
		return out
	}
	s.running = list(running)
	for _, j := range list(waiting) {
		s.enqueue(j)
	}
	return s
}

// TestWhoIsNext: a client that runs nothing comes first, then priority, then who runs the fewest branches, then who came first.
func TestWhoIsNext(t *testing.T) {
	for _, c := range []struct{ waiting, running, next string }{
		{"a b", "", "a"},
		{"a b", "a", "b"},
		{"a:1 b", "a", "b"},
		{"a b:1", "", "b"},
		{"a:1 b", "a b", "a"},
		{"a b", "a*3 b*2", "b"},
		{"a b", "a*2 b*2", "a"},
		{"a b c", "a*2 b*1 c*4", "b"},
	} {
		s := schedulerOf(8, c.waiting, c.running)
		if got := s.waiting[s.first()].Req.Client; got != c.next {
			t.Errorf("%s wait while %s run: %s is next, want %s", c.waiting, c.running, got, c.next)
		}
	}
}

// TestNewcomersAndVictims: a client that runs nothing is let in while fewer clients run than may, at the cost of the youngest job of the
// client that runs the most.
func TestNewcomersAndVictims(t *testing.T) {
	for _, c := range []struct {
		waiting, running string
		newcomer         bool
		victim           int // among those that run; -1: none
	}{
		{"a", "b", true, -1}, // b would be left with fewer
		{"a", "b*2", true, 0},
		{"a", "b*2 c*3", true, 1},
		{"a", "b b b", true, 2},
		{"a*3", "b*3", true, -1},
		{"a", "a b*4", false, 1},
		{"a", "b c d e", false, -1}, // four clients run
	} {
		s := schedulerOf(4, c.waiting, c.running)
		j := s.waiting[0]
		if got := s.newcomer(j); got != c.newcomer {
			t.Errorf("%s while %s run: newcomer %v", c.waiting, c.running, got)
		}
		victim, _ := s.victim(j)
		if got := slices.Index(s.running, victim); victim != nil && got != c.victim || victim == nil && c.victim >= 0 {
			t.Errorf("%s while %s run: %d is the victim, want %d", c.waiting, c.running, got, c.victim)
		}
	}
}

// TestStartAndRemove: lists stay in order of precedence, and a job is in one of them or in none.
func TestStartAndRemove(t *testing.T) {
	s := schedulerOf(8, "a b:2 c:1", "d:1 e")
	names := func(list []*job) string {
		var out strings.Builder
		for _, j := range list {
			out.WriteString(j.Req.Client)
		}
		return out.String()
	}
	if got := names(s.waiting); got != "bca" {
		t.Fatalf("waiting: %s", got)
	}
	j := s.waiting[0]
	if s.start(j); names(s.waiting) != "ca" || names(s.running) != "bde" {
		t.Errorf("started: %s wait, %s run", names(s.waiting), names(s.running))
	}
	if s.remove(j); names(s.waiting) != "ca" || names(s.running) != "de" {
		t.Errorf("removed: %s wait, %s run", names(s.waiting), names(s.running))
	}
}
