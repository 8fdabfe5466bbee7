package link

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// scripted is a broker that does what a test says with each connection, after it has read the CONNECT.
type scripted struct {
	ln     net.Listener
	mu     sync.Mutex
	levels []byte // the protocol level of each CONNECT
	served sync.WaitGroup
}

func startScripted(t *testing.T, serve func(level byte, in *bufio.Reader, out net.Conn)) (*scripted, Settings) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &scripted{ln: ln}
	b.served.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b.served.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				_, packet := readPacket(in)
				if len(packet) < 7 {
					return
				}
				b.mu.Lock()
				b.levels = append(b.levels, packet[6])
				b.mu.Unlock()
				serve(packet[6], in, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		b.served.Wait()
	})
	return b, Settings{URL: "tcp://" + ln.Addr().String(), KeepAlive: 5 * time.Second, old: &memory{}}
}

func (b *scripted) seen() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.levels)
}

// readPacket reads a packet of less than 128 bytes, as all of these tests are.
func readPacket(in *bufio.Reader) (first byte, body []byte) {
	first, err := in.ReadByte()
	if err != nil {
		return 0, nil
	}
	n, _ := in.ReadByte()
	body = make([]byte, n)
	if _, err := io.ReadFull(in, body); err != nil {
		return 0, nil
	}
	return first, body
}

// hold keeps a connection until its client ends it.
func hold(in *bufio.Reader) {
	for {
		if first, _ := readPacket(in); first == 0 {
			return
		}
	}
}

func dialling() Dialling {
	return Dialling{ID: "test", Clean: true, OnMessage: func(m *Received) { m.Ack() }}
}

// TestFallBack: the ways in which real brokers show that they do not speak MQTT 5 lead to 3.1.1, once for each connection at most, and
// what is wrong in either version does not.
func TestFallBack(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer string // to a CONNECT of MQTT 5; "": the line is closed
		set    string // mqtt.version
		levels string // of the CONNECTs of two Dials
		want   string // in the error; "": connected
	}{
		{"3.1.1's CONNACK, code 1 (Moquette, amqtt, aedes)", "\x20\x02\x00\x01", VersionAuto, "\x05\x04\x04", ""},
		{"CONNACK 0x84", "\x20\x03\x00\x84\x00", VersionAuto, "\x05\x04\x04", ""},
		{"closed line", "", VersionAuto, "\x05\x04\x05\x04", ""},
		{"wrong password", "\x20\x03\x00\x86\x00", VersionAuto, "\x05\x05", "it wants a user name and a password"},
		{"with a sentence", "\x20\x09\x00\x8a\x06\x1f\x00\x03bad", VersionAuto, "\x05\x05", "(it says: bad)"},
		{"5 and nothing else", "\x20\x02\x00\x01", Version5, "\x05\x05", "it does not speak MQTT 5: set mqtt.version"},
		{"3.1.1 at once", "\x20\x02\x00\x01", Version311, "\x04\x04", ""},
		{"5", "\x20\x03\x00\x00\x00", VersionAuto, "\x05\x05", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, s := startScripted(t, func(level byte, in *bufio.Reader, out net.Conn) {
				answer := test.answer
				if level == 4 {
					answer = "\x20\x02\x00\x00"
				}
				if _, err := io.WriteString(out, answer); err == nil && answer != "" {
					hold(in)
				}
			})
			s.Version = test.set
			for range 2 {
				c, err := s.Dial(t.Context(), dialling())
				if err == nil {
					c.Close()
				}
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Fatalf("got %v, want %q", err, test.want)
				}
			}
			if got := b.seen(); got != test.levels {
				t.Errorf("levels %q, want %q", got, test.levels)
			}
		})
	}
}

