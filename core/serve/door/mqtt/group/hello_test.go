package group

import (
	"fmt"
	"testing"
	"time"
)

// rig is a Machine whose decisions reach nobody.
type rig struct {
	t   *testing.T
	m   *Machine
	now time.Duration
}

func (r *rig) step(events ...Event) (out []Decision) {
	for _, e := range events {
		out = append(out, r.m.Step(r.now, e)...)
	}
	return out
}

// listens brings a node to where its hello stands in the log, and returns that.
func listens(t *testing.T, name string, others ...Member) (*rig, Entry) {
	t.Helper()
	r := &rig{t: t, m: New(Config{Node: name, Incarnation: name + "1", Since: int64(name[0])})}
	r.step(Offer{Member{State: StateReady, Running: 1}}, Connected{}, Present{name, &Member{Node: name, Incarnation: name + "1", Connection: 1}})
	for i := range others {
		r.step(Present{others[i].Node, &others[i]})
	}
	for _, d := range r.step(Listening{}) {
		if w, ok := d.(Write); ok && w.Entry.Type == Hello {
			r.step(Told{Entry: w.Entry})
			return r, w.Entry
		}
	}
	t.Fatal("it does not say hello")
	return nil, Entry{}
}

func sent(decisions []Decision, to string) (entries []Entry) {
	for _, d := range decisions {
		if s, ok := d.(Send); ok && s.To == to {
			entries = append(entries, s.Entry)
		}
	}
	return entries
}

// TestHelloOfMany: a broker drops what a slow node has too much of, often from 1,000 messages on. A newcomer is told thousands of requests in
// some hundred, and asks again where one of them is missing.
func TestHelloOfMany(t *testing.T) {
	const many = 4000
	a, _ := listens(t, "a")
	for range 20 {
		a.now += time.Second
		a.step(Tick{})
	}
	if !a.m.Synced() {
		t.Fatal("the first node does not sit at the desk")
	}
	for i := range many {
		a.step(Told{Entry: Entry{Type: Done, From: "c", Incarnation: "c1", Client: "c", ID: fmt.Sprint("r", i), Body: make([]byte, 500)}})
	}
	b, hello := listens(t, "b", a.m.self)
	told := sent(a.step(Told{Entry: hello}), "b")
	if len(told) > 200 || len(told) < 10 {
		t.Fatalf("%d requests are told in %d messages", many, len(told))
	}
	var again *Entry
	for i := range told {
		if i == 3 {
			continue // lost
		}
		for _, d := range b.step(Told{Entry: told[i], Direct: true}) {
			if w, ok := d.(Write); ok && w.Entry.Type == Hello {
				again = &w.Entry
			}
		}
	}
	if b.m.Synced() || again == nil {
		t.Fatalf("a message is missing: synced %v, asked again %v", b.m.Synced(), again != nil)
	}
	b.step(Told{Entry: *again})
	for _, e := range sent(a.step(Told{Entry: *again}), "b") {
		b.step(Told{Entry: e, Direct: true})
	}
	if !b.m.Synced() || len(b.m.records) != many {
		t.Fatalf("synced %v, knows %d of %d requests", b.m.Synced(), len(b.m.records), many)
	}
	// An answer that never becomes whole does not keep it away for ever.
	c, hello := listens(t, "d", a.m.self)
	for range 60 {
		c.now += time.Second
		decisions := c.step(Tick{})
		for _, e := range sent(a.step(Told{Entry: hello}), "d") {
			if e.Type != Pack {
				decisions = append(decisions, c.step(Told{Entry: e, Direct: true})...)
			}
		}
		for _, d := range decisions {
			if w, ok := d.(Write); ok && w.Entry.Type == Hello {
				hello = w.Entry
				c.step(Told{Entry: hello})
			}
		}
	}
	if !c.m.Synced() {
		t.Fatal("it asks for ever")
	}
}
