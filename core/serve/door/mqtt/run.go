package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"edged/core/serve/door/mqtt/group"
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

// Run keeps the door open until ctx ends: it connects, takes messages in and sends what waits, and begins anew when the
// connection ends. Then it publishes what still waits, and "offline", and returns nil. It is called once.
func (d *Door) Run(ctx context.Context) error {
	var readers sync.WaitGroup
	readers.Go(func() { d.take(ctx) })
	readers.Go(func() { d.takeCancels(ctx) })
	defer readers.Wait()
	if d.fleet != nil {
		serving, stop := context.WithCancel(context.WithoutCancel(ctx)) // what the group decides at the end is still done
		readers.Go(func() { d.fleet.serve(serving) })
		defer stop()
	}

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
		d.log.Error(
			"the broker closes each connection soon after it was made: probably another client uses the same client id, such as a second node of this name",
			"client_id",
			d.topics.ClientID(),
			"times",
			r.short,
		)
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
	client  link.Client
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
	if d.fleet != nil {
		d.fleet.connected()
		defer d.fleet.step(group.Lost{})
	}
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
	d.log.InfoContext(ctx, "online", "broker", d.settings.URL, "client_id", d.topics.ClientID(), "mqtt", s.client.Version())

	// The sender outlives ctx: what waits when the door closes is still sent.
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	var sender sync.WaitGroup
	sender.Go(func() { s.send(sending) })
	err := s.watch(ctx)
	if err == nil { // ctx ended
		s.part(context.WithoutCancel(ctx))
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
	d.dropRefused(d.out.disconnected())
	return err
}

// connect dials, and does CONNECT.
func (s *session) connect(ctx context.Context) error {
	d := s.door
	client, err := d.settings.Dial(ctx, link.Dialling{
		ID: d.topics.ClientID(), SessionExpiry: d.o.Config.SessionExpiry,
		Will:       &link.Message{Topic: d.topics.Availability(), Payload: []byte(offline), QoS: 1, Retained: true},
		OnMessage:  d.receive,
		OnLost:     s.fail,
		OnOversize: d.oversized,
	})
	if err != nil {
		return err
	}
	s.client = client
	s.terms(ctx)
	return nil
}

// terms logs what of the broker's terms somebody should know.
func (s *session) terms(ctx context.Context) {
	d, t := s.door, s.client.Terms()
	if t.NoRetain {
		d.log.WarnContext(
			ctx,
			"the broker keeps no retained messages: who comes later does not see the node's availability, status and adapters",
		)
	}
	if want := d.o.Config.SessionExpiry; s.client.Version() == link.Version5 && t.SessionExpiry < want ||
		want == 0 && t.SessionExpiry < 1<<62 {
		d.log.WarnContext(ctx, "the broker keeps what waits for this node for less time than mqtt.session_expiry asks for",
			"kept", t.SessionExpiry, "asked", want)
	}
}

// cut closes the connection without a farewell.
func (s *session) cut() { s.client.Cut() }

// close ends the connection and the library's goroutines. A DISCONNECT is sent if it still can be.
func (s *session) close() { s.client.Close() }

// fail ends the session for a reason.
func (s *session) fail(err error) {
	select {
	case s.lost <- err:
	default:
	}
}

// wait waits for the broker's answer to something, which f asks for.
func (s *session) wait(ctx context.Context, most time.Duration, what string, f func(context.Context) error) error {
	asking, stop := context.WithTimeout(ctx, most)
	defer stop()
	answer := make(chan error, 1)
	go func() { answer <- f(asking) }()
	select {
	case err := <-answer:
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case asking.Err() != nil:
			s.cut() // the broker has stopped listening
			return fmt.Errorf("mqtt: broker %s: %s: no answer within %v", s.door.settings.URL, what, most)
		}
		select {
		case lost := <-s.lost: // it says why
			return s.door.settings.Explain(lost)
		default:
			return s.door.settings.Explain(fmt.Errorf("%s: %w", what, err))
		}
	case err := <-s.lost:
		return s.door.settings.Explain(err)
	}
}