// TestTerms: what a CONNACK says is kept to: no packet beyond the maximum goes out, and no more than the receive maximum are unacknowledged.
func TestTerms(t *testing.T) {
	got := make(chan byte, 16)
	release := make(chan struct{})
	_, s := startScripted(t, func(_ byte, in *bufio.Reader, out net.Conn) {
		// Receive maximum 2, maximum packet size 64.
		_, _ = io.WriteString(out, "\x20\x0b\x00\x00\x08\x21\x00\x02\x27\x00\x00\x00\x40")
		var ids []byte
		for {
			first, body := readPacket(in)
			if first == 0 {
				return
			}
			if first>>4 != typePublish {
				continue
			}
			id := body[2+int(body[1])+1]
			got <- id
			ids = append(ids, id)
			switch {
			case len(ids) < 2:
				continue
			case len(ids) == 2:
				<-release
				_, _ = out.Write([]byte{0x40, 2, 0, ids[0], 0x40, 2, 0, id})
			default:
				_, _ = out.Write([]byte{0x40, 2, 0, id})
			}
		}
	})
	c, err := s.Dial(t.Context(), dialling())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if m := c.Terms(); m.ReceiveMaximum != 2 || m.PacketMaximum != 64 {
		t.Fatalf("terms %+v", m)
	}
	if err := wait(t.Context(), c.Publish(Message{Topic: "t", QoS: 1, Payload: make([]byte, 64)})); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a packet that is too large: %v", err)
	}
	a, b := c.Publish(Message{Topic: "t", QoS: 1}), c.Publish(Message{Topic: "t", QoS: 1})
	<-got
	<-got
	third := make(chan Token)
	go func() { third <- c.Publish(Message{Topic: "t", QoS: 1}) }()
	select {
	case <-third:
		t.Fatal("a third message went out with two unacknowledged")
	case <-a.Done():
		t.Fatal("acknowledged by nobody")
	default:
	}
	close(release)
	for _, token := range []Token{a, b, <-third} {
		if err := wait(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
}

// TestNothingOutlives: what was sent and not acknowledged when a connection ends is told so, and the broker's reasons arrive.
func TestNothingOutlives(t *testing.T) {
	_, s := startScripted(t, func(_ byte, in *bufio.Reader, out net.Conn) {
		_, _ = io.WriteString(out, "\x20\x03\x00\x00\x00")
		readPacket(in)
		_, _ = io.WriteString(out, "\x40\x04\x00\x01\x87\x00") // PUBACK of the first: not authorized
		readPacket(in)
		_, _ = io.WriteString(out, "\xe0\x02\x8e\x00") // taken over
	})
	lost := make(chan error, 1)
	d := dialling()
	d.OnLost = func(err error) { lost <- err }
	c, err := s.Dial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var reason *ReasonError
	if err := wait(t.Context(), c.Publish(Message{Topic: "t", QoS: 1})); !errors.As(err, &reason) || reason.Code != ReasonUnauthorized {
		t.Errorf("the refused message: %v", err)
	}
	if err := wait(t.Context(), c.Publish(Message{Topic: "t", QoS: 1})); err == nil {
		t.Error("a message that nobody acknowledged counts as acknowledged")
	}
	select {
	case err := <-lost:
		if !errors.As(err, &reason) || reason.Code != ReasonTakenOver {
			t.Errorf("the end: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the end was not told")
	}
}

// TestMalformed: packets of MQTT 5 that the library would panic over, or take for ever to read, end the connection.
func TestMalformed(t *testing.T) {
	for name, packet := range map[string]string{
		"negative length where an int has 32 bits": "\x30\x0a\x00\x01t\xff\xff\xff\xff\x7fxx",
		"properties beyond the packet":             "\x30\x06\x00\x01t\x7fxx",
		"no topic":                                 "\x30\x00",
		"SUBACK":                                   "\x90\x08\x00\x01\xff\xff\xff\xff\x7f\x00",
		"DISCONNECT":                               "\xe0\x06\x00\xff\xff\xff\xff\x7f",
		"an AUTH that nobody asked for":            "\xf0\x02\x18\x00",
	} {
		t.Run(name, func(t *testing.T) {
			_, s := startScripted(t, func(_ byte, _ *bufio.Reader, out net.Conn) {
				_, _ = io.WriteString(out, "\x20\x03\x00\x00\x00"+packet)
			})
			lost := make(chan error, 1)
			d := dialling()
			d.OnLost = func(err error) { lost <- err }
			c, err := s.Dial(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
			defer stop()
			select {
			case <-lost:
			case <-ctx.Done():
				t.Error("the connection goes on")
			}
		})
	}
}

// TestAckOrder: acknowledgements go out in the order of the messages, whatever the order in which they are given; out of turn where it is
// asked for, and never twice.
func TestAckOrder(t *testing.T) {
	var a acks
	var sent []int
	add := func(n int) *pendingAck { return a.add(func() { sent = append(sent, n) }) }
	one, two, three, four := add(1), add(2), add(3), add(4)
	a.give(two)
	a.give(four)
	if len(sent) != 0 {
		t.Errorf("sent %v before the first", sent)
	}
	a.jump(three)
	a.give(one)
	a.give(one)
	a.jump(two)
	if want := []int{3, 1, 2, 4}; len(sent) != 4 || sent[0] != want[0] || sent[1] != want[1] || sent[2] != want[2] || sent[3] != want[3] {
		t.Errorf("sent %v, want %v", sent, want)
	}
	five := add(5)
	a.end()
	a.give(five)
	if len(sent) != 4 {
		t.Errorf("sent %v after the end", sent)
	}
}
