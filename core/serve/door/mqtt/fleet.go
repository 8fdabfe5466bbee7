package mqtt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
	"edged/core/serve/door/mqtt/group"
	"edged/core/serve/door/mqtt/link"
)

// fleet is the node's part in its group: it tells a group.Machine what happens, and does what that decides.
// The Machine's rules are in package group, what they promise in docs/fleet.md.
type fleet struct {
	door  *Door
	began time.Time
	wake  chan struct{} // a decision waits
	seats chan struct{} // a seat at the group's desk is to be taken: the session subscribes

	mu        sync.Mutex
	machine   *group.Machine
	decisions []group.Decision
	runs      map[group.Key]run // what this node runs
	life      string
	line, seq int // of the latest entry of the log; serve's
	tick      *time.Timer
	ends      map[group.Key]int // how often a connection ended under a request's end
}

// run is a request of the group that this node runs.
type run struct {
	hash [32]byte
	once bool
	term int
}

func newFleet(d *Door) *fleet {
	f := &fleet{
		door:  d,
		began: time.Now(),
		wake:  make(chan struct{}, 1),
		seats: make(chan struct{}, 1),
		runs:  map[group.Key]run{},
		ends:  map[group.Key]int{},
	}
	f.life = newID("")
	f.machine = group.New(group.Config{
		Node:        d.topics.Node,
		Incarnation: f.life,
		Since:       f.began.UnixMilli(),
		Takeover:    d.o.Takeover,
		Window:      d.o.Window,
		Pack:        min(packBytes, f.most()),
	})
	f.tick = time.AfterFunc(time.Hour, func() { f.step(group.Tick{}) })
	f.tick.Stop()
	return f
}

// step tells the machine of an event. It never blocks for long: what follows is done by another goroutine.
func (f *fleet) step(e group.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.machine.Step(time.Since(f.began), e)
	if next := f.machine.Next(); next > 0 {
		f.tick.Reset(next)
	} else {
		f.tick.Stop()
	}
	if len(out) == 0 {
		return
	}
	f.decisions = append(f.decisions, out...)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// serve does what is decided until ctx ends.
func (f *fleet) serve(ctx context.Context) {
	defer f.tick.Stop()
	for ctx.Err() == nil {
		f.mu.Lock()
		decisions := f.decisions
		f.decisions = nil
		f.mu.Unlock()
		for _, d := range decisions {
			f.do(d)
		}
		if len(decisions) > 0 {
			continue
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
		}
	}
}

// settled reports whether everything that this node has ended is decided, and all decisions are done.
func (f *fleet) settled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.machine.Pending() == 0 && len(f.decisions) == 0
}

// alone reports whether no other node of the group is there.
func (f *fleet) alone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.machine.Members()) <= 1
}

// do does one thing that was decided.
func (f *fleet) do(decision group.Decision) {
	d := f.door
	switch v := decision.(type) {
	case group.Announce:
		d.setRetained(d.topics.member(v.Member.Node), v.Member)
	case group.Clear:
		d.log.Info("a node of the group is gone", "node", v.Node, "group", d.topics.Group)
		d.retained.set(d.topics.member(v.Node), nil)
	case group.Listen:
		select {
		case f.seats <- struct{}{}:
		default:
		}
	case group.Write:
		if f.number(&v.Entry) {
			f.send(d.topics.log(), v.Entry)
		}
	case group.Send:
		f.send(d.topics.inbox(v.To), v.Entry)
	case group.Run:
		f.take(v)
	case group.Publish:
		f.publish(v)
	case group.Settle:
		f.forget(v.Key)
		d.published(&outgoing{client: f.client(v.Key.Client), id: v.Key.ID, last: true})
	case group.Stop:
		d.o.Dispatcher.Cancel(f.client(v.Key.Client), v.Key.ID)
	case group.TurnAway:
		f.turnAway(v)
	case group.Refuse:
		f.refuse(v)
	}
}

func (f *fleet) forget(k group.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.runs, k)
	delete(f.ends, k)
}

