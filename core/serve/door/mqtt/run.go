package mqtt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"edged/core/serve/door/mqtt/link"
)

// Times of the connection. Together they bring a node back within 5 s of its broker: at most backoffMost until the next
// try, and a few round trips.
const (
	backoffLeast = 250 * time.Millisecond
	backoffMost  = 3 * time.Second
	steadyAfter  = 10 * time.Second // a connection that lived so long was a good one
	ackTimeout   = 20 * time.Second // of a publish or a subscription: a broker that does not answer is no broker
	adoptTime    = 300 * time.Millisecond
	flushTime    = 3 * time.Second // for what waits when the door closes
	farewellTime = time.Second     // for the "offline" after it
	dropsEvery   = 30 * time.Second
)

// takeovers is how many good connections in a row must end at once before another client of the same id is suspected.
const takeovers = 3

// Availability payloads.
const (
	online  = "online"
	offline = "offline"
)

// ClientID is the client id of a node.
func ClientID(node string) string { return "edged-" + node }

// Run keeps the door open until ctx ends: it connects, takes messages in and sends what waits, and begins anew when the
// connection ends. Then it publishes what still waits, and "offline", and returns nil. It is called once.
func (d *Door) Run(ctx context.Context) error {
	var readers sync.WaitGroup
	readers.Go(func() { d.take(ctx) })
	readers.Go(func() { d.takeCancels(ctx) })
	defer readers.Wait()

	var r reconnect
	for {
		s := &session{door: d, adopted: r.adopted}
		began := time.Now()
		err := s.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.adopted = r.adopted || s.up
		r.report(d, s, err, time.Since(began))
		pause := time.NewTimer(r.pause())
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil
		}
	}
}

// reconnect decides when to try again, and what to say about it.
type reconnect struct {
	adopted bool // stale retained topics were looked for
	backoff time.Duration
	said    string // the last complaint
	short   int    // connections in a row that were made at once, were good, and ended at once
}

// report logs why a session ended, each reason once in a row.
func (r *reconnect) report(d *Door, s *session, err error, lived time.Duration) {
	if s.up && lived > steadyAfter {
		r.backoff, r.said = 0, ""
	}
	if s.up && lived <= steadyAfter && !s.busy {
		r.short++
	} else {
		r.short = 0
	}
	if r.short == takeovers || r.short > 0 && r.short%20 == 0 {
		d.log.Error("the broker closes each connection soon after it was made: probably another client uses the same client id, such as a second node of this name",
			"client_id", ClientID(d.o.Node), "times", r.short)
	}
	text := err.Error()
	if text == r.said {
		d.log.Debug("still no lasting connection to the broker", "err", err)
		return
	}
	r.said = text
	if s.up {
		d.log.Warn("the connection to the broker ended", "err", err)
		return
	}
	d.log.Warn("no connection to the broker", "err", err)
}

// pause is how long to wait before the next try: doubling, and between half and the whole of it by chance, so that the
// nodes of a house do not all come back at once.
func (r *reconnect) pause() time.Duration {
	r.backoff = min(max(2*r.backoff, backoffLeast), backoffMost)
	return r.backoff/2 + rand.N(r.backoff/2)
}

// session is one connection, from dialling to its end.
type session struct {
	door    *Door
	adopted bool // stale retained topics have been looked for already
	apart   bool // it has unsubscribed from the requests of the node's group
	client  paho.Client
	conn    atomic.Pointer[link.Conn]
	up      bool // it was online
	busy    bool // something was unacknowledged when it ended
	lost    chan error
	waits   sync.WaitGroup // goroutines that wait for acknowledgements
}

