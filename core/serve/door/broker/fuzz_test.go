package broker

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// tape is a connection whose other side has said everything already, and reads nothing that is not wanted.
type tape struct {
	*bytes.Reader
	end  func()       // called before the end is read
	said bytes.Buffer // by the broker
}

func (t *tape) Read(p []byte) (int, error) {
	if t.Len() == 0 && t.end != nil {
		t.end()
	}
	return t.Reader.Read(p)
}

func (t *tape) Write(p []byte) (int, error) {
	if t.said.Len() < 1<<20 {
		t.said.Write(p)
	}
	return len(p), nil
}
func (t *tape) Close() error                     { return nil }
func (t *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (t *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// offline is a broker that listens nowhere.
func offline(o Options) *Broker {
	o.Log = slog.New(slog.DiscardHandler)
	b := newBroker(o.withDefaults())
	b.listener = newListener(nil, 1, o.Log)
	return b
}

// balance fails where the broker's account of its memory is not that of what it holds, after all has been let go of.
func (b *Broker) balance(tb testing.TB) {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held > b.o.MaxMemory+sessionOverhead {
		tb.Errorf("%d bytes are held, of %d", b.held, b.o.MaxMemory)
	}
	if b.connected != 0 {
		tb.Errorf("%d clients are connected", b.connected)
	}
	for _, s := range b.sessions {
		b.forget(s)
		if s.held != 0 {
			tb.Errorf("a session that is forgotten holds %d bytes", s.held)
		}
	}
	for _, m := range b.retained {
		b.unkeep(m)
	}
	if b.held != 0 || b.kept != 0 || len(b.owners) != 0 || !b.tree.root.empty() {
		tb.Errorf("%d bytes held and %d retained by %d clients are left of nothing", b.held, b.kept, len(b.owners))
	}
}

// processor is the time that this process has computed: the clock on the wall counts what a busy machine does beside it.
func processor(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// FuzzPackets gives the broker what two clients say, one after the other. Nothing panics, a client's bytes take 200 ms and 64 MiB at
// most, and the broker's account of its memory is right at the end.
func FuzzPackets(f *testing.F) {
	hello := func(version, flags byte, rest ...byte) []byte {
		body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', version, flags, 0, 60}, rest...)
		return packet(kindConnect, 0, body)
	}
	three, five := hello(4, 2, 0, 1, 'a'), hello(5, 0, 5, 0x11, 0, 0, 1, 0, 0, 1, 'b')
	will := hello(4, 0x2e, 0, 1, 'w', 0, 1, 't', 0, 1, 'x')
	with := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	subscribe3 := packet(kindSubscribe, 2, []byte{0, 1, 0, 1, '#', 2, 0, 3, 'a', '/', '+', 1})
	subscribe5 := packet(kindSubscribe, 2, []byte{0, 1, 2, 0x0b, 9, 0, 1, '+', 0x1d, 0, 10, '$', 's', 'h', 'a', 'r', 'e', '/', 'g', '/', '#', 1})
	publish3 := packet(kindPublish, 3, []byte{0, 1, 't', 0, 7, 'h', 'i'})
	publish5 := packet(kindPublish, 5, []byte{0, 1, 't', 0, 8, 13, 2, 0, 0, 0, 9, 1, 1, 0x26, 0, 1, 'k', 0, 0, 'h', 'i'})
	rest := with(packet(kindPubrel, 2, []byte{0, 8}), packet(kindPuback, 0, []byte{0, 1}), packet(kindPubrec, 0, []byte{0, 1}),
		packet(kindPubcomp, 0, []byte{0, 1}), packet(kindPingreq, 0, nil), packet(kindUnsubscribe, 2, []byte{0, 1, 0, 1, '#'}))
	f.Add(with(three, subscribe3, publish3, rest, packet(kindDisconnect, 0, nil)), with(five, subscribe5, publish5))
	f.Add(with(five, subscribe5, publish5, rest, packet(kindDisconnect, 0, []byte{4, 5, 0x11, 0, 0, 0, 9})), with(three, subscribe3, publish3))
	f.Add(will, with(will, subscribe3))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), hello(9, 0))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if len(first)+len(second) > 256<<10 {
			t.Skip()
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := processor(t)
		b := offline(Options{MaxMemory: 1 << 20, MaxPacket: 64 << 10, MaxSessions: 4, MaxRate: 1 << 30})
		for _, said := range [][]byte{first, second} {
			_ = newConn(b, &tape{Reader: bytes.NewReader(said)}).run()
		}
		b.sweep(time.Now())
		b.balance(t)
		took := processor(t) - began
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
			t.Errorf("%d bytes took %d MiB", len(first)+len(second), grown>>20)
		}
		if took > 200*time.Millisecond {
			t.Errorf("%d bytes took %v", len(first)+len(second), took)
		}
	})
}

// scripted runs what a client says through a broker and returns what it is told.
func scripted(b *Broker, said ...[]byte) []byte {
	tape := &tape{Reader: bytes.NewReader(bytes.Join(said, nil))}
	c := newConn(b, tape)
	tape.end = func() { // what is queued is taken up
		owed := func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return c.waiting > 0 || c.session != nil && c.session.waiting > 0
		}
		for deadline := time.Now().Add(10 * time.Second); owed() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	_ = c.run()
	out, _ := io.ReadAll(&tape.said)
	return out
}
