package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Packet types (MQTT 3.1.1, section 2.2.1), as the upper half of a packet's first byte.
const (
	typePublish = 3
	typeSuback  = 9
)

// Room that a packet may take beside a message's payload.
const (
	headerRoom = 4 << 10  // of a PUBLISH: its topic and packet id
	otherMax   = 64 << 10 // of any other packet; a SUBACK has a byte for each filter
)

// Oversize is a message that was swallowed.
type Oversize struct {
	Topic string // its first kilobyte
	Size  int    // of the payload, in bytes
}

// Conn is a connection to a broker that the client library reads from and writes to.
//
// The library allocates what a packet's header says, up to 256 MiB, before it reads the rest. Conn lets no PUBLISH beyond
// the limit through: it is read away, acknowledged in the library's place (so that the broker does not send it for ever)
// and reported. It puts a deadline on every write and on every silence, which the library has none for, and refuses
// a SUBACK that would make the library index out of range.
//
// One goroutine reads; any number write.
type Conn struct {
	net.Conn

	r         *bufio.Reader
	keepAlive time.Duration
	limit     int // of a PUBLISH without its fixed header
	pending   []byte
	buf       [5]byte
	remaining int // bytes of the current packet that Read still has to hand out
	filters   atomic.Int32
	oversize  atomic.Pointer[func(Oversize)]

	mu       sync.Mutex // over writes
	deadMu   sync.Mutex
	deadline time.Time // of the handshake, set by the library
}

func newConn(c net.Conn, keepAlive time.Duration, maxPayload int) *Conn {
	g := &Conn{Conn: c, keepAlive: keepAlive, limit: maxPayload + headerRoom}
	g.r = bufio.NewReaderSize(reader{g}, 4096)
	return g
}

// OnOversize sets what is called, by the reading goroutine, for every message that is swallowed.
func (c *Conn) OnOversize(f func(Oversize)) { c.oversize.Store(&f) }

// Expect announces a SUBSCRIBE with n filters, whose SUBACK may hold as many codes.
func (c *Conn) Expect(n int) { c.filters.Store(int32(min(n, 1<<10))) } //nolint:gosec // bounded

// SetDeadline is called by the library around the handshake.
func (c *Conn) SetDeadline(t time.Time) error {
	c.deadMu.Lock()
	c.deadline = t
	c.deadMu.Unlock()
	return nil
}

// SetWriteDeadline is the library's; every write has its own here.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// silence is how long nothing may come: the library pings after keepAlive, and looks every 5 s whether it should.
func (c *Conn) silence() time.Duration { return c.keepAlive + c.keepAlive/2 + 5*time.Second }

// until is the deadline of an operation that may take d.
func (c *Conn) until(d time.Duration) time.Time {
	t := time.Now().Add(d)
	c.deadMu.Lock()
	defer c.deadMu.Unlock()
	if !c.deadline.IsZero() && c.deadline.Before(t) {
		return c.deadline
	}
	return t
}

// reader reads from the connection below with a deadline.
type reader struct{ c *Conn }

func (r reader) Read(p []byte) (int, error) {
	if err := r.c.Conn.SetReadDeadline(r.c.until(r.c.silence())); err != nil {
		return 0, err
	}
	return r.c.Conn.Read(p)
}

// Write writes whole packets.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.Conn.SetWriteDeadline(c.until(WriteTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Read hands the packets that pass to the library.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.pending) == 0 && c.remaining == 0 {
		if err := c.header(); err != nil {
			return 0, err
		}
	}
	if len(c.pending) > 0 {
		n := copy(p, c.pending)
		c.pending = c.pending[n:]
		return n, nil
	}
	n, err := c.r.Read(p[:min(len(p), c.remaining)])
	c.remaining -= n
	return n, err
}

// header reads a fixed header and decides what becomes of its packet.
func (c *Conn) header() error {
	first, err := c.r.ReadByte()
	if err != nil {
		return err
	}
	c.buf[0] = first
	size, n := 0, 1
	for shift := 0; ; shift += 7 {
		if n == len(c.buf) {
			return errors.New("mqtt: the broker sent a packet whose length has more than four bytes")
		}
		b, err := c.r.ReadByte()
		if err != nil {
			return unexpected(err)
		}
		c.buf[n] = b
		n++
		size |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	switch kind := first >> 4; {
	case kind == typePublish && size > c.limit:
		return c.swallow(first, size)
	case kind != typePublish && size > otherMax:
		return fmt.Errorf("mqtt: the broker sent a packet of type %d with %d bytes", kind, size)
	case kind == typeSuback && size-2 > int(c.filters.Load()):
		return fmt.Errorf("mqtt: the broker acknowledged %d subscriptions, %d were asked for", size-2, c.filters.Load())
	}
	c.pending, c.remaining = c.buf[:n], size
	return nil
}

// swallow reads a PUBLISH away, acknowledges and reports it.
func (c *Conn) swallow(first byte, size int) error {
	var two [2]byte
	if _, err := io.ReadFull(c.r, two[:]); err != nil {
		return unexpected(err)
	}
	topicLen := int(binary.BigEndian.Uint16(two[:]))
	rest := size - 2 - topicLen
	qos := first >> 1 & 3
	if qos > 0 {
		rest -= 2
	}
	if rest < 0 {
		return errors.New("mqtt: the broker sent a message whose topic is longer than its packet")
	}
	topic := make([]byte, min(topicLen, 1<<10))
	if _, err := io.ReadFull(c.r, topic); err != nil {
		return unexpected(err)
	}
	if err := c.discard(topicLen - len(topic)); err != nil {
		return err
	}
	var id [2]byte
	if qos > 0 {
		if _, err := io.ReadFull(c.r, id[:]); err != nil {
			return unexpected(err)
		}
	}
	if err := c.discard(rest); err != nil {
		return err
	}
	switch qos {
	case 1: // PUBACK
		if _, err := c.Write([]byte{0x40, 2, id[0], id[1]}); err != nil {
			return err
		}
	case 2: // PUBREC; the library answers the PUBREL
		if _, err := c.Write([]byte{0x50, 2, id[0], id[1]}); err != nil {
			return err
		}
	}
	if f := c.oversize.Load(); f != nil {
		(*f)(Oversize{Topic: string(topic), Size: rest})
	}
	return nil
}

// discard reads n bytes away. The library takes no notice of them: it waits for the answer to its first ping and sends
// no second, so the pings that keep the broker patient come from here.
func (c *Conn) discard(n int) error {
	pinged := time.Now()
	for n > 0 {
		m, err := c.r.Discard(min(n, 1<<20))
		n -= m
		if err != nil {
			return unexpected(err)
		}
		if time.Since(pinged) > c.keepAlive/2 {
			pinged = time.Now()
			if _, err := c.Write([]byte{0xc0, 0}); err != nil {
				return err
			}
		}
	}
	return nil
}

// unexpected marks an end in the middle of a packet.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
