package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	paho "github.com/eclipse/paho.golang/paho"
	paholog "github.com/eclipse/paho.golang/paho/log"

	"edged/core/config"
)

// receiveMaximum is how many unacknowledged messages this side bears: few enough that what is read ahead
// stays small, and more than brokers send by themselves.
const receiveMaximum = 64

// forever is the session expiry of a session without end.
const forever = 1<<32 - 1

// errOldBroker is a CONNACK in the form of MQTT 3.1.1: what brokers answer that know no other.
var errOldBroker = errors.New("it does not speak MQTT 5")

// client5 speaks MQTT 5.
type client5 struct {
	paho    *paho.Client
	conn    *Conn
	session *session5
	acks    acks
	terms   Terms
	ended   context.Context //nolint:containedctx // the connection's end
	cancel  context.CancelFunc
	close   sync.Once
	lost    sync.Once
	sending sync.Mutex // over Publish: its packets are numbered and written in one order
}

func (s Settings) dial5(ctx context.Context, d Dialling) (Client, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, fmt.Errorf("mqtt: broker %q is no URL", s.URL)
	}
	connect, err := s.connect5(d)
	if err != nil {
		return nil, err
	}
	raw, err := s.open(ctx, u)
	if err != nil {
		return nil, err
	}
	c := &client5{conn: newConn(raw, s.KeepAlive, s.MaxPayload)}
	c.conn.five()
	if d.OnOversize != nil {
		c.conn.OnOversize(d.OnOversize)
	}
	c.ended, c.cancel = context.WithCancel(context.WithoutCancel(ctx)) // ctx is of dialling alone
	c.session = newSession5()
	var disconnected error // what the broker said at the end
	var said sync.Mutex
	lost := func(err error) {
		c.acks.end()
		c.cancel()
		said.Lock()
		if disconnected != nil {
			err = disconnected
		}
		said.Unlock()
		if d.OnLost != nil {
			c.lost.Do(func() { d.OnLost(err) })
		}
	}
	c.paho = paho.NewClient(paho.ClientConfig{
		Conn:        &locked{Conn: c.conn},
		Session:     c.session,
		PingHandler: &pinger{},
		AuthHandler: noAuth{},
		// Waiting is bounded where it is done.
		PacketTimeout: time.Hour,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) { c.receive(d, p.Packet); return true, nil },
		},
		OnServerDisconnect: func(p *paho.Disconnect) { lost(disconnectError(p)) },
		OnClientError:      lost,
	})
	connecting, done := context.WithTimeout(ctx, DialTimeout)
	defer done()
	stop := context.AfterFunc(connecting, c.Cut)
	defer stop()
	ack, err := c.paho.Connect(connecting, connect)
	if err != nil {
		c.cancel()
		_ = c.conn.Close()
		if ack != nil && ack.ReasonCode >= 0x80 {
			err = &ReasonError{Packet: "CONNACK", Code: ack.ReasonCode, Text: reasonText(ack.Properties)}
		} else if connecting.Err() != nil {
			err = connecting.Err()
		}
		return nil, &connectError{err}
	}
	c.take(d, connect, ack)
	return c, nil
}

// connect5 makes the CONNECT.
func (s Settings) connect5(d Dialling) (*paho.Connect, error) {
	connect := &paho.Connect{
		ClientID: d.ID, CleanStart: d.Clean, KeepAlive: uint16(min(s.KeepAlive/time.Second, 1<<16-1)), //nolint:gosec // bounded
		Properties: &paho.ConnectProperties{RequestProblemInfo: true, ReceiveMaximum: paho.Uint16(receiveMaximum)},
	}
	if !d.Clean {
		expiry := uint32(forever)
		if d.SessionExpiry > 0 {
			expiry = seconds(d.SessionExpiry)
		}
		connect.Properties.SessionExpiryInterval = &expiry
	}
	user, password, err := s.credentials()
	if err != nil {
		return nil, err
	}
	connect.Username, connect.UsernameFlag = user, user != ""
	connect.Password, connect.PasswordFlag = password, password != nil
	if d.Will != nil {
		connect.WillMessage = &paho.WillMessage{Topic: d.Will.Topic, Payload: d.Will.Payload, QoS: d.Will.QoS, Retain: d.Will.Retained}
	}
	return connect, nil
}

// credentials are the user and the password; "" and nil: none.
func (s Settings) credentials() (user string, password []byte, err error) {
	if s.Secret != "" {
		return "edged", []byte(s.Secret), nil
	}
	if s.PasswordFile != "" {
		if password, err = config.ReadSecret(s.PasswordFile); err != nil {
			return "", nil, fmt.Errorf("mqtt: password: %w", err)
		}
	}
	return s.Username, password, nil
}