// number gives an entry of the log its sequence number, by which a member notices entries that the broker
// dropped. false: there is no connection, and the entry is dropped.
func (f *fleet) number(e *group.Entry) bool {
	line, online := f.door.out.line()
	if !online {
		return false
	}
	if line != f.line {
		f.line, f.seq = line, 0
	}
	f.seq++
	e.Life, e.Line, e.Seq = f.life, f.line, f.seq
	return true
}

// send publishes an entry. It is not kept when the connection ends: the machine says again what still holds.
func (f *fleet) send(topic string, e group.Entry) {
	data, err := e.Encode()
	if err != nil {
		f.door.log.Error("an entry of the group's log cannot be written", "err", err)
		return
	}
	m := &outgoing{topic: topic, payload: data, class: entry}
	if e.Type == group.Done {
		m.ended = &group.Key{Client: e.Client, ID: e.ID}
	}
	f.door.out.put(m)
}

// groupClient marks the clients of a group in the dispatcher: their ids are the group's and not the node's.
const groupClient = "@"

// client returns the name under which the dispatcher knows a client of the group.
func (f *fleet) client(name string) string { return groupClient + f.door.topics.Group + "/" + name }

// groupKey is the name of a request in the group, where it is one of a group.
func groupKey(req *dispatch.Request) (k group.Key, ok bool) {
	rest, ok := strings.CutPrefix(req.Client, groupClient)
	if !ok {
		return k, false
	}
	_, name, ok := strings.Cut(rest, "/")
	return group.Key{Client: name, ID: req.ID}, ok
}

// envelope is how a message of a client travels within the group: this as a line of JSON, and its payload.
type envelope struct {
	Topic         string `json:"topic"`
	ResponseTopic string `json:"response_topic,omitempty"`
	Correlation   []byte `json:"correlation,omitempty"`
	ExpiryMS      int64  `json:"expiry_ms,omitempty"`
}

func seal(head any, payload []byte) []byte {
	data, err := json.Marshal(head)
	if err != nil {
		return nil // texts, bytes and numbers: cannot happen
	}
	return append(append(data, '\n'), payload...)
}

func unseal(data []byte, head any) ([]byte, error) {
	line, payload, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return nil, errors.New("it has no line of JSON before it")
	}
	return payload, json.Unmarshal(line, head)
}

// hear tells the machine of a message that a client has published to the group.
func (f *fleet) hear(in input, m *link.Received) {
	q := group.Request{
		Hash: hashOf(m.Topic, m.Payload), Level: in.level,
		Message: seal(envelope{
			Topic:         m.Topic,
			ResponseTopic: m.Properties.ResponseTopic,
			Correlation:   m.Properties.Correlation,
			ExpiryMS:      expiry(m.Properties),
		}, m.Payload),
	}
	q.Key, q.Once = nameOf(in, q.Hash, m.Payload, m.Properties)
	if in.level != levelAsk {
		q.Adapters = adaptersOf(m.Payload)
	}
	f.step(group.Heard{Request: q})
}

func expiry(p link.Properties) int64 {
	if !p.Expires {
		return 0
	}
	return max(p.Expiry.Milliseconds(), 1)
}

// nameOf is the name of a message in the group: every node that hears it gives it the same one. Where it
// brings no id it is named by its bytes, so that two that are the same at the same time are one.
func nameOf(in input, hash [32]byte, payload []byte, p link.Properties) (k group.Key, once bool) {
	k.Client = validName(in.name)
	if in.level != levelAsk && fields.Check(payload) == nil {
		dr := &draft{req: &dispatch.Request{}, given: map[string]bool{}}
		if dr.findID(payload); dr.id != "" {
			k.ID = dr.id
			return k, false
		}
	}
	return group.Key{Client: k.Client, ID: drawn(hash, p)}, true
}

// drawn is an id made of a message.
func drawn(hash [32]byte, p link.Properties) string {
	h := hashOf(p.ResponseTopic, slices.Concat(p.Correlation, hash[:]))
	return "req-" + hexed(h[:16])
}

