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
	turns     bool // an UNSUBSCRIBE makes ordinary subscriptions of the client's shared ones (rumqttd 0.20)
	byName    bool // a share is known by its name alone, whatever its members' filters are (rumqttd 0.20)
	literal   bool // $share is granted and taken for the name of a topic (Moquette 0.17, amqtt 0.12, aedes 1.2)
	noFlag    bool // what was retained is delivered without the retain flag (Moquette 0.17)
	maxPacket int  // a larger PUBLISH closes its sender's connection; 0: any size
}

// quirky is a broker of MQTT 3.1.1 with quirks, as small as the tests allow: QoS 1 without redelivery, and no wills.
type quirky struct {
	quirks

	listener net.Listener
	mu       sync.Mutex
	clients  map[string]*quirkyClient
	retained map[string][]byte
	turn     map[string]int // of each shared subscription
	closed   int            // connections, over a packet's size
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
	b := &quirky{quirks: q, listener: ln, clients: map[string]*quirkyClient{}, retained: map[string][]byte{}, turn: map[string]int{}}
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
			for i, f := range c.filters {
				if _, _, rest := shareOf(f); b.turns && rest != f {
					c.filters[i] = rest
				}
			}
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
		_, _, rest := shareOf(f)
		c.filters = slices.DeleteFunc(c.filters, func(have string) bool { return have == f || b.turns && have == rest })
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
	members := map[string][]*quirkyClient{} // of a shared subscription
	for _, c := range b.clients {
		for _, f := range c.filters {
			group, shared, rest := shareOf(f)
			if b.literal || !shared {
				rest, shared = f, false
			}
			switch {
			case shared && b.byName && c.conn != nil:
				members[group] = append(members[group], c)
			case c.conn == nil || !filterMatches(rest, p.TopicName):
			case shared:
				members[group+" "+rest] = append(members[group+" "+rest], c)
			default:
				c.deliver(p.TopicName, p.Payload, false)
			}
		}
	}
	for key, list := range members {
		b.turn[key]++
		c := list[b.turn[key]%len(list)]
		if slices.ContainsFunc(c.filters, func(f string) bool { _, _, rest := shareOf(f); return filterMatches(rest, p.TopicName) }) {
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

// shareOf takes $share/GROUP/ off a filter.
func shareOf(f string) (group string, shared bool, rest string) {
	if after, ok := strings.CutPrefix(f, "$share/"); ok {
		group, rest, _ = strings.Cut(after, "/")
		return group, true, rest
	}
	return "", false, f
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
