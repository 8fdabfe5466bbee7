// Package broker is the MQTT broker that edged brings along for a quick start: mochi-mqtt behind bounds that a small
// board needs.
//
// It keeps nothing on disk and must not know edged's topics or messages: to it, edged is a client like any other. It
// listens on loopback unless it is given credentials. All methods may be called concurrently.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
)

// Options says where to listen and what to bear. The zero value of every field but Listen and Log is its default.
type Options struct {
	Listen      string       // host:port; port 0 takes any free port
	Username    string       // "": everybody may connect; only on loopback
	Password    []byte       // with Username
	MaxPacket   int          // bytes of a packet; 0: 1 MiB and what a header takes
	MaxClients  int          // connected at once; 0: 128
	MaxSessions int          // connected or remembered; 0: 4 × MaxClients
	MaxRetained int          // retained messages; 0: 4096
	Log         *slog.Logger // required
}

// ErrOpen is returned for an address beyond loopback without credentials.
var ErrOpen = errors.New("an address that other machines can reach needs a user name and a password")

// Bounds that have no setting.
const (
	// A client that is slow or away holds this many QoS 1 and 2 messages. mochi's default, 8192, times the largest
	// packet is more memory than a board has.
	maxInflight = 512
	// Pointers to waiting writes of a client: mochi makes the channel at once, 8 bytes each.
	maxPending = 1024
	// A connection that sends no CONNECT is closed after this. mochi sets no deadline before it.
	connectTimeout = 10 * time.Second
	// A session that its client never comes back for is forgotten after this.
	sessionExpiry = 7 * 24 * time.Hour
	// Room for a packet's header and topic above its payload.
	headerRoom = 64 << 10
)

// Broker is a running broker.
type Broker struct {
	server   *mqtt.Server
	listener *listener
}

// Start listens and serves until Close.
func Start(ctx context.Context, o Options) (*Broker, error) {
	if o.MaxPacket <= 0 {
		o.MaxPacket = 1 << 20
	}
	if o.MaxClients <= 0 {
		o.MaxClients = 128
	}
	if o.MaxSessions <= 0 {
		o.MaxSessions = 4 * o.MaxClients
	}
	if o.MaxRetained <= 0 {
		o.MaxRetained = 4096
	}
	if o.Username != "" && len(o.Password) == 0 {
		return nil, errors.New("broker: a user name needs a password")
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", plain(err))
	}
	// Judged by where it really listens, so that no spelling of an address slips through.
	if a, ok := ln.Addr().(*net.TCPAddr); o.Username == "" && (!ok || !a.IP.IsLoopback()) {
		_ = ln.Close()
		return nil, fmt.Errorf("broker: %s: %w", o.Listen, ErrOpen)
	}

	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClients = int64(o.MaxClients)
	caps.MaximumPacketSize = uint32(min(o.MaxPacket+headerRoom, 256<<20)) //nolint:gosec // bounded on the same line
	caps.MaximumInflight = maxInflight
	caps.MaximumClientWritesPending = maxPending
	caps.MaximumSessionExpiryInterval = uint32(sessionExpiry / time.Second)
	// 0 keeps retained messages for ever. mochi's default deletes them after a day: availability would be gone while
	// edged is online.
	caps.MaximumMessageExpiryInterval = 0
	caps.TopicAliasMaximum = 0
	server := mqtt.New(&mqtt.Options{
		Capabilities:           caps,
		Logger:                 slog.New(&quietHandler{next: o.Log.Handler()}),
		SysTopicResendInterval: 30,
	})
	b := &Broker{server: server, listener: newListener(ln, o.MaxClients+8, o.Log)}
	if err := server.AddHook(&guard{o: o, server: server, ids: newIDs()}, nil); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("broker: %w", err)
	}
	if err := server.AddListener(b.listener); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("broker: %w", err)
	}
	if err := server.Serve(); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("broker: %w", err)
	}
	return b, nil
}

// Addr is the address that it listens on, with the port that was found where the setting had 0.
func (b *Broker) Addr() string { return b.listener.Address() }

// drain bounds the wait of Close for acknowledgements.
const drain = time.Second

// Close waits a moment until those connected have acknowledged what was sent to them at QoS 1 (the node's own "offline" among
// it), disconnects every client, whose last wills are published to those still there, and frees the port. It waits for the
// connections' goroutines. Call it once.
func (b *Broker) Close() error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(drain); b.unacknowledged() && time.Now().Before(deadline); {
		<-tick.C
	}
	err := b.server.Close()
	b.listener.wait()
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// unacknowledged says that a connected client has something in flight.
func (b *Broker) unacknowledged() bool {
	for _, client := range b.server.Clients.GetAll() {
		if !client.Closed() && client.State.Inflight.Len() > 0 {
			return true
		}
	}
	return false
}

// plain shortens the errors of package net to the address and the reason.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return fmt.Errorf("cannot listen on %s: %w", op.Addr, op.Err)
	}
	return err
}
