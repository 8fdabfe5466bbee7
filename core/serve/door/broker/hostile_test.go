package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"edged/core/serve/door/broker"
)

// as connects a raw client with what a test wants of its CONNECT.
func as(t *testing.T, b *broker.Broker, id string, change func(*packets.ConnectPacket)) raw {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	c := raw{t, conn}
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.ClientIdentifier, hello.CleanSession = "MQTT", 4, id, true
	if change != nil {
		change(hello)
	}
	c.send(hello)
	if ack, ok := c.receive().(*packets.ConnackPacket); !ok || ack.ReturnCode != packets.Accepted {
		t.Fatal("not accepted:", ack)
	}
	return c
}

// leave says goodbye and waits until the broker has let go of the connection: after it the session is away. A socket that is
// merely closed is noticed some time later, and until then messages are still sent on it.
func (c raw) leave() {
	c.t.Helper()
	c.send(packets.NewControlPacket(packets.Disconnect))
	if n, err := io.Copy(io.Discard, c.Conn); err != nil {
		c.t.Fatal("after goodbye:", n, err)
	}
}

// subscribe subscribes to filters at QoS 1 and returns what was granted.
func (c raw) subscribe(filters ...string) []byte {
	c.t.Helper()
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID, p.Topics, p.Qoss = 1, filters, bytes.Repeat([]byte{1}, len(filters))
	c.send(p)
	for {
		if ack, ok := c.receive().(*packets.SubackPacket); ok {
			return ack.ReturnCodes
		}
	}
}

// publish sends a message; at QoS 1 with an identifier that is always the same.
func (c raw) publish(topic string, qos byte, retain bool, payload []byte) {
	c.t.Helper()
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.Retain, p.Payload = topic, qos, retain, payload
	if qos > 0 {
		p.MessageID = 7
	}
	c.send(p)
}

// acknowledged waits for n acknowledgements.
func (c raw) acknowledged(n int) {
	c.t.Helper()
	for n > 0 {
		if _, ok := c.receive().(*packets.PubackPacket); ok {
			n--
		}
	}
}

func persistent(p *packets.ConnectPacket) { p.CleanSession = false }

// One who subscribes and stops reading, with its keep-alive off, harms nobody: others are answered, and the broker ends.
func TestSubscriberThatStopsReading(t *testing.T) {
	b := start(t, broker.Options{})
	as(t, b, "asleep", nil).subscribe("#")
	got := make(chan string, 200)
	awake := connect(t, options(b, "awake"))
	wait(t, awake.Subscribe("a", 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()[:4]) }))
	pub := connect(t, options(b, "pub"))
	// More than the sockets of both sides hold.
	payload := strings.Repeat("x", 256<<10)
	for i := range 64 {
		text := fmt.Sprintf("%04d", i)
		wait(t, pub.Publish("a", 1, false, text+payload))
		select {
		case m := <-got:
			if m != text {
				t.Fatalf("got %s, want %s", m, text)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("one that does not read keeps a message from another")
		}
	}
}

// It is disconnected when it takes nothing for the write timeout.
func TestNonReaderIsDisconnected(t *testing.T) {
	b := start(t, broker.Options{WriteTimeout: 50 * time.Millisecond})
	asleep := as(t, b, "asleep", func(p *packets.ConnectPacket) {
		p.WillFlag, p.WillTopic, p.WillMessage = true, "gone", []byte("asleep")
	})
	asleep.subscribe("a")
	pub := connect(t, options(b, "pub"))
	gone := make(chan struct{})
	wait(t, pub.Subscribe("gone", 1, func(paho.Client, paho.Message) { close(gone) }))
	payload := strings.Repeat("x", 512<<10)
	for range 32 {
		wait(t, pub.Publish("a", 0, false, payload))
	}
	select {
	case <-gone: // its will says that the broker has closed the connection
	case <-time.After(10 * time.Second):
		t.Fatal("it is still connected")
	}
	// What is left unread may come before the end or not.
	var ne net.Error
	_ = asleep.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, asleep); errors.As(err, &ne) && ne.Timeout() {
		t.Error("it is still connected")
	}
}

