package groupsim_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"edged/core/serve/door/mqtt/group"
	"edged/core/serve/door/mqtt/group/groupsim"
)

// chaos runs a group under deaths, clean stops, lost connections and restarts of its broker, with ids that are repeated and ids that are
// used for something else. One member that knows what the group knows is always left.
func chaos(t *testing.T, seed uint64) {
	t.Helper()
	s := groupsim.Settings{
		Nodes: 2 + int(seed%6), Seed: seed, Takeover: 10 * time.Second, Desk: 2 + int(seed/6%4), Running: 2, Queue: 16,
		Compute: 400 * time.Millisecond, Sessions: seed%2 == 0, Forgets: seed%3 != 0,
	}
	n := groupsim.New(s)
	r := n.Rand()
	for _, x := range n.Nodes() {
		x.Start()
	}
	n.Run(5 * time.Second)
	const requests = 120
	for i := range requests {
		id := fmt.Sprintf("r%d", i)
		text := id
		if i%8 == 0 {
			text = groupsim.OnlyBy + n.Nodes()[i/8%s.Nodes].Name
		}
		n.After(time.Duration(r.Int64N(int64(60*time.Second))), func() { n.Ask("c", id, text) })
		for range r.IntN(3) {
			n.After(time.Duration(r.Int64N(int64(80*time.Second))), func() { n.Ask("c", id, text) })
		}
	}
	safe := func() bool { // somebody else knows
		known := 0
		for _, x := range n.Nodes() {
			if x.Alive() && x.Synced() {
				known++
			}
		}
		return known >= 2
	}
	for range 40 {
		x := n.Nodes()[r.IntN(s.Nodes)]
		what, back := r.IntN(8), time.Duration(r.Int64N(int64(6*time.Second)))
		n.After(time.Duration(r.Int64N(int64(65*time.Second))), func() {
			switch {
			case what == 0:
				n.RestartBroker(time.Duration(r.Int64N(int64(time.Second))))
				return
			case !safe():
				return
			case what <= 2:
				x.Cut()
				return
			case what <= 5:
				x.Kill()
			default:
				x.Stop(time.Duration(r.Int64N(int64(time.Second))))
				back += time.Second
			}
			n.After(back, x.Start)
		})
	}
	n.Run(75 * time.Second)
	for _, x := range n.Nodes() {
		x.Start()
	}
	n.Run(3 * time.Minute)
	for i := range requests {
		k := group.Key{Client: "c", ID: fmt.Sprintf("r%d", i)}
		got := n.Answers[k]
		if len(got) == 0 {
			t.Errorf("seed %d: %s was not answered", seed, k.ID)
			continue
		}
		// A refusal is no answer: its client may ask again.
		got = slices.DeleteFunc(slices.Clone(got), func(text string) bool { return strings.HasPrefix(text, "error: ") })
		if slices.ContainsFunc(got, func(text string) bool { return text != got[0] }) {
			t.Errorf("seed %d: %s has several answers: %q", seed, k.ID, got)
		}
		// Whose acceptance was told has one end, be it an error.
		if last := n.Last[k]; slices.ContainsFunc(last, func(text string) bool { return text != last[0] }) {
			t.Errorf("seed %d: %s was accepted and has several ends: %q", seed, k.ID, last)
		}
		if n.Refused[k] != 0 {
			t.Errorf("seed %d: %s was turned away", seed, k.ID)
		}
	}
	for _, x := range n.Nodes() {
		if x.Open() != 0 {
			t.Errorf("seed %d: %s believes that %d requests are open", seed, x.Name, x.Open())
		}
	}
}

// seedsOf is how many runs there are, and the first: EDGED_GROUP_SEEDS and EDGED_GROUP_FIRST.
func seedsOf(usual uint64) (first, seeds uint64) {
	seeds = usual
	if n, err := strconv.ParseUint(os.Getenv("EDGED_GROUP_SEEDS"), 10, 32); err == nil {
		seeds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("EDGED_GROUP_FIRST"), 10, 32); err == nil {
		first = n
	}
	return first, seeds
}

// TestChaos is the property that a group is for.
func TestChaos(t *testing.T) {
	t.Parallel()
	first, seeds := seedsOf(60)
	for seed := first; seed < first+seeds; seed++ {
		chaos(t, seed)
		if t.Failed() {
			return
		}
	}
	for _, seed := range []uint64{180, 401, 566, 611, 712, 1194, 1234, 1259, 1343, 1468, 1923, 2599, 3149, 3249} { // that have failed
		chaos(t, seed)
	}
}

