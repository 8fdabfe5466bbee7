package schedule

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// entryOf makes an entry as admission numbers it.
func entryOf(number uint64, client string, choices int) *Entry {
	return &Entry{Number: number, Client: client, Choices: choices, Admitted: time.Now()}
}

// idsOf are the numbers of entries.
func idsOf(entries []*Entry) string {
	var ids []string
	for _, e := range entries {
		ids = append(ids, strconv.FormatUint(e.Number, 10))
	}
	return strings.Join(ids, " ")
}

func want(t *testing.T, what, got, wanted string) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: %q run, want %q", what, got, wanted)
	}
}

// started is one whose jobs may run.
func started(size int) *Scheduler {
	r := New(size, time.Hour)
	r.open = true
	return r
}

func TestRunnerIsShutUntilItIsOpened(t *testing.T) {
	r := New(2, 0)
	r.Enqueue(entryOf(1, "", 1))
	want(t, "before", idsOf(r.Schedule()), "")
	r.open = true
	want(t, "after", idsOf(r.Schedule()), "1")
}

// TestRunnerShares: places are filled in turns of the clients, and one that has none gets one beyond them where another has several.
func TestRunnerShares(t *testing.T) {
	r := started(2)
	var a [3]*Entry
	for i := range 3 {
		a[i] = entryOf(uint64(i+1), "a", 1)
		r.Enqueue(a[i])
	}
	want(t, "one client has all places", idsOf(r.Schedule()), "1 2")
	b1, b2 := entryOf(10, "b", 1), entryOf(11, "b", 1)
	r.Enqueue(b1)
	r.Enqueue(b2)
	want(t, "a newcomer", idsOf(r.Schedule()), "10")
	r.Leave(a[0])
	want(t, "more than its places run", idsOf(r.Schedule()), "")
	r.Leave(a[1])
	want(t, "whose turn it is", idsOf(r.Schedule()), "3")
	r.Leave(b2) // it waits
	r.Leave(b1)
	r.Leave(a[2])
	want(t, "nobody waits", idsOf(r.Schedule()), "")
	if r.Running() != 0 || r.places != 0 || len(r.queue.lines) != 0 {
		t.Errorf("left behind: %d running, %d places, %d lines", r.Running(), r.places, len(r.queue.lines))
	}
}

func TestRunnerCountsChoices(t *testing.T) {
	r := started(4)
	big, small := entryOf(1, "a", 16), entryOf(2, "a", 1)
	r.Enqueue(big)
	r.Enqueue(small)
	want(t, "one of sixteen choices has all places", idsOf(r.Schedule()), "1")
	if r.places != 4 {
		t.Errorf("%d places", r.places)
	}
	r.Leave(big)
	want(t, "then", idsOf(r.Schedule()), "2")
}

// TestSuspectsRunAlone: what ran when the backend died runs again alone, one by one, before all others, and only a death then counts as its
// own.
func TestSuspectsRunAlone(t *testing.T) {
	r := started(4)
	a, b, c := entryOf(1, "a", 1), entryOf(2, "b", 1), entryOf(3, "c", 1)
	r.Enqueue(a)
	r.Enqueue(b)
	want(t, "at first", idsOf(r.Schedule()), "1 2")
	for _, e := range []*Entry{a, b} {
		if !r.Enter(e, 1) {
			t.Fatal("life 1 is dead already")
		}
	}
	for i, e := range []*Entry{a, b} {
		if first := r.Died(e); first != (i == 0) {
			t.Errorf("death %d is new: %v", i, first)
		}
		r.Leave(e)
		r.Enqueue(e)
	}
	if a.deaths+b.deaths != 0 || !a.suspect || !b.suspect {
		t.Errorf("a: %d deaths alone, suspect %v; b: %d deaths alone, suspect %v", a.deaths, a.suspect, b.deaths, b.suspect)
	}
	r.Enqueue(c)
	want(t, "the first suspect alone", idsOf(r.Schedule()), "1")
	if r.Enter(a, 1) {
		t.Error("a dead life was entered")
	}
	r.Enter(a, 2)
	r.Died(a)
	if a.deaths != 1 {
		t.Errorf("%d deaths alone", a.deaths)
	}
	r.Leave(a) // for good
	want(t, "the second suspect alone", idsOf(r.Schedule()), "2")
	r.Enter(b, 3)
	r.Clear(b)
	want(t, "others beside one that is cleared", idsOf(r.Schedule()), "3")
	if b.suspect || slices.Contains([]*Entry{b}, r.alone) {
		t.Error("a cleared request is still a suspect")
	}
}