// One that never reads its acknowledgements stops its own requests, and nobody else's.
func TestAcknowledgementsNobodyReads(t *testing.T) {
	b := start(t, broker.Options{MaxRate: 1 << 20})
	deaf := as(t, b, "deaf", nil)
	go func() {
		p := packets.NewControlPacket(packets.Pingreq)
		for range 1 << 20 {
			if p.Write(deaf) != nil {
				return
			}
		}
	}()
	c := connect(t, options(b, "other"))
	for range 20 {
		wait(t, c.Publish("a", 1, false, "x"))
	}
}

// heap is what lives on the heap.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // it fits
}

// Whatever a client makes the broker keep, there is a bound on its bytes, and another client's message still goes through.
func TestBytesAreBounded(t *testing.T) {
	const bound = 4 << 20
	big := bytes.Repeat([]byte("x"), 32<<10)
	for _, c := range []struct {
		name string
		does func(t *testing.T, b *broker.Broker)
	}{
		{"retained by one", func(t *testing.T, b *broker.Broker) {
			c := as(t, b, "bad", nil)
			for i := range 2000 {
				c.publish("t/"+strconv.Itoa(i), 0, true, big)
			}
			c.publish("end", 1, false, nil)
			c.acknowledged(1)
		}},
		{"retained by many", func(t *testing.T, b *broker.Broker) {
			for k := range 20 {
				c := as(t, b, "bad"+strconv.Itoa(k), nil)
				for i := range 100 {
					c.publish(fmt.Sprintf("t/%d/%d", k, i), 0, true, big)
				}
				c.publish("end", 1, false, nil)
				c.acknowledged(1)
				_ = c.Close()
			}
		}},
		{"sessions that are away", func(t *testing.T, b *broker.Broker) {
			for k := range 20 {
				c := as(t, b, "away"+strconv.Itoa(k), persistent)
				c.subscribe("a/#")
				c.leave()
			}
			c := as(t, b, "bad", nil)
			for i := range 1000 {
				c.publish("a/"+strconv.Itoa(i), 1, false, big)
				c.acknowledged(1)
			}
		}},
		{"non-readers", func(t *testing.T, b *broker.Broker) {
			for k := range 20 {
				as(t, b, "asleep"+strconv.Itoa(k), nil).subscribe("a/#")
			}
			c := as(t, b, "bad", nil)
			for i := range 1000 {
				c.publish("a/"+strconv.Itoa(i), byte(i%2), false, big)
				c.acknowledged(i % 2)
			}
		}},
		{"subscriptions", func(t *testing.T, b *broker.Broker) {
			for k := range 20 {
				c := as(t, b, "bad"+strconv.Itoa(k), persistent)
				for i := range 20 {
					var filters []string
					for j := range 50 {
						filters = append(filters, fmt.Sprintf("%d/%d/%d/%s#", k, i, j, strings.Repeat("+/", 28)))
					}
					c.subscribe(filters...)
				}
			}
		}},
		{"subscriptions of very many levels", func(t *testing.T, b *broker.Broker) {
			c := as(t, b, "bad", persistent)
			for i := range 50 {
				if got := c.subscribe(strconv.Itoa(i) + strings.Repeat("/", 30_000)); !bytes.Equal(got, []byte{0x80}) {
					t.Fatalf("granted: %v", got)
				}
			}
		}},
		{"wills", func(t *testing.T, b *broker.Broker) {
			for k := range 400 {
				c := as(t, b, "bad"+strconv.Itoa(k), func(p *packets.ConnectPacket) {
					p.CleanSession, p.WillFlag, p.WillRetain, p.WillTopic = false, true, true, "w/"+strconv.Itoa(k)
					p.WillMessage = big
				})
				_ = c.Close()
			}
		}},
		{"lengths that are only promised", func(t *testing.T, b *broker.Broker) {
			for k := range 100 {
				c := as(t, b, "bad"+strconv.Itoa(k), nil)
				_, _ = c.Write([]byte{0x30, 0xff, 0xff, 0x03, 0, 1, 'a'}) // 64 KiB
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heap()
			b := start(t, broker.Options{MaxMemory: bound, MaxPacket: 64 << 10, MaxRate: 1 << 20})
			c.does(t, b)
			// What is read at once is bounded by the pool, and each connection has buffers.
			if grown := heap() - before; grown > bound+(16<<20) {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
			good := connect(t, options(b, "good"))
			got := make(chan string, 1)
			wait(t, good.Subscribe("good", 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()) }))
			wait(t, good.Publish("good", 1, true, "hello"))
			select {
			case <-got:
			case <-time.After(10 * time.Second):
				t.Error("another client's message did not come")
			}
			// And what it wants to be retained is.
			late := connect(t, options(b, "late"))
			wait(t, late.Subscribe("good", 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()) }))
			select {
			case <-got:
			case <-time.After(10 * time.Second):
				t.Error("another client's message is not retained")
			}
		})
	}
}