// adaptersOf are the adapters that a request names, where they can be read. Those of a model that it names
// are known to the nodes that serve it alone.
func adaptersOf(payload []byte) []string {
	var names []string
	if fields.Check(payload) != nil {
		return nil
	}
	ofModel := false
	_ = fields.Object(payload, func(key string, raw []byte) *fields.Error {
		ofModel = ofModel || key == "model" && string(raw) != "null"
		if key != "adapter" || string(raw) == "null" {
			return nil
		}
		refs, err := fields.Adapters(raw)
		if err == nil {
			for _, r := range refs {
				names = append(names, r.Name)
			}
		}
		return nil
	})
	if ofModel {
		return nil
	}
	return names
}

// take queues a request that this node is to run, as one that came to it.
func (f *fleet) take(v group.Run) {
	d := f.door
	var e envelope
	payload, err := unseal(v.Request.Message, &e)
	in, _, ok := d.topics.parse(e.Topic)
	if err != nil || !ok || in.group != d.topics.Group {
		d.log.Warn("a request that another node of the group handed on cannot be read", "request_id", v.Request.ID, "err", err)
		return
	}
	r := run{hash: v.Request.Hash, once: v.Request.Once, term: v.Term}
	f.mu.Lock()
	f.runs[v.Request.Key] = r
	f.mu.Unlock()
	props := link.Properties{ResponseTopic: e.ResponseTopic, Correlation: e.Correlation}
	if e.ExpiryMS > 0 {
		props.Expires, props.Expiry = true, time.Duration(e.ExpiryMS)*time.Millisecond
	}
	key := v.Request.Key
	m := incoming{topic: e.Topic, payload: payload, props: props, ack: func() {}, ofGroup: &key}
	if !d.in.put(in.sender(), m) {
		full := &dispatch.Error{Code: dispatch.CodeQueueFull, Message: "too many requests arrive at once", Retry: time.Second}
		f.declined(key, r, full)
	}
}

// elsewhere are the codes of refusals that another node may not share.
var elsewhere = map[dispatch.Code]bool{ //nolint:gochecknoglobals // a table
	dispatch.CodeQueueFull: true, dispatch.CodeAdapterNotFound: true, dispatch.CodeBackendUnavailable: true, dispatch.CodeStorage: true,
	dispatch.CodeShuttingDown: true, dispatch.CodeUnsupported: true, dispatch.CodeContextLength: true, dispatch.CodeModelNotFound: true,
	dispatch.CodePromptNotFound: true,
}

func (f *fleet) declined(k group.Key, r run, err *dispatch.Error) {
	f.door.log.Debug("a request of the group is passed on", "request_id", k.ID, "client", k.Client, "code", string(err.Code))
	f.forget(k)
	why := *errorOf(err)
	why.Message = "on node " + f.door.topics.Node + ": " + why.Message // it may list what that node has, and others have more
	f.step(group.Declined{Key: k, Term: r.term, Code: string(err.Code), Reason: seal(why, nil)})
}

// admitted tells the group what became of a request that this node was to run. p is nil where it was accepted.
func (f *fleet) admitted(k group.Key, m incoming, p *problem) {
	f.mu.Lock()
	r, ok := f.runs[k]
	f.mu.Unlock()
	if p == nil {
		if ok { // else it has ended already
			f.step(group.Took{Key: k, Term: r.term})
		}
		return
	}
	if elsewhere[p.err.Code] {
		f.declined(k, r, p.err)
		return
	}
	message := seal(envelope{Topic: m.topic, ResponseTopic: m.props.ResponseTopic, Correlation: m.props.Correlation}, m.payload)
	f.forget(k)
	f.step(group.Ended{
		Key: k, Hash: r.hash, Term: r.term, Once: r.once, Refused: true, Outcome: f.refusal(message, k.ID, f.attempt(r, 1), p.err),
	})
}

// outcome is how the end of a request travels within the group: this as a line of JSON, and the payload that
// its client gets.
type outcome struct {
	To    string `json:"to"` // an address, see address
	Plain bool   `json:"plain,omitempty"`
}

