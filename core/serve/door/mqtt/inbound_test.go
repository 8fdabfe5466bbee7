package mqtt

import (
	"strings"
	"testing"
)

// Clients take turns, each keeps its order, and one that sends many leaves room for others.
func TestInboundTakesTurns(t *testing.T) {
	q := newInbound(1 << 20)
	put := func(client, text string) bool {
		return q.put(client, incoming{payload: []byte(text)})
	}
	for _, m := range []string{"a1", "a2", "a3", "b1", "c1", "b2"} {
		if !put(m[:1], m) {
			t.Fatalf("no room for %s", m)
		}
	}
	var got []string
	for m, some := q.next(); some; m, some = q.next() {
		got = append(got, string(m.payload))
	}
	if text := strings.Join(got, " "); text != "a1 b1 c1 a2 b2 a3" {
		t.Error(text)
	}
	n := 0
	for put("flood", "x") {
		n++
	}
	if n != maxIncoming/2 || !put("other", "x") {
		t.Errorf("a flood of %d leaves no room", n)
	}
	big := strings.Repeat("x", 1<<20)
	for n = 0; put("large", big); n++ {
	}
	if n != 2 || !put("other", big) {
		t.Errorf("%d large ones leave no room", n)
	}
	for _, some := q.next(); some; _, some = q.next() {
	}
	if q.bytes != 0 || q.length != 0 || len(q.lines) != 0 || len(q.turns) != 0 {
		t.Errorf("afterwards: %d bytes, %d messages, %d lines", q.bytes, q.length, len(q.lines))
	}
}

// TestAskLineEnd: the one line end that echo and editors put behind a question is no part of it.
func TestAskLineEnd(t *testing.T) {
	d := &Door{topics: testTopics}
	for payload, want := range map[string]string{
		"Warm?\n": "Warm?", "Warm?\r\n": "Warm?", "Warm?": "Warm?", "Warm?\n\n": "Warm?\n", "\nWarm?\n": "\nWarm?", "Warm?\t\n": "Warm?\t",
	} {
		req, wrong := d.ask(input{level: levelAsk, name: "shed"}, incoming{topic: "edged/pi/ask/shed", payload: []byte(payload)})
		if wrong != nil || req.Prompt != want {
			t.Errorf("%q becomes %+v, %+v", payload, req, wrong)
		}
	}
	if _, wrong := d.ask(input{level: levelAsk}, incoming{topic: "edged/pi/ask", payload: []byte("\r\n")}); wrong == nil {
		t.Error("a line end alone is a question")
	}
}
