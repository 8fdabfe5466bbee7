// Package broker is the MQTT broker that edged brings along for a quick start and for a machine where
// everything is at home: MQTT 3.1, 3.1.1 and 5, QoS 0 to 2, retained messages, wills, persistent and shared
// subscriptions.
//
// It is built so that no client can stop the others: nobody waits for another's connection, each client's and
// all clients' data have a bound in bytes, and where a bound is reached, the client that holds most gives
// way. It keeps nothing on disk and must not know edged's topics or messages: to it, edged is a client like
// any other. It listens on loopback unless it is given credentials. All methods may be called concurrently.
//
// One lock guards all sessions. Nothing that may wait happens under it, and what happens under it is bounded
// by the caps: a connection has a goroutine that reads, a goroutine that writes with a deadline, and a queue
// between the broker and it.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Options says where to listen and what to bear. The zero value of every field but Listen and Log is its default.
type Options struct {
	Listen           string        // host:port; port 0 takes any free port
	Username         string        // "": everybody may connect; only on loopback
	Password         []byte        // with Username
	OwnID            string        // client id of the one who runs the broker; "": nobody. It has a place beside MaxClients, and is never who gives way
	OwnSecret        []byte        // with OwnID: the password without which nobody gets that id
	MaxPacket        int           // bytes of a packet; 0: 1 MiB and what a header takes
	MaxClients       int           // connected at once; 0: 128
	MaxSessions      int           // connected or remembered; 0: 4 × MaxClients. The one away for longest leaves
	MaxRetained      int           // retained messages; 0: 4096. A client may have a quarter
	MaxMemory        int           // bytes of all that is kept; 0: 24 MiB, or 8 packets. Half of it may be retained, an eighth by one client
	MaxClientMemory  int           // bytes that wait for one client, with its subscriptions and will; 0: a quarter of MaxMemory
	MaxQueued        int           // messages that wait for one client; 0: 2048. One publisher may fill half
	MaxSubscriptions int           // of one client; 0: 256
	MaxLevels        int           // of a topic or a filter; 0: 32
	MaxRate          int           // packets that one client may send in a second, and twice as many at once; 0: 2000. Large ones count more
	WriteTimeout     time.Duration // a client must take some of what is written within this; 0: 20 s
	Log              *slog.Logger  // required
}

// ErrOpen is returned for an address beyond loopback without credentials.
var ErrOpen = errors.New("an address that other machines can reach needs a user name and a password")

var errWithWill = errors.New("it left with its will")

// Bounds that have no setting.
const (
	// A client may have this many messages of QoS 1 and 2 unacknowledged.
	defaultWindow = 100
	// A connection that sends no CONNECT is closed after this.
	connectTimeout = 10 * time.Second
	// A session that its client never comes back for is forgotten after this.
	sessionExpiry = 7 * 24 * time.Hour
	// Room for a packet's header and topic above its payload.
	headerRoom = 64 << 10
	// Wills, lives of messages and sessions are looked at this often.
	sweep = time.Second
)

// withDefaults is o with every zero replaced.
func (o Options) withDefaults() Options {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&o.MaxPacket, 1<<20)
	set(&o.MaxClients, 128)
	set(&o.MaxSessions, 4*o.MaxClients)
	set(&o.MaxRetained, 4096)
	set(&o.MaxMemory, max(24<<20, 8*(min(o.MaxPacket, 256<<20)+headerRoom)))
	set(&o.MaxClientMemory, o.MaxMemory/4)
	set(&o.MaxQueued, 2048)
	set(&o.MaxSubscriptions, 256)
	set(&o.MaxLevels, 32)
	set(&o.MaxRate, 2000)
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 20 * time.Second
	}
	return o
}

// Broker is a running broker.
type Broker struct {
	o        Options
	log      *slog.Logger
	largest  int // bytes of a packet's body
	pool     *pool
	listener *listener
	stop     chan struct{}
	wg       sync.WaitGroup

	mu        sync.Mutex
	closing   bool
	sessions  map[string]*session
	connected int
	tree      tree
	retained  map[string]*message
	owners    map[string]share // of what is retained, by client id
	kept      int              // bytes that are retained
	mortal    int              // retained messages that end
	held      int              // bytes of everything
	numbers   uint64           // of messages
	targets   []target         // scratch of publish
	wills     []*message       // of sessions that were forgotten: published at the next sweep
	warned    time.Time
}

