package broker

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"strings"
	"time"
)

// connect takes up a CONNECT: it checks who it is, finds or makes the session, and answers.
func (b *Broker) connect(c *conn, body []byte) error {
	p, err := decodeConnect(body)
	if len(body) > smallPacket {
		b.pool.put(len(body))
	}
	c.version = p.version
	switch {
	case err != nil:
	case b.own(p.id):
		// A client that takes the node's id would end the node: a broker gives the session to the newest connection.
		if same(p.password, b.o.OwnSecret) == 0 {
			err = reasonNotAuthorized
		}
	case b.o.Username != "" && same(p.username, []byte(b.o.Username))&same(p.password, b.o.Password) == 0:
		err = reasonCredentials
	}
	if err == nil && (len(p.id) > maxClientID || p.will != nil && !b.fits(p.will.topic)) {
		err = reasonClientID
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var s *session
	present := false
	if err == nil {
		s, present, err = b.attach(c, p)
	}
	if err != nil {
		if code, ok := err.(reason); ok && code != reasonProtocol { //nolint:errorlint // it is this package's own
			c.say(encodeConnack(c.version, false, code, nil))
		}
		return err
	}
	var props []byte
	if c.version == 5 {
		props = binary.BigEndian.AppendUint16(append(props, propReceiveMaximum), maxIncoming)
		props = binary.BigEndian.AppendUint32(append(props, propMaxPacket), uint32(b.largest)) //nolint:gosec // at most 256 MiB
		if p.id == "" {
			props = appendText(append(props, propAssignedID), s.id)
		}
		if seconds := uint32(s.keeps / time.Second); seconds != p.sessionExpiry { //nolint:gosec // at most a week
			props = binary.BigEndian.AppendUint32(append(props, propSessionExpiry), seconds)
		}
	}
	c.say(encodeConnack(c.version, present, reasonSuccess, props))
	b.listener.established(c.net)
	return nil
}

// own says that a client id is that of the one who runs the broker.
func (b *Broker) own(id string) bool { return b.o.OwnID != "" && id == b.o.OwnID }

// fits says that a topic is within the caps.
func (b *Broker) fits(topic string) bool {
	return len(topic) <= maxTopic && strings.Count(topic, "/") < b.o.MaxLevels
}

// same compares without telling lengths by its time.
func same(a, b []byte) int {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:])
}

// attach gives a connection its session. Broker.mu is held.
func (b *Broker) attach(c *conn, p *connectPacket) (*session, bool, error) {
	if b.closing {
		return nil, false, reasonShutdown
	}
	id := p.id
	if id == "" {
		id = rand.Text()
	}
	s := b.sessions[id]
	if (s == nil || s.conn == nil) && b.connected >= b.o.MaxClients && !b.own(id) {
		b.warn("embedded broker is full: a client is refused", "client", id, "clients", b.connected)
		return nil, false, reasonBusy
	}
	if s != nil {
		if old := s.conn; old != nil { // the same id twice: the newer connection has it
			old.end(reasonTakenOver)
			b.away(s, p.clean || s.willDelay == 0)
		}
		if p.clean {
			b.forget(s)
		}
		if s.gone {
			s = nil
		}
	}
	present := s != nil
	if s == nil {
		if err := b.place(id); err != nil {
			return nil, false, err
		}
		s = &session{id: id, subs: map[string]*subscription{}, lines: map[string]*line{}, incoming: map[uint16]struct{}{}}
		b.sessions[id] = s
		b.held += sessionOverhead + len(id)
	}
	s.version, s.conn, s.resent = p.version, c, 0
	s.window = defaultWindow
	if r := int(p.properties.receiveMaximum); r > 0 {
		s.window = min(r, defaultWindow)
	}
	s.largest = int(p.properties.maxPacket)
	s.keeps = min(time.Duration(p.sessionExpiry)*time.Second, sessionExpiry)
	b.setWill(s, nil, 0) // one that waited is not due any more: its client is back
	if p.will != nil {
		if !b.room(p.will.size(), s) {
			b.forget(s)
			return nil, false, reasonBusy
		}
		b.setWill(s, p.will, time.Duration(p.willDelay)*time.Second)
	}
	b.connected++
	c.session = s
	c.idle = time.Duration(p.keepAlive) * time.Second * 3 / 2
	return s, present, nil
}