// Sessions that nobody comes back for do not keep others out: the one that is away for longest leaves.
func TestOldestSessionLeaves(t *testing.T) {
	b := start(t, broker.Options{MaxClients: 4, MaxSessions: 4})
	for i := range 10 {
		c := as(t, b, strconv.Itoa(i), persistent)
		c.subscribe("a")
		goodbye := packets.NewControlPacket(packets.Disconnect)
		c.send(goodbye)
		_, _ = io.Copy(io.Discard, c) // the broker closes
	}
	present := func(id string) bool {
		t.Helper()
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
		hello.ProtocolName, hello.ProtocolVersion, hello.ClientIdentifier = "MQTT", 4, id
		c := raw{t, conn}
		c.send(hello)
		return c.receive().(*packets.ConnackPacket).SessionPresent
	}
	if !present("9") || !present("8") {
		t.Error("a young session is gone")
	}
	if present("0") {
		t.Error("the oldest session is still there")
	}
}

// Nobody but who knows the secret gets the id of the one who runs the broker, and that one gets in when all places are taken.
func TestOwnID(t *testing.T) {
	b := start(t, broker.Options{MaxClients: 2, OwnID: "node", OwnSecret: []byte("secret")})
	for i := range 2 {
		connect(t, options(b, strconv.Itoa(i)))
	}
	own := func(password string) *paho.ClientOptions {
		return options(b, "node").SetUsername("x").SetPassword(password)
	}
	lost := make(chan struct{})
	connect(t, own("secret").SetConnectionLostHandler(func(paho.Client, error) { close(lost) }))
	for _, o := range []*paho.ClientOptions{options(b, "node"), own("guess"), options(b, "third")} {
		token := paho.NewClient(o).Connect()
		if !token.WaitTimeout(10*time.Second) || token.Error() == nil {
			t.Error("somebody was let in")
		}
	}
	select {
	case <-lost:
		t.Error("the node was pushed out")
	default:
	}
	connect(t, own("secret")) // it comes back
	<-lost
}