// Start listens and serves until Close.
func Start(ctx context.Context, o Options) (*Broker, error) {
	o = o.withDefaults()
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
	if o.OwnID != "" && len(o.OwnSecret) == 0 {
		_ = ln.Close()
		return nil, errors.New("broker: a client id of its own needs a secret")
	}
	b := newBroker(o)
	b.listener = newListener(ln, o.MaxClients+16, o.Log)
	b.wg.Go(b.sweeps)
	b.wg.Go(func() { b.listener.serve(func(c net.Conn) error { return newConn(b, c).run() }) })
	return b, nil
}

// newBroker is a broker without a listener.
func newBroker(o Options) *Broker {
	b := &Broker{
		o: o, log: o.Log, largest: min(o.MaxPacket+headerRoom, 256<<20), stop: make(chan struct{}),
		sessions: map[string]*session{}, retained: map[string]*message{}, owners: map[string]share{},
	}
	b.pool = newPool(max(8<<20, 2*b.largest))
	return b
}

// Addr is the address that it listens on, with the port that was found where the setting had 0.
func (b *Broker) Addr() string { return b.listener.ln.Addr().String() }

// MaxMemory is the most that clients can make the broker keep, in bytes, with what is being read.
func (b *Broker) MaxMemory() int { return b.o.MaxMemory + max(8<<20, 2*b.largest) }

// drain bounds the wait of Close for acknowledgements, and then for what wills say.
const drain = time.Second

// Close waits a moment until those connected have acknowledged what was sent to them at QoS 1 (the node's own
// "offline" among it), publishes the wills of all, tells them, and frees the port. A client that does not
// read does not keep it: it returns within a few seconds whatever clients do, and when all its goroutines
// have ended. Call it once.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closing = true
	b.mu.Unlock()
	err := b.listener.stop()
	b.drained(drain)
	b.mu.Lock()
	for _, s := range b.sessions {
		if m := s.will; m != nil && s.conn != nil {
			b.hold(m)
			b.setWill(s, nil, 0)
			b.publishWill(m)
			b.release(m)
		}
	}
	b.mu.Unlock()
	b.drained(drain / 4)
	b.mu.Lock()
	for _, s := range b.sessions {
		if s.conn != nil {
			s.conn.end(reasonShutdown)
		}
	}
	b.mu.Unlock()
	b.listener.closeSilent()
	close(b.stop)
	b.listener.wait()
	b.wg.Wait()
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// drained waits until nothing is on its way to a connected client.
func (b *Broker) drained(most time.Duration) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(most); b.owes() && time.Now().Before(deadline); {
		<-tick.C
	}
}

func (b *Broker) owes() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sessions {
		if s.conn != nil && s.waiting+len(s.inflight) > 0 {
			return true
		}
	}
	return false
}

// sweeps ends what its time is over for, until Close.
func (b *Broker) sweeps() {
	tick := time.NewTicker(sweep)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			b.sweep(now)
		case <-b.stop:
			return
		}
	}
}

func (b *Broker) sweep(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sessions {
		if s.conn != nil {
			continue
		}
		if s.will != nil && !s.willDue.After(now) {
			b.wills = append(b.wills, s.will)
			b.setWill(s, nil, 0)
		}
		if now.Sub(s.left) > s.keeps {
			b.forget(s)
		}
	}
	if b.mortal > 0 {
		for _, m := range b.retained {
			if _, alive := m.left(now); !alive {
				b.unkeep(m)
			}
		}
	}
	wills := b.wills
	b.wills = nil
	for _, m := range wills {
		b.publishWill(m)
	}
}

// warn logs what a cap did: at most once in a second, since a flood must not fill the log.
func (b *Broker) warn(msg string, args ...any) {
	if now := time.Now(); now.Sub(b.warned) >= time.Second {
		b.warned = now
		b.log.Warn(msg, args...) //nolint:sloglint // its callers pass constants
	}
}

// plain shortens the errors of package net to the address and the reason.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return fmt.Errorf("cannot listen on %s: %w", op.Addr, op.Err)
	}
	return err
}
