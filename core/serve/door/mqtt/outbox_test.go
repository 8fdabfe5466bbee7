package mqtt

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOutbox(t *testing.T) {
	o := newOutbox()
	note := func(class class, topic string) *outgoing {
		m := &outgoing{class: class, topic: topic, payload: []byte("x")}
		o.put(m)
		return m
	}
	var log []string
	drain := func() []*outgoing {
		var got []*outgoing
		for m := o.next(); m != nil; m = o.next() {
			log = append(log, m.topic)
			got = append(got, m)
		}
		return got
	}
	note(passing, "lost") // no connection
	note(kept, "a")
	o.connected()
	note(passing, "b")
	note(complaint, "c")
	for _, m := range drain() {
		if m.topic == "c" {
			o.acknowledged(m)
		}
	}
	note(passing, "d")
	note(kept, "e")
	o.disconnected()
	o.connected()
	drain()
	if diff := cmp.Diff([]string{"a", "b", "c", "a", "e"}, log); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if n := o.takeDropped(); n != 2 {
		t.Errorf("%d dropped, want lost and d", n)
	}
	if o.empty() || !o.busy() {
		t.Error("nothing is in flight")
	}
}

func TestOutboxBounds(t *testing.T) {
	o := newOutbox()
	o.connected()
	for i := range 5000 {
		o.put(&outgoing{class: passing, payload: make([]byte, 4096)})
		o.put(&outgoing{class: complaint})
		if i < 100 {
			o.put(&outgoing{class: kept})
		}
	}
	if n, most := len(o.queue), maxPassingBytes/4096+maxComplaints+100; n != most {
		t.Errorf("%d messages wait, want %d", n, most)
	}
	sent := 0
	for m := o.next(); m != nil; m = o.next() {
		sent++
	}
	if len(o.flying) != window {
		t.Errorf("%d in flight after %d sent", len(o.flying), sent)
	}
}

// TestOutboxConvicts: a message that ends connections is found among innocent ones, which all arrive.
func TestOutboxConvicts(t *testing.T) {
	o := newOutbox()
	for i := range 10 {
		topic := "good"
		if i == 4 {
			topic = "bad"
		}
		o.put(&outgoing{class: kept, topic: topic})
	}
	good, connections := 0, 0
	var refused []*outgoing
	for len(refused) == 0 && connections < 50 {
		connections++
		o.connected()
		var flight []*outgoing
		for m := o.next(); m != nil; m = o.next() {
			flight = append(flight, m)
			if m.topic == "good" && len(flight) == 1 { // acknowledged before the next is sent
				o.acknowledged(m)
				flight = nil
				good++
			}
		}
		refused = o.disconnected()
	}
	if len(refused) != 1 || refused[0].topic != "bad" || connections > 10 {
		t.Fatalf("refused %v after %d connections", refused, connections)
	}
	o.connected()
	for m := o.next(); m != nil; m = o.next() {
		o.acknowledged(m)
		good++
	}
	if good != 9 {
		t.Errorf("%d arrived", good)
	}
}