// place makes a place for a new session: the one that is away for longest leaves, where there are too many.
func (b *Broker) place(id string) error {
	for len(b.sessions) >= b.o.MaxSessions {
		var oldest *session
		for _, s := range b.sessions {
			if s.conn == nil && !b.own(s.id) && (oldest == nil || s.left.Before(oldest.left)) {
				oldest = s
			}
		}
		if oldest == nil && b.own(id) {
			break
		}
		if oldest == nil {
			return reasonBusy
		}
		b.warn("embedded broker forgets the session that is away for longest: there are too many", "client", oldest.id)
		b.forget(oldest)
	}
	if !b.room(sessionOverhead+len(id), nil) {
		return reasonBusy
	}
	return nil
}

// detach ends a connection's part in its session. err is nil where the client said goodbye.
func (b *Broker) detach(c *conn, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := c.session
	if s == nil || s.conn != c {
		return
	}
	if err == nil {
		b.setWill(s, nil, 0)
	}
	b.away(s, s.willDelay == 0 || s.keeps == 0)
}

// away marks a session as not connected, and publishes its will: now, or when the client did not come back in
// time. Broker.mu is held.
func (b *Broker) away(s *session, now bool) {
	s.conn, s.left = nil, time.Now()
	b.connected--
	lines := s.turns
	s.lines, s.turns, s.waiting = map[string]*line{}, nil, 0
	for _, l := range lines {
		for _, d := range l.queue {
			if d.qos == 0 { // not for those who are away
				b.drop(s, d)
			} else {
				s.push(d)
			}
		}
	}
	if m := s.will; m != nil {
		if now {
			b.hold(m)
			b.setWill(s, nil, 0)
			b.publishWill(m)
			b.release(m)
		} else {
			s.willDue = s.left.Add(min(s.willDelay, s.keeps))
		}
	}
	if s.keeps == 0 {
		b.forget(s)
	}
}

// publishWill publishes a last will, unless it would be a topic of the broker's own.
func (b *Broker) publishWill(m *message) {
	if !strings.HasPrefix(m.topic, "$") {
		b.publish(m)
	}
}

// owns says that the connection still has its session. Broker.mu is held.
func (c *conn) owns() bool { return c.session.conn == c && !c.session.gone }

// handle acts on a packet, and says what it cost in packets. end: the client said goodbye.
func (c *conn) handle(head byte, body []byte) (cost float64, end bool, err error) {
	kind, flags := head>>4, head&15
	wanted := byte(0)
	if kind == kindPubrel || kind == kindSubscribe || kind == kindUnsubscribe {
		wanted = 2
	}
	if kind != kindPublish && flags != wanted {
		return 1, false, reasonMalformed
	}
	switch kind {
	case kindPublish:
		return c.handlePublish(flags, body)
	case kindPuback, kindPubrec, kindPubrel, kindPubcomp:
		return 1, false, c.handleAck(kind, body)
	case kindSubscribe:
		cost, err = c.handleSubscribe(body)
		return cost, false, err
	case kindUnsubscribe:
		cost, err = c.handleUnsubscribe(body)
		return cost, false, err
	case kindPingreq:
		c.b.mu.Lock()
		c.say(packet(kindPingresp, 0, nil))
		c.b.mu.Unlock()
		return 1, false, nil
	case kindDisconnect:
		return c.handleDisconnect(body)
	}
	return 1, false, reasonProtocol
}

