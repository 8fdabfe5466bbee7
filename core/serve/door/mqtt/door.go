// Package mqtt is edged's door to MQTT: API v1 on the topics of one node. It turns messages into requests for a
// dispatcher and the dispatcher's events into messages, and keeps its connection to the broker through restarts of
// either side.
//
// It must not know how requests are queued or computed. docs/mqtt.md describes the API for its users,
// docs/mqtt.schema.json the payloads. The methods of Door may be called concurrently.
package mqtt

import (
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
	"edged/core/serve/door/mqtt/link"
)

// DoorName is the Door of the requests that come from here.
const DoorName = "mqtt"

// Publisher is implemented by a dispatch.Submitter that wants to know which last events the broker has acknowledged.
type Publisher interface {
	Published(client, id string) error
}

// AllCanceller is implemented by a dispatch.Submitter that can cancel every request of a client, or all of them.
type AllCanceller interface {
	CancelAll(client string) int // "": of all clients
}

// Device is the announcement of the node below a discovery prefix of Home Assistant.
type Device struct {
	Topic   string
	Payload []byte
	Birth   string // where Home Assistant says "online" when it has started: then the device is published again
	Select  string // where it says which adapter is to be the default
	// Choose takes what was said on Select. It must not block.
	Choose func(name string)
}

// Options configures a Door.
type Options struct {
	Node       string      // config's node.name
	Config     config.MQTT // section mqtt
	Embedded   string      // address of the embedded broker, where Config says that there is one
	Secret     string      // that it wants for this node's client id; "": none
	Device     *Device     // nil: nobody is told
	Dispatcher dispatch.Submitter
	Taking     Taking         // nil: nothing is counted
	Takeover   time.Duration  // config's group.takeover; 0: its default
	Window     time.Duration  // config's inbox.dedupe_window; 0: its default
	Prompts    fields.Prompts // nil: there are none
	Log        *slog.Logger
}

// Taking counts, beyond the end of the process, how many of them ended while a message was being read: inbox.Taking.
type Taking interface {
	Begin(digest [32]byte) (ends int, ok bool)
	End(digest [32]byte)
}

// Door is the MQTT side of a node. It implements dispatch.Sink.
type Door struct {
	o        Options
	topics   Topics
	settings link.Settings
	limits   limits
	log      *slog.Logger
	out      *outbox
	in       *inbound
	fleet    *fleet // nil: the node is in no group

	retained *retained
	seen     seenSet       // retained inputs that were told of
	ready    chan struct{} // closed when online for the first time
	once     sync.Once
	leaving  chan struct{} // closed: the node takes no more of its group's requests
	leave    sync.Once
	learned  atomic.Pointer[packetLimit] // nil: the broker has taken what came
	strays   chan string                 // groups that a message came from, though the node is in them no longer
	online   atomic.Bool

	telling sync.Mutex
	told    *Status // as it was set last
	apart   string  // why the node does not get at its group; "": it does, or is in none
}

// New returns a Door that is closed until Run.
func New(o Options) *Door {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Config.MaxPayload <= 0 {
		o.Config.MaxPayload = config.Default().MQTT.MaxPayload
	}
	if o.Takeover <= 0 {
		o.Takeover = config.Default().Group.Takeover
	}
	out := newOutbox()
	d := &Door{
		o:        o,
		topics:   Topics{Base: o.Config.Base, Node: o.Node, Group: o.Config.ShareGroup},
		settings: link.From(&o.Config, o.Embedded),
		limits:   limits{replyToAllow: o.Config.ReplyToAllow, prompts: o.Prompts},
		log:      o.Log,
		out:      out,
		in:       newInbound(int(o.Config.MaxPayload)),
		retained: newRetained(out.signal),
		ready:    make(chan struct{}),
		leaving:  make(chan struct{}),
		strays:   make(chan string, 16),
	}
	d.settings.Secret = o.Secret
	if d.topics.Group != "" {
		d.fleet = newFleet(d)
		// A broker tells of a silent node after one and a half times of this.
		d.settings.KeepAlive = min(d.settings.KeepAlive, max(o.Takeover*2/5, time.Second).Truncate(time.Second))
		d.settings.MaxPayload += entryBytes
	}
	if o.Device != nil {
		d.retained.set(o.Device.Topic, o.Device.Payload)
	}
	return d
}

// Topics returns the node's topics.
func (d *Door) Topics() Topics { return d.topics }

// Ready is closed when the node was online for the first time: connected, and every subscription acknowledged.
func (d *Door) Ready() <-chan struct{} { return d.ready }

// Online reports whether the node is connected and every subscription is acknowledged.
func (d *Door) Online() bool { return d.online.Load() }

// Leave has the node take no more of its group's requests, so that the others get all of them: for a node
// that is about to stop. What it was dealt already it keeps. It does not wait. Without a group it does
// nothing.
func (d *Door) Leave() { d.leave.Do(func() { close(d.leaving) }) }

// maxPayload is the largest payload that is taken and sent.
func (d *Door) maxPayload() int { return int(d.o.Config.MaxPayload) }