// Connections that never say who they are do not keep out who does.
func TestSilentConnectionsLeaveRoom(t *testing.T) {
	b := start(t, broker.Options{MaxClients: 4})
	for range 100 {
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	connect(t, options(b, "one that speaks"))
}

// What was stored for a client that was away comes in the order in which it was published, before what comes later.
func TestBacklogInOrder(t *testing.T) {
	b := start(t, broker.Options{})
	c := as(t, b, "away", persistent)
	c.subscribe("a/#")
	c.leave()
	pub := connect(t, options(b, "pub"))
	const n = 400
	for i := range n {
		wait(t, pub.Publish("a/"+strconv.Itoa(i%7), 1, false, strconv.Itoa(i)))
	}
	for round := range 3 { // the first two leave without acknowledging
		c := as(t, b, "away", persistent)
		var got []string
		for len(got) < n {
			p, ok := c.receive().(*packets.PublishPacket)
			if !ok {
				continue
			}
			got = append(got, string(p.Payload))
			if p.Dup != (round > 0 && len(got) <= 100) {
				t.Errorf("round %d, %s: dup is %v", round, p.Payload, p.Dup)
			}
			if round < 2 && len(got) == 100 {
				break
			}
			if round == 2 {
				ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				ack.MessageID = p.MessageID
				c.send(ack)
			}
		}
		for i, text := range got {
			if text != strconv.Itoa(i) {
				t.Fatalf("round %d: message %d is %s", round, i, text)
			}
		}
		_ = c.Close()
	}
}

// What two publishers sent comes from each in its order, in turns, and what was of QoS 0 does not outlive the connection.
func TestPublishersTakeTurns(t *testing.T) {
	b := start(t, broker.Options{})
	c := as(t, b, "away", persistent)
	c.subscribe("a/#")
	c.leave()
	for _, m := range []string{"a1", "a2", "a3", "a4", "b1", "c1", "c2", "c3"} {
		wait(t, connect(t, options(b, m[:1])).Publish("a/x", 1, false, m))
	}
	for range 2 { // the first does not stay
		c = as(t, b, "away", persistent)
		var got []string
		for len(got) < 8 {
			if p, ok := c.receive().(*packets.PublishPacket); ok {
				got = append(got, string(p.Payload))
			}
		}
		if text := strings.Join(got, " "); text != "a1 b1 c1 a2 c2 a3 c3 a4" {
			t.Error(text)
		}
		_ = c.Close()
	}
}

// A client that floods another's queue leaves room in it for a third.
func TestFloodLeavesRoomInAQueue(t *testing.T) {
	b := start(t, broker.Options{MaxQueued: 40})
	c := as(t, b, "away", persistent)
	c.subscribe("a/#")
	c.leave()
	flood := connect(t, options(b, "flood"))
	for range 100 {
		wait(t, flood.Publish("a/flood", 1, false, "x"))
	}
	wait(t, connect(t, options(b, "polite")).Publish("a/polite", 1, false, "x"))
	c = as(t, b, "away", persistent)
	var topics []string
	for !slices.Contains(topics, "a/polite") {
		if p, ok := c.receive().(*packets.PublishPacket); ok {
			topics = append(topics, p.TopicName)
		}
	}
	if len(topics) > 40 {
		t.Errorf("%d messages were queued", len(topics))
	}
}

// Large messages of one client, of which the receiver acknowledges none, leave room for a small one of another.
func TestLargeMessagesLeaveRoom(t *testing.T) {
	b := start(t, broker.Options{MaxPacket: 64 << 10, MaxMemory: 4 << 20, MaxClientMemory: 1 << 20, MaxRate: 1 << 20})
	c := as(t, b, "slow", nil)
	c.subscribe("a/#")
	flood := connect(t, options(b, "flood"))
	for range 100 {
		wait(t, flood.Publish("a/flood", 1, false, bytes.Repeat([]byte("x"), 60<<10)))
	}
	wait(t, connect(t, options(b, "polite")).Publish("a/polite", 1, false, "x"))
	for polite := false; !polite; {
		p, ok := c.receive().(*packets.PublishPacket)
		if !ok {
			continue
		}
		polite = p.TopicName == "a/polite"
		ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
		ack.MessageID = p.MessageID
		c.send(ack)
	}
}

// Close ends within seconds whatever clients do, and says so to those who listen.
func TestCloseBesideNonReaders(t *testing.T) {
	b, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		as(t, b, "asleep"+strconv.Itoa(i), nil).subscribe("#")
	}
	pub := connect(t, options(b, "pub"))
	payload := strings.Repeat("x", 256<<10)
	for range 32 {
		wait(t, pub.Publish("a", 1, false, payload))
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Close() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}
