// Package askclient is a client of edged's MQTT API, for `edged ask`, `edged chat` and tests: it publishes
// requests to a node and follows their answers.
//
// It must not know the daemon's side. A Client's methods may be called concurrently; each request has an id of its own.
package askclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/link"
	"edged/core/serve/door/wildcard"
)

// Options say which node is asked, and through which broker.
type Options struct {
	Settings link.Settings // link.From makes them of a configuration
	Base     string        // what the node's topics begin with; "": edged
	Node     string        // its name, or "@" and the name of a group of nodes
	Client   string        // CLIENT in topics; "": a random one
	Repeat   time.Duration // a request of a group is published again when nothing was heard of it for so long; 0: 5 s
}

// Request is a prompt or a conversation to be answered. The zero value of every field but Messages and Prompt
// leaves the choice to the node.
type Request struct {
	ID          string            `json:"id"` // "": a random one
	Messages    []Message         `json:"messages,omitempty"`
	Prompt      string            `json:"prompt,omitempty"` // instead of Messages
	Model       string            `json:"model,omitempty"`
	PromptName  string            `json:"prompt_name,omitempty"` // of a preset, which asks in the place of Messages and Prompt
	PromptVars  map[string]string `json:"prompt_vars,omitempty"` // its variables
	Adapter     string            `json:"adapter,omitempty"`
	MaxTokens   int               `json:"max_tokens,omitempty"`
	Temperature *float64          `json:"temperature,omitempty"`
	TopK        *int              `json:"top_k,omitempty"`
	TopP        *float64          `json:"top_p,omitempty"`
	Seed        *uint64           `json:"seed,omitempty"`
	Stop        []string          `json:"stop,omitempty"`
	DeadlineMS  int64             `json:"deadline_ms,omitempty"`
	Vars        json.RawMessage   `json:"template_vars,omitempty"`
	Stream      bool              `json:"stream"` // set by Ask
}

// Message is one message of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Follow is called as events come, by one goroutine. Nil functions are left out.
type Follow struct {
	Accepted func(position int)
	Prefill  func(done, of int)
	Delta    func(text string)
	Restart  func(why string) // what Delta gave so far is void: the answer begins anew, as "attempt 2" say
}

// Answer is the last event of a request that was answered.
type Answer struct {
	mqtt.Result

	ID string
}

// RequestError is why a node did not answer.
type RequestError struct{ Reason mqtt.Error }

// Error is the code and the node's sentence.
func (e *RequestError) Error() string { return string(e.Reason.Code) + ": " + e.Reason.Message }

// Errors of a Client.
var (
	ErrOffline = errors.New("the node is offline")
	ErrLost    = errors.New("the connection to the broker was lost")
)

// Times that have no option.
const (
	ackTimeout    = 10 * time.Second
	stateTimeout  = 2 * time.Second // the retained availability follows the SUBACK at once
	cancelTimeout = 5 * time.Second // for the last event of a cancelled request
)

// Client is a connection to a broker.
type Client struct {
	o      Options
	topics mqtt.Topics
	link   link.Client
	lost   chan struct{} // closed when the connection ends
	once   sync.Once
	known  chan struct{} // closed when the availability is known

	mu           sync.Mutex
	waiting      map[string]chan []byte          // by id: payloads of its response topic, and of errors about it
	follow       map[string]func(*link.Received) // by filter: who looks at what comes there beside
	availability string
}

