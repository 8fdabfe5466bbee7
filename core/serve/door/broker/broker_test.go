package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"edged/core/serve/door/broker"
)

// logBuffer is a logger's output that several goroutines write to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, o broker.Options) *broker.Broker {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b, err := broker.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func options(b *broker.Broker, id string) *paho.ClientOptions {
	return paho.NewClientOptions().AddBroker("tcp://" + b.Addr()).SetClientID(id).SetAutoReconnect(false).
		SetConnectTimeout(5 * time.Second)
}

func connect(t *testing.T, o *paho.ClientOptions) paho.Client {
	t.Helper()
	c := paho.NewClient(o)
	wait(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(50) })
	return c
}

func wait(t *testing.T, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(10 * time.Second) {
		t.Fatal("the broker did not answer in 10 s")
	}
	if token.Error() != nil {
		t.Fatal(token.Error())
	}
}

func TestPublishSubscribe(t *testing.T) {
	b := start(t, broker.Options{})
	got := make(chan string, 4)
	sub := connect(t, options(b, "sub"))
	wait(t, sub.Subscribe("a/+", 1, func(_ paho.Client, m paho.Message) { got <- m.Topic() + "=" + string(m.Payload()) }))
	pub := connect(t, options(b, "pub"))
	wait(t, pub.Publish("a/b", 1, false, "hello"))
	select {
	case m := <-got:
		if m != "a/b=hello" {
			t.Errorf("got %s", m)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
	}
}

// raw is a client that sends what a test says and acknowledges nothing.
type raw struct {
	t *testing.T
	net.Conn
}

func dial(t *testing.T, b *broker.Broker, id string) raw {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	c := raw{t, conn}
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.ClientIdentifier, hello.Keepalive = "MQTT", 4, id, 60
	c.send(hello)
	if ack, ok := c.receive().(*packets.ConnackPacket); !ok || ack.ReturnCode != packets.Accepted {
		t.Fatal("not accepted:", ack)
	}
	return c
}

func (c raw) send(p packets.ControlPacket) {
	c.t.Helper()
	if err := p.Write(c); err != nil {
		c.t.Fatal(err)
	}
}

func (c raw) receive() packets.ControlPacket {
	c.t.Helper()
	p, err := packets.ReadPacket(c)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// A client may use an identifier that the broker uses for a message to it: neither disturbs the other.
func TestIdentifiersOfBothSides(t *testing.T) {
	b := start(t, broker.Options{})
	c := dial(t, b, "raw")
	subscribe := func(filter string) {
		t.Helper()
		p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
		p.MessageID, p.Topics, p.Qoss = 1, []string{filter}, []byte{1}
		c.send(p)
		ack, ok := c.receive().(*packets.SubackPacket)
		if !ok || ack.MessageID != 1 || !bytes.Equal(ack.ReturnCodes, []byte{1}) {
			t.Fatal("subscribing:", ack)
		}
	}
	subscribe("a")
	wait(t, connect(t, options(b, "pub")).Publish("a", 1, false, "unanswered"))
	first, ok := c.receive().(*packets.PublishPacket)
	if !ok || first.MessageID != 1 {
		t.Fatal("not what the test is about:", first)
	}

	subscribe("b")
	publish := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	publish.MessageID, publish.Qos, publish.TopicName = 1, 1, "x"
	c.send(publish)
	if ack, ok := c.receive().(*packets.PubackPacket); !ok || ack.MessageID != 1 {
		t.Fatal("QoS 1:", ack)
	}
	publish.Qos = 2
	for range 2 { // again, as after a lost acknowledgement
		c.send(publish)
		if ack, ok := c.receive().(*packets.PubrecPacket); !ok || ack.MessageID != 1 {
			t.Fatal("QoS 2:", ack)
		}
		publish.Dup = true
	}
	release := packets.NewControlPacket(packets.Pubrel).(*packets.PubrelPacket)
	release.MessageID = 1
	c.send(release)
	if ack, ok := c.receive().(*packets.PubcompPacket); !ok || ack.MessageID != 1 {
		t.Fatal("QoS 2:", ack)
	}
	unsubscribe := packets.NewControlPacket(packets.Unsubscribe).(*packets.UnsubscribePacket)
	unsubscribe.MessageID, unsubscribe.Topics = 1, []string{"b"}
	c.send(unsubscribe)
	if ack, ok := c.receive().(*packets.UnsubackPacket); !ok || ack.MessageID != 1 {
		t.Fatal("unsubscribing:", ack)
	}

	// What was not acknowledged is still owed.
	_ = c.Close()
	got := dial(t, b, "raw").receive()
	if again, ok := got.(*packets.PublishPacket); !ok || again.MessageID != 1 || !again.Dup || string(again.Payload) != "unanswered" {
		t.Error("after a reconnect:", got)
	}
}

func TestOnlyLoopbackWithoutCredentials(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		_, err := broker.Start(t.Context(), broker.Options{Listen: listen, Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, broker.ErrOpen) {
			t.Errorf("%s: %v", listen, err)
		}
	}
	start(t, broker.Options{Listen: "0.0.0.0:0", Username: "u", Password: []byte("p")})
	if _, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", Username: "u", Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a user name without a password was accepted")
	}
}