// refusal is the outcome that says why a message is not answered.
func (f *fleet) refusal(message []byte, id string, attempt int, err *dispatch.Error) []byte {
	d := f.door
	var e envelope
	payload, bad := unseal(message, &e)
	in, wrong, ok := d.topics.parse(e.Topic)
	if bad != nil || !ok {
		return nil
	}
	props := link.Properties{ResponseTopic: e.ResponseTopic, Correlation: e.Correlation}
	if in.level == levelAsk {
		to := d.topics.groupAnswer(in.group, validName(in.name))
		return seal(outcome{To: d.topics.refusal(in, props, d.limits.replyToAllow, to), Plain: true}, plainError(err))
	}
	var user []byte
	if fields.Check(payload) == nil {
		dr := &draft{req: &dispatch.Request{}, given: map[string]bool{}}
		dr.findID(payload)
		user = dr.req.Echo
	}
	if wrong != "" {
		data, _ := fields.Encode(Complaint{Topic: fields.Short(e.Topic), ID: id, User: user, Error: *errorOf(err)})
		return seal(outcome{To: d.topics.groupErrors(in.group, "")}, data)
	}
	to := d.topics.refusal(in, props, d.limits.replyToAllow, d.topics.response(in.group, in.name, id))
	return seal(outcome{To: to}, encodeEvent(Event{ID: id, Attempt: attempt, User: user, Done: true, Error: errorOf(err)}, d.maxPayload()))
}

// refuse ends a request that no node of the group takes.
func (f *fleet) refuse(v group.Refuse) {
	err := noTaker(v)
	if len(v.Lost) > 0 {
		err = lostTaker(v.Lost, err)
	}
	f.step(group.Ended{
		Key: v.Request.Key, Hash: v.Request.Hash, Term: v.Term, Once: v.Request.Once, Refused: len(v.Lost) == 0,
		Outcome: f.refusal(v.Request.Message, v.Request.ID, f.attempt(run{term: v.Term}, 1), err),
	})
}

// lostTaker says that the nodes are gone that could serve a request, and why no other does.
func lostTaker(nodes []string, why *dispatch.Error) *dispatch.Error {
	who, have := "node "+nodes[0], "has"
	if n := len(nodes); n > 1 {
		who, have = "nodes "+strings.Join(nodes[:n-1], ", ")+" and "+nodes[n-1], "have"
	}
	return &dispatch.Error{
		Code: dispatch.CodeBackendUnavailable,
		Message: fmt.Sprintf(
			"%s, which could serve this request, %s gone before it was answered, and no other node of the group takes it: %s: %s",
			who,
			have,
			why.Code,
			why.Message,
		),
	}
}

// noTaker says why no node takes a request: what one of them gave as its reason, or what all tell of themselves.
func noTaker(v group.Refuse) *dispatch.Error {
	err := &dispatch.Error{Code: dispatch.Code(v.Code)}
	if v.Reason != nil {
		var e Error
		if _, bad := unseal(v.Reason, &e); bad == nil && e.Code == err.Code {
			err.Message, err.Retry = e.Message, time.Duration(e.RetryMS)*time.Millisecond
			return err
		}
	}
	switch v.Code {
	case group.CodeFull:
		err.Message, err.Retry = "every node of the group that could take it has as much as it bears", time.Second
	case group.CodeAdapter:
		err.Message = "no node of the group serves " + strings.Join(v.Request.Adapters, ", ")
	default:
		err.Message = "no node of the group serves requests now"
	}
	return err
}

// turnAway tells the client of a message that is not taken beside the request that has its id.
func (f *fleet) turnAway(v group.TurnAway) {
	var e envelope
	payload, err := unseal(v.Request.Message, &e)
	if err != nil {
		return
	}
	why := &dispatch.Error{Code: dispatch.Code(v.Code), Message: "the id was used for another request of this group a while ago"}
	p := &problem{err: why, id: v.Request.ID}
	if v.Code == group.CodeFull {
		why.Message, why.Retry = "the group has more requests than it can keep", time.Second
	}
	if fields.Check(payload) == nil {
		dr := &draft{req: &dispatch.Request{}, given: map[string]bool{}}
		dr.findID(payload)
		p.user = dr.req.Echo
	}
	props := link.Properties{ResponseTopic: e.ResponseTopic, Correlation: e.Correlation}
	if why.Code == dispatch.CodeIDConflict && len(props.Correlation) == 0 {
		props = link.Properties{}
	}
	f.door.refuse(e.Topic, props, p)
}

