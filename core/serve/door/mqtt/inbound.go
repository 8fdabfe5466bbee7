package mqtt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
	"edged/core/serve/door/mqtt/group"
	"edged/core/serve/door/mqtt/link"
	"edged/core/serve/door/wildcard"
)

// incoming is a message that waits to be read.
type incoming struct {
	topic   string
	payload []byte
	qos     byte
	props   link.Properties
	ack     func()
	ofGroup *group.Key // the request of the group that this node is to run; nil: it came to the node itself
}

// Bounds of what waits to be read. With QoS 1 a broker stops at its in-flight window (20 for mosquitto); QoS
// 0 has none.
const (
	maxIncoming = 1024
	maxCancels  = 256
)

// inbound holds messages between the client library's reader, which must never wait, and the goroutines that take the
// requests in, which wait for the journal.
//
// Clients take turns: reading a request may take a while, and one who sends many must not keep another's
// waiting behind them all. What one client sent stays in its order. For the same reason one may fill half of
// the room that the others leave.
type inbound struct {
	some    chan struct{} // there may be a message
	cancels chan incoming

	mu     sync.Mutex
	lines  map[string]*line
	turns  []*line // that are not empty; the first is next
	length int
	bytes  int // of waiting payloads
	most   int
}

// line is the queue of one client's messages.
type line struct {
	client   string
	messages []incoming
	bytes    int
}

func newInbound(maxPayload int) *inbound {
	return &inbound{
		some:    make(chan struct{}, 1),
		cancels: make(chan incoming, maxCancels),
		lines:   map[string]*line{},
		most:    max(4*maxPayload, 1<<20),
	}
}

// put queues a message of a client, or reports that there is no room.
func (q *inbound) put(client string, m incoming) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[client]
	if l == nil {
		l = &line{client: client}
	}
	if l.bytes+len(m.payload) > q.most-q.bytes || len(l.messages) >= maxIncoming-q.length {
		return false
	}
	if len(l.messages) == 0 {
		q.lines[client] = l
		q.turns = append(q.turns, l)
	}
	l.messages = append(l.messages, m)
	l.bytes += len(m.payload)
	q.length++
	q.bytes += len(m.payload)
	select {
	case q.some <- struct{}{}:
	default:
	}
	return true
}

// next takes the next message; false: there is none.
func (q *inbound) next() (incoming, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.turns) == 0 {
		return incoming{}, false
	}
	l := q.turns[0]
	q.turns = q.turns[1:]
	m := l.messages[0]
	l.messages = l.messages[1:]
	l.bytes -= len(m.payload)
	q.length--
	q.bytes -= len(m.payload)
	if len(l.messages) == 0 {
		delete(q.lines, l.client)
	} else {
		q.turns = append(q.turns, l)
	}
	return m, true
}

// sender is whose turn a message takes: its CLIENT's. Plain questions share one, since their tags are
// whatever somebody thinks up.
func (in input) sender() string {
	if in.level == levelAsk {
		return ""
	}
	return "/" + in.name
}

// receive is called by the client library for every message. It never blocks.
func (d *Door) receive(m *link.Received) {
	if d.fleet != nil && d.fleet.receive(m) {
		return
	}
	in, _, ok := d.topics.parse(m.Topic)
	if !ok {
		m.Ack()
		if v := d.o.Device; v != nil && m.Topic == v.Select {
			if !m.Retained { // one that was would undo at each connection what was chosen since
				v.Choose(string(m.Payload))
			}
			return
		}
		if v := d.o.Device; v != nil && m.Topic == v.Birth {
			// Its birth is retained where somebody set it so, and then comes at each of this node's
			// connections too; the device does so as well.
			if string(m.Payload) == online && !m.Retained {
				d.retained.again(v.Topic)
			}
			return
		}
		d.stale(m)
		return
	}
	if in.group != "" && in.group != d.topics.Group {
		m.Ack() // the nodes of that group have heard it too
		select {
		case d.strays <- in.group: // the session unsubscribes
		default: // more will come
		}
		return
	}
	if m.Retained {
		// It came from the broker's store at a subscription, not from a client: its time was when it was
		// published, and taking it again at every reconnect would answer it for ever.
		m.Ack()
		if in.group == "" || d.fleet.speaks() {
			d.retainedInput(in, m.Topic, m.Payload, m.Properties)
		}
		return
	}
	if in.group != "" && in.level != levelCancel {
		m.Ack() // the group's nodes keep it in memory until one of them has journalled it
		d.fleet.hear(in, m)
		return
	}
	msg := incoming{topic: m.Topic, payload: m.Payload, qos: m.QoS, props: m.Properties, ack: m.Ack}
	if in.level == levelCancel {
		m.Ack()
		select {
		case d.in.cancels <- msg:
		default:
			d.log.Warn("too many cancels at once: one was dropped", "topic", m.Topic)
		}
		return
	}
	if !d.in.put(in.sender(), msg) {
		d.overflow(msg)
		m.AckNow()
	}
}