// handlePublish routes a message and acknowledges it.
func (c *conn) handlePublish(flags byte, body []byte) (float64, bool, error) {
	p, err := decodePublish(c.version, flags, body)
	if err != nil {
		return 1, false, err
	}
	b := c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	s := c.session
	if !c.owns() {
		return 1, false, errClosed
	}
	m := p.m
	m.from = s.id
	code, visited := reasonSuccess, 0
	switch _, again := s.incoming[p.id]; {
	case m.qos == 2 && again: // it was routed when it came first
	case m.qos == 2 && len(s.incoming) >= maxIncoming:
		return 1, false, reasonReceiveMaximum
	case !b.fits(m.topic):
		b.warn("embedded broker drops a message: its topic is too long", "client", s.id)
		code = reasonTopic
	case strings.HasPrefix(m.topic, "$"):
		code = reasonNotAuthorized
	default:
		out := b.publish(m)
		visited = out.visited
		switch {
		case out.full && out.got == 0:
			code = reasonQuota
		case out.got == 0:
			code = reasonNoSubscribers
		}
	}
	if c.owns() { // else what it published cost it its own place
		switch m.qos {
		case 1:
			c.say(encodeAck(c.version, kindPuback, p.id, code))
		case 2:
			if code < 0x80 {
				s.incoming[p.id] = struct{}{}
			}
			c.say(encodeAck(c.version, kindPubrec, p.id, code))
		}
	}
	return 1 + float64(visited)/64 + float64(len(body))/(8<<10), false, nil
}

// handleAck takes an acknowledgement, of either direction.
func (c *conn) handleAck(kind byte, body []byte) error {
	a, err := decodeAck(c.version, body)
	if err != nil {
		return err
	}
	b := c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	s := c.session
	if !c.owns() {
		return errClosed
	}
	code := reasonSuccess
	if kind == kindPubrel {
		if _, known := s.incoming[a.id]; !known {
			code = reasonUnknownID
		}
		delete(s.incoming, a.id)
		c.say(encodeAck(c.version, kindPubcomp, a.id, code))
		return nil
	}
	known := b.acknowledged(s, kind, a)
	if kind == kindPubrec && a.reason < 0x80 {
		if !known {
			code = reasonUnknownID
		}
		c.say(encodeAck(c.version, kindPubrel, a.id, code))
	}
	return nil
}

// handleSubscribe takes up filters one by one, and lets others in between.
func (c *conn) handleSubscribe(body []byte) (float64, error) {
	b := c.b
	p, err := decodeFilters(c.version, body, true, b.o.MaxSubscriptions)
	if err != nil {
		return 1, err
	}
	codes := make([]byte, len(p.filters))
	var retained []*subscription
	for i, a := range p.filters {
		b.mu.Lock()
		s := c.session
		if !c.owns() {
			b.mu.Unlock()
			return 1, errClosed
		}
		var sub *subscription
		if codes[i], sub = b.subscribe(s, a, p.subscriptionID); sub != nil {
			retained = append(retained, sub)
		}
		if codes[i] >= 0x80 && c.version < 5 {
			codes[i] = byte(reasonRefusedOfVersion)
		}
		b.mu.Unlock()
	}
	b.mu.Lock()
	c.say(encodeFiltersAck(c.version, kindSuback, p.id, codes))
	b.mu.Unlock()
	for _, sub := range retained {
		b.mu.Lock()
		b.putRetained(sub)
		b.mu.Unlock()
	}
	return float64(1 + 20*len(p.filters)), nil
}

// handleUnsubscribe takes filters out.
func (c *conn) handleUnsubscribe(body []byte) (float64, error) {
	b := c.b
	p, err := decodeFilters(c.version, body, false, 4*b.o.MaxSubscriptions)
	if err != nil {
		return 1, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := c.session
	if !c.owns() {
		return 1, errClosed
	}
	codes := make([]byte, len(p.filters))
	for i, a := range p.filters {
		if sub := s.subs[a.filter]; sub != nil {
			b.unsubscribe(sub)
		} else {
			codes[i] = byte(reasonNoSubscription)
		}
	}
	c.say(encodeFiltersAck(c.version, kindUnsuback, p.id, codes))
	return float64(1 + len(p.filters)), nil
}

// handleDisconnect takes a goodbye, which may keep the will and change how long the session is kept.
func (c *conn) handleDisconnect(body []byte) (float64, bool, error) {
	code, props, err := decodeDisconnect(c.version, body)
	if err != nil {
		return 1, false, err
	}
	b := c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	s := c.session
	if props.hasSession && c.owns() {
		if s.keeps == 0 && props.sessionExpiry > 0 {
			return 1, false, reasonProtocol
		}
		s.keeps = min(time.Duration(props.sessionExpiry)*time.Second, sessionExpiry)
	}
	if code == reasonWithWill {
		return 1, false, errWithWill
	}
	return 1, true, nil
}
