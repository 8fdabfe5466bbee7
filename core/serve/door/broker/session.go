package broker

import (
	"math"
	"slices"
	"time"
)

// message is a message that a client published. It does not change once it is routed, and is shared by all who get it.
type message struct {
	topic   string
	payload []byte
	props   []byte // properties of MQTT 5 that are passed on, encoded
	qos     byte
	retain  bool
	lives   uint32 // seconds, where mortal
	mortal  bool
	expires time.Time // where mortal
	from    string    // the client id of who published it
	number  uint64    // in the order of coming
	refs    int       // how often the broker holds it
}

// What things take beside their bytes: structs, map entries and slices, rounded up.
const (
	messageOverhead      = 256
	deliveryOverhead     = 128
	sessionOverhead      = 2048
	subscriptionOverhead = 512
	levelOverhead        = 256
)

func (m *message) size() int {
	return messageOverhead + len(m.topic) + len(m.payload) + len(m.props)
}

// left is the rest of a message's life in seconds; ok is false when it is over.
func (m *message) left(now time.Time) (seconds uint32, ok bool) {
	if !m.mortal {
		return 0, true
	}
	d := m.expires.Sub(now)
	return uint32(max(min((d+time.Second-1)/time.Second, math.MaxUint32), 0)), d > 0 //nolint:gosec // bounded on this line
}

// delivery is a message on its way to one client.
type delivery struct {
	m             *message
	qos           byte
	retain        bool
	dup           bool
	received      bool // QoS 2: the client has it (PUBREC), and PUBREL is what is sent
	subscriptions []int
	id            uint16
}

// subscription is a client's filter.
type subscription struct {
	asked
	session    *session
	group      string // of $share; "": none
	rest       string // the filter without $share/GROUP/
	identifier int
	bytes      int
}

// share is the number and size of a client's retained messages.
type share struct{ n, bytes int }

// line is the queue of one publisher's messages for one client, oldest first.
type line struct {
	from  string
	queue []*delivery
	bytes int
}

// session is the state of a client, connected or away. Everything in it is guarded by Broker.mu.
type session struct {
	id      string
	version byte
	conn    *conn         // nil: away
	keeps   time.Duration // how long it is remembered when it is away; 0: not
	left    time.Time     // when it went away
	gone    bool          // forgotten: nothing must be put into it any more
	subs    map[string]*subscription

	lines    map[string]*line // to be sent, by publisher; none is empty
	turns    []*line          // the same; the first is whose turn it is
	waiting  int              // messages in lines
	inflight []*delivery      // sent and not acknowledged, in the order of sending
	flying   int              // bytes of inflight
	resent   int              // as many of inflight were sent on this connection
	window   int              // most in flight
	largest  int              // most bytes of a packet that the client takes; 0: any
	lastID   uint16           // of a message to the client
	incoming map[uint16]struct{}

	will      *message
	willDelay time.Duration
	willDue   time.Time // away, and the will is to be published then

	held   int // bytes of its queue, messages in flight, subscriptions and will
	mark   uint64
	target int // with mark: where among the targets of the message that is being routed
}

// hold keeps a message; its bytes count once, however many hold it.
func (b *Broker) hold(m *message) {
	if m.refs == 0 {
		b.held += m.size()
	}
	m.refs++
}

func (b *Broker) release(m *message) {
	if m.refs--; m.refs == 0 {
		b.held -= m.size()
	}
}

// room makes room for need bytes that are for s (nil: for a session that is not there yet). Where the broker
// is full, who holds most gives way, if it holds more than s would: a session that is away is forgotten, and
// one that is connected loses what waits for it. Else there is no room.
func (b *Broker) room(need int, s *session) bool {
	for b.held+need > b.o.MaxMemory {
		mine := need
		if s != nil {
			mine += s.held
		}
		var most *session
		for _, other := range b.sessions {
			if other != s && !b.own(other.id) && other.held > mine && (most == nil || other.held > most.held) {
				most = other
			}
		}
		if most == nil {
			return false
		}
		b.warn("embedded broker is full: the client that holds most gives way", "client", most.id, "bytes", most.held)
		if most.conn == nil {
			b.forget(most)
			continue
		}
		before := most.held
		b.empty(most)
		if most.held == before { // subscriptions: it keeps them, but not at others' cost
			most.conn.end(reasonQuota)
			b.forget(most)
		}
	}
	return true
}

