package broker

import (
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// ids keeps a client's packet identifiers apart from the broker's own. The two are independent (MQTT 3.1.1, section 2.2.1; MQTT
// 5.0, section 2.2.1), but mochi 2.7.9 keeps both in one table: a SUBSCRIBE whose identifier the broker is just using for a message to
// that client is refused, and a PUBLISH makes the broker forget the message, which is then never sent again.
//
// So a packet that would collide is given another identifier on its way in, and its acknowledgement the client's on its way
// out. Its methods may be called concurrently.
type ids struct {
	mu      sync.Mutex
	clients map[string]*clientIDs // by client id; only those that have any
}

// clientIDs is what was exchanged for one client.
type clientIDs struct {
	inner map[uint16]uint16 // the client's identifier to the one that mochi knows
	outer map[uint16]uint16 // and back
}

func newIDs() *ids { return &ids{clients: map[string]*clientIDs{}} }

// in gives a packet from a client the identifier that mochi is to see.
func (x *ids) in(cl *mqtt.Client, pk *packets.Packet) {
	begins := pk.FixedHeader.Type != packets.Pubrel // with a new identifier of the client's
	switch pk.FixedHeader.Type {
	case packets.Publish, packets.Subscribe, packets.Unsubscribe, packets.Pubrel:
	default:
		return // it has none, or the broker's
	}
	if pk.PacketID == 0 { // a PUBLISH of QoS 0
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.clients[cl.ID]
	if c != nil {
		if id, ok := c.inner[pk.PacketID]; ok { // a repetition, or the second step of QoS 2
			pk.PacketID = id
			return
		}
	}
	if !begins || !outgoing(cl, pk.PacketID) {
		return
	}
	if c == nil {
		c = &clientIDs{inner: map[uint16]uint16{}, outer: map[uint16]uint16{}}
		x.clients[cl.ID] = c
	}
	// From above, since mochi counts from below. There are fewer messages in flight than identifiers.
	id := ^uint16(0)
	for c.outer[id] != 0 || known(cl, id) {
		id--
	}
	c.inner[pk.PacketID], c.outer[id] = id, pk.PacketID
	pk.PacketID = id
}

// outgoing says that the broker is sending the client a message under an identifier.
func outgoing(cl *mqtt.Client, id uint16) bool {
	pk, ok := cl.State.Inflight.Get(id)
	return ok && (pk.FixedHeader.Type == packets.Publish || pk.FixedHeader.Type == packets.Pubrel)
}

// known says that an identifier is in use, by either side.
func known(cl *mqtt.Client, id uint16) bool {
	_, ok := cl.State.Inflight.Get(id)
	return ok
}

// out gives an acknowledgement to a client the identifier that the client knows. The last one of an exchange ends it.
func (x *ids) out(cl *mqtt.Client, pk *packets.Packet) {
	ends := true
	switch pk.FixedHeader.Type {
	case packets.Puback, packets.Suback, packets.Unsuback, packets.Pubcomp:
	case packets.Pubrec:
		// 3.1.1 knows no reasons: what mochi means as a refusal of a repetition, its client takes for the acknowledgement.
		ends = pk.ReasonCode >= packets.ErrUnspecifiedError.Code && cl.Properties.ProtocolVersion >= 5
	default:
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.clients[cl.ID]
	if c == nil {
		return
	}
	id, ok := c.outer[pk.PacketID]
	if !ok {
		return
	}
	if ends {
		c.remove(id, pk.PacketID)
		x.clean(cl.ID, c)
	}
	pk.PacketID = id
}

// gone keeps, of a client whose connection has ended, what the broker remembers until it comes back. Where the client is back
// already, its new connection has what is left.
func (x *ids) gone(cl *mqtt.Client, forever bool) {
	if cl.IsTakenOver() {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.clients[cl.ID]
	if c == nil {
		return
	}
	for outer, inner := range c.inner {
		if forever || !known(cl, inner) {
			c.remove(outer, inner)
		}
	}
	x.clean(cl.ID, c)
}

func (c *clientIDs) remove(outer, inner uint16) {
	delete(c.inner, outer)
	delete(c.outer, inner)
}

// clean forgets a client that has nothing left.
func (x *ids) clean(client string, c *clientIDs) {
	if len(c.inner) == 0 {
		delete(x.clients, client)
	}
}
