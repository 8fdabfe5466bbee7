package dispatch

import (
	"strconv"
	"testing"
	"time"

	"edged/core/serve/inbox"
)

func TestAdmissionBounds(t *testing.T) {
	a := newAdmission(Limits{Queued: 4, PerClient: 3, Running: 2}.withDefaults())
	plain := func(id string) *job {
		j := jobOf(0, id, id, 1)
		j.req.Plain = true
		return j
	}
	first := jobOf(0, "1", "a", 1)
	for _, j := range []*job{first, jobOf(0, "2", "a", 1)} {
		if err := a.room(j.key.Client, false, 0); err != nil {
			t.Fatal(err)
		}
		a.add(j)
	}
	if first.entry.Number != 1 || a.numbers != 2 {
		t.Errorf("numbered %d of %d", first.entry.Number, a.numbers)
	}
	a.add(plain("p1"))
	a.add(plain("p2"))
	for _, c := range []struct {
		client  string
		plain   bool
		running int
		want    string
	}{
		{"b", false, 0, "queue_full: 4 requests wait already"},
		{"b", false, 1, ""},
		{"p3", true, 1, "queue_full: 2 plain questions wait or run already: the other places are for clients with a name"},
		{"a", false, 1, ""},
	} {
		if got := text(a.room(c.client, c.plain, c.running)); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	a.add(jobOf(0, "3", "a", 1))
	if got := text(a.room("a", false, 2)); got != "queue_full: 3 requests of this client wait or run already" {
		t.Error(got)
	}
	a.remove(first)
	if err := a.room("a", false, 2); err != nil {
		t.Error(err)
	}
	a.closed = true
	if err := a.room("c", false, 4); err == nil || err.Code != CodeShuttingDown {
		t.Error(err)
	}
}

func text(err *Error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAdmissionGuessesWhenThereIsRoom(t *testing.T) {
	a := newAdmission(Limits{Queued: 100, Running: 2}.withDefaults())
	if got := a.retry(0); got != time.Second {
		t.Errorf("%v before anything ran", got)
	}
	a.served(8 * time.Second)
	for i := range 6 {
		a.add(jobOf(0, strconv.Itoa(i), "", 1))
	}
	if got := a.retry(2); got != 3*8*time.Second {
		t.Errorf("%v: four wait for two places, and two of eight seconds run before", got)
	}
	a.served(16 * time.Second)
	if a.average != 9*time.Second {
		t.Errorf("average %v", a.average)
	}
	a.served(time.Hour)
	if got := a.retry(2); got != 5*time.Minute {
		t.Errorf("%v is the longest", got)
	}
}

func TestAdmissionRemembersEarlyCancels(t *testing.T) {
	a := newAdmission(Limits{Remember: 10 * time.Second}.withDefaults())
	start := time.Now()
	key := func(i int) inbox.Key { return inbox.Key{ID: strconv.Itoa(i)} }
	a.rememberCancel(key(0), start)
	a.rememberCancel(key(1), start)
	for _, c := range []struct {
		id   int
		at   time.Duration
		want bool
	}{{0, 9 * time.Second, true}, {0, 9 * time.Second, false}, {1, 10 * time.Second, false}, {7, 0, false}} {
		if got := a.wasCancelled(key(c.id), start.Add(c.at)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	for i := range 2 * maxRemembered {
		a.rememberCancel(key(i), start)
	}
	if len(a.early) != maxRemembered {
		t.Errorf("%d are remembered", len(a.early))
	}
	a.rememberCancel(key(-1), start.Add(11*time.Second))
	if len(a.early) != 1 {
		t.Errorf("%d are left when the others' time is over", len(a.early))
	}
}

// jobOf makes a job as admission numbers it.
func jobOf(number uint64, id, client string, choices int) *job {
	r := &Request{ID: id, Client: client, Prompt: "x"}
	r.Options.N = choices
	j := newJob(&record{Request: r}, nil)
	j.entry.Number = number
	return j
}