// put queues a message for a session; false: it does not get it.
func (b *Broker) put(s *session, m *message, qos byte, retain bool, identifiers []int) bool {
	if s.gone || s.conn == nil && (qos == 0 || s.keeps == 0) {
		return false
	}
	// A publisher may fill half of the room that others leave, so that one who floods a queue leaves room in
	// it for all.
	cost, mine, bytes := m.size()+deliveryOverhead, 0, 0
	if l := s.lines[m.from]; l != nil {
		mine, bytes = len(l.queue), l.bytes
	}
	if mine >= b.o.MaxQueued-s.waiting || s.waiting+len(s.inflight) > 0 && s.held+bytes+cost > b.o.MaxClientMemory {
		b.warn("embedded broker drops messages for a client that has too many waiting", "client", s.id, "waiting", s.waiting)
		return false
	}
	need := deliveryOverhead
	if m.refs == 0 {
		need += m.size()
	}
	if !b.room(need, s) || s.gone {
		return false
	}
	b.hold(m)
	b.held += deliveryOverhead
	s.held += cost
	s.push(&delivery{m: m, qos: qos, retain: retain, subscriptions: identifiers})
	if s.conn != nil {
		s.conn.wakes()
	}
	return true
}

// drop lets go of a delivery that has left the queue and the window.
func (b *Broker) drop(s *session, d *delivery) {
	s.held -= d.m.size() + deliveryOverhead
	b.held -= deliveryOverhead
	b.release(d.m)
}

// push appends a delivery to its publisher's line.
func (s *session) push(d *delivery) {
	l := s.lines[d.m.from]
	if l == nil {
		l = &line{from: d.m.from}
		s.lines[d.m.from] = l
		s.turns = append(s.turns, l)
	}
	l.queue = append(l.queue, d)
	l.bytes += d.m.size() + deliveryOverhead
	s.waiting++
}

// next returns the delivery that take would remove; nil: nothing waits.
func (s *session) next() *delivery {
	if len(s.turns) == 0 {
		return nil
	}
	return s.turns[0].queue[0]
}

// take takes the oldest of the publisher whose turn it is. Publishers take turns, so that one who floods a
// client does not keep another's message waiting behind all of its own; MQTT promises an order only for what
// one of them publishes.
func (s *session) take() *delivery {
	l := s.turns[0]
	s.turns = s.turns[1:]
	d := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.bytes -= d.m.size() + deliveryOverhead
	s.waiting--
	if len(l.queue) == 0 {
		delete(s.lines, l.from)
	} else {
		s.turns = append(s.turns, l)
	}
	return d
}

// empty drops what waits for a session and what it has not acknowledged.
func (b *Broker) empty(s *session) {
	for s.waiting > 0 {
		b.drop(s, s.take())
	}
	for _, d := range s.inflight {
		b.drop(s, d)
	}
	s.inflight, s.resent, s.flying = nil, 0, 0
}

// forget ends a session. A will that waits is published by the janitor, since the caller may be in the middle of
// routing.
func (b *Broker) forget(s *session) {
	if s.gone {
		return
	}
	s.gone = true
	b.empty(s)
	for _, sub := range s.subs {
		b.unsubscribe(sub)
	}
	if s.will != nil {
		b.wills = append(b.wills, s.will)
		b.setWill(s, nil, 0)
	}
	b.held -= sessionOverhead + len(s.id)
	delete(b.sessions, s.id)
}

// setWill sets the will of a session, or takes it away.
func (b *Broker) setWill(s *session, m *message, delay time.Duration) {
	if s.will != nil {
		s.held -= s.will.size()
		b.release(s.will)
	}
	s.will, s.willDelay, s.willDue = m, delay, time.Time{}
	if m != nil {
		m.from = s.id
		s.held += m.size()
		b.hold(m)
	}
}

// nextID is an identifier that no message to the client has.
func (s *session) nextID() uint16 {
	for {
		if s.lastID++; s.lastID != 0 && !slices.ContainsFunc(s.inflight, func(d *delivery) bool { return d.id == s.lastID }) {
			return s.lastID
		}
	}
}

// acknowledged ends a message to the client, or at a PUBREC its first half. It reports whether there is such a message.
func (b *Broker) acknowledged(s *session, kind byte, a ackPacket) bool {
	i := slices.IndexFunc(s.inflight, func(d *delivery) bool { return d.id == a.id })
	if i < 0 {
		return false
	}
	d := s.inflight[i]
	switch {
	case kind == kindPuback && d.qos != 1, kind != kindPuback && d.qos != 2:
		return false
	case kind == kindPubrec && a.reason < 0x80:
		d.received = true
		return true
	}
	s.inflight = slices.Delete(s.inflight, i, i+1)
	s.flying -= d.m.size()
	if i < s.resent {
		s.resent--
	}
	b.drop(s, d)
	if s.conn != nil {
		s.conn.wakes()
	}
	return true
}