// publish publishes, and waits for the acknowledgement.
func (s *session) publish(m link.Message) func(context.Context) error {
	return func(ctx context.Context) error { return await(ctx, s.client.Publish(m)) }
}

// await waits for a token.
func await(ctx context.Context, t link.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter makes the node's subscriptions.
func (s *session) enter(ctx context.Context) error {
	err := s.subscribe(ctx, s.door.filters())
	var r *link.RefusedError
	if errors.As(err, &r) && slices.Equal(r.Filters, []string{s.door.topics.rerank()}) {
		// An access list of an earlier version: everything else that it grants goes on.
		s.door.log.WarnContext(ctx, "documents cannot be ranked over this broker", "err", err)
		err = nil
	}
	if err != nil {
		return err
	}
	if !s.adopted {
		s.adopt(ctx)
	}
	return nil
}

// sit subscribes to what comes to the group's desk.
func (s *session) sit(ctx context.Context) error {
	if err := s.subscribe(ctx, s.door.topics.desk()); err != nil {
		return err
	}
	s.door.fleet.step(group.Listening{Resumed: s.client.Terms().SessionPresent})
	return nil
}

// filters are the subscriptions that the node needs, but for those at the desk of its group, and that to Home
// Assistant's birth where it is told of the node.
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
	err := s.wait(ctx, ackTimeout, "subscribing", func(ctx context.Context) error { return s.client.Subscribe(ctx, filters) })
	return refused(s.door.settings, err)
}

// explained is an error with a sentence of its own.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// refused says what to do about filters that the broker does not grant; another error it leaves as it is.
func refused(settings link.Settings, err error) error {
	var r *link.RefusedError
	if !errors.As(err, &r) {
		return err
	}
	hint := "its access list must let this client read them (docs/mqtt.md lists the topics that edged needs)"
	user := "without a user name"
	if settings.Username != "" {
		user = fmt.Sprintf("as user %q", settings.Username)
	}
	return &explained{fmt.Sprintf("mqtt: broker %s: refuses, %s, the subscriptions to %s: %s", settings.URL, user, r.List(), hint), err}
}

// adopt clears away what an earlier life of this node left at the broker: retained topics of adapters and
// models that are there no longer, and the shared subscriptions by which earlier versions were in a group. It
// is done once.
func (s *session) adopt(ctx context.Context) {
	t := s.door.topics
	s.sweep(ctx)
	filters := []string{t.Adapter("+"), t.Model("+")}
	if t.Group != "" {
		filters = append(filters, t.sharedOnce(t.Group)...)
	}
	_ = s.unsubscribe(ctx, ackTimeout, "unsubscribing", filters) // a lost connection shows soon enough
}