// ended tells the group of the last event of a request that this node ran. It is published when the group has
// it as the request's end.
func (f *fleet) ended(k group.Key, req *dispatch.Request, ev dispatch.Event) {
	f.mu.Lock()
	r, ok := f.runs[k]
	f.mu.Unlock()
	if !ok { // of an earlier life: the journal has it
		r.hash = req.Hash
		r.once = strings.HasPrefix(k.ID, "req-")
	}
	if err := ev.Last.Error; err != nil && err.Code == dispatch.CodeShuttingDown {
		f.declined(k, r, err)
		return
	}
	var payload []byte
	if req.Plain {
		payload = plainText(ev.Last, f.most())
	} else {
		e := eventOf(req, ev)
		e.Attempt = f.attempt(r, ev.Attempt)
		payload = encodeEvent(e, f.most())
	}
	f.step(group.Ended{Key: k, Hash: r.hash, Term: r.term, Once: r.once, Outcome: seal(outcome{To: req.Reply, Plain: req.Plain}, payload)})
}

// attempt counts attempts of several nodes: that of a node which took a request over is a later one.
func (f *fleet) attempt(r run, own int) int { return own + max(r.term-1, 0) }

// attemptOf is the attempt that an event of a request of the group tells.
func (f *fleet) attemptOf(k group.Key, own int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attempt(f.runs[k], own)
}

// entryBytes bounds an entry without the payload that it carries.
const entryBytes = 4 << 10

// packBytes is how much of what it knows a node tells a newcomer in one message. Brokers keep some 1,000
// messages for a client that is slow, and often some 100 KB.
const packBytes = 32 << 10

// most is the largest last event that fits into an entry.
func (f *fleet) most() int { return max(f.door.maxPayload()-entryBytes, f.door.maxPayload()/2) }

// publish publishes the end of a request.
func (f *fleet) publish(v group.Publish) {
	d := f.door
	var o outcome
	payload, err := unseal(v.Outcome, &o)
	if err != nil || o.To == "" {
		d.log.Warn("the end of a request of the group cannot be read", "request_id", v.Key.ID, "err", err)
		return
	}
	to, props := told(o.To, o.Plain)
	if v.Stored && !o.Plain {
		var e Event
		if json.Unmarshal(payload, &e) == nil {
			zero := 0
			accepted := Event{ID: e.ID, Attempt: e.Attempt, User: e.User, Stage: "accepted", Position: &zero, Stored: true}
			d.out.put(&outgoing{topic: to, props: props, class: complaint, payload: encodeEvent(accepted, d.maxPayload())})
		}
	}
	m := &outgoing{topic: to, props: props, class: kept, payload: payload, plain: o.Plain}
	if v.Own {
		f.forget(v.Key)
		m.client, m.id, m.last = f.client(v.Key.Client), v.Key.ID, true
	}
	if !o.Plain {
		var e Event
		if json.Unmarshal(payload, &e) == nil {
			m.event = &Event{ID: e.ID, Attempt: e.Attempt, Seq: e.Seq, User: e.User}
		}
	}
	d.out.put(m)
}

// receive takes what nodes of the group tell each other; false: it is nothing of the kind. It never blocks.
func (f *fleet) receive(m *link.Received) bool {
	t := f.door.topics
	if node, ok := t.memberOf(m.Topic); ok {
		m.Ack()
		var who group.Member
		if len(m.Payload) == 0 {
			f.step(group.Present{Node: node})
		} else if err := json.Unmarshal(m.Payload, &who); err == nil {
			f.step(group.Present{Node: node, Member: &who})
		}
		return true
	}
	if node, ok := t.availabilityOf(m.Topic); ok {
		m.Ack()
		f.step(group.Online{Node: node, Online: string(m.Payload) == online})
		return true
	}
	direct := m.Topic == t.inbox(t.Node)
	if !direct && m.Topic != t.log() {
		return false
	}
	m.Ack()
	e, err := group.DecodeEntry(m.Payload)
	if err != nil {
		f.door.log.Debug("an entry of the group's log cannot be read", "topic", m.Topic, "err", err)
		return true
	}
	f.step(group.Told{Entry: e, Direct: direct})
	return true
}