// TestOnlyTaker: a request dies with the only node that serves it, which comes back soon, or after its client was told that it is gone. Either
// way there is one end; and a node that is back does not compute what has ended meanwhile.
func TestOnlyTaker(t *testing.T) {
	t.Parallel()
	k := group.Key{Client: "c", ID: "r"}
	for seed := range uint64(40) {
		s := groupsim.Settings{
			Nodes: 2 + int(seed%5), Seed: seed, Takeover: 10 * time.Second, Desk: 2, Running: 1, Queue: 16, Compute: 5 * time.Second,
			Sessions: seed%2 == 0,
		}
		n := groupsim.New(s)
		for _, x := range n.Nodes() {
			x.Start()
		}
		n.Run(5 * time.Second)
		only := n.Nodes()[n.Rand().IntN(s.Nodes)]
		n.Ask("c", k.ID, groupsim.OnlyBy+only.Name)
		n.Run(7 * time.Second)
		if !n.Accepted[k] || len(n.Answers[k]) != 0 {
			t.Fatalf("seed %d: accepted %v, answers %q", seed, n.Accepted[k], n.Answers[k])
		}
		only.Kill()
		away := 2 * time.Second
		if seed%4 >= 2 {
			away = time.Minute
		}
		n.After(away, only.Start)
		n.After(2*time.Minute, func() { n.Ask("c", k.ID, groupsim.OnlyBy+only.Name) })
		n.Run(n.Now() + 5*time.Minute)
		got := n.Last[k]
		told := len(got) > 0 && strings.HasPrefix(got[0], "error: ") && strings.Contains(got[0], "lost ["+only.Name+"]")
		if len(got) < 2 || got[0] != got[len(got)-1] || told != (away > s.Takeover) {
			t.Errorf("seed %d: it is away for %v, and the ends are %q", seed, away, got)
		}
		if waited, _ := n.Waited(k); told && waited > s.Takeover+2*time.Second {
			t.Errorf("seed %d: its client was told after %v", seed, waited)
		}
		if told && (n.Stopped != 1 || n.Computed != 0) {
			t.Errorf("seed %d: the node that is back was stopped %d times, and has computed %d requests", seed, n.Stopped, n.Computed)
		}
	}
}

// TestSlow: a broker drops, without a word, what a slow node has too much of. Every request has its one answer, a repeat gets it, and no node
// goes on believing what it has missed the end of.
func TestSlow(t *testing.T) {
	t.Parallel()
	first, seeds := seedsOf(60)
	dropped := 0
	for seed := first; seed < first+seeds; seed++ {
		s := groupsim.Settings{
			Nodes: 2 + int(seed%5), Seed: seed, Takeover: 10 * time.Second, Desk: 2 + int(seed/5%4), Running: 2, Queue: 16,
			Compute: 400 * time.Millisecond, Sessions: seed%2 == 0,
		}
		n := groupsim.New(s)
		r := n.Rand()
		for _, x := range n.Nodes() {
			x.Start()
		}
		n.Run(5 * time.Second)
		const requests = 150
		ask := func(i int) { n.Ask("c", fmt.Sprintf("r%d", i), "x") }
		for i := range requests {
			n.After(time.Duration(r.Int64N(int64(60*time.Second))), func() { ask(i) })
			n.After(time.Duration(r.Int64N(int64(80*time.Second))), func() { ask(i) })
		}
		for i := range 20 { // one at a time: what no node has heard is lost
			x := n.Nodes()[r.IntN(s.Nodes)]
			n.After(time.Duration(i)*3*time.Second, func() { x.Slow(time.Duration(r.Int64N(int64(2 * time.Second)))) })
		}
		n.Run(2 * time.Minute)
		before := map[group.Key]int{}
		for i := range requests {
			k := group.Key{Client: "c", ID: fmt.Sprintf("r%d", i)}
			before[k] = len(n.Answers[k])
			ask(i)
		}
		n.Run(n.Now() + time.Minute)
		for i := range requests {
			k := group.Key{Client: "c", ID: fmt.Sprintf("r%d", i)}
			got := n.Answers[k]
			if before[k] == 0 || len(got) == before[k] || slices.ContainsFunc(got, func(text string) bool { return text != got[0] }) {
				t.Errorf("seed %d: %s has %d answers, and a repeat %d more: %q", seed, k.ID, before[k], len(got)-before[k], got)
			}
		}
		for _, x := range n.Nodes() {
			if x.Open() != 0 || x.Pending() != 0 {
				t.Errorf("seed %d: %s believes that %d requests are open, and %d ends are not decided", seed, x.Name, x.Open(), x.Pending())
			}
		}
		dropped += n.Dropped
		if t.Failed() {
			return
		}
	}
	if dropped < 1000 {
		t.Errorf("only %d messages were dropped", dropped)
	}
}

