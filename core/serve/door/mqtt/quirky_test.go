package mqtt_test

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// quirks are what real brokers were seen to do, each by itself.
type quirks struct {
	noFlag    bool // what was retained is delivered without the retain flag (Moquette 0.17)
	maxPacket int  // a larger PUBLISH closes its sender's connection; 0: any size
}

// quirky is a broker of MQTT 3.1.1 with quirks, as small as the tests allow: QoS 1 without redelivery, no wills, and
// $share is granted and taken for the name of a topic (Moquette 0.17, amqtt 0.12, aedes 1.2).
type quirky struct {
	quirks

	listener net.Listener
	mu       sync.Mutex
	clients  map[string]*quirkyClient
	retained map[string][]byte
	closed   int // connections, over a packet's size
	served   sync.WaitGroup
}

type quirkyClient struct {
	conn    net.Conn // nil: it is away
	clean   bool
	filters []string
	next    uint16
}

func startQuirky(t *testing.T, q quirks) *quirky {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &quirky{quirks: q, listener: ln, clients: map[string]*quirkyClient{}, retained: map[string][]byte{}}
	b.served.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b.served.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		b.mu.Lock()
		for _, c := range b.clients {
			if c.conn != nil {
				_ = c.conn.Close()
			}
		}
		b.mu.Unlock()
		b.served.Wait()
	})
	return b
}

func (b *quirky) address() string { return b.listener.Addr().String() }

// closings is how many connections were closed over a packet's size.
func (b *quirky) closings() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// serve answers one connection.
func (b *quirky) serve(conn net.Conn) {
	defer conn.Close()
	var c *quirkyClient
	for {
		packet, err := packets.ReadPacket(conn)
		if err != nil {
			break
		}
		b.mu.Lock()
		switch p := packet.(type) {
		case *packets.ConnectPacket:
			c = b.clients[p.ClientIdentifier]
			if c != nil && c.conn != nil {
				_ = c.conn.Close()
			}
			if c == nil || p.CleanSession || c.clean {
				c = &quirkyClient{clean: p.CleanSession}
			}
			c.conn = conn
			b.clients[p.ClientIdentifier] = c
			_ = packets.NewControlPacket(packets.Connack).Write(conn)
		case *packets.SubscribePacket:
			b.subscribe(c, p)
		case *packets.UnsubscribePacket:
			c.filters = slices.DeleteFunc(c.filters, func(f string) bool { return slices.Contains(p.Topics, f) })
			ack := packets.NewControlPacket(packets.Unsuback).(*packets.UnsubackPacket)
			ack.MessageID = p.MessageID
			_ = ack.Write(conn)
		case *packets.PublishPacket:
			var whole bytes.Buffer
			_ = p.Write(&whole)
			if b.maxPacket > 0 && whole.Len() > b.maxPacket {
				b.closed++
				_ = conn.Close()
				break
			}
			if p.Qos > 0 {
				ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				ack.MessageID = p.MessageID
				_ = ack.Write(conn)
			}
			b.publish(p)
		case *packets.PingreqPacket:
			_ = packets.NewControlPacket(packets.Pingresp).Write(conn)
		}
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c != nil && c.conn == conn {
		c.conn = nil
		if c.clean {
			c.filters = nil
		}
	}
}

func (b *quirky) subscribe(c *quirkyClient, p *packets.SubscribePacket) {
	ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	ack.MessageID = p.MessageID
	for _, f := range p.Topics {
		ack.ReturnCodes = append(ack.ReturnCodes, 1)
		c.filters = slices.DeleteFunc(c.filters, func(have string) bool { return have == f })
		c.filters = append(c.filters, f)
	}
	_ = ack.Write(c.conn)
	for _, f := range p.Topics {
		for topic, payload := range b.retained {
			if filterMatches(f, topic) {
				c.deliver(topic, payload, !b.noFlag)
			}
		}
	}
}

func (b *quirky) publish(p *packets.PublishPacket) {
	if p.Retain {
		b.retained[p.TopicName] = p.Payload
		if len(p.Payload) == 0 {
			delete(b.retained, p.TopicName)
		}
	}
	for _, c := range b.clients {
		if c.conn != nil && slices.ContainsFunc(c.filters, func(f string) bool { return filterMatches(f, p.TopicName) }) {
			c.deliver(p.TopicName, p.Payload, false)
		}
	}
}

func (c *quirkyClient) deliver(topic string, payload []byte, retain bool) {
	c.next = max(c.next+1, 1)
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload, p.Retain, p.Qos, p.MessageID = topic, payload, retain, 1, c.next
	_ = p.Write(c.conn)
}

func filterMatches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i >= len(t) {
			return false
		}
		if level != "+" && level != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}