// run connects and serves. It returns why the connection ended, or anything when ctx has ended.
func (s *session) run(ctx context.Context) error {
	d := s.door
	s.lost = make(chan error, 8)
	if err := s.connect(ctx); err != nil {
		return err
	}
	defer s.close()
	if err := s.enter(ctx); err != nil {
		// The DISCONNECT that follows keeps the broker from publishing the last will.
		_ = s.say(context.WithoutCancel(ctx), offline, farewellTime) // err says what is wrong
		return err
	}
	if err := s.say(ctx, online, ackTimeout); err != nil {
		// It may have arrived, and only its acknowledgement not: nobody may be left with it.
		_ = s.say(context.WithoutCancel(ctx), offline, farewellTime)
		return err
	}
	s.up = true
	d.online.Store(true)
	defer d.online.Store(false)
	d.retained.connected()
	d.out.connected() // before anybody is told that the door is ready: until here what may be dropped is
	d.once.Do(func() { close(d.ready) })
	d.log.InfoContext(ctx, "online", "broker", d.settings.URL, "client_id", ClientID(d.o.Node))

	// The sender outlives ctx: what waits when the door closes is still sent.
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	var sender sync.WaitGroup
	sender.Go(func() { s.send(sending) })
	sender.Go(func() { d.proveGroup(sending) })
	err := s.watch(ctx)
	if err == nil { // ctx ended
		_ = s.part(context.WithoutCancel(ctx), farewellTime) // a connection that ends here ends anyhow
		s.flush()
	}
	stop()
	sender.Wait()
	s.waits.Wait()
	if err == nil {
		err = s.say(context.WithoutCancel(ctx), offline, farewellTime)
		d.out.disconnected()
		return err
	}
	s.busy = d.out.busy()
	d.convict(d.out.disconnected())
	return err
}

// connect dials, and does CONNECT.
func (s *session) connect(ctx context.Context) error {
	d := s.door
	o, err := d.settings.Options(ctx, ClientID(d.o.Node), func(c *link.Conn) {
		c.OnOversize(d.oversized)
		s.conn.Store(c)
		if ctx.Err() != nil {
			s.cut()
		}
	})
	if err != nil {
		return err
	}
	o.SetCleanSession(false).
		SetAutoAckDisabled(true).
		SetDefaultPublishHandler(d.receive).
		SetBinaryWill(d.topics.Availability(), []byte(offline), 1, true).
		SetConnectionLostHandler(func(_ paho.Client, err error) { s.fail(err) })
	s.client = paho.NewClient(o)
	token := s.client.Connect()
	stop := context.AfterFunc(ctx, s.cut) // dialling ends with ctx by itself, waiting for CONNACK does not
	defer stop()
	<-token.Done()
	if err := token.Error(); err != nil {
		return d.settings.Explain(err)
	}
	return nil
}

// cut closes the connection without a farewell.
func (s *session) cut() {
	if c := s.conn.Load(); c != nil {
		_ = c.Close()
	}
}

// close ends the connection and the library's goroutines. A DISCONNECT is sent if it still can be.
func (s *session) close() {
	s.client.Disconnect(250)
	s.cut() // where the library had given up before
}

// fail ends the session for a reason.
func (s *session) fail(err error) {
	select {
	case s.lost <- err:
	default:
	}
}

