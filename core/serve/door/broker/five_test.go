package broker

import (
	"bytes"
	"testing"
	"time"

	"edged/core/serve/door/wildcard"
)

// connect5 is a CONNECT of MQTT 5 that keeps its session for a while.
func connect5(id string, clean bool, props ...byte) []byte {
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 5, 0, 0, 60}
	if clean {
		body[7] = 2
	}
	body = append(appendVarint(body, len(props)), props...)
	return packet(kindConnect, 0, appendText(body, id))
}

func subscribe5(identifier byte, options byte, filter string) []byte {
	body := []byte{0, 1, 0}
	if identifier > 0 {
		body = []byte{0, 1, 2, propSubscriptionID, identifier}
	}
	return packet(kindSubscribe, 2, append(appendText(body, filter), options))
}

func publish5(flags byte, topic string, props []byte, payload string) []byte {
	body := appendText(nil, topic)
	if flags&6 != 0 {
		body = append(body, 0, 9)
	}
	body = append(appendVarint(body, len(props)), props...)
	return packet(kindPublish, flags, append(body, payload...))
}

var (
	stays   = []byte{propSessionExpiry, 0, 0, 1, 0}
	goodbye = packet(kindDisconnect, 0, nil)
)

// What MQTT 5 adds goes through: each case is what two clients say one after the other, the first leaving its session behind or
// the second its own message, and what the last one is told after its CONNACK.
func TestFive(t *testing.T) {
	head := func(said []byte) []byte { // without the CONNACK
		n := int(said[1]) + 2
		return said[n:]
	}
	request := []byte{
		propPayloadFormat, 1, propContentType, 0, 1, 'j', propResponseTopic, 0, 1, 'r', propCorrelation, 0, 2, 0, 1,
		propUser, 0, 1, 'k', 0, 1, 'v',
	}
	for _, c := range []struct {
		name   string
		first  [][]byte
		second [][]byte
		third  [][]byte // nil: the second one's answer counts
		want   []byte
	}{
		{
			"properties are passed on, with the subscription's identifier",
			[][]byte{connect5("a", true, stays...), subscribe5(5, 1, "t/+"), goodbye},
			[][]byte{connect5("b", true), publish5(2, "t/x", request, "hi"), goodbye},
			[][]byte{connect5("a", false, stays...)},
			packet(kindPublish, 2, append(append(append([]byte{0, 3, 't', '/', 'x', 0, 1, byte(2 + len(request))},
				propSubscriptionID, 5), request...), 'h', 'i')),
		},
		{
			"what 3.1.1 gets has no properties",
			[][]byte{
				packet(kindConnect, 0, []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 60, 0, 1, 'a'}),
				packet(kindSubscribe, 2, []byte{0, 1, 0, 1, 't', 1}), goodbye,
			},
			[][]byte{connect5("b", true), publish5(2, "t", request, "hi"), goodbye},
			[][]byte{packet(kindConnect, 0, []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 60, 0, 1, 'a'})},
			packet(kindPublish, 2, []byte{0, 1, 't', 0, 1, 'h', 'i'}),
		},
		{
			"no local, and retain as published",
			nil, nil,
			[][]byte{
				connect5("a", true), subscribe5(0, 1|4, "t"), publish5(0, "t", nil, "own"), subscribe5(0, 8, "u"),
				publish5(1, "u", nil, "x"),
			},
			append(append(packet(kindSuback, 0, []byte{0, 1, 0, 1}), packet(kindSuback, 0, []byte{0, 1, 0, 0})...),
				publish5(1, "u", nil, "x")...),
		},
		{
			"retain handling: once, and never",
			[][]byte{connect5("b", true), publish5(1, "t", nil, "kept"), goodbye},
			nil,
			[][]byte{connect5("a", true), subscribe5(0, 0x20, "t"), subscribe5(0, 0x10, "t")},
			append(packet(kindSuback, 0, []byte{0, 1, 0, 0}), packet(kindSuback, 0, []byte{0, 1, 0, 0})...),
		},
		{
			"nobody asked for it",
			nil, nil,
			[][]byte{connect5("a", true), publish5(2, "t", nil, "x")},
			packet(kindPuback, 0, []byte{0, 9, byte(reasonNoSubscribers)}),
		},
		{
			"a shared subscription gets no retained message and a message once",
			[][]byte{connect5("b", true), publish5(1, "t", nil, "kept"), goodbye},
			nil,
			[][]byte{connect5("a", true), subscribe5(3, 0, "$share/g/t"), publish5(0, "t", nil, "x")},
			append(packet(kindSuback, 0, []byte{0, 1, 0, 0}), publish5(0, "t", []byte{propSubscriptionID, 3}, "x")...),
		},
		{
			"topic aliases are not offered",
			nil, nil,
			[][]byte{connect5("a", true), publish5(0, "t", []byte{propTopicAlias, 0, 1}, "x")},
			packet(kindDisconnect, 0, []byte{byte(reasonTopicAlias), 0}),
		},
		{
			"an answer that is larger than the client takes is dropped",
			nil, nil,
			[][]byte{
				connect5("a", true, propMaxPacket, 0, 0, 0, 20), subscribe5(0, 0, "t"), publish5(0, "t", nil, "0123456789012345"),
				publish5(0, "t", nil, "short"),
			},
			append(packet(kindSuback, 0, []byte{0, 1, 0, 0}), publish5(0, "t", nil, "short")...),
		},
		{
			"QoS 2 is routed once",
			nil, nil,
			[][]byte{
				connect5("a", true), subscribe5(0, 0, "t"), publish5(4, "t", nil, "x"), publish5(12, "t", nil, "x"),
				packet(kindPubrel, 2, []byte{0, 9}), packet(kindPubrel, 2, []byte{0, 9}),
			},
			nil, // below
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := offline(Options{})
			for _, said := range [][][]byte{c.first, c.second} {
				if said != nil {
					scripted(b, said...)
				}
			}
			got := head(scripted(b, c.third...))
			if c.want == nil { // control packets and messages may overtake each other
				if n := bytes.Count(got, publish5(0, "t", nil, "x")); n != 1 {
					t.Errorf("it came %d times: % x", n, got)
				}
				for _, ack := range [][]byte{encodeAck(5, kindPubrec, 9, 0), encodeAck(5, kindPubcomp, 9, 0), encodeAck(5, kindPubcomp, 9, reasonUnknownID)} {
					if !bytes.Contains(got, ack) {
						t.Errorf("no % x in % x", ack, got)
					}
				}
			} else if !bytes.Equal(got, c.want) {
				t.Errorf("got\n% x, want\n% x", got, c.want)
			}
			b.balance(t)
		})
	}
}

