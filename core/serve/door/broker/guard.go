package broker

import (
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// guard is the hook that decides who may connect and what is kept for them.
type guard struct {
	mqtt.HookBase

	o      Options
	server *mqtt.Server
	ids    *ids
}

// ID names the hook to mochi.
func (g *guard) ID() string { return "edged-guard" }

// Provides tells mochi which calls to make.
func (g *guard) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPublish,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnDisconnect, mqtt.OnClientExpired:
		return true
	}
	return false
}

// OnConnect refuses new sessions when there are too many.
func (g *guard) OnConnect(cl *mqtt.Client, _ packets.Packet) error {
	if _, known := g.server.Clients.Get(cl.ID); !known && g.server.Clients.Len() >= g.o.MaxSessions {
		return packets.ErrServerBusy
	}
	return nil
}

// OnConnectAuthenticate compares name and password, in constant time.
func (g *guard) OnConnectAuthenticate(_ *mqtt.Client, pk packets.Packet) bool {
	if g.o.Username == "" {
		return true
	}
	return same(pk.Connect.Username, []byte(g.o.Username))&same(pk.Connect.Password, g.o.Password) == 1
}

// same compares without telling lengths by its time.
func same(a, b []byte) int {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:])
}

// OnACLCheck keeps clients from writing below $SYS.
func (g *guard) OnACLCheck(_ *mqtt.Client, topic string, write bool) bool {
	return !write || !strings.HasPrefix(topic, "$")
}

// OnPublish acknowledges and drops retained messages on new topics when there are too many: each takes memory for ever.
func (g *guard) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if !pk.FixedHeader.Retain || len(pk.Payload) == 0 {
		return pk, nil
	}
	retained := g.server.Topics.Retained
	if _, known := retained.Get(pk.TopicName); !known && retained.Len() >= g.o.MaxRetained {
		return pk, packets.CodeSuccessIgnore
	}
	return pk, nil
}

// OnPacketRead keeps the identifiers of a client's packets apart from the broker's.
func (g *guard) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	g.ids.in(cl, &pk)
	return pk, nil
}

// OnPacketEncode gives acknowledgements the client's identifiers.
func (g *guard) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	g.ids.out(cl, &pk)
	return pk
}

// OnDisconnect forgets what no acknowledgement will follow for.
func (g *guard) OnDisconnect(cl *mqtt.Client, _ error, expire bool) { g.ids.gone(cl, expire) }

// OnClientExpired forgets a session that its client did not come back for.
func (g *guard) OnClientExpired(cl *mqtt.Client) { g.ids.gone(cl, true) }
