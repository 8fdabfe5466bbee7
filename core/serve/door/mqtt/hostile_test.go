package mqtt_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"edged/core/serve/door/mqtt"
)

// scripted is a broker that behaves as a test says.
type scripted struct {
	ln     net.Listener
	handle func(conn net.Conn, p packets.ControlPacket) bool // false: close
	mu     sync.Mutex
	conns  int
}

func newScripted(t *testing.T, handle func(net.Conn, packets.ControlPacket) bool) *scripted {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{ln: ln, handle: handle}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns++
			s.mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				for {
					_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
					p, err := packets.ReadPacket(conn)
					if err != nil || !s.handle(conn, p) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return s
}

func (s *scripted) address() string { return s.ln.Addr().String() }

func (s *scripted) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// friendly answers as a broker should; code is what its SUBACKs hold.
func friendly(conn net.Conn, p packets.ControlPacket, code byte) bool {
	return granting(conn, p, func(string) byte { return code })
}

// granting answers as friendly does, and each filter by itself.
func granting(conn net.Conn, p packets.ControlPacket, code func(filter string) byte) bool {
	var out packets.ControlPacket
	switch p := p.(type) {
	case *packets.ConnectPacket:
		out = packets.NewControlPacket(packets.Connack)
	case *packets.SubscribePacket:
		ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		ack.MessageID = p.MessageID
		for _, filter := range p.Topics {
			ack.ReturnCodes = append(ack.ReturnCodes, code(filter))
		}
		out = ack
	case *packets.UnsubscribePacket:
		ack := packets.NewControlPacket(packets.Unsuback).(*packets.UnsubackPacket)
		ack.MessageID = p.MessageID
		out = ack
	case *packets.PublishPacket:
		if p.Qos == 0 {
			return true
		}
		ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
		ack.MessageID = p.MessageID
		out = ack
	case *packets.PingreqPacket:
		out = packets.NewControlPacket(packets.Pingresp)
	default:
		return false
	}
	return out.Write(conn) == nil
}

// TestSubscriptionRefused: online is never said, and the reason is.
func TestSubscriptionRefused(t *testing.T) {
	var mu sync.Mutex
	var said []string
	s := newScripted(t, func(c net.Conn, p packets.ControlPacket) bool {
		if pub, ok := p.(*packets.PublishPacket); ok {
			mu.Lock()
			said = append(said, string(pub.Payload))
			mu.Unlock()
		}
		return friendly(c, p, 0x80)
	})
	c := settings(s.address())
	probe(t, c, `refuses, without a user name, the subscriptions to edged/pi/ask/#, edged/pi/cancel/#, edged/pi/embed/#, edged/pi/request/#, edged/pi/rerank/#, edged/pi/score/#: its access list must let this client read them (docs/mqtt.md lists the topics that edged needs)`)
	d := open(t, c, &fake{}, false)
	eventually(t, "the reason is logged", func() bool {
		return strings.Contains(d.log.String(), "refuses, without a user name, the subscriptions to edged/pi/ask/#")
	})
	if d.Online() {
		t.Error("online")
	}
	d.stop()
	mu.Lock()
	defer mu.Unlock()
	for _, word := range said {
		if word != "offline" {
			t.Errorf("said %q", word)
		}
	}
}

// TestEarlierAccessList: an access list from before there was rerank keeps nothing else from working.
func TestEarlierAccessList(t *testing.T) {
	s := newScripted(t, func(c net.Conn, p packets.ControlPacket) bool {
		return granting(c, p, func(filter string) byte {
			if filter == "edged/pi/rerank/#" {
				return 0x80
			}
			return 1
		})
	})
	d := open(t, settings(s.address()), &fake{}, false)
	eventually(t, "the node is online", d.Online)
	if !strings.Contains(d.log.String(), "documents cannot be ranked over this broker") {
		t.Errorf("the log does not say it: %s", d.log.String())
	}
	d.stop()
}

// TestHostileBroker: whatever a broker sends, the door begins anew and nothing falls.
func TestHostileBroker(t *testing.T) {
	tests := map[string]func(conn net.Conn, p packets.ControlPacket) bool{
		"SUBACK with more codes than filters": func(c net.Conn, p packets.ControlPacket) bool {
			if sub, ok := p.(*packets.SubscribePacket); ok {
				_, err := c.Write(append([]byte{0x90, 102, byte(sub.MessageID >> 8), byte(sub.MessageID)}, make([]byte, 100)...))
				return err == nil
			}
			return friendly(c, p, 0)
		},
		"SUBACK with fewer codes": func(c net.Conn, p packets.ControlPacket) bool {
			if sub, ok := p.(*packets.SubscribePacket); ok {
				_, err := c.Write([]byte{0x90, 2, byte(sub.MessageID >> 8), byte(sub.MessageID)})
				return err == nil
			}
			return friendly(c, p, 0)
		},
		"a huge CONNACK": func(c net.Conn, _ packets.ControlPacket) bool {
			_, err := c.Write([]byte{0x20, 0xff, 0xff, 0xff, 0x7f})
			return err == nil
		},
		"an endless length": func(c net.Conn, _ packets.ControlPacket) bool {
			_, err := c.Write([]byte{0x20, 0xff, 0xff, 0xff, 0xff, 0xff})
			return err == nil
		},
		"a topic longer than its packet": func(c net.Conn, p packets.ControlPacket) bool {
			if _, ok := p.(*packets.SubscribePacket); ok {
				_, err := c.Write([]byte{0x30, 4, 0xff, 0xff, 'a', 'b'})
				return err == nil
			}
			return friendly(c, p, 0)
		},
		"a huge message with a topic longer than its packet": func(c net.Conn, p packets.ControlPacket) bool {
			if _, ok := p.(*packets.SubscribePacket); ok {
				_, err := c.Write([]byte{0x32, 0x80, 0x80, 0x80, 0x01, 0xff, 0xff})
				return err == nil
			}
			return friendly(c, p, 0)
		},
		"an unknown packet": func(c net.Conn, p packets.ControlPacket) bool {
			_, err := c.Write([]byte{0xf0, 0})
			return err == nil
		},
		"an empty SUBACK": func(c net.Conn, p packets.ControlPacket) bool {
			if _, ok := p.(*packets.SubscribePacket); ok {
				_, err := c.Write([]byte{0x90, 0})
				return err == nil
			}
			return friendly(c, p, 0)
		},
		"acknowledgements that nobody asked for": func(c net.Conn, p packets.ControlPacket) bool {
			_, err := c.Write([]byte{0x20, 2, 0, 0, 0x40, 2, 0, 9, 0x50, 2, 0, 9, 0x62, 2, 0, 9, 0x70, 2, 0, 9, 0xb0, 2, 0, 9, 0xd0, 0})
			return err == nil
		},
		"a closed door": func(net.Conn, packets.ControlPacket) bool { return false },
	}
	for name, handle := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, handle)
			d := open(t, settings(s.address()), &fake{}, false)
			deadline := time.Now().Add(5 * time.Second)
			for s.count() < 2 && time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
			}
			d.stop()
		})
	}
}