// TestTakeover: while one node after another dies, is stopped or loses its connection, no request waits longer than group.takeover beyond its
// computing and that of what was before it.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		s := groupsim.Settings{
			Nodes: 5, Seed: seed, Takeover: 10 * time.Second, Desk: 3, Running: 2, Queue: 16, Compute: time.Second, Sessions: true,
		}
		n := groupsim.New(s)
		for _, x := range n.Nodes() {
			x.Start()
		}
		n.Run(5 * time.Second)
		const requests = 300
		for i := range requests {
			n.After(time.Duration(i)*500*time.Millisecond, func() { n.Ask("c", strconv.Itoa(i), "x") })
		}
		for i := range 10 {
			x := n.Nodes()[n.Rand().IntN(5)]
			n.After(time.Duration(i)*15*time.Second, func() {
				switch i % 3 {
				case 0:
					x.Kill()
				case 1:
					x.Stop(500 * time.Millisecond)
				case 2:
					x.Cut()
				}
				n.After(8*time.Second, x.Start)
			})
		}
		n.Run(4 * time.Minute)
		for i := range requests {
			k := group.Key{Client: "c", ID: strconv.Itoa(i)}
			// Five nodes with two places each have room for ten times what comes: the computing is 1.5 s at most, once more where
			// a node dies that has it.
			if waited, ok := n.Waited(k); !ok || waited > s.Takeover+3*time.Second {
				t.Errorf("seed %d: request %d: answered %v, after %v", seed, i, ok, waited)
			}
		}
	}
}

// TestRepeatable: two runs with one seed are one run.
func TestRepeatable(t *testing.T) {
	t.Parallel()
	run := func() groupsim.Counts {
		n := groupsim.New(groupsim.Settings{Nodes: 4, Seed: 7, Takeover: 10 * time.Second, Desk: 3, Running: 1, Queue: 8, Compute: time.Second})
		for _, x := range n.Nodes() {
			x.Start()
		}
		n.Run(4 * time.Second)
		for i := range 20 {
			n.Ask("c", strconv.Itoa(i), "x")
		}
		n.After(time.Second, n.Nodes()[1].Kill)
		n.Run(time.Minute)
		return n.Counts
	}
	a, b := run(), run()
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("%+v and %+v", a, b)
	}
	if len(a.Takeovers) == 0 || a.Published < 20 {
		t.Errorf("%+v", a)
	}
}

// TestThroughput: three nodes answer at least 0.95 × 3 as much as one.
func TestThroughput(t *testing.T) {
	t.Parallel()
	const requests = 600
	took := func(nodes int) time.Duration {
		n := groupsim.New(groupsim.Settings{
			Nodes: nodes, Seed: 3, Takeover: 10 * time.Second, Running: 2, Queue: requests, Compute: time.Second, Sessions: true,
		})
		for _, x := range n.Nodes() {
			x.Start()
		}
		n.Run(10 * time.Second)
		began := n.Now()
		for i := range requests {
			n.After(time.Duration(i)*time.Millisecond, func() { n.Ask("c", strconv.Itoa(i), "x") })
		}
		n.Run(time.Hour)
		if len(n.Answers) != requests || n.Computed != requests {
			t.Fatalf("%d nodes: %d of %d requests were answered, %d computed", nodes, len(n.Answers), requests, n.Computed)
		}
		return n.Finished() - began
	}
	one, three := took(1), took(3)
	ratio := one.Seconds() / three.Seconds()
	t.Logf("one node: %v, three: %v, ratio %.3f", one, three, ratio)
	if ratio < 0.95*3 {
		t.Errorf("three nodes answer %.3f times as much as one", ratio)
	}
}
