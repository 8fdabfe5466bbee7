package group

import (
	"testing"
	"time"
)

// seated brings a node to the desk, beside others.
func seated(t *testing.T, name string) *rig {
	t.Helper()
	r, _ := listens(t, name)
	for range 20 {
		r.now += time.Second
		r.step(Tick{})
	}
	if !r.m.Synced() {
		t.Fatal("it does not sit at the desk")
	}
	return r
}

func hellos(decisions []Decision) (n int) {
	for _, d := range decisions {
		if w, ok := d.(Write); ok && w.Entry.Type == Hello {
			n++
		}
	}
	return n
}

// TestGap: a node that hears a later entry of another before an earlier one leaves the desk and asks what was before; entries that come
// twice, a connection or a life that begins, and senders that number nothing are no gaps.
func TestGap(t *testing.T) {
	entry := func(life string, line, seq int) Told {
		return Told{Entry: Entry{Type: Done, From: "b", Client: "c", ID: "r", Life: life, Line: line, Seq: seq}}
	}
	for name, c := range map[string]struct {
		heard []Told
		gap   bool
	}{
		"in order":                           {[]Told{entry("1", 1, 7), entry("1", 1, 8), entry("1", 1, 9)}, false},
		"twice":                              {[]Told{entry("1", 1, 7), entry("1", 1, 8), entry("1", 1, 7), entry("1", 1, 8), entry("1", 1, 9)}, false},
		"a new connection":                   {[]Told{entry("1", 1, 7), entry("1", 2, 1), entry("1", 2, 2)}, false},
		"a straggler of the one before":      {[]Told{entry("1", 1, 7), entry("1", 2, 1), entry("1", 1, 9), entry("1", 2, 2)}, false},
		"a new life":                         {[]Told{entry("1", 3, 7), entry("2", 1, 1)}, false},
		"no numbers":                         {[]Told{entry("", 0, 0), entry("", 0, 0)}, false},
		"one is missing":                     {[]Told{entry("1", 1, 7), entry("1", 1, 9)}, true},
		"the first of a connection":          {[]Told{entry("1", 1, 7), entry("1", 2, 2)}, true},
		"the first of a life":                {[]Told{entry("1", 1, 7), entry("2", 1, 3)}, true},
		"one is missing, and comes too late": {[]Told{entry("1", 1, 7), entry("1", 1, 9), entry("1", 1, 8)}, true},
	} {
		r := seated(t, "a")
		var out []Decision
		for _, e := range c.heard {
			out = append(out, r.step(e)...)
		}
		want := 0
		if c.gap {
			want = 1
		}
		if hellos(out) != want || r.m.Synced() == c.gap {
			t.Errorf("%s: %d hellos, at the desk: %v", name, hellos(out), r.m.Synced())
		}
	}
}

// TestGapSoonAgain: who misses one entry after another asks once in a step, and not for each.
func TestGapSoonAgain(t *testing.T) {
	r, n := seated(t, "a"), 0
	for i := range 100 {
		r.now += 10 * time.Millisecond
		n += hellos(r.step(Told{Entry: Entry{Type: Done, From: "b", Client: "c", ID: "r", Life: "1", Line: 1, Seq: 2*i + 1}}))
	}
	if n != 1 {
		t.Errorf("%d hellos in the time of one step", n)
	}
}

// TestGapAfterHello: what was dropped between a node's hello and the first entry that it hears shows in the answer to hello.
func TestGapAfterHello(t *testing.T) {
	for dropped, want := range map[bool]int{false: 0, true: 1} {
		a := seated(t, "a")
		entry := func(seq int) Told {
			return Told{Entry: Entry{Type: Done, From: "c", Client: "c", ID: "r", Life: "1", Line: 1, Seq: seq}}
		}
		a.step(entry(1), entry(2))
		b, hello := listens(t, "b", a.m.self)
		answer := sent(a.step(Told{Entry: hello}), "b")
		if !dropped {
			b.step(entry(3))
		}
		b.step(entry(4))
		var out []Decision
		for _, e := range answer {
			out = append(out, b.step(Told{Entry: e, Direct: true})...)
		}
		if !b.m.Synced() {
			t.Fatal("it is not told what was before")
		}
		b.now += time.Second
		if n := hellos(append(out, b.step(Tick{})...)); n != want {
			t.Errorf("dropped %v: %d hellos", dropped, n)
		}
	}
}

// TestOwnEndMissed: a node whose own end the broker did not bring back tells it once more.
func TestOwnEndMissed(t *testing.T) {
	r := seated(t, "a")
	dones := func(decisions []Decision) (n int) {
		for _, d := range decisions {
			if w, ok := d.(Write); ok && w.Entry.Type == Done {
				n++
			}
		}
		return n
	}
	if n := dones(r.step(Ended{Key: Key{"c", "r"}, Outcome: []byte("x")})); n != 1 {
		t.Fatalf("the end is told %d times", n)
	}
	n := 0
	for range 8 {
		r.now += time.Second
		n += dones(r.step(Tick{}))
	}
	if n == 0 || n > 4 || r.m.Pending() != 1 {
		t.Errorf("told again %d times, %d wait", n, r.m.Pending())
	}
}