// wait waits for the library's answer to something.
func (s *session) wait(ctx context.Context, t paho.Token, most time.Duration, what string) error {
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	select {
	case <-t.Done():
		if err := t.Error(); err != nil {
			return s.door.settings.Explain(fmt.Errorf("%s: %w", what, err))
		}
		return nil
	case err := <-s.lost:
		return s.door.settings.Explain(err)
	case <-timeout.C:
		s.cut() // the broker has stopped listening
		return fmt.Errorf("mqtt: broker %s: %s: no answer within %v", s.door.settings.URL, what, most)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter makes the node's subscriptions. Those to its group come last: rumqttd 0.20 makes ordinary subscriptions of the shared
// ones of a client that unsubscribes from anything, and each node would run every request; subscribing once more mends it.
func (s *session) enter(ctx context.Context) error {
	if err := s.subscribe(ctx, s.door.filters()); err != nil {
		return err
	}
	if !s.adopted {
		s.adopt(ctx)
	}
	return s.joinGroup(ctx)
}

// joinGroup subscribes to the requests of the node's group, where it is in one and stays.
func (s *session) joinGroup(ctx context.Context) error {
	t := s.door.topics
	if t.Group == "" || s.door.left() {
		return nil
	}
	return s.subscribe(ctx, map[string]byte{t.shared(t.Group): 1})
}

// filters are the subscriptions that the node needs, but for the shared one of its group, and that to Home Assistant's birth where it is told of the node.
func (d *Door) filters() map[string]byte {
	f := d.topics.Filters()
	if d.o.Device != nil {
		f[d.o.Device.Birth] = 1
		f[d.o.Device.Select] = 1
	}
	return f
}

// subscribe asks for the inputs, and fails unless all are granted.
func (s *session) subscribe(ctx context.Context, filters map[string]byte) error {
	s.conn.Load().Expect(len(filters))
	token := s.client.SubscribeMultiple(filters, nil)
	if err := s.wait(ctx, token, ackTimeout, "subscribing"); err != nil {
		return err
	}
	return refused(s.door.settings, token, filters)
}

// refusedCode is what a SUBACK holds for a filter that the broker does not grant (MQTT 3.1.1, section 3.9.3).
const refusedCode = 0x80

// refused makes an error of the filters that a SUBACK refuses, or says nothing about.
func refused(settings link.Settings, token paho.Token, filters map[string]byte) error {
	st, ok := token.(*paho.SubscribeToken)
	if !ok {
		return nil
	}
	granted := st.Result()
	var list []string
	for filter := range filters {
		if code, told := granted[filter]; !told || code >= refusedCode {
			list = append(list, filter)
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	hint := "its access list must let this client read them (docs/mqtt.md lists the topics that edged needs)"
	if slices.IndexFunc(list, func(f string) bool { return !strings.HasPrefix(f, "$share/") }) < 0 {
		hint = "its access list lacks them, or it knows no shared subscriptions: then leave mqtt.share_group empty"
	}
	user := "without a user name"
	if settings.Username != "" {
		user = fmt.Sprintf("as user %q", settings.Username)
	}
	return fmt.Errorf("mqtt: broker %s: refuses, %s, the subscriptions to %s: %s", settings.URL, user, strings.Join(list, ", "), hint)
}

// adopt clears away what an earlier life of this node left at the broker: retained topics of adapters that are there no longer, and
// a subscription to the group under the share name of earlier versions. It is done once.
func (s *session) adopt(ctx context.Context) {
	t := s.door.topics
	s.sweep(ctx)
	filters := []string{t.Adapter("+")}
	if t.Group != "" {
		filters = append(filters, t.sharedOnce(t.Group))
	}
	_ = s.wait(ctx, s.client.Unsubscribe(filters...), ackTimeout, "unsubscribing") // a lost connection shows soon enough
}

// sweep looks for retained topics of adapters, and has those removed that nobody set in this life.
func (s *session) sweep(ctx context.Context) {
	filter := s.door.topics.Adapter("+")
	s.conn.Load().Expect(1)
	token := s.client.Subscribe(filter, 0, nil)
	if s.wait(ctx, token, ackTimeout, "subscribing") != nil || refused(s.door.settings, token, map[string]byte{filter: 0}) != nil {
		return
	}
	enough := time.NewTimer(adoptTime) // retained messages follow the SUBACK at once
	select {
	case <-enough.C:
	case <-ctx.Done():
		enough.Stop()
	}
}

// say publishes the availability.
func (s *session) say(ctx context.Context, word string, most time.Duration) error {
	token := s.client.Publish(s.door.topics.Availability(), 1, true, word)
	return s.wait(ctx, token, most, "publishing "+word)
}

// part unsubscribes from the requests of the node's group, once. A persistent session would keep its share of them, with the
// node gone.
func (s *session) part(ctx context.Context, most time.Duration) error {
	group := s.door.topics.Group
	if group == "" || s.apart {
		return nil
	}
	s.apart = true
	return s.wait(ctx, s.client.Unsubscribe(s.door.topics.leave(group)...), most, "leaving the group")
}

// maxForeign bounds the groups that a connection unsubscribes from.
const maxForeign = 64

// depart unsubscribes from a group that the session has from an earlier start under other settings.
func (s *session) depart(ctx context.Context, group string) error {
	s.door.log.InfoContext(ctx, "the broker still deals requests of a group to this node, which is in it no longer: they are answered, and the group is left",
		"group", group)
	if err := s.wait(ctx, s.client.Unsubscribe(s.door.topics.leaveAll(group)...), ackTimeout, "leaving a group"); err != nil {
		return err
	}
	return s.joinGroup(ctx) // as in enter
}

// watch waits for the end: of the connection (an error) or of ctx (nil).
func (s *session) watch(ctx context.Context) error {
	d := s.door
	drops := time.NewTicker(dropsEvery)
	defer drops.Stop()
	leaving, foreign := d.leaving, map[string]bool{}
	for {
		select {
		case <-leaving:
			leaving = nil
			if err := s.part(ctx, ackTimeout); err != nil && ctx.Err() == nil {
				return err
			}
		case group := <-d.strays:
			if foreign[group] || len(foreign) >= maxForeign {
				continue
			}
			foreign[group] = true
			if err := s.depart(ctx, group); err != nil && ctx.Err() == nil {
				return err
			}
		case err := <-s.lost:
			return d.settings.ExplainEnd(err)
		case <-ctx.Done():
			return nil
		case <-drops.C:
			if n := d.out.takeDropped(); n > 0 {
				d.log.WarnContext(ctx, "messages were dropped, since more came than the broker takes", "messages", n)
			}
		}
	}
}

// flush waits until everything is sent and acknowledged, for a while.
func (s *session) flush() {
	timeout := time.NewTimer(flushTime)
	defer timeout.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !s.door.out.empty() || !s.door.retained.settled() {
		select {
		case <-tick.C:
		case err := <-s.lost:
			s.door.log.Debug("the connection ended before everything was sent", "err", err)
			return
		case <-timeout.C:
			return
		}
	}
}

// send publishes what waits until ctx ends.
func (s *session) send(ctx context.Context) {
	d := s.door
	for ctx.Err() == nil {
		if topic, payload, version, ok := d.retained.next(); ok {
			s.sendRetained(ctx, topic, payload, version)
			continue
		}
		if m := d.out.next(); m != nil {
			s.sendOne(ctx, m)
			continue
		}
		select {
		case <-d.out.wake:
		case <-ctx.Done():
		}
	}
}

// sendRetained publishes one retained topic and waits for its acknowledgement: there are few of them, and seldom.
func (s *session) sendRetained(ctx context.Context, topic string, payload []byte, version int) {
	token := s.client.Publish(topic, 1, true, payload)
	if s.acknowledged(ctx, token) {
		s.door.retained.acknowledged(topic, version)
	}
}

// sendOne publishes one message. What must be acknowledged is waited for by a goroutine of its own, of which the window
// lets there be few.
func (s *session) sendOne(ctx context.Context, m *outgoing) {
	if m.class == passing {
		s.client.Publish(m.topic, 0, false, m.payload)
		return
	}
	s.door.spare(m)
	token := s.client.Publish(m.topic, 1, false, m.payload)
	s.waits.Go(func() {
		if !s.acknowledged(ctx, token) {
			return
		}
		s.door.learn(m)
		s.door.out.acknowledged(m)
		s.door.published(m)
	})
}

// acknowledged waits for a PUBACK on this connection. When none comes, the connection is at an end.
func (s *session) acknowledged(ctx context.Context, token paho.Token) bool {
	timeout := time.NewTimer(ackTimeout)
	defer timeout.Stop()
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			s.fail(err)
			return false
		}
		return true
	case <-ctx.Done():
		return false
	case <-timeout.C:
		s.fail(fmt.Errorf("a message was not acknowledged within %v", ackTimeout))
		s.cut()
		return false
	}
}

// published tells the dispatcher that a last event has arrived at the broker.
func (d *Door) published(m *outgoing) {
	p, ok := d.o.Dispatcher.(Publisher)
	if !ok || !m.last {
		return
	}
	if err := p.Published(m.client, m.id); err != nil {
		d.log.Debug("an acknowledged answer is not in the inbox", "request_id", m.id, "client", m.client, "err", err)
	}
}
