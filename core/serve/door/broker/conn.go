package broker

import (
	"bufio"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// conn is one connection. Its reader runs in the listener's goroutine and its writer in one of its own;
// neither ever waits for another connection's, and what the broker wants to say is queued, never written by
// the goroutine that sends it.
type conn struct {
	b       *Broker
	net     net.Conn
	in      *bufio.Reader
	out     *bufio.Writer
	version byte
	idle    time.Duration // one and a half of the keep-alive; 0: for ever
	session *session      // after CONNECT

	tokens float64 // packets that it may send at once
	filled time.Time

	wake    chan struct{} // there may be something to write
	drained chan struct{} // acknowledgements were taken up for writing
	done    chan struct{} // closed
	once    sync.Once
	short   sync.Once // the end has begun

	// Guarded by Broker.mu.
	control [][]byte // packets that are not messages, encoded
	waiting int      // their bytes
	final   bool     // the last of control ends the connection
}

// Bounds of a connection that have no setting.
const (
	// A packet that has begun must end within this: a megabyte at 35 kB/s.
	packetTimeout = 30 * time.Second
	// Acknowledgements that a client may leave unread before nothing more is read from it.
	maxControl = 64 << 10
	// Packets below this come out of no pool.
	smallPacket = 64 << 10
	// What is written at once: each has the whole of the write timeout.
	chunk = 32 << 10
	// A connection that is being ended has this to read the reason.
	lastWords = time.Second
	// Messages of QoS 2 from a client that it may leave unfinished.
	maxIncoming = 1024
	// Bytes of a topic or a filter, and of a client id.
	maxTopic, maxClientID = 1024, 256
)

var errClosed = errors.New("the connection is closed")

func newConn(b *Broker, c net.Conn) *conn {
	k := &conn{
		b: b, net: c, in: bufio.NewReaderSize(c, 4<<10), version: 4, tokens: float64(2 * b.o.MaxRate), filled: time.Now(),
		wake: make(chan struct{}, 1), drained: make(chan struct{}, 1), done: make(chan struct{}),
	}
	k.out = bufio.NewWriterSize(deadlined{k}, 8<<10)
	return k
}

func (c *conn) close() {
	c.once.Do(func() {
		close(c.done)
		_ = c.net.Close()
	})
}

// wakes tells the writer that there is something to do.
func (c *conn) wakes() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// say queues a packet that is no message. Broker.mu is held.
func (c *conn) say(p []byte) {
	if c.final {
		return
	}
	c.control = append(c.control, p)
	c.waiting += len(p)
	c.wakes()
}

// end ends the connection, with the reason where the client understands one. It does not wait. Broker.mu is held.
func (c *conn) end(code reason) {
	if c.final {
		return
	}
	if c.version == 5 && c.session != nil {
		c.say(encodeDisconnect(code))
	}
	c.finish()
}

// finish ends the connection after what is queued. Broker.mu is held.
func (c *conn) finish() {
	c.final = true
	c.wakes()
	c.short.Do(func() { time.AfterFunc(lastWords, c.close) })
}

// run reads until the connection ends. It returns when the writer has ended, too.
func (c *conn) run() error {
	var writer sync.WaitGroup
	writer.Go(c.writes)
	defer writer.Wait()
	err := c.reads()
	c.b.detach(c, err)
	// What was said last, a refusal for example, is still written.
	c.b.mu.Lock()
	c.finish()
	c.b.mu.Unlock()
	return err
}

// reads takes packets up to the end, which is nil where the client said goodbye.
func (c *conn) reads() error {
	_ = c.net.SetReadDeadline(time.Now().Add(connectTimeout))
	first, body, err := c.packet(min(c.b.largest, 2*smallPacket+maxTopic))
	if err != nil {
		return err
	}
	if first>>4 != kindConnect {
		return reasonProtocol
	}
	if err := c.b.connect(c, body); err != nil {
		return err
	}
	for {
		var deadline time.Time
		if c.idle > 0 {
			deadline = time.Now().Add(c.idle)
		}
		_ = c.net.SetReadDeadline(deadline)
		if _, err := c.in.Peek(1); err != nil {
			return err
		}
		_ = c.net.SetReadDeadline(time.Now().Add(packetTimeout))
		head, body, err := c.packet(c.b.largest)
		cost := 1.0
		if err == nil {
			var end bool
			cost, end, err = c.handle(head, body)
			if len(body) > smallPacket {
				c.b.pool.put(len(body))
			}
			if end {
				return nil
			}
		}
		if err != nil {
			if code, ok := errors.AsType[reason](err); ok {
				c.b.mu.Lock()
				c.end(code)
				c.b.mu.Unlock()
			}
			return err
		}
		if err := c.pace(cost); err != nil {
			return err
		}
	}
}

// packet reads a packet: its first byte, and the body. A large body's bytes are taken from the pool, and are
// the caller's to give back.
func (c *conn) packet(most int) (head byte, body []byte, err error) {
	if head, err = c.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	length := 0
	for shift := 0; ; shift += 7 {
		if shift == 28 {
			return 0, nil, reasonMalformed
		}
		x, err := c.in.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		length |= int(x&0x7f) << shift
		if x < 0x80 {
			break
		}
	}
	if length > most {
		return 0, nil, reasonTooLarge
	}
	if length > smallPacket {
		if err := c.b.pool.take(length, packetTimeout, c.done); err != nil {
			return 0, nil, err
		}
	}
	body = make([]byte, length)
	if _, err = io.ReadFull(c.in, body); err != nil {
		if length > smallPacket {
			c.b.pool.put(length)
		}
		return 0, nil, err
	}
	return head, body, nil
}

// pace waits until the client may send the next packet, and while it leaves too many acknowledgements unread.
func (c *conn) pace(cost float64) error {
	now, rate := time.Now(), float64(c.b.o.MaxRate)
	c.tokens = min(2*rate, c.tokens+now.Sub(c.filled).Seconds()*rate) - cost
	c.filled = now
	if c.tokens < 0 {
		t := time.NewTimer(time.Duration(-c.tokens / rate * float64(time.Second)))
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.done:
			return errClosed
		}
	}
	for {
		c.b.mu.Lock()
		full := c.waiting > maxControl
		c.b.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-c.drained:
		case <-c.done:
			return errClosed
		}
	}
}

