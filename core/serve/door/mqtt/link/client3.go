package link

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// client3 speaks MQTT 3.1.1.
type client3 struct {
	paho paho.Client
	conn atomic.Pointer[Conn]
	acks acks
	lost sync.Once
}

// farewell is how long the library may take for its DISCONNECT, in milliseconds.
const farewell = 250

func (s Settings) dial3(ctx context.Context, d Dialling) (Client, error) {
	c := &client3{}
	o, err := s.options(ctx, d.ID, func(conn *Conn) {
		if d.OnOversize != nil {
			conn.OnOversize(d.OnOversize)
		}
		c.conn.Store(conn)
		if ctx.Err() != nil {
			c.Cut()
		}
	})
	if err != nil {
		return nil, err
	}
	o.SetCleanSession(d.Clean).SetAutoAckDisabled(true).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
			r := &Received{Duplicate: m.Duplicate(), Message: Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retained: m.Retained()}}
			if m.Qos() > 0 {
				r.acks, r.ack = &c.acks, c.acks.add(m.Ack)
			}
			d.OnMessage(r)
		}).
		SetConnectionLostHandler(func(_ paho.Client, err error) {
			c.acks.end()
			if d.OnLost != nil {
				c.lost.Do(func() { d.OnLost(err) })
			}
		})
	if d.Will != nil {
		o.SetBinaryWill(d.Will.Topic, d.Will.Payload, d.Will.QoS, d.Will.Retained)
	}
	c.paho = paho.NewClient(o)
	token := c.paho.Connect()
	stop := context.AfterFunc(ctx, c.Cut) // dialling ends with ctx by itself, waiting for CONNACK does not
	defer stop()
	<-token.Done() // it ends by its own timeouts
	if err := token.Error(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *client3) Version() string { return Version311 }

// Terms: a broker that speaks 3.1.1 says nothing of itself, and keeps a session for as long as it likes.
func (c *client3) Terms() Terms { return Terms{ReceiveMaximum: 1<<16 - 1, SessionExpiry: 1<<63 - 1} }

// refusedCode is the return code of a SUBACK for a filter that the broker does not grant (MQTT 3.1.1, section 3.9.3).
const refusedCode = 0x80

func (c *client3) Subscribe(ctx context.Context, filters map[string]byte) error {
	c.conn.Load().Expect(len(filters))
	token := c.paho.SubscribeMultiple(filters, nil)
	if err := wait(ctx, token); err != nil {
		return err
	}
	st, ok := token.(*paho.SubscribeToken)
	if !ok {
		return nil
	}
	granted := st.Result()
	refused := &RefusedError{}
	for filter := range filters {
		if code, told := granted[filter]; !told || code >= refusedCode {
			refused.Filters = append(refused.Filters, filter)
		}
	}
	if len(refused.Filters) == 0 {
		return nil
	}
	slices.Sort(refused.Filters)
	return refused
}

func (c *client3) Unsubscribe(ctx context.Context, filters ...string) error {
	return wait(ctx, c.paho.Unsubscribe(filters...))
}

func (c *client3) Publish(m Message) Token {
	return c.paho.Publish(m.Topic, m.QoS, m.Retained, m.Payload)
}

func (c *client3) Close() {
	c.paho.Disconnect(farewell)
	c.acks.end()
	c.Cut() // where the library had given up before
}

func (c *client3) Cut() {
	if conn := c.conn.Load(); conn != nil {
		_ = conn.Close()
	}
}

// wait waits for a token.
func wait(ctx context.Context, t Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seconds rounds up: what lives for a part of a second is told as one.
func seconds(d time.Duration) uint32 {
	s := (d + time.Second - 1) / time.Second
	return uint32(min(max(s, 0), 1<<32-2)) //nolint:gosec // bounded
}
