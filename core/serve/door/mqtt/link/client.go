package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The values of mqtt.version.
const (
	VersionAuto = "auto"  // 5 where the broker speaks it, 3.1.1 elsewhere
	Version5    = "5"     // MQTT 5 or nothing
	Version311  = "3.1.1" // MQTT 3.1.1
)

// Client is one connection to a broker, from CONNACK to its end, of either version of MQTT. Nothing outlives
// it: what was not acknowledged on this connection counts as unacknowledged. Its methods may be called
// concurrently.
type Client interface {
	// Version is the protocol that is spoken: Version5 or Version311.
	Version() string
	// Terms returns the limits and abilities that the broker has announced.
	Terms() Terms
	// Subscribe asks for filters, each with its QoS, and waits for the answer. What the broker does not grant
	// is a *RefusedError.
	Subscribe(ctx context.Context, filters map[string]byte) error
	// Unsubscribe waits for the answer too. That a filter was not subscribed to is no error.
	Unsubscribe(ctx context.Context, filters ...string) error
	// Publish sends a message, after those of earlier calls by the same goroutine. With QoS 1 it waits until
	// the broker bears one more unacknowledged message. The token is done when the broker has acknowledged it
	// (QoS 1), or when it was written (QoS 0).
	Publish(m Message) Token
	// Close says farewell, where that is still possible, and ends the connection. It may be called more than once.
	Close()
	// Cut ends the connection without a farewell: the broker publishes the will.
	Cut()
}

// Token is a message on its way.
type Token interface {
	Done() <-chan struct{}
	// Error, once done: nil, a *ReasonError of the broker, ErrTooLarge, or why the connection ended.
	Error() error
}

// Message is a message to be published.
type Message struct {
	Topic    string
	Payload  []byte
	QoS      byte // 0 or 1
	Retained bool
	Properties
}

// Properties go with a message under MQTT 5. Under 3.1.1 they are not sent, and none come.
type Properties struct {
	ResponseTopic string        // where the sender wants the answer; "": nowhere in particular
	Correlation   []byte        // that the answer is to carry; nil: none
	ContentType   string        // "": not told
	Text          bool          // the payload is UTF-8
	Expiry        time.Duration // in whole seconds: what is left of the message's life, where Expires
	Expires       bool
	User          []UserProperty
}

// UserProperty is one name and value; a name may occur more than once.
type UserProperty struct{ Name, Value string }

// Received is a message that came.
type Received struct {
	Message
	Duplicate bool // it may have come before
	ack       *pendingAck
	acks      *acks
}

// Ack tells the broker that it may forget the message. Acknowledgements go out in the order in which the
// messages came, which MQTT demands: one that is given early waits for those before it. After the end of the
// connection nothing happens.
func (r *Received) Ack() {
	if r.ack != nil {
		r.acks.give(r.ack)
	}
}

// AckNow is Ack out of turn, for a message that there is no room for: waiting for those before it, it would
// hold up the broker's whole window, and the broker would drop what it has no room for either, without a word
// to anybody.
func (r *Received) AckNow() {
	if r.ack != nil {
		r.acks.jump(r.ack)
	}
}

// Terms are a broker's.
type Terms struct {
	ReceiveMaximum int           // messages that it bears unacknowledged; 65535 where it says nothing
	PacketMaximum  int           // bytes of a packet; 0: not told
	SessionExpiry  time.Duration // how long it keeps the session after the end of the connection
	SessionPresent bool          // it had kept one
	NoRetain       bool          // it keeps no retained messages
	NoShared       bool          // it knows no shared subscriptions
}

// Dialling holds the options of one connection.
type Dialling struct {
	ID            string
	Clean         bool          // neither take up a session nor leave one
	SessionExpiry time.Duration // MQTT 5, of a session that is not clean; 0: it has no end
	Will          *Message
	OnMessage     func(*Received) // called by the goroutine that reads, in order; it must not block
	OnLost        func(error)     // called once, in a goroutine of its own, when the connection ends without Close
	OnOversize    func(Oversize)  // see Conn
}

// ErrTooLarge says that a packet is larger than the broker has said it takes. It was not sent.
var ErrTooLarge = errors.New("the packet is larger than the broker takes")

// RefusedError names the filters that the broker does not grant, in order, with its reasons where it gave some.
type RefusedError struct {
	Filters []string
	Reasons []string // one for each; "": not told
}

func (e *RefusedError) Error() string {
	return "refuses the subscriptions to " + e.List()
}

// List names the filters, with the reasons.
func (e *RefusedError) List() string {
	parts := slices.Clone(e.Filters)
	for i, why := range e.Reasons {
		if why != "" {
			parts[i] += " (" + why + ")"
		}
	}
	return strings.Join(parts, ", ")
}

// ReasonError is an answer of a broker that speaks MQTT 5: a reason code of 0x80 or above, and its sentence
// where it gave one.
type ReasonError struct {
	Packet string // "CONNACK", "PUBACK", "DISCONNECT"
	Code   byte
	Text   string
}