// TestEndWhileComingOnline: who is told to end before the broker has acknowledged "online" says "offline" all the same, since
// others may have read it already.
func TestEndWhileComingOnline(t *testing.T) {
	t.Parallel()
	said := make(chan string, 8)
	s := newScripted(t, func(c net.Conn, p packets.ControlPacket) bool {
		if p, ok := p.(*packets.PublishPacket); ok && strings.HasSuffix(p.TopicName, "/availability") {
			said <- string(p.Payload)
			if string(p.Payload) == "online" {
				return true // it is acknowledged never
			}
		}
		return friendly(c, p, 0)
	})
	d := open(t, settings(s.address()), &fake{}, false)
	for _, want := range []string{"online", "offline"} {
		select {
		case got := <-said:
			if got != want {
				t.Fatalf("it said %s, want %s", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("it never said %s", want)
		}
		d.stop()
	}
}

// TestSilentBroker: one that accepts and never answers holds up neither the reconnecting nor the end.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	t.Cleanup(func() { _ = ln.Close() })
	d := open(t, settings(ln.Addr().String()), &fake{}, false)
	time.Sleep(300 * time.Millisecond)
	begin := time.Now()
	d.stop()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the end took %v", took)
	}
	if testing.Short() {
		t.Skip("waits 10 s for CONNACK")
	}
	c := settings(ln.Addr().String())
	probe(t, c, "it does not answer in time")
}

// TestSilenceIsNoticed: a broker that answers no more, and closes nothing, is left.
func TestSilenceIsNoticed(t *testing.T) {
	t.Parallel()
	s := newScripted(t, func(c net.Conn, p packets.ControlPacket) bool {
		if _, ok := p.(*packets.PingreqPacket); ok {
			return true
		}
		return friendly(c, p, 0)
	})
	c := settings(s.address())
	c.KeepAlive = time.Second
	d := open(t, c, &fake{}, true)
	begin := time.Now()
	eventually(t, "it notices", func() bool { return !d.Online() })
	if took := time.Since(begin); took < 5*time.Second || took > 9*time.Second {
		t.Errorf("noticed after %v, want 6.5 s", took)
	}
}

// TestStateBeforeRun: a set before Run is there as soon as the node is online.
func TestStateBeforeRun(t *testing.T) {
	s := startEmbedded(t)
	l := listen(t, s.address())
	d := mqtt.New(mqtt.Options{Node: "pi", Config: settings(s.address()), Dispatcher: &fake{}})
	d.SetStatus(mqtt.Status{State: mqtt.StateStarting})
	d.SetStatus(mqtt.Status{State: mqtt.StateReady})
	done := make(chan error)
	go func() { done <- d.Run(t.Context()) }()
	l.until(t, "edged/pi/status", 1, 10*time.Second)
	if got := l.on("edged/pi/status")[0].payload; !strings.Contains(got, `"ready"`) {
		t.Errorf("got %s", got)
	}
	t.Cleanup(func() { <-done })
}

// TestReconnectsLeaveNothing: goroutines and files stay as many over a series of lost connections.
func TestReconnectsLeaveNothing(t *testing.T) {
	s := startEmbedded(t)
	p := newProxy(t, s.address())
	d := open(t, settings(p.address()), &fake{}, true)
	files := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		return len(names)
	}
	cycle := func() {
		p.cut()
		eventually(t, "the loss is noticed", func() bool { return !d.Online() })
		eventually(t, "online again", d.Online)
	}
	cycle()
	time.Sleep(500 * time.Millisecond)
	goroutines, open := runtime.NumGoroutine(), files()
	for range 6 {
		cycle()
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > goroutines+2 || files() > open+1 {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before; %d files, %d before:\n%s", runtime.NumGoroutine(), goroutines, files(), open, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(50 * time.Millisecond)
	}
}
