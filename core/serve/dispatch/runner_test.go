package dispatch

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// jobOf makes a job as admission numbers it.
func jobOf(number uint64, id, client string, choices int) *job {
	r := &Request{ID: id, Client: client, Prompt: "x"}
	r.Options.N = choices
	j := newJob(&record{Request: r}, nil)
	j.number = number
	return j
}

func idsOf(jobs []*job) string {
	var ids []string
	for _, j := range jobs {
		ids = append(ids, j.key.ID)
	}
	return strings.Join(ids, " ")
}

func want(t *testing.T, what, got, wanted string) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: %q run, want %q", what, got, wanted)
	}
}

// openRunner is one whose jobs may run.
func openRunner(size int) *runner {
	r := newRunner(size, time.Hour)
	r.open = true
	return r
}

func TestRunnerIsShutUntilItIsOpened(t *testing.T) {
	r := newRunner(2, 0)
	r.enqueue(jobOf(1, "a", "", 1))
	want(t, "before", idsOf(r.schedule()), "")
	r.open = true
	want(t, "after", idsOf(r.schedule()), "a")
}

// TestRunnerShares: places are filled in turns of the clients, and one that has none gets one beyond them where another has several.
func TestRunnerShares(t *testing.T) {
	r := openRunner(2)
	jobs := map[string]*job{}
	for i, id := range []string{"a1", "a2", "a3"} {
		jobs[id] = jobOf(uint64(i), id, "a", 1)
		r.enqueue(jobs[id])
	}
	want(t, "one client has all places", idsOf(r.schedule()), "a1 a2")
	b1, b2 := jobOf(10, "b1", "b", 1), jobOf(11, "b2", "b", 1)
	r.enqueue(b1)
	r.enqueue(b2)
	want(t, "a newcomer", idsOf(r.schedule()), "b1")
	r.leave(jobs["a1"])
	want(t, "more than its places run", idsOf(r.schedule()), "")
	r.leave(jobs["a2"])
	want(t, "whose turn it is", idsOf(r.schedule()), "a3")
	r.leave(b2) // it waits
	r.leave(b1)
	r.leave(jobs["a3"])
	want(t, "nobody waits", idsOf(r.schedule()), "")
	if r.running() != 0 || r.places != 0 || len(r.queue.lines) != 0 {
		t.Errorf("left behind: %d running, %d places, %d lines", r.running(), r.places, len(r.queue.lines))
	}
}

func TestRunnerCountsChoices(t *testing.T) {
	r := openRunner(4)
	big, small := jobOf(1, "big", "a", 16), jobOf(2, "small", "a", 1)
	r.enqueue(big)
	r.enqueue(small)
	want(t, "one of sixteen choices has all places", idsOf(r.schedule()), "big")
	if r.places != 4 {
		t.Errorf("%d places", r.places)
	}
	r.leave(big)
	want(t, "then", idsOf(r.schedule()), "small")
}

// TestRunnerConvictsNobodyInCompany: who ran when the backend died runs again alone, one by one, before all others, and only a death
// there counts against it.
func TestRunnerConvictsNobodyInCompany(t *testing.T) {
	r := openRunner(4)
	a, b, c := jobOf(1, "a", "a", 1), jobOf(2, "b", "b", 1), jobOf(3, "c", "c", 1)
	r.enqueue(a)
	r.enqueue(b)
	want(t, "at first", idsOf(r.schedule()), "a b")
	for _, j := range []*job{a, b} {
		if !r.enter(j, 1) {
			t.Fatal("life 1 is dead already")
		}
	}
	for i, j := range []*job{a, b} {
		if first := r.died(j); first != (i == 0) {
			t.Errorf("death %d is new: %v", i, first)
		}
		r.leave(j)
		r.enqueue(j)
	}
	if a.lone+b.lone != 0 || !a.suspect || !b.suspect {
		t.Errorf("a: %d lone, suspect %v; b: %d lone, suspect %v", a.lone, a.suspect, b.lone, b.suspect)
	}
	r.enqueue(c)
	want(t, "the first suspect alone", idsOf(r.schedule()), "a")
	if r.enter(a, 1) {
		t.Error("a dead life was entered")
	}
	r.enter(a, 2)
	r.died(a)
	if a.lone != 1 {
		t.Errorf("%d deaths alone", a.lone)
	}
	r.leave(a) // for good
	want(t, "the second suspect alone", idsOf(r.schedule()), "b")
	r.enter(b, 3)
	r.clear(b)
	want(t, "others beside one that is cleared", idsOf(r.schedule()), "c")
	if b.suspect || slices.Contains([]*job{b}, r.alone) {
		t.Error("a cleared job is still a suspect")
	}
}