// sweep looks for retained topics of adapters and models, and has those removed that nobody set in this life.
func (s *session) sweep(ctx context.Context) {
	if s.subscribe(ctx, map[string]byte{s.door.topics.Adapter("+"): 0, s.door.topics.Model("+"): 0}) != nil {
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
	return s.wait(ctx, most, "publishing "+word, s.publish(link.Message{
		Topic: s.door.topics.Availability(), QoS: 1, Retained: true, Payload: []byte(word),
	}))
}

// unsubscribe takes subscriptions back.
func (s *session) unsubscribe(ctx context.Context, most time.Duration, what string, filters []string) error {
	return s.wait(ctx, most, what, func(ctx context.Context) error { return s.client.Unsubscribe(ctx, filters...) })
}

// part sends what still waits, and leaves the node's group. The last one that is there keeps its
// subscriptions: what is asked of the group waits for it. A connection that ends here ends anyhow.
func (s *session) part(ctx context.Context) {
	d := s.door
	if d.fleet == nil {
		s.flush()
		return
	}
	d.fleet.step(group.Leave{})
	s.flush()
	alone := d.fleet.alone()
	d.retained.set(d.topics.member(d.topics.Node), nil)
	s.flush()
	if !alone {
		_ = s.unsubscribe(ctx, farewellTime, "leaving the group", d.topics.leave(d.topics.Group))
	}
}

// maxForeign bounds the groups that a connection unsubscribes from.
const maxForeign = 64

// depart unsubscribes from a group that the session has from an earlier start under other settings.
func (s *session) depart(ctx context.Context, left string) error {
	s.door.log.InfoContext(
		ctx,
		"the broker still sends requests of a group to this node, which is in it no longer: its session leaves the group",
		"group",
		left,
	)
	return s.unsubscribe(ctx, ackTimeout, "leaving a group", s.door.topics.leave(left))
}

// watch waits for the end: of the connection (an error) or of ctx (nil).
func (s *session) watch(ctx context.Context) error {
	d := s.door
	drops := time.NewTicker(dropsEvery)
	defer drops.Stop()
	leaving, foreign := d.leaving, map[string]bool{}
	var seats chan struct{}
	var proof <-chan time.Time
	if d.fleet != nil {
		seats = d.fleet.seats
		t := time.NewTicker(groupProof)
		defer t.Stop()
		proof = t.C
	} else {
		leaving = nil
	}
	for {
		select {
		case <-leaving:
			leaving = nil
			d.fleet.step(group.Leave{})
		case <-seats:
			if err := s.sit(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		case <-proof:
			if d.fleet.prove(ctx) {
				proof = nil
			}
		case left := <-d.strays:
			if foreign[left] || len(foreign) >= maxForeign {
				continue
			}
			foreign[left] = true
			if err := s.depart(ctx, left); err != nil && ctx.Err() == nil {
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
	for !s.door.out.empty() || !s.door.retained.settled() || s.door.fleet != nil && !s.door.fleet.settled() {
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
	token := s.client.Publish(link.Message{Topic: topic, QoS: 1, Retained: true, Payload: payload})
	err := s.acknowledged(ctx, token)
	if err == nil || s.permanent(err) {
		if err != nil {
			s.door.log.ErrorContext(ctx, "the broker does not take a state of this node", "topic", topic, "bytes", len(payload), "err", err)
		}
		s.door.retained.acknowledged(topic, version)
	}
}

// sendOne publishes one message. What must be acknowledged is waited for by a goroutine of its own, of which the window
// lets there be few.
func (s *session) sendOne(ctx context.Context, m *outgoing) {
	if m.class == passing {
		s.client.Publish(link.Message{Topic: m.topic, Payload: m.payload, Properties: m.props})
		return
	}
	s.door.spare(m)
	token := s.client.Publish(link.Message{Topic: m.topic, QoS: 1, Payload: m.payload, Properties: m.props})
	s.waits.Go(func() {
		switch err := s.acknowledged(ctx, token); {
		case err == nil:
			s.door.learn(m)
			s.door.out.acknowledged(m)
			s.door.published(m)
		case s.permanent(err):
			s.door.notTaken(m, err)
		}
	})
}

// permanent reports whether a broker that speaks MQTT 5 would answer a message so each time: it is no fault
// of the connection.
func (s *session) permanent(err error) bool {
	var reason *link.ReasonError
	return errors.Is(err, link.ErrTooLarge) || errors.As(err, &reason) && reason.Packet == "PUBACK"
}

// acknowledged waits for a PUBACK on this connection. When none comes, the connection is at an end.
func (s *session) acknowledged(ctx context.Context, token link.Token) error {
	timeout := time.NewTimer(ackTimeout)
	defer timeout.Stop()
	select {
	case <-token.Done():
		err := token.Error()
		if err != nil && !s.permanent(err) {
			s.fail(err)
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		err := fmt.Errorf("a message was not acknowledged within %v", ackTimeout)
		s.fail(err)
		s.cut()
		return err
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