// take keeps to what the CONNACK says.
func (c *client5) take(d Dialling, connect *paho.Connect, ack *paho.Connack) {
	c.terms = Terms{ReceiveMaximum: 1<<16 - 1, SessionPresent: ack.SessionPresent}
	expiry := connect.Properties.SessionExpiryInterval
	if p := ack.Properties; p != nil {
		if p.ReceiveMaximum != nil {
			c.terms.ReceiveMaximum = max(int(*p.ReceiveMaximum), 1)
		}
		if p.MaximumPacketSize != nil {
			c.terms.PacketMaximum = int(min(*p.MaximumPacketSize, 1<<28)) // no packet is larger than that
		}
		if p.ServerKeepAlive != nil && *p.ServerKeepAlive > 0 {
			c.conn.keepAlive.Store(int64(time.Duration(*p.ServerKeepAlive) * time.Second))
		}
		if p.SessionExpiryInterval != nil {
			expiry = p.SessionExpiryInterval
		}
		c.terms.NoRetain, c.terms.NoShared = !p.RetainAvailable, !p.SharedSubAvailable
	}
	switch {
	case d.Clean || expiry == nil:
	case *expiry == forever:
		c.terms.SessionExpiry = 1<<63 - 1
	default:
		c.terms.SessionExpiry = time.Duration(*expiry) * time.Second
	}
	c.session.allow(c.terms.ReceiveMaximum)
}

func reasonText(p *paho.ConnackProperties) string {
	if p == nil {
		return ""
	}
	return p.ReasonString
}

// disconnectError returns the error for a broker's DISCONNECT.
func disconnectError(p *paho.Disconnect) error {
	e := &ReasonError{Packet: "DISCONNECT", Code: p.ReasonCode}
	if p.Properties != nil {
		e.Text = p.Properties.ReasonString
	}
	return e
}

// receive passes a message on. The library would acknowledge it when this returns, which session5 keeps it from.
func (c *client5) receive(d Dialling, p *paho.Publish) {
	r := &Received{Duplicate: p.Duplicate(), Message: Message{Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, Retained: p.Retain}}
	if q := p.Properties; q != nil {
		r.ResponseTopic, r.Correlation, r.ContentType = q.ResponseTopic, q.CorrelationData, q.ContentType
		r.Text = q.PayloadFormat != nil && *q.PayloadFormat == 1
		if q.MessageExpiry != nil {
			r.Expires, r.Expiry = true, time.Duration(*q.MessageExpiry)*time.Second
		}
		for _, u := range q.User {
			r.User = append(r.User, UserProperty{u.Key, u.Value})
		}
	}
	if p.QoS > 0 {
		id := p.PacketID
		r.acks, r.ack = &c.acks, c.acks.add(func() { c.session.acknowledge(id) })
	}
	d.OnMessage(r)
}

func (c *client5) Version() string { return Version5 }
func (c *client5) Terms() Terms    { return c.terms }

func (c *client5) Subscribe(ctx context.Context, filters map[string]byte) error {
	s := &paho.Subscribe{}
	refused := &RefusedError{}
	for filter, qos := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: filter, QoS: qos})
	}
	ack, err := c.paho.Subscribe(ctx, s)
	if ack == nil {
		if errors.Is(err, paho.ErrInvalidArguments) { // it has said in its CONNACK that it does not know such filters
			for filter := range filters {
				refused.add(filter, "its CONNACK says that it does not know such filters")
			}
			return refused
		}
		return err
	}
	for i, sub := range s.Subscriptions {
		if i >= len(ack.Reasons) {
			refused.add(sub.Topic, "")
		} else if code := ack.Reasons[i]; code >= refusedCode {
			why := reasonName(code)
			if ack.Properties != nil && ack.Properties.ReasonString != "" {
				why += ": " + ack.Properties.ReasonString
			}
			refused.add(sub.Topic, why)
		}
	}
	if len(refused.Filters) == 0 {
		return nil
	}
	return refused
}

// add names a filter, in order.
func (e *RefusedError) add(filter, why string) {
	i := 0
	for i < len(e.Filters) && e.Filters[i] < filter {
		i++
	}
	e.Filters = append(e.Filters[:i], append([]string{filter}, e.Filters[i:]...)...)
	e.Reasons = append(e.Reasons[:i], append([]string{why}, e.Reasons[i:]...)...)
}

func (c *client5) Unsubscribe(ctx context.Context, filters ...string) error {
	ack, err := c.paho.Unsubscribe(ctx, &paho.Unsubscribe{Topics: filters})
	if ack != nil {
		return nil // "no subscription existed" and refusals: there is nothing that could be done
	}
	return err
}