// Dial connects and subscribes to the answers.
func Dial(ctx context.Context, o Options) (*Client, error) {
	if o.Client == "" {
		o.Client = "ask-" + random()
	}
	if o.Repeat <= 0 {
		o.Repeat = 5 * time.Second
	}
	c := &Client{
		o: o, topics: mqtt.Topics{Base: o.Base, Node: o.Node}, lost: make(chan struct{}), known: make(chan struct{}),
		waiting: map[string]chan []byte{}, follow: map[string]func(*link.Received){},
	}
	client, err := o.Settings.Dial(ctx, link.Dialling{
		ID: "edged-client-" + random(), Clean: true, OnMessage: c.receive,
		OnLost: func(error) { c.once.Do(func() { close(c.lost) }) },
	})
	if err != nil {
		return nil, err
	}
	c.link = client
	filters := map[string]byte{
		c.topics.Response(o.Client, "+"): 1,
		c.topics.Errors(o.Client):        1,
		c.topics.Errors(""):              1, // of a node of the first version, and of what it could not tell the client of
		c.topics.Availability():          1,
	}
	if c.group() {
		delete(filters, c.topics.Availability())
		filters[c.topics.Members("+")] = 1
	}
	if err := c.subscribe(ctx, filters, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// group reports whether a group of nodes is asked.
func (c *Client) group() bool { return strings.HasPrefix(c.o.Node, "@") }

// Close ends the connection.
func (c *Client) Close() { c.link.Close() }

// wait waits for the broker's answer to something, which f asks for.
func (c *Client) wait(ctx context.Context, what string, f func(context.Context) error) error {
	asking, stop := context.WithTimeout(ctx, ackTimeout)
	defer stop()
	answer := make(chan error, 1)
	go func() { answer <- f(asking) }()
	select {
	case err := <-answer:
		var refused *link.RefusedError
		switch {
		case err == nil || ctx.Err() != nil || errors.As(err, &refused):
			return err
		case asking.Err() != nil:
			return fmt.Errorf("mqtt: broker %s: %s: no answer within %v", c.o.Settings.URL, what, ackTimeout)
		}
		return c.o.Settings.Explain(fmt.Errorf("%s: %w", what, err))
	case <-c.lost:
		return c.lostError()
	}
}

// subscribe subscribes, and has see called with what comes on the filters beside what Asks take; nil: nothing is.
func (c *Client) subscribe(ctx context.Context, filters map[string]byte, see func(*link.Received)) error {
	if see != nil {
		c.mu.Lock()
		for f := range filters {
			c.follow[f] = see
		}
		c.mu.Unlock()
	}
	err := c.wait(ctx, "subscribing", func(ctx context.Context) error { return c.link.Subscribe(ctx, filters) })
	if _, refused := errors.AsType[*link.RefusedError](err); refused {
		return nil // what is not there is said by who waits for it
	}
	return err
}

// unfollow ends subscriptions of subscribe.
func (c *Client) unfollow(filters ...string) {
	c.mu.Lock()
	for _, f := range filters {
		delete(c.follow, f)
	}
	c.mu.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), ackTimeout) //nolint:forbidigo // after what was asked has ended
	go func() {
		defer stop()
		_ = c.link.Unsubscribe(ctx, filters...)
	}()
}

// seen passes a message on to who follows its topic, and reports whether somebody does.
func (c *Client) seen(m *link.Received) bool {
	c.mu.Lock()
	var all []func(*link.Received)
	for f, see := range c.follow {
		if wildcard.Match(f, m.Topic) {
			all = append(all, see)
		}
	}
	c.mu.Unlock()
	for _, see := range all {
		see(m)
	}
	return len(all) > 0
}

func (c *Client) lostError() error {
	return fmt.Errorf("mqtt: broker %s: %w", c.o.Settings.URL, ErrLost)
}

// receive is called by the library for every message, in order. It never blocks: what has no place is dropped, and a gap
// of deltas is made good by the last event, which has a place of its own.
func (c *Client) receive(m *link.Received) {
	m.Ack()
	if c.seen(m) {
		return
	}
	switch {
	case m.Topic == c.topics.Availability():
		c.available(string(m.Payload))
		return
	case c.group() && wildcard.Match(c.topics.Members("+"), m.Topic):
		if len(m.Payload) > 0 { // a member is there; which of them answers is the group's affair
			c.available("online")
		}
		return
	}
	id := m.Topic[strings.LastIndexByte(m.Topic, '/')+1:]
	if m.Topic == c.topics.Errors("") || m.Topic == c.topics.Errors(c.o.Client) {
		var complaint mqtt.Complaint
		if json.Unmarshal(m.Payload, &complaint) != nil || complaint.Topic != c.topics.Request(c.o.Client) {
			return
		}
		id = complaint.ID
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == "" { // the node could not read it: it may be about any of them
		for _, events := range c.waiting {
			deliver(events, m.Payload)
		}
		return
	}
	deliver(c.waiting[id], m.Payload)
}

// available notes an availability.
func (c *Client) available(state string) {
	c.mu.Lock()
	first := c.availability == ""
	c.availability = state
	c.mu.Unlock()
	if first {
		close(c.known)
	}
}

// deliver puts a payload where Ask reads, unless there is no room or nobody reads. The last place is for a last event.
func deliver(events chan []byte, payload []byte) {
	if len(events) == cap(events)-1 && !bytes.Contains(payload, []byte(`"done":true`)) && !bytes.Contains(payload, []byte(`"error"`)) {
		return
	}
	select {
	case events <- payload:
	default:
	}
}

// online waits until the node's availability is known, and tells it.
func (c *Client) online(ctx context.Context) error {
	timeout := time.NewTimer(stateTimeout)
	defer timeout.Stop()
	select {
	case <-c.known:
	case <-timeout.C:
		if c.group() {
			return fmt.Errorf(
				"mqtt: broker %s: no node of the group %q is there: is edged running, is mqtt.share_group right, and may you read %s?",
				c.o.Settings.URL,
				c.o.Node[1:],
				c.topics.Members("+"),
			)
		}
		return fmt.Errorf(
			"mqtt: broker %s: no node named %q was ever there: is edged running, and is node.name right?",
			c.o.Settings.URL,
			c.o.Node,
		)
	case <-c.lost:
		return c.lostError()
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.availability != "online" {
		return fmt.Errorf("mqtt: node %q: %w", c.o.Node, ErrOffline)
	}
	return nil
}

// Ask publishes a request and follows it to its last event. When ctx ends, the request is cancelled at the node, and the
// answer is the text so far together with ctx's error. An answer of the node that is an error is a *RequestError.
func (c *Client) Ask(ctx context.Context, r Request, f Follow) (Answer, error) {
	if err := c.online(ctx); err != nil {
		return Answer{}, err
	}
	if r.ID == "" {
		r.ID = random()
	}
	r.Stream = f.Delta != nil || f.Prefill != nil
	payload, err := json.Marshal(r)
	if err != nil {
		return Answer{}, fmt.Errorf("mqtt: request: %w", err)
	}
	events := make(chan []byte, 256)
	c.mu.Lock()
	c.waiting[r.ID] = events
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, r.ID)
		c.mu.Unlock()
	}()
	if err := c.wait(ctx, "publishing the request", func(ctx context.Context) error {
		return c.publish(ctx, c.topics.Request(c.o.Client), payload)
	}); err != nil {
		return Answer{}, err
	}
	t := tracker{id: r.ID, follow: f}
	// A group may lose what none of its nodes has accepted yet, and a repeat of the same bytes is the same request (docs/fleet.md).
	var again <-chan time.Time
	if c.group() {
		repeat := time.NewTicker(c.o.Repeat)
		defer repeat.Stop()
		again = repeat.C
	}
	for {
		select {
		case <-again:
			c.link.Publish(link.Message{Topic: c.topics.Request(c.o.Client), QoS: 1, Payload: payload})
		case p := <-events:
			again = nil
			if done, err := t.take(p); done || err != nil {
				return t.answer, err
			}
		case <-c.lost:
			return Answer{}, c.lostError()
		case <-ctx.Done():
			return c.cancel(ctx, &t, events)
		}
	}
}