// Event publishes an event of a request. It never blocks: what waits is bounded by what dispatch admits, and deltas and
// progress are dropped when too much does.
func (d *Door) Event(req *dispatch.Request, ev dispatch.Event) {
	key, ofGroup := groupKey(req)
	ofGroup = ofGroup && d.fleet != nil // else it has left the group, with work of it in its journal
	if ofGroup && ev.Last != nil {
		d.fleet.ended(key, req, ev)
		return
	}
	if req.LastOnly && ev.Last == nil {
		return
	}
	topic, props := told(req.Reply, req.Plain)
	m := &outgoing{topic: topic, class: passing, client: req.Client, id: req.ID, props: props}
	if ev.Last != nil {
		m.class, m.last = kept, true
	}
	if req.Plain {
		if ev.Last != nil {
			m.payload, m.plain = plainText(ev.Last, d.maxPayload()), true
			d.out.put(m)
		}
		return
	}
	e := eventOf(req, ev)
	if ofGroup {
		e.Attempt = d.fleet.attemptOf(key, e.Attempt)
	}
	if ev.Accepted != nil { // a promise: it is not dropped
		m.class = kept
	}
	if m.last {
		m.event = &Event{ID: e.ID, Attempt: e.Attempt, Seq: e.Seq, User: e.User}
	}
	m.payload = encodeEvent(e, d.maxPayload())
	d.out.put(m)
}

// refuse publishes why a message was not taken as a request.
func (d *Door) refuse(topic string, props link.Properties, p *problem) {
	in, wrong, ok := d.topics.parse(topic)
	named := ok && wrong == ""
	if named && in.level == levelAsk {
		to, told := told(d.topics.refusal(in, props, d.limits.replyToAllow, d.topics.groupAnswer(in.group, in.name)), true)
		d.out.put(&outgoing{topic: to, props: told, class: complaint, payload: plainError(p.err)})
		return
	}
	if named {
		p.reply = d.topics.refusal(in, props, d.limits.replyToAllow, p.reply)
	}
	if p.reply != "" {
		e := Event{ID: p.id, Attempt: 1, User: p.user, Done: true, Error: errorOf(p.err)}
		to, props := told(p.reply, false)
		d.out.put(&outgoing{topic: to, props: props, class: complaint, payload: encodeEvent(e, d.maxPayload())})
		return
	}
	// Beside those of the client that published: the access list of docs/security.md lets it read its own alone.
	client := ""
	if named {
		client = in.name
	}
	d.complain(in.group, client, Complaint{Topic: fields.Short(topic), ID: p.id, User: p.user, Error: *errorOf(p.err)})
}

// complain publishes on the errors topic of a client, of a group where it asked one; "" for none.
func (d *Door) complain(group, client string, c Complaint) {
	data, err := fields.Encode(c)
	if err != nil {
		return // texts can always be encoded
	}
	d.out.put(&outgoing{topic: d.topics.groupErrors(group, client), class: complaint, payload: data})
}

// SetStatus publishes the node's state, retained, now and after every reconnect.
func (d *Door) SetStatus(s Status) {
	s.API, s.Node = 1, d.o.Node
	if s.Adapters == nil {
		s.Adapters = []StatusAdapter{}
	}
	if d.fleet != nil {
		d.fleet.offer(&s)
	}
	d.telling.Lock()
	defer d.telling.Unlock()
	d.told = &s
	d.tell()
}

// tell publishes the node's state as it was set last.
func (d *Door) tell() {
	if d.told == nil {
		return
	}
	s := *d.told
	if d.topics.Group != "" {
		s.Group = &StatusGroup{Name: d.topics.Group, Reason: d.apart}
	}
	d.setRetained(d.topics.Status(), s)
}

// apartFor is why the node does not get at its group.
func (d *Door) apartFor() string {
	d.telling.Lock()
	defer d.telling.Unlock()
	return d.apart
}

// outside says why the node does not get at its group; "": it does.
func (d *Door) outside(why string) {
	d.telling.Lock()
	defer d.telling.Unlock()
	if d.apart != why {
		d.apart = why
		d.tell()
	}
}

// SetDevice publishes what Home Assistant is told, where it is told anything.
func (d *Door) SetDevice(payload []byte) {
	if d.o.Device != nil {
		d.retained.set(d.o.Device.Topic, payload)
	}
}

// SetAdapter publishes the state of one adapter, retained; nil: it was removed.
func (d *Door) SetAdapter(name string, a *Adapter) {
	if !config.ValidName(name) {
		d.log.Warn("an adapter's name cannot stand in a topic", "adapter", name)
		return
	}
	if a == nil {
		d.retained.set(d.topics.Adapter(name), nil)
		return
	}
	d.setRetained(d.topics.Adapter(name), a)
}

// SetModel publishes the state of one model, retained; nil: it was removed.
func (d *Door) SetModel(name string, m *Model) {
	if !config.ValidName(name) {
		d.log.Warn("a model's name cannot stand in a topic", "model", name)
		return
	}
	if m == nil {
		d.retained.set(d.topics.Model(name), nil)
		return
	}
	d.setRetained(d.topics.Model(name), m)
}

func (d *Door) setRetained(topic string, v any) {
	data, err := fields.Encode(v)
	if err != nil {
		d.log.Error("a state cannot be written as JSON", "topic", topic, "err", err)
		return
	}
	d.retained.set(topic, data)
}

// PublishStats publishes figures. They are lost when there is no connection.
func (d *Door) PublishStats(s Stats) {
	s.Node = d.o.Node
	data, err := fields.Encode(s)
	if err != nil {
		d.log.Error("the stats cannot be written as JSON", "err", err)
		return
	}
	d.out.put(&outgoing{topic: d.topics.Stats(), class: passing, payload: data})
}

// newID is an id for requests that came without one.
func newID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return prefix + hexed(b[:])
}

func hexed(b []byte) string { return hex.EncodeToString(b) }