// Publish waits for room first: see Client.
func (c *client5) Publish(m Message) Token {
	p := &paho.Publish{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retained && !c.terms.NoRetain, Properties: m.properties5()}
	token := newToken()
	if c.terms.PacketMaximum > 0 && packetSize(p) > c.terms.PacketMaximum {
		token.finish(ErrTooLarge)
		return token
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if m.QoS == 0 {
		_, err := c.paho.Publish(c.ended, p)
		token.finish(err)
		return token
	}
	c.session.next(token)
	_, err := c.paho.PublishWithOptions(c.ended, p, paho.PublishOptions{Method: paho.PublishMethod_AsyncSend})
	c.session.next(nil)
	if err != nil {
		token.finish(err)
	}
	return token
}

// properties5 are the properties of a message that is sent.
func (p Properties) properties5() *paho.PublishProperties {
	q := &paho.PublishProperties{ResponseTopic: p.ResponseTopic, CorrelationData: p.Correlation, ContentType: p.ContentType}
	if p.Text {
		q.PayloadFormat = paho.Byte(1)
	}
	if p.Expires {
		s := seconds(p.Expiry)
		q.MessageExpiry = &s
	}
	for _, u := range p.User {
		q.User = append(q.User, paho.UserProperty{Key: u.Name, Value: u.Value})
	}
	return q
}

// packetSize is how many bytes a PUBLISH takes on the line.
func packetSize(p *paho.Publish) int {
	n := 0
	for _, b := range p.Packet().Buffers() {
		n += len(b)
	}
	for length := n; ; length >>= 7 { // the fixed header: its type, and a byte for each seven bits of the length
		n++
		if length < 1<<7 {
			return n + 1
		}
	}
}

func (c *client5) Close() {
	c.close.Do(func() {
		c.lost.Do(func() {}) // nobody is told of an end that was asked for
		_ = c.paho.Disconnect(&paho.Disconnect{})
		c.acks.end()
		c.cancel()
		_ = c.conn.Close()
	})
}

func (c *client5) Cut() { _ = c.conn.Close() }

// token5 is a message on its way.
type token5 struct {
	done chan struct{}
	once sync.Once
	err  error
}

func newToken() *token5 { return &token5{done: make(chan struct{})} }

func (t *token5) Done() <-chan struct{} { return t.done }
func (t *token5) Error() error {
	select {
	case <-t.done:
		return t.err
	default:
		return nil
	}
}

func (t *token5) finish(err error) {
	t.once.Do(func() {
		t.err = err
		close(t.done)
	})
}

// noAuth answers brokers that begin an enhanced authentication, which nobody has asked for.
type noAuth struct{}

func (noAuth) Authenticate(*paho.Auth) *paho.Auth {
	return &paho.Auth{ReasonCode: packets.AuthContinueAuthentication}
}
func (noAuth) Authenticated() {}

// locked is a Conn as the library of MQTT 5 wants it: it writes a packet in parts, between Lock and Unlock.
// Small parts are put together: each would be a segment of its own on the line.
type locked struct {
	*Conn
	parts []byte
	err   error
}

// together is how much is gathered before it is written.
const together = 4 << 10

func (l *locked) Lock() { l.mu.Lock() }

// Unlock writes what was gathered. Where that fails nobody hears of it but the goroutine that reads: it has a
// second to find out why the broker closed the connection, a TLS alert for example, which closing this side
// would hide.
func (l *locked) Unlock() {
	if len(l.parts) > 0 && l.err == nil {
		_, l.err = l.writeNow(l.parts)
	}
	l.parts = l.parts[:0]
	if l.err != nil {
		time.AfterFunc(time.Second, func() { _ = l.Close() })
	}
	l.mu.Unlock()
}

// Write is called between Lock and Unlock.
func (l *locked) Write(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	if len(l.parts)+len(p) <= together {
		l.parts = append(l.parts, p...)
		return len(p), nil
	}
	if _, l.err = l.writeNow(l.parts); l.err != nil {
		return 0, l.err
	}
	l.parts = l.parts[:0]
	var n int
	n, l.err = l.writeNow(p)
	return n, l.err
}

var _ net.Conn = (*locked)(nil)

// pinger keeps an idle connection alive: Conn notices a broker that is silent, so nothing here waits for an
// answer, which would come late while a large packet is read away.
type pinger struct {
	mu             sync.Mutex
	sent, received time.Time
}

// Run pings whenever nothing was sent, or nothing came, for as long as the keep-alive.
func (p *pinger) Run(ctx context.Context, conn net.Conn, keepAlive uint16) error {
	every := time.Duration(keepAlive) * time.Second
	if every <= 0 {
		return nil
	}
	p.PacketSent() // the CONNECT
	p.PacketReceived()
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		p.mu.Lock()
		due := p.sent
		if p.received.Before(due) {
			due = p.received
		}
		p.mu.Unlock()
		if left := time.Until(due.Add(every)); left > 0 {
			timer.Reset(left)
			continue
		}
		if _, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(conn); err != nil {
			return err
		}
		p.PacketSent()
		timer.Reset(every)
	}
}

func (p *pinger) PacketSent() {
	p.mu.Lock()
	p.sent = time.Now()
	p.mu.Unlock()
}

func (p *pinger) PacketReceived() {
	p.mu.Lock()
	p.received = time.Now()
	p.mu.Unlock()
}

// PingResp does nothing: PacketReceived is called too.
func (p *pinger) PingResp() {}

// SetDebug does nothing: the library's log is not wanted.
func (p *pinger) SetDebug(paholog.Logger) {}