// offer tells the group what the node serves, as its status says.
func (f *fleet) offer(s *Status) {
	o := group.Member{State: group.StateWaiting, Levels: groupLevels, Running: s.Queue.Running, Queue: s.Queue.Size}
	switch s.State {
	case StateReady:
		o.State = group.StateReady
	case StateStopping, StateStopped:
		o.State = group.StateLeaving
	}
	if s.Model != nil {
		o.Model = s.Model.Name
	}
	for _, a := range s.Adapters {
		o.Adapters = append(o.Adapters, a.Name)
	}
	f.step(group.Offer{Member: o})
}

// connected begins a connection: before anything comes on it.
func (f *fleet) connected() {
	select {
	case <-f.seats: // of an earlier one
	default:
	}
	f.step(group.Connected{})
}

// speaks reports whether it is this node that tells a client what every node of the group has heard.
func (f *fleet) speaks() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.machine.Members()[0].Node == f.door.topics.Node
}

// clients are those whose requests this node runs, by the names that the dispatcher knows them by; name ""
// stands for all.
func (f *fleet) clients(name string) []string {
	if name != "" {
		return []string{f.client(name)}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[string]bool{}
	var out []string
	for k := range f.runs {
		if c := f.client(k.Client); !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
	}
	return out
}

// groupProof is how long a node may take to get at its group.
const groupProof = 10 * time.Second

// prove reports whether the node has got at its group. Where it has not, its log and its status say why.
func (f *fleet) prove(ctx context.Context) bool {
	f.mu.Lock()
	seated := f.machine.Seated()
	f.mu.Unlock()
	if seated {
		f.door.outside("")
		return true
	}
	root := f.door.topics.root(f.door.topics.Group)
	why := "what this node publishes below " + root + "/ does not come back to it, so that it takes none of the group's requests: " +
		"let the broker's access list have it read and write " + root + "/# (docs/fleet.md)"
	if f.door.apartFor() != why {
		f.door.log.ErrorContext(ctx, "the node does not get at its group", "group", f.door.topics.Group, "what", why)
	}
	f.door.outside(why)
	return false
}

// maxLost is how many connections may end soon after the end of one request was sent.
const maxLost = 3

// lostUnder notes that a connection ended under an entry that tells the end of a request. One that ends
// connection after connection is larger than the broker bears.
func (f *fleet) lostUnder(m *outgoing) {
	f.mu.Lock()
	f.ends[*m.ended]++
	n := f.ends[*m.ended]
	f.mu.Unlock()
	if n >= maxLost {
		f.replace(m)
	}
}

// notTaken deals with an entry that the broker refuses.
func (f *fleet) notTaken(m *outgoing, why error) {
	f.door.log.Warn("the broker does not take what this node tells its group", "topic", m.topic, "bytes", len(m.payload), "err", why)
	if m.ended != nil && !m.replaced {
		f.replace(m)
	}
}

// replace ends a request with the error that its answer is too large.
func (f *fleet) replace(m *outgoing) {
	e, err := group.DecodeEntry(m.payload)
	if err != nil {
		return
	}
	var o outcome
	payload, err := unseal(e.Body, &o)
	if err != nil {
		return
	}
	f.door.log.Warn("the broker does not take an answer", "request_id", e.ID, "bytes", len(payload))
	stand := &outgoing{payload: payload, plain: o.Plain}
	var ev Event
	if !o.Plain && json.Unmarshal(payload, &ev) == nil {
		stand.event = &Event{ID: ev.ID, Attempt: ev.Attempt, Seq: ev.Seq, User: ev.User}
	}
	f.step(group.Ended{
		Key: *m.ended, Hash: e.Hash, Term: e.Term, Once: e.Once, Outcome: seal(o, f.door.standIn(stand)),
	})
}
