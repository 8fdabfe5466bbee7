package mqtt_test

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"edged/core/serve/door/mqtt/link"
)

// refusing is a proxy before a broker of MQTT 5. It turns as many of the broker's PUBACKs for events of requests as left says into "quota
// exceeded".
func refusing(t *testing.T, address string, left *atomic.Int32) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				_ = client.Close()
				return
			}
			var events sync.Map // packet identifiers
			go func() {
				defer server.Close()
				for in := bufio.NewReader(client); ; {
					p, at, err := rawPacket(in)
					if err != nil {
						return
					}
					if p[0]>>4 == 3 && p[0]&6 != 0 {
						topic := string(p[at+2:][:int(p[at])<<8|int(p[at+1])])
						id := p[at+2+len(topic):][:2]
						if strings.Contains(topic, "/response/") {
							events.Store([2]byte(id), true)
						}
					}
					if _, err := server.Write(p); err != nil {
						return
					}
				}
			}()
			go func() {
				defer client.Close()
				for in := bufio.NewReader(server); ; {
					p, at, err := rawPacket(in)
					if err != nil {
						return
					}
					if p[0]>>4 == 4 && len(p) == 4 {
						if _, event := events.LoadAndDelete([2]byte(p[at:])); event && left.Add(-1) >= 0 {
							p = []byte{p[0], 3, p[2], p[3], 0x97}
						}
					}
					if _, err := client.Write(p); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// rawPacket reads one packet of MQTT as it is, and tells where its head ends.
func rawPacket(in *bufio.Reader) (p []byte, at int, err error) {
	head, err := in.ReadByte()
	if err != nil {
		return nil, 0, err
	}
	p = []byte{head}
	n := 0
	for shift := 0; ; shift += 7 {
		x, err := in.ReadByte()
		if err != nil {
			return nil, 0, err
		}
		p = append(p, x)
		n |= int(x&0x7f) << shift
		if x < 0x80 {
			break
		}
	}
	at = len(p)
	p = append(p, make([]byte, n)...)
	_, err = io.ReadFull(in, p[at:])
	return p, at, err
}

// TestRefusedForNow: an answer for which the broker has no room at the moment is sent again until it has, and only then counts as published.
func TestRefusedForNow(t *testing.T) {
	s := startEmbedded(t)
	l := listen(t, s.address())
	var left atomic.Int32
	c := settings(refusing(t, s.address(), &left))
	c.Version = link.Version5
	f := &fake{}
	d := open(t, c, f, true)
	left.Store(3) // "accepted", the answer, and the first of them that comes again
	l.publish(t, "edged/pi/request/c", `{"id":"r1","prompt":"hello"}`)
	eventually(t, "the answer is acknowledged", func() bool { return slices.Contains(f.acknowledged(), "c/r1") })
	if left.Load() >= 0 {
		t.Errorf("nothing was refused any more: %d are left", left.Load())
	}
	if e := l.lastEvent(t, "edged/pi/response/c/r1"); e.Error != nil || e.Text == nil || *e.Text != "hello" {
		t.Errorf("%+v\n%s", e, d.log)
	}
}
