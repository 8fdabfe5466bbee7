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
	headerRoom   = 4 << 10  // of a PUBLISH: its topic and packet id
	propertyRoom = 24 << 10 // likewise, with the properties of MQTT 5
	otherMax     = 64 << 10 // of any other packet; a SUBACK has a byte for each filter
)

// peekMost is how far ahead is looked: a longer topic is none that was subscribed to.
const peekMost = 4096

// Oversize is a message that was swallowed.
type Oversize struct {
	Topic string // its first kilobyte
	Size  int    // of the payload, in bytes
}

// Conn is a connection to a broker that the client library reads from and writes to.
//
// The library allocates what a packet's header says, up to 256 MiB, before it reads the rest. Conn lets no
// PUBLISH beyond the limit through: it is read away, acknowledged in the library's place (so that the broker
// does not send it for ever) and reported. It puts a deadline on every write and on every silence, which the
// library has none for, and refuses a SUBACK that would make the library index out of range.
//
// One goroutine reads; any number write.
type Conn struct {
	net.Conn

	r         *bufio.Reader
	keepAlive atomic.Int64 // a time.Duration; a broker may set another than was asked for
	v5        bool         // what comes is MQTT 5
	limit     int          // of a PUBLISH without its fixed header
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
	g := &Conn{Conn: c, limit: maxPayload + headerRoom}
	g.keepAlive.Store(int64(keepAlive))
	g.r = bufio.NewReaderSize(reader{g}, peekMost)
	return g
}

// five has the Conn expect MQTT 5, before anything is read.
func (c *Conn) five() {
	c.v5 = true
	c.limit += propertyRoom - headerRoom
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
func (c *Conn) silence() time.Duration {
	k := time.Duration(c.keepAlive.Load())
	return k + k/2 + 5*time.Second
}

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
	return c.writeNow(p)
}

// writeNow is Write where mu is held.
func (c *Conn) writeNow(p []byte) (int, error) {
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
	case !c.v5 && kind == typeSuback && size-2 > int(c.filters.Load()):
		return fmt.Errorf("mqtt: the broker acknowledged %d subscriptions, %d were asked for", size-2, c.filters.Load())
	}
	c.pending, c.remaining = c.buf[:n], size
	if c.v5 {
		return c.properties(first>>4, size)
	}
	return nil
}

// Packet types of MQTT 5 that have properties at a place of their own, beside those above.
const (
	typeConnack    = 2
	typePuback     = 4
	typePubcomp    = 7
	typeUnsuback   = 11
	typeDisconnect = 14
	typeAuth       = 15
)

// properties looks at where a packet of MQTT 5 tells the length of its properties. The library (v0.23.0)
// takes any, and where an int has 32 bits one of five bytes is a negative length, over which it panics. A
// CONNACK without properties is none of MQTT 5: a broker of MQTT 3.1.1 refuses the version so.
func (c *Conn) properties(kind byte, size int) error {
	var at int // of the length
	switch kind {
	case typeConnack:
		if size == 2 {
			return errOldBroker
		}
		at = 2
	case typePublish:
		two, err := c.r.Peek(min(2, size))
		if err != nil {
			return unexpected(err)
		}
		if len(two) < 2 {
			return errors.New("mqtt: the broker sent a message without a topic")
		}
		at = 2 + int(binary.BigEndian.Uint16(two))
		if c.buf[0]>>1&3 > 0 {
			at += 2
		}
	case typePuback, typePuback + 1, typePuback + 2, typePubcomp, typeUnsuback, typeSuback:
		at = 2
		if kind <= typePubcomp {
			at = 3 // behind the reason code, which may be left out with them
		}
	case typeDisconnect, typeAuth:
		at = 1
	default:
		return nil
	}
	if at >= size {
		return nil // there are none; a packet that needs some is refused by the library
	}
	// The length has at most four bytes, and the properties end where the packet does at the latest.
	front, err := c.r.Peek(min(at+4, size, peekMost))
	if err != nil {
		return unexpected(err)
	}
	length, n := 0, 0
	for ; at+n < len(front); n++ {
		b := front[at+n]
		length |= int(b&0x7f) << (7 * n)
		if b&0x80 == 0 {
			if at+n+1+length > size {
				break
			}
			return nil
		}
	}
	return fmt.Errorf("mqtt: the broker sent a packet of type %d whose properties do not end within it", kind)
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
	if c.v5 {
		n, taken, err := c.length()
		if err != nil {
			return err
		}
		rest -= taken
		if n > rest {
			return errors.New("mqtt: the broker sent a message whose properties do not end within it")
		}
		if err := c.discard(n); err != nil {
			return err
		}
		rest -= n
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

// length reads the length of a message's properties, and returns how many bytes it took itself too.
func (c *Conn) length() (n, taken int, err error) {
	for i := range 4 {
		b, err := c.r.ReadByte()
		if err != nil {
			return 0, 0, unexpected(err)
		}
		n |= int(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return n, i + 1, nil
		}
	}
	return 0, 0, errors.New("mqtt: the broker sent a message whose properties have a length of more than four bytes")
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
		if time.Since(pinged) > time.Duration(c.keepAlive.Load())/2 {
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