// A message's life is over when it is, and a will is published when it is due, unless its client is back.
func TestTimes(t *testing.T) {
	b := offline(Options{})
	scripted(b, connect5("away", true, stays...), subscribe5(0, 1, "#"), goodbye)
	scripted(b, connect5("b", true), publish5(3, "t", []byte{propMessageExpiry, 0, 0, 0, 5}, "mortal"), goodbye)
	will := func(id byte) []byte {
		body := []byte{0, 4, 'M', 'Q', 'T', 'T', 5, 12, 0, 60, 5, propSessionExpiry, 0, 0, 1, 0, 0, 1, id, 5, propWillDelay, 0, 0, 0, 100}
		return packet(kindConnect, 0, append(body, 0, 1, 'w', 0, 1, id))
	}
	scripted(b, will('x')) // no goodbye
	scripted(b, will('y'))
	later := time.Now().Add(time.Minute)
	b.sweep(later)
	if len(b.retained) != 0 {
		t.Error("a retained message lives on after its time")
	}
	queued := func() (out []string) {
		s := b.sessions["away"]
		for _, l := range s.turns {
			for _, d := range l.queue {
				out = append(out, string(d.m.payload))
			}
		}
		return out
	}
	if got := queued(); len(got) != 1 {
		t.Errorf("a will came before its time: %q", got)
	}
	scripted(b, will('y'), goodbye) // back, and left in peace
	b.sweep(later.Add(time.Minute))
	if got := queued(); len(got) != 2 || got[1] != "x" {
		t.Errorf("after the wills were due: %q", got)
	}
	b.balance(t)
}

func TestFilters(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"+", "a", true},
		{"+", "a/b", false},
		{"a/+", "a/b", true},
		{"a/+", "a/", true},
		{"a/+", "a", false},
		{"+/+", "/", true},
		{"#", "a/b", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"+/b/#", "a/b", true},
		{"//", "//", true},
		{"/+/", "/a/", true},
	} {
		if got := wildcard.Match(c.filter, c.topic); got != c.want {
			t.Errorf("%s on %s: %v", c.filter, c.topic, got)
		}
		var tr tree
		s := &subscription{session: &session{}, rest: c.filter}
		tr.add(s)
		got := false
		tr.match(c.topic, func(n *node) { got = got || n.subs[s.session] != nil })
		if got != c.want {
			t.Errorf("%s on %s, by the tree: %v", c.filter, c.topic, got)
		}
		if tr.remove(s); !tr.root.empty() {
			t.Errorf("%s leaves something in the tree", c.filter)
		}
	}
	for _, bad := range []string{"", "a+", "#/a", "a/#b", "+a/b", "a#"} {
		if validFilter(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
	for _, bad := range []string{"$share", "$share/", "$share/g", "$share/g/", "$share/+/a", "$share//a"} {
		if _, _, ok := splitShare(bad); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Going away drops what was of QoS 0 and keeps the rest in each publisher's order.
func TestAwayKeepsTheOrder(t *testing.T) {
	b := offline(Options{})
	s := &session{id: "s", keeps: time.Hour, lines: map[string]*line{}}
	b.sessions["s"] = s
	b.connected = 1
	b.held += sessionOverhead + len(s.id)
	for i, text := range []string{"a1", "a2", "b0", "a3", "a0", "a4", "b1"} {
		m := &message{topic: "t", payload: []byte(text), from: text[:1], number: uint64(i)}
		b.hold(m)
		b.held += deliveryOverhead
		s.held += m.size() + deliveryOverhead
		d := &delivery{m: m, qos: 1}
		if text[1] == '0' {
			d.qos = 0
		}
		s.push(d)
	}
	b.drop(s, s.take()) // so that the turns do not begin with a
	b.away(s, true)
	got := map[string]string{}
	for _, l := range s.turns {
		for _, d := range l.queue {
			got[l.from] += string(d.m.payload)
		}
	}
	if got["a"] != "a2a3a4" || got["b"] != "b1" || s.waiting != 4 {
		t.Errorf("%v, %d wait", got, s.waiting)
	}
	b.balance(t)
}