// publish publishes, and waits for the acknowledgement.
func (c *Client) publish(ctx context.Context, topic string, payload []byte) error {
	token := c.link.Publish(link.Message{Topic: topic, QoS: 1, Payload: payload})
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cancel tells the node that the answer is not wanted any more, and waits for its last event.
func (c *Client) cancel(ctx context.Context, t *tracker, events <-chan []byte) (Answer, error) {
	t.follow = Follow{} // nobody wants to see more
	c.link.Publish(link.Message{Topic: c.topics.Cancel(c.o.Client), QoS: 1, Payload: []byte(t.id)})
	timeout := time.NewTimer(cancelTimeout)
	defer timeout.Stop()
	for {
		select {
		case p := <-events:
			if done, err := t.take(p); done || err != nil {
				return t.answer, ctx.Err()
			}
		case <-c.lost:
			return Answer{}, ctx.Err()
		case <-timeout.C:
			return Answer{}, ctx.Err()
		}
	}
}

// tracker follows the events of one request.
type tracker struct {
	id      string
	follow  Follow
	attempt int
	seen    strings.Builder // the deltas of this attempt
	gap     bool            // one of them was lost
	next    int             // the seq that is due
	answer  Answer
}

// take reads one payload and reports whether it was the last event.
func (t *tracker) take(payload []byte) (done bool, err error) {
	var e mqtt.Event
	if err := json.Unmarshal(payload, &e); err != nil {
		return false, fmt.Errorf("mqtt: an event of the answer cannot be read: %w", err)
	}
	if e.Error != nil { // also of a complaint, which has no more
		return true, &RequestError{Reason: *e.Error}
	}
	if e.Attempt != t.attempt {
		if e.Attempt < t.attempt {
			return false, nil // late
		}
		if t.seen.Len() > 0 && t.follow.Restart != nil {
			t.follow.Restart(fmt.Sprintf("attempt %d", e.Attempt))
		}
		t.attempt, t.next, t.gap = e.Attempt, 0, false
		t.seen.Reset()
	}
	if e.Seq != t.next {
		t.gap = true
	}
	t.next = e.Seq + 1
	switch {
	case e.Done:
		t.finish(&e)
		return true, nil
	case e.Delta != "":
		t.delta(e.Delta)
	case e.DoneOf != nil && t.follow.Prefill != nil:
		t.follow.Prefill(e.DoneOf.Done, e.DoneOf.Of)
	case e.Position != nil && t.follow.Accepted != nil:
		t.follow.Accepted(*e.Position)
	}
	return false, nil
}

// delta shows new text. After a gap nothing is shown until the last event brings the whole.
func (t *tracker) delta(text string) {
	if t.gap || t.follow.Delta == nil {
		return
	}
	t.seen.WriteString(text)
	t.follow.Delta(text)
}

// finish shows what the deltas lacked.
func (t *tracker) finish(e *mqtt.Event) {
	t.answer = Answer{ID: e.ID}
	if e.Result != nil {
		t.answer.Result = *e.Result
	}
	if t.answer.Text == nil || t.follow.Delta == nil {
		return
	}
	rest, ok := strings.CutPrefix(*t.answer.Text, t.seen.String())
	if !ok {
		if t.follow.Restart != nil {
			t.follow.Restart("the last event has another text")
		}
		rest = *t.answer.Text
	}
	if rest != "" {
		t.follow.Delta(rest)
	}
}

func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}