// retainedInput tells, once for each message, that a message which a broker had kept is not taken: who
// published it with the retain flag before the node was there would wait for ever.
func (d *Door) retainedInput(in input, topic string, payload []byte, props link.Properties) {
	if len(payload) == 0 || !d.seen.add(hashOf(topic, payload)) {
		return
	}
	d.log.Info("a retained message on an input topic is not taken", "topic", topic)
	err := invalid("a retained message is not taken, since every start would take it again: publish it without the retain flag")
	p := &problem{err: err}
	if in.level != levelAsk && fields.Check(payload) == nil {
		dr := &draft{req: &dispatch.Request{}, given: map[string]bool{}}
		dr.findID(payload)
		p.id, p.user = dr.id, dr.req.Echo
	}
	if name := validName(in.name); p.id != "" && name == in.name {
		p.reply = d.topics.response(in.group, name, p.id)
	}
	d.refuse(topic, props, p)
}

// maxSeen bounds the retained messages that are remembered as told of.
const maxSeen = 256

// seenSet remembers digests, up to maxSeen. The zero value is empty.
type seenSet struct {
	mu  sync.Mutex
	set map[[32]byte]bool
}

// add reports whether a digest is new; when the set is full none is.
func (s *seenSet) add(h [32]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set[h] || len(s.set) >= maxSeen {
		return false
	}
	if s.set == nil {
		s.set = map[[32]byte]bool{}
	}
	s.set[h] = true
	return true
}

// stale removes a retained state of an adapter or a model that is there no longer.
func (d *Door) stale(m *link.Received) {
	ours := wildcard.Match(d.topics.Adapter("+"), m.Topic) || wildcard.Match(d.topics.Model("+"), m.Topic)
	if ours && m.Retained && len(m.Payload) > 0 && !d.retained.known(m.Topic) {
		d.retained.set(m.Topic, nil)
	}
}

// overflow refuses a message that there is no room for: with its id if it can be read, since its client waits.
func (d *Door) overflow(m incoming) {
	const again = time.Second
	full := &dispatch.Error{Code: dispatch.CodeQueueFull, Message: "too many requests arrive at once", Retry: again}
	in, _, _ := d.topics.parse(m.topic)
	p := &problem{err: full}
	if in.level != levelAsk && fields.Check(m.payload) == nil {
		dr := &draft{req: &dispatch.Request{}, given: map[string]bool{}}
		dr.findID(m.payload)
		p.id, p.user = dr.id, dr.req.Echo
	}
	if name := validName(in.name); p.id != "" && name == in.name {
		p.reply = d.topics.response(in.group, name, p.id)
	}
	d.refuse(m.topic, m.props, p)
}

// oversized is called when a message was swallowed by the connection.
func (d *Door) oversized(o link.Oversize) {
	in, _, ok := d.topics.parse(o.Topic)
	if !ok || in.group != "" && (in.group != d.topics.Group || !d.fleet.speaks()) {
		return
	}
	d.log.Warn("a message was too large and was swallowed", "topic", o.Topic, "bytes", o.Size)
	d.refuse(o.Topic, link.Properties{}, &problem{err: invalid(d.tooLarge(o.Size))})
}

func (d *Door) tooLarge(size int) string {
	return fmt.Sprintf("the payload has %d bytes, and mqtt.max_payload is %d", size, d.maxPayload())
}

