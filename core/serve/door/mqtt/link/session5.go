package link

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/eclipse/paho.golang/packets"
	paholog "github.com/eclipse/paho.golang/paho/log"
	pahosession "github.com/eclipse/paho.golang/paho/session"
)

// errEnded is the end of what waited for an answer when the connection ended.
var errEnded = errors.New("the connection ended")

// session5 is the library's state of an MQTT 5 session: packet ids that are in use, the callers that wait for
// their answers, and how many messages the broker bears unacknowledged. The library's own would send again on
// a later connection by itself, keep copies of what it sends, and acknowledge what came as soon as it was
// handed over; this one lives as long as its connection, and acknowledges when it is told to.
type session5 struct {
	mu      sync.Mutex
	conn    io.Writer // nil: not connected
	last    uint16
	waiting map[uint16]waiter
	tokens  *token5 // of the message that is being published
	room    chan struct{}
	ended   chan struct{}
}

// waiter is a caller that waits for an answer.
type waiter struct {
	kind  byte
	reply chan<- packets.ControlPacket
	token *token5 // of a PUBLISH
}

func newSession5() *session5 {
	return &session5{waiting: map[uint16]waiter{}, ended: make(chan struct{})}
}

// allow sets how many messages may be unacknowledged.
func (s *session5) allow(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = make(chan struct{}, n)
}

// next says whose the PUBLISH is that is added now. Publish holds a lock around it.
func (s *session5) next(t *token5) {
	s.mu.Lock()
	s.tokens = t
	s.mu.Unlock()
}

// ConAckReceived begins the connection.
func (s *session5) ConAckReceived(conn io.Writer, _ *packets.Connect, _ *packets.Connack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
	return nil
}

// ConnectionLost ends the session and wakes every waiter with an error.
func (s *session5) ConnectionLost(*packets.Disconnect) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = nil
	for id, w := range s.waiting {
		delete(s.waiting, id)
		w.end()
	}
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
	return nil
}

func (w waiter) end() {
	if w.token != nil {
		w.token.finish(errEnded)
	}
	select {
	case w.reply <- packets.ControlPacket{}:
	default:
	}
}

// AddToSession gives a packet its id. A PUBLISH waits until the broker bears one more.
func (s *session5) AddToSession(ctx context.Context, packet pahosession.Packet, reply chan<- packets.ControlPacket) error {
	kind := packet.Type()
	if kind == packets.PUBLISH {
		select {
		case s.room <- struct{}{}:
		case <-s.ended:
			return pahosession.ErrNoConnection
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return pahosession.ErrNoConnection
	}
	for range 1<<16 - 1 {
		if s.last++; s.last == 0 {
			s.last = 1
		}
		if _, used := s.waiting[s.last]; used {
			continue
		}
		w := waiter{kind: kind, reply: reply}
		if kind == packets.PUBLISH {
			w.token = s.tokens
		}
		s.waiting[s.last] = w
		packet.SetIdentifier(s.last)
		return nil
	}
	return pahosession.ErrPacketIdentifiersExhausted
}

// answers says which packet answers which.
var answers = map[byte]byte{ //nolint:gochecknoglobals // a table
	packets.SUBSCRIBE:   packets.SUBACK,
	packets.UNSUBSCRIBE: packets.UNSUBACK,
	packets.PUBLISH:     packets.PUBACK,
}

// PacketReceived passes an answer to who waits for it, and a message on. An answer that nobody waits for is
// passed over. Messages of QoS 2 are not asked for: no subscription of this side grants them.
func (s *session5) PacketReceived(p *packets.ControlPacket, messages chan<- *packets.Publish) error {
	if m, ok := p.Content.(*packets.Publish); ok {
		messages <- m // is taken without delay: see Dialling.OnMessage
		return nil
	}
	id := p.PacketID()
	s.mu.Lock()
	w, ok := s.waiting[id]
	if ok = ok && answers[w.kind] == p.Type; ok {
		delete(s.waiting, id)
	}
	s.mu.Unlock()
	if !ok {
		return nil
	}
	if w.kind == packets.PUBLISH {
		<-s.room
	}
	if ack, is := p.Content.(*packets.Puback); is && w.token != nil {
		var err error
		if ack.ReasonCode >= 0x80 {
			e := &ReasonError{Packet: "PUBACK", Code: ack.ReasonCode}
			if ack.Properties != nil {
				e.Text = ack.Properties.ReasonString
			}
			err = e
		}
		w.token.finish(err)
	}
	w.reply <- *p // has room for it
	return nil
}

// Ack is called by the library when a message was handed over. It is acknowledged later: see acknowledge.
func (s *session5) Ack(*packets.Publish) error { return nil }

// acknowledge sends the PUBACK of a message.
func (s *session5) acknowledge(id uint16) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return
	}
	ack := packets.Puback{Properties: &packets.Properties{}, PacketID: id}
	_, _ = ack.WriteTo(conn) // a connection that has ended shows where it is read
}

// Close ends it as ConnectionLost does.
func (s *session5) Close() error { return s.ConnectionLost(nil) }

// SetErrorLogger does nothing: the library's log is not wanted.
func (s *session5) SetErrorLogger(paholog.Logger) {}

// SetDebugLogger does nothing, likewise.
func (s *session5) SetDebugLogger(paholog.Logger) {}
