#!/usr/bin/env bash
# mochi-mqtt 2.7.9 (github.com/mochi-mqtt/server/v2), a broker in Go, and a client of MQTT 3.1.1.
# Packet identifiers of the client and of the broker are two sets (MQTT 3.1.1, section 2.3.1): both may use 1 at once, and
# since both usually count from 1, they do. Here they are one set. While a message of QoS 1 with identifier 1 waits for its
# acknowledgement, a SUBSCRIBE with identifier 1 is refused with return code 145, which 3.1.1 does not have; and a message
# of QoS 2 that the client publishes with identifier 1 takes the place of the one that waits, so that this one is not sent
# again when the client comes back.
# Seen: "subscribed with identifier 1 while a message with 1 waits: [145], with 2: [1]" and "sent again: first, second" and
# "sent again after a publication with the identifier of first: second".
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'G'
module finding

go 1.24
G
cat >main.go <<'G'
package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

type client struct{ net.Conn }

func main() {
	s := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(s.AddHook(new(auth.AllowHook), nil))
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	must(s.AddListener(l))
	must(s.Serve())

	c := connect(l.Address(), "one")
	c.subscribe(9, "a")
	must(s.Publish("a", []byte("first"), false, 1))
	id := c.publication().MessageID
	fmt.Printf("subscribed with identifier %d while a message with %d waits: %v, with 2: %v\n", id, id, c.subscribe(id, "b"), c.subscribe(2, "b"))

	for i, name := range []string{"two", "three"} {
		c := connect(l.Address(), name)
		c.subscribe(9, name)
		must(s.Publish(name, []byte("first"), false, 1))
		must(s.Publish(name, []byte("second"), false, 1))
		id := c.publication().MessageID
		c.publication()
		if i == 1 {
			p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
			p.TopicName, p.Qos, p.MessageID, p.Payload = "elsewhere", 2, id, []byte("x")
			must(p.Write(c))
			read[*packets.PubrecPacket](c)
			r := packets.NewControlPacket(packets.Pubrel).(*packets.PubrelPacket)
			r.MessageID = id
			must(r.Write(c))
			read[*packets.PubcompPacket](c)
		}
		c.Close()
		c = connect(l.Address(), name)
		c.SetDeadline(time.Now().Add(2 * time.Second))
		var again []string
		for {
			p, err := packets.ReadPacket(c)
			if err != nil {
				break
			}
			if p, ok := p.(*packets.PublishPacket); ok {
				again = append(again, string(p.Payload))
			}
		}
		what := "sent again"
		if i == 1 {
			what += " after a publication with the identifier of first"
		}
		fmt.Printf("%s: %s\n", what, strings.Join(again, ", "))
	}
}

func connect(address, id string) client {
	conn, err := net.Dial("tcp", address)
	must(err)
	c := client{conn}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion, p.ClientIdentifier = "MQTT", 4, id
	must(p.Write(c))
	read[*packets.ConnackPacket](c)
	return c
}

func (c client) subscribe(id uint16, filter string) []byte {
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID, p.Topics, p.Qoss = id, []string{filter}, []byte{1}
	must(p.Write(c))
	return read[*packets.SubackPacket](c).ReturnCodes
}

func (c client) publication() *packets.PublishPacket { return read[*packets.PublishPacket](c) }

func read[T packets.ControlPacket](c client) T {
	for {
		p, err := packets.ReadPacket(c)
		must(err)
		if p, ok := p.(T); ok {
			return p
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
G
export GOFLAGS=-mod=mod GOTOOLCHAIN=local
go mod edit -require github.com/mochi-mqtt/server/v2@v2.7.9 -require github.com/eclipse/paho.mqtt.golang@v1.5.1
go mod tidy 2>/dev/null
go run . | tee out
grep -q "subscribed with identifier 1 while a message with 1 waits: \[145\], with 2: \[1\]" out
grep -q "^sent again: first, second$" out
grep -q "^sent again after a publication with the identifier of first: second$" out
