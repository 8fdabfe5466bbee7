package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"edged/core/config"
)

// pair returns a Conn and the broker's side of it.
func pair(t *testing.T, maxPayload int) (*Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return newConn(near, time.Minute, maxPayload), far
}

func publish(topic string, qos byte, id uint16, payload []byte) []byte {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID, p.Payload = topic, qos, id, payload
	var b bytes.Buffer
	_ = p.Write(&b)
	return b.Bytes()
}

// TestPassing: packets within the limit come through byte by byte as they were, whatever the sizes of the reads.
func TestPassing(t *testing.T) {
	c, far := pair(t, 1000)
	var sent bytes.Buffer
	for i, size := range []int{0, 1, 127, 128, 1000, 1000 + headerRoom - 10} {
		sent.Write(publish("t", byte(i%3), uint16(i+1), bytes.Repeat([]byte{byte(i)}, size)))
		sent.Write([]byte{0xd0, 0})
	}
	c.Expect(2)
	sent.Write([]byte{0x90, 4, 0, 1, 0, 1})
	go func() {
		_, _ = far.Write(sent.Bytes())
		_ = far.Close()
	}()
	var got bytes.Buffer
	buf := make([]byte, 7)
	for {
		n, err := c.Read(buf[:1+got.Len()%7])
		got.Write(buf[:n])
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
	}
	if !bytes.Equal(got.Bytes(), sent.Bytes()) {
		t.Errorf("%d bytes came through, %d were sent", got.Len(), sent.Len())
	}
}

// TestSwallowing: what is too large is read away, acknowledged by its QoS and reported; what is around it comes through.
func TestSwallowing(t *testing.T) {
	c, far := pair(t, 1000)
	var reports []Oversize
	c.OnOversize(func(o Oversize) { reports = append(reports, o) })
	before, after := publish("before", 0, 0, []byte("x")), publish("after", 1, 9, []byte("y"))
	long := strings.Repeat("t", 60000)
	go func() {
		_, _ = far.Write(before)
		_, _ = far.Write(publish("zero", 0, 0, make([]byte, 5097)))
		_, _ = far.Write(publish("one", 1, 0x0102, make([]byte, 3<<20)))
		_, _ = far.Write(publish("two", 2, 0x0304, make([]byte, 6000)))
		_, _ = far.Write(publish(long, 1, 0x0506, nil))
		_, _ = far.Write(after)
	}()
	got := make([]byte, len(before)+len(after))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if want := append(bytes.Clone(before), after...); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	want := []Oversize{{"zero", 5097}, {"one", 3 << 20}, {"two", 6000}, {long[:1024], 0}}
	if len(reports) != len(want) {
		t.Fatalf("%d reports: %v", len(reports), reports)
	}
	for i := range want {
		if reports[i] != want[i] {
			t.Errorf("report %d: %+v", i, reports[i])
		}
	}
	acks := make([]byte, 12)
	if _, err := io.ReadFull(far, acks); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(acks, []byte{0x40, 2, 1, 2, 0x50, 2, 3, 4, 0x40, 2, 5, 6}) {
		t.Errorf("acknowledgements %x", acks)
	}
}

// TestSwallowingKeepsPinging: the broker hears from us while a large message is on its way.
func TestSwallowingKeepsPinging(t *testing.T) {
	c, far := pair(t, 1000)
	c.keepAlive.Store(int64(20 * time.Millisecond))
	go func() {
		p := publish("slow", 0, 0, make([]byte, 4<<20))
		for len(p) > 0 {
			n := min(len(p), 1<<20)
			_, _ = far.Write(p[:n])
			p = p[n:]
			time.Sleep(30 * time.Millisecond)
		}
		_, _ = far.Write([]byte{0xd0, 0})
	}()
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	ping := make([]byte, 4)
	if _, err := io.ReadFull(far, ping); err != nil || !bytes.Equal(ping, []byte{0xc0, 0, 0xc0, 0}) {
		t.Errorf("%x, %v", ping, err)
	}
}

func TestRefusedPackets(t *testing.T) {
	for name, test := range map[string]struct {
		bytes []byte
		want  string
	}{
		"length of five bytes": {[]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}, "the broker sent a packet whose length has more than four bytes"},
		"large CONNACK":        {[]byte{0x20, 0x80, 0x80, 0x10}, "the broker sent a packet of type 2 with 262144 bytes"},
		"many codes":           {[]byte{0x90, 5, 0, 1, 0, 0, 0}, "the broker acknowledged 3 subscriptions, 2 were asked for"},
		"long topic":           {[]byte{0x32, 0xff, 0xff, 0x03, 0xff, 0xff}, "the broker sent a message whose topic is longer than its packet"},
		"cut off":              {[]byte{0x32, 0xff, 0xff, 0x7f, 0, 1, 'a', 0}, "unexpected EOF"},
		"cut off header":       {[]byte{0x32}, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			c, far := pair(t, 1000)
			c.Expect(2)
			_, _ = far.Write(test.bytes)
			_ = far.Close()
			_, err := io.Copy(io.Discard, c)
			if err == nil || strings.TrimPrefix(err.Error(), "mqtt: ") != test.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestDeadlines: neither a silent broker nor one that does not read holds a caller for ever.
func TestDeadlines(t *testing.T) {
	c, _ := pair(t, 1000)
	if err := c.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var ne net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("reading: %v", err)
	}
	_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
	var err error
	for err == nil && time.Since(begin) < 10*time.Second {
		_, err = c.Write(make([]byte, 1<<20))
	}
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("writing: %v", err)
	}
}

// FuzzConn: any bytes from a broker are passed on within the limit, swallowed or refused.
func FuzzConn(f *testing.F) {
	f.Add(publish("t", 1, 1, []byte("x")))
	f.Add(publish("t", 2, 1, make([]byte, 6000)))
	f.Add([]byte{0x90, 5, 0, 1, 0, 0, 0, 0x20, 2, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		near, far := net.Pipe()
		c := newConn(near, time.Minute, 1000)
		c.Expect(1)
		go func() { _, _ = io.Copy(io.Discard, far) }()
		go func() {
			_, _ = far.Write(data)
			_ = far.Close()
		}()
		for {
			p, err := packets.ReadPacket(c)
			if err != nil {
				break
			}
			if pub, ok := p.(*packets.PublishPacket); ok && len(pub.Payload) > 1000+headerRoom {
				t.Errorf("%d bytes of payload came through", len(pub.Payload))
			}
		}
		_ = near.SetDeadline(time.Time{}) // a pipe's timers would keep it for as long as they run
		_ = near.Close()
	})
}

func TestFrom(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:1883": "tcp://127.0.0.1:1883", "0.0.0.0:1883": "tcp://127.0.0.1:1883", ":1883": "tcp://127.0.0.1:1883",
		"[::]:1883": "tcp://[::1]:1883", "192.168.1.4:1": "tcp://192.168.1.4:1",
	} {
		if got := From(&config.MQTT{Broker: "embedded"}, listen).URL; got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
	if got := From(&config.MQTT{Broker: "tls://h"}, "").URL; got != "tls://h" {
		t.Errorf("got %s", got)
	}
}