// take reads the queued messages until ctx ends.
func (d *Door) take(ctx context.Context) {
	for {
		m, some := d.in.next()
		if !some {
			select {
			case <-d.in.some:
				continue
			case <-ctx.Done():
				return
			}
		}
		if d.admitCounted(ctx, m) {
			// Only now: what is acknowledged is journalled or refused.
			m.ack()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// takeCancels passes cancels on until ctx ends. They have a goroutine of their own: the journal holds back requests.
func (d *Door) takeCancels(ctx context.Context) {
	for {
		select {
		case m := <-d.in.cancels:
			d.cancel(m)
		case <-ctx.Done():
			return
		}
	}
}

func (d *Door) cancel(m incoming) {
	in, wrong, _ := d.topics.parse(m.topic)
	var id string
	err := fields.Bad("", "%s", wrong)
	if wrong == "" {
		id, err = parseCancel(m.payload)
	}
	if err != nil {
		d.refuse(m.topic, m.props, &problem{err: invalid(err.Error())})
		return
	}
	if in.group != "" && in.group != d.topics.Group {
		return
	}
	if id == cancelAll {
		n := 0
		if all, ok := d.o.Dispatcher.(AllCanceller); ok && in.group == "" {
			n = all.CancelAll(in.name)
		} else if ok {
			for _, client := range d.fleet.clients(in.name) {
				n += all.CancelAll(client)
			}
		}
		d.log.Info("every request was cancelled", "client", in.name, "requests", n)
		return
	}
	client := in.name
	if in.group != "" {
		client = d.fleet.client(in.name)
	}
	known := d.o.Dispatcher.Cancel(client, id)
	d.log.Debug("cancel", "request_id", id, "client", in.name, "known", known)
}

// admitCounted is admit, and refuses unread what has ended process after process: its broker would bring it
// for ever. What comes with QoS 0 does not come again.
func (d *Door) admitCounted(ctx context.Context, m incoming) bool {
	if d.o.Taking == nil || m.qos == 0 {
		return d.admit(ctx, m)
	}
	digest := hashOf(m.topic, m.payload)
	ends, ok := d.o.Taking.Begin(digest)
	if ok {
		defer d.o.Taking.End(digest)
		return d.admit(ctx, m)
	}
	err := &dispatch.Error{
		Code: dispatch.CodeQuarantined,
		Message: fmt.Sprintf(
			"this node ended %d times while it read this message of %d bytes, which is not read again",
			ends,
			len(m.payload),
		),
	}
	d.log.ErrorContext(
		ctx,
		"a message is not taken: the service ended each time that it was read",
		"topic",
		m.topic,
		"bytes",
		len(m.payload),
		"ends",
		ends,
	)
	d.refuse(m.topic, m.props, &problem{err: err})
	return true
}

// admit turns one message into a request and submits it. It reports whether the broker may forget the message.
func (d *Door) admit(ctx context.Context, m incoming) bool {
	in, wrong, _ := d.topics.parse(m.topic)
	var req *dispatch.Request
	var p *problem
	switch {
	case wrong != "":
		p = &problem{err: invalid(wrong)}
	case len(m.payload) > d.maxPayload():
		p = &problem{err: invalid(d.tooLarge(len(m.payload)))}
	case in.level == levelAsk:
		req, p = d.ask(in, m)
	default:
		l := d.limits
		l.once = m.props.ResponseTopic != ""
		if m.ofGroup != nil {
			l.drawn = m.ofGroup.ID
		}
		req, p = d.topics.parseRequest(in, m.topic, m.payload, l)
	}
	if p == nil {
		p = d.topics.five(in, req, m.props, d.limits)
	}
	if p == nil {
		if m.ofGroup != nil {
			req.Client, req.ID = d.fleet.client(in.name), m.ofGroup.ID
		}
		err := d.submit(ctx, req)
		if err == nil {
			if m.ofGroup != nil {
				d.fleet.admitted(*m.ofGroup, m, nil)
			}
			return true
		}
		if err.Code == dispatch.CodeShuttingDown && m.qos > 0 {
			return false // the broker keeps it for the next start
		}
		p = &problem{err: err, id: req.ID, user: req.Echo, reply: req.Reply}
		if err.Code == dispatch.CodeIDConflict {
			// On the response topic it would be taken for the last event of the request that has the id.
			p.reply = ""
		}
	}
	// Without the sentence: it quotes what it refuses, and that may be a prompt in the wrong place.
	d.log.DebugContext(ctx, "a message was refused", "topic", m.topic, "request_id", p.id, "code", string(p.err.Code))
	if m.ofGroup != nil {
		d.fleet.admitted(*m.ofGroup, m, p)
		return true
	}
	props := m.props
	if p.err.Code == dispatch.CodeIDConflict && len(props.Correlation) == 0 {
		props = link.Properties{} // nor on the response topic that it names
	}
	d.refuse(m.topic, props, p)
	return true
}

func invalid(why string) *dispatch.Error {
	return &dispatch.Error{Code: dispatch.CodeInvalidRequest, Message: why}
}

// ask makes a request of a plain prompt.
func (d *Door) ask(in input, m incoming) (*dispatch.Request, *problem) {
	switch {
	case len(m.payload) == 0:
		return nil, &problem{err: invalid("the prompt is empty")}
	case !utf8.Valid(m.payload):
		return nil, &problem{err: invalid("the prompt is not UTF-8")}
	}
	// A TAG is a client: each gets a fair share of the node, as CLIENTs of requests do. What `echo` and
	// editors put behind a text is no part of the question.
	prompt := strings.TrimSuffix(strings.TrimSuffix(string(m.payload), "\n"), "\r")
	if prompt == "" {
		return nil, &problem{err: invalid("the prompt is empty")}
	}
	return &dispatch.Request{
		Door: DoorName, Client: in.name, Reply: d.topics.groupAnswer(in.group, in.name), Plain: true, ID: newID("ask-"),
		Prompt: prompt, Hash: hashOf(m.topic, m.payload),
	}, nil
}

func (d *Door) submit(ctx context.Context, req *dispatch.Request) *dispatch.Error {
	err := d.o.Dispatcher.Submit(ctx, req, d)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*dispatch.Error](err); ok {
		return e
	}
	return &dispatch.Error{Code: dispatch.CodeInternal, Message: err.Error()}
}

// validName returns a name that may stand in a topic, or none.
func validName(name string) string {
	if config.ValidName(name) {
		return name
	}
	return ""
}
