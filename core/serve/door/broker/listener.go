package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// listener hands connections to mochi. Its own listeners lack what a daemon that must not fall needs: a bound on
// connections, a deadline for the first packet, and a net under a panic in the decoding of a client's bytes.
type listener struct {
	ln    net.Listener
	slots chan struct{} // one per connection
	log   *slog.Logger

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
	conns  sync.WaitGroup
}

func newListener(ln net.Listener, most int, log *slog.Logger) *listener {
	return &listener{ln: ln, slots: make(chan struct{}, most), open: map[net.Conn]struct{}{}, log: log}
}

// Init is mochi's; the address is open already.
func (l *listener) Init(*slog.Logger) error { return nil }

// ID names the listener to mochi.
func (l *listener) ID() string { return "tcp" }

// Protocol is for mochi's log.
func (l *listener) Protocol() string { return "tcp" }

// Address is the address that it listens on.
func (l *listener) Address() string { return l.ln.Addr().String() }

// Serve accepts connections until Close. mochi calls it in a goroutine of its own.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		conn, err := l.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.log.Warn("embedded broker cannot accept", "err", err)
			pause := time.NewTimer(100 * time.Millisecond) // out of file descriptors: the loop must not spin
			<-pause.C
			continue
		}
		select {
		case l.slots <- struct{}{}:
		default:
			l.log.Warn("embedded broker is full", "remote", conn.RemoteAddr().String())
			_ = conn.Close()
			continue
		}
		if !l.add(conn) {
			_ = conn.Close()
			return
		}
		go func() {
			defer l.conns.Done()
			defer func() { <-l.slots }()
			defer l.remove(conn)
			l.serve(conn, establish)
		}()
	}
}

// add registers a connection; false: the listener is closed.
func (l *listener) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.open[conn] = struct{}{}
	l.conns.Add(1)
	return true
}

func (l *listener) remove(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
}

// serve runs one connection to its end.
func (l *listener) serve(conn net.Conn, establish listeners.EstablishFn) {
	defer conn.Close() //nolint:errcheck // mochi has closed it, or nobody cares
	defer func() {
		if r := recover(); r != nil {
			l.log.Error("embedded broker panicked on a connection", "remote", conn.RemoteAddr().String(),
				"err", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	// mochi replaces the deadline by one and a half of the client's keep-alive after CONNECT.
	_ = conn.SetDeadline(time.Now().Add(connectTimeout))
	if err := establish(l.ID(), conn); err != nil {
		l.log.Debug("embedded broker: connection ended", "remote", conn.RemoteAddr().String(), "err", err)
	}
}

// Close stops accepting and closes the clients, then the connections that have sent no CONNECT yet.
func (l *listener) Close(closeClients listeners.CloseFn) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.ln.Close()
	closeClients(l.ID())
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.open {
		_ = conn.Close()
	}
}

// wait waits for the connections after Close.
func (l *listener) wait() { l.conns.Wait() }