func (e *ReasonError) Error() string {
	s := fmt.Sprintf("%s with reason 0x%02X, %s", e.Packet, e.Code, reasonName(e.Code))
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// Reason codes that something follows from (MQTT 5, section 2.4).
const (
	ReasonUnspecified    = 0x80
	ReasonImplementation = 0x83 // implementation specific
	ReasonVersion        = 0x84 // unsupported protocol version
	ReasonClientID       = 0x85
	ReasonPassword       = 0x86
	ReasonUnauthorized   = 0x87
	ReasonUnavailable    = 0x88
	ReasonBusy           = 0x89
	ReasonBanned         = 0x8a
	ReasonShuttingDown   = 0x8b
	ReasonKeepAlive      = 0x8d
	ReasonTakenOver      = 0x8e
	ReasonFilter         = 0x8f
	ReasonTopic          = 0x90
	ReasonPacketID       = 0x91 // packet identifier in use
	ReasonPacketLarge    = 0x95
	ReasonQuota          = 0x97
	ReasonAdministrator  = 0x98
	ReasonPayload        = 0x99
	ReasonRetain         = 0x9a
	ReasonQoS            = 0x9b
	ReasonShared         = 0x9e
)

// reasonName is the standard's name of a code.
func reasonName(code byte) string {
	names := map[byte]string{
		0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error", 0x83: "implementation specific error",
		ReasonVersion: "unsupported protocol version", ReasonClientID: "client identifier not valid", ReasonPassword: "bad user name or password",
		ReasonUnauthorized: "not authorized", ReasonUnavailable: "server unavailable", ReasonBusy: "server busy", ReasonBanned: "banned",
		ReasonShuttingDown: "server shutting down", 0x8c: "bad authentication method", ReasonKeepAlive: "keep alive timeout",
		ReasonTakenOver: "session taken over", ReasonFilter: "topic filter invalid", ReasonTopic: "topic name invalid",
		0x91: "packet identifier in use", 0x92: "packet identifier not found", 0x93: "receive maximum exceeded", 0x94: "topic alias invalid",
		ReasonPacketLarge: "packet too large", 0x96: "message rate too high", ReasonQuota: "quota exceeded",
		ReasonAdministrator: "administrative action", ReasonPayload: "payload format invalid", ReasonRetain: "retain not supported",
		ReasonQoS: "QoS not supported", 0x9c: "use another server", 0x9d: "server moved", ReasonShared: "shared subscriptions not supported",
		0x9f: "connection rate exceeded", 0xa0: "maximum connect time", 0xa1: "subscription identifiers not supported",
		0xa2: "wildcard subscriptions not supported",
	}
	if name, ok := names[code]; ok {
		return name
	}
	return "an unknown reason"
}

// oldFor is how long a broker that has refused MQTT 5 is asked in 3.1.1 at once: it may be upgraded.
const oldFor = time.Hour

// memory knows when a broker has refused MQTT 5. Settings that were made from one another share it.
type memory struct{ until atomic.Int64 } // in nanoseconds of Unix time

// Dial connects, and returns when the broker has accepted. ctx governs that much alone. Errors are in plain words.
//
// With VersionAuto it tries MQTT 5, and 3.1.1 where the broker refuses that version, closes the connection
// over it, or says nothing: brokers do each of the three.
func (s Settings) Dial(ctx context.Context, d Dialling) (Client, error) {
	if s.KeepAlive <= 0 {
		s.KeepAlive = 30 * time.Second
	}
	if s.MaxPayload <= 0 {
		s.MaxPayload = 1 << 20
	}
	if err := s.readable(); err != nil {
		return nil, err
	}
	old := s.Version == Version311 || s.Version != Version5 && s.old != nil && time.Now().UnixNano() < s.old.until.Load()
	if !old {
		c, err := s.dial5(ctx, d)
		if err == nil {
			return c, nil
		}
		if s.Version == Version5 || !tryOld(err) || ctx.Err() != nil {
			return nil, s.Explain(err)
		}
		if refusesVersion(err) && s.old != nil {
			s.old.until.Store(time.Now().Add(oldFor).UnixNano())
		}
	}
	c, err := s.dial3(ctx, d)
	if err != nil {
		return nil, s.Explain(err)
	}
	return c, nil
}

// refusesVersion reports whether a broker has said that it does not speak MQTT 5.
func refusesVersion(err error) bool {
	var reason *ReasonError
	return errors.Is(err, errOldBroker) || errors.As(err, &reason) && reason.Packet == "CONNACK" && reason.Code == ReasonVersion
}

// tryOld reports whether 3.1.1 is worth a try. What was wrong before CONNECT would be again.
func tryOld(err error) bool {
	if _, sent := errors.AsType[*connectError](err); !sent {
		return false
	}
	return refusesVersion(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || isTimeout(err) || errors.Is(err, context.DeadlineExceeded)
}

// connectError is a failure of the MQTT handshake, after the network connection was made.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// acks sends acknowledgements in the order in which the messages came. Adding one never waits for the network.
type acks struct {
	mu      sync.Mutex
	order   []*pendingAck
	sending bool // somebody does, without mu
	ended   bool
}

type pendingAck struct {
	send  func() // nil: it was sent
	given bool
}

// add takes note of a message.
func (a *acks) add(send func()) *pendingAck {
	p := &pendingAck{send: send}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		a.order = append(a.order, p)
	}
	return p
}

// jump sends one out of turn.
func (a *acks) jump(p *pendingAck) {
	a.mu.Lock()
	send := p.send
	if a.ended || p.given {
		send = nil
	}
	p.send, p.given = nil, true
	a.mu.Unlock()
	if send != nil {
		send()
	}
}

// give sends what may be sent now. Where somebody sends already, that one sends this too.
func (a *acks) give(p *pendingAck) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.given = true; a.sending {
		return
	}
	a.sending = true
	for !a.ended && len(a.order) > 0 && a.order[0].given {
		next := a.order[0]
		a.order[0] = nil
		a.order = a.order[1:]
		send := next.send
		if next.send = nil; send == nil {
			continue
		}
		a.mu.Unlock()
		send()
		a.mu.Lock()
	}
	a.sending = false
}

// end has nothing sent any more.
func (a *acks) end() {
	a.mu.Lock()
	a.ended, a.order = true, nil
	a.mu.Unlock()
}