func TestCredentials(t *testing.T) {
	b := start(t, broker.Options{Username: "me", Password: []byte("secret")})
	connect(t, options(b, "good").SetUsername("me").SetPassword("secret"))
	for _, cred := range [][2]string{{"me", "wrong"}, {"you", "secret"}, {"", ""}, {"me", ""}} {
		o := options(b, "bad")
		if cred[0] != "" {
			o.SetUsername(cred[0]).SetPassword(cred[1])
		}
		token := paho.NewClient(o).Connect()
		if !token.WaitTimeout(10*time.Second) || token.Error() == nil {
			t.Errorf("%v was let in", cred)
		}
	}
}

func TestAddressTaken(t *testing.T) {
	b := start(t, broker.Options{})
	_, err := broker.Start(t.Context(), broker.Options{Listen: b.Addr(), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "cannot listen on "+b.Addr()) {
		t.Errorf("got %v", err)
	}
}

func TestOversizePacketEndsTheConnection(t *testing.T) {
	var log logBuffer
	b := start(t, broker.Options{MaxPacket: 1 << 10, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	lost := make(chan struct{})
	c := connect(t, options(b, "big").SetConnectionLostHandler(func(paho.Client, error) { close(lost) }))
	c.Publish("a", 0, false, strings.Repeat("secret", 100_000))
	select {
	case <-lost:
	case <-time.After(10 * time.Second):
		t.Fatal("the connection lived on")
	}
	if strings.Contains(log.String(), "secretsecret") {
		t.Error("the log holds the payload")
	}
}

func TestRetainedLimit(t *testing.T) {
	b := start(t, broker.Options{MaxRetained: 40}) // one client may have a quarter
	c := connect(t, options(b, "pub"))
	for i := range 100 {
		wait(t, c.Publish(fmt.Sprintf("t/%d", i), 1, true, "x"))
	}
	var mu sync.Mutex
	n := 0
	wait(t, c.Subscribe("t/#", 0, func(paho.Client, paho.Message) { mu.Lock(); n++; mu.Unlock() }))
	// A marker behind the retained ones.
	end := make(chan struct{})
	wait(t, c.Subscribe("end", 0, func(paho.Client, paho.Message) { close(end) }))
	wait(t, c.Publish("end", 0, false, "x"))
	<-end
	mu.Lock()
	defer mu.Unlock()
	if n == 0 || n > 40 {
		t.Errorf("%d retained messages", n)
	}
}

func TestClientLimit(t *testing.T) {
	b := start(t, broker.Options{MaxClients: 2})
	connect(t, options(b, "1"))
	connect(t, options(b, "2"))
	token := paho.NewClient(options(b, "3")).Connect()
	if !token.WaitTimeout(10*time.Second) || token.Error() == nil {
		t.Error("a third client was let in")
	}
}

// TestGarbage: bytes that are no MQTT end their connection and nothing else.
func TestGarbage(t *testing.T) {
	b := start(t, broker.Options{MaxPacket: 1 << 10})
	for _, raw := range []string{
		"GET / HTTP/1.1\r\n\r\n", "\x10\xff\xff\xff\xff\x7f", "\x10\x02\x00", "\x10\x00", "\x00", "\x30\x03\x00\x01a",
		"\x10\xff\xff\xff\x7f", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\x30\x01", "\x10\x0c\x00\x04MQTT\x04\xfe\x00\x3c\xff\xff",
	} {
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(raw))
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		var ne net.Error
		if _, err := io.Copy(io.Discard, conn); errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("%q: the connection stayed open", raw)
		}
		_ = conn.Close()
	}
	connect(t, options(b, "after"))
}

func TestCloseEndsGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	b, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	clients := make([]paho.Client, 5)
	for i := range clients {
		clients[i] = paho.NewClient(options(b, strconv.Itoa(i)))
		wait(t, clients[i].Connect())
	}
	silent, err := net.Dial("tcp", b.Addr()) // no CONNECT comes from it
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	begin := time.Now()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("closing took %v", took)
	}
	for _, c := range clients {
		c.Disconnect(10)
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before+1 {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}