// deadlined writes to the connection in pieces, each of which has the write timeout.
type deadlined struct{ c *conn }

func (w deadlined) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		k := min(len(p)-n, chunk)
		_ = w.c.net.SetWriteDeadline(time.Now().Add(w.c.b.o.WriteTimeout))
		m, err := w.c.net.Write(p[n : n+k])
		if n += m; err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// piece is a part of a batch: bytes, and what they hold of a message.
type piece struct {
	head     []byte
	payload  []byte
	released *delivery // of QoS 0: let go of when it is written
}

// writes sends what there is until the connection ends.
func (c *conn) writes() {
	defer c.close()
	var batch []piece
	for {
		var final bool
		batch, final = c.next(batch[:0])
		var err error
		for _, p := range batch {
			if err == nil {
				_, err = c.out.Write(p.head)
			}
			if err == nil && len(p.payload) > 0 {
				_, err = c.out.Write(p.payload)
			}
		}
		c.written(batch)
		if err == nil && (final || len(batch) == 0) {
			err = c.out.Flush()
		}
		if err != nil {
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				c.b.log.Warn("embedded broker closes a connection that does not read", "client", c.name(),
					"remote", c.net.RemoteAddr().String())
			}
			return
		}
		if final {
			return
		}
		if len(batch) == 0 {
			select {
			case <-c.wake:
			case <-c.done:
				return
			}
		}
	}
}

func (c *conn) name() string {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.session == nil {
		return ""
	}
	return c.session.id
}

// next takes what is to be written next: acknowledgements, then what was sent before on an earlier
// connection, then messages as far as the window goes.
func (c *conn) next(batch []piece) (_ []piece, final bool) {
	b := c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range c.control {
		batch = append(batch, piece{head: p})
	}
	c.control, c.waiting = nil, 0
	select {
	case c.drained <- struct{}{}:
	default:
	}
	s := c.session
	if c.final || s == nil || s.conn != c {
		return batch, c.final
	}
	now, bytes := time.Now(), 0
	for bytes < chunk && s.resent < len(s.inflight) {
		d := s.inflight[s.resent]
		s.resent++
		if d.received {
			batch = append(batch, piece{head: encodeAck(s.version, kindPubrel, d.id, reasonSuccess)})
			continue
		}
		d.dup = true
		left, _ := d.m.left(now)
		batch = append(batch, piece{head: publishHead(s.version, d, max(left, 1)), payload: d.m.payload})
		bytes += d.m.size()
	}
	for bytes < chunk && s.waiting > 0 && len(batch) < 256 {
		d := s.next()
		// A part of the memory alone: what is in flight is nobody's share of the queue, and must not fill it.
		if d.qos > 0 && (len(s.inflight) >= s.window || len(s.inflight) > 0 && s.flying+d.m.size() > b.o.MaxClientMemory/4) {
			break
		}
		s.take()
		left, alive := d.m.left(now)
		if !alive {
			b.drop(s, d)
			continue
		}
		if d.qos > 0 {
			d.id = s.nextID()
		}
		head := publishHead(s.version, d, left)
		if s.largest > 0 && len(head)+len(d.m.payload) > s.largest {
			b.drop(s, d) // as if it had been delivered (MQTT 5.0, section 3.1.2.11.4)
			continue
		}
		p := piece{head: head, payload: d.m.payload}
		if d.qos > 0 {
			s.inflight = append(s.inflight, d)
			s.flying += d.m.size()
			s.resent = len(s.inflight)
		} else {
			p.released = d
		}
		batch = append(batch, p)
		bytes += d.m.size()
	}
	return batch, false
}

// written lets go of messages of QoS 0 that are written.
func (c *conn) written(batch []piece) {
	if !slices.ContainsFunc(batch, func(p piece) bool { return p.released != nil }) {
		return
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	for _, p := range batch {
		if p.released != nil {
			c.b.drop(c.session, p.released)
		}
	}
}
