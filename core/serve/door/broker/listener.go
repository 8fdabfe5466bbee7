package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

// listener takes connections, and bounds them: where all places are taken, the oldest connection that has not
// said who it is leaves, so that silent ones cannot keep others out.
type listener struct {
	ln   net.Listener
	most int
	log  *slog.Logger

	mu     sync.Mutex
	open   map[net.Conn]uint64 // those that sent no CONNECT yet: when they came, as a number; others: 0
	came   uint64
	closed bool
	conns  sync.WaitGroup
}

func newListener(ln net.Listener, most int, log *slog.Logger) *listener {
	return &listener{ln: ln, most: most, open: map[net.Conn]uint64{}, log: log}
}

// serve accepts connections until stop.
func (l *listener) serve(run func(net.Conn) error) {
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
		if !l.add(conn) {
			_ = conn.Close()
			continue
		}
		go func() {
			defer l.conns.Done()
			defer l.remove(conn)
			l.serveOne(conn, run)
		}()
	}
}

// add registers a connection; false: there is no place.
func (l *listener) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if len(l.open) >= l.most {
		var oldest net.Conn
		for c, came := range l.open {
			if came > 0 && (oldest == nil || came < l.open[oldest]) {
				oldest = c
			}
		}
		if oldest == nil {
			l.log.Warn("embedded broker is full", "remote", conn.RemoteAddr().String())
			return false
		}
		_ = oldest.Close()
		delete(l.open, oldest)
	}
	l.came++
	l.open[conn] = l.came
	l.conns.Add(1)
	return true
}

// established notes that a connection has said who it is.
func (l *listener) established(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.open[conn]; ok {
		l.open[conn] = 0
	}
}

func (l *listener) remove(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
}

// serveOne runs one connection to its end. A panic in the decoding of a client's bytes is that client's end alone.
func (l *listener) serveOne(conn net.Conn, run func(net.Conn) error) {
	defer conn.Close() //nolint:errcheck // it is closed already, or nobody cares
	defer func() {
		if r := recover(); r != nil {
			l.log.Error("embedded broker panicked on a connection", "remote", conn.RemoteAddr().String(),
				"err", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	if err := run(conn); err != nil {
		l.log.Debug("embedded broker: connection ended", "remote", conn.RemoteAddr().String(), "err", err)
	}
}

// stop stops accepting.
func (l *listener) stop() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return l.ln.Close()
}

// closeSilent closes the connections that have sent no CONNECT.
func (l *listener) closeSilent() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn, came := range l.open {
		if came > 0 {
			_ = conn.Close()
		}
	}
}

// wait waits for the connections after stop.
func (l *listener) wait() { l.conns.Wait() }
