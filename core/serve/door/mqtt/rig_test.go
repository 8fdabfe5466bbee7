package mqtt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"edged/core/config"
	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/mqtt"
)

// fake is a Dispatcher that records what it gets and answers as a test says.
type fake struct {
	mu        sync.Mutex
	requests  []*dispatch.Request
	cancels   []string
	published []string
	answer    func(req *dispatch.Request, sink dispatch.Sink) error // nil: echo
}

func (f *fake) Submit(_ context.Context, req *dispatch.Request, sink dispatch.Sink) error {
	f.mu.Lock()
	f.requests = append(f.requests, req)
	answer := f.answer
	f.mu.Unlock()
	if answer != nil {
		return answer(req, sink)
	}
	echo(req, sink)
	return nil
}

func (f *fake) Cancel(client, id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancels = append(f.cancels, client+"/"+id)
	return true
}

func (f *fake) Published(client, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.published = append(f.published, client+"/"+id)
	return nil
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

// countOf is how often a request was submitted.
func (f *fake) countOf(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if r.ID == id {
			n++
		}
	}
	return n
}

func (f *fake) acknowledged() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.published)
}

// echo answers with the prompt, a few bytes a delta.
func echo(req *dispatch.Request, sink dispatch.Sink) {
	sink.Event(req, dispatch.Event{Attempt: 1, Accepted: &dispatch.Accepted{}})
	text := req.Prompt
	if req.Chat != nil {
		text = string(req.Chat)
	}
	seq := 1
	if req.Stream {
		sink.Event(req, dispatch.Event{Attempt: 1, Seq: seq, Prefill: &backend.Prefill{Done: 1, Of: 1}})
		for i := 0; i < len(text); i += 4 {
			seq++
			sink.Event(req, dispatch.Event{Attempt: 1, Seq: seq, Delta: &dispatch.Delta{Text: text[i:min(i+4, len(text))]}})
		}
		seq++
	}
	sink.Event(req, last(text, seq))
}

func last(text string, seq int) dispatch.Event {
	return dispatch.Event{Attempt: 1, Seq: seq, Last: &dispatch.Last{
		Finish: "stop", Choices: []backend.Choice{{Text: text, Finish: "stop"}}, Node: "pi", Model: "fake", Seed: 1,
	}}
}

// settings is the configuration of a door on a broker.
func settings(address string) config.MQTT {
	c := config.Default().MQTT
	c.Broker = "tcp://" + address
	c.KeepAlive = 5 * time.Second
	if v := os.Getenv("EDGED_TEST_MQTT"); v != "" { // the whole set in the other version
		c.Version = v
	}
	return c
}

// running is a door that runs.
type running struct {
	*mqtt.Door

	log  *lockedBuffer
	stop func()
}

// open starts a door and, if wanted, waits until it is online.
func open(tb testing.TB, c config.MQTT, d dispatch.Submitter, wait bool) *running {
	tb.Helper()
	return openWith(tb, mqtt.Options{Config: c, Dispatcher: d}, wait)
}

// openWith is open with options; the node's name and the log are set.
func openWith(tb testing.TB, o mqtt.Options, wait bool) *running {
	tb.Helper()
	log := &lockedBuffer{}
	o.Node, o.Log = "pi", slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := &running{log: log, Door: mqtt.New(o)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			tb.Errorf("Run: %v", err)
		}
	}()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				tb.Error("Run did not end")
			}
		})
	}
	tb.Cleanup(r.stop)
	if wait {
		select {
		case <-r.Ready():
		case <-time.After(15 * time.Second):
			tb.Fatalf("not online in 15 s:\n%s", log)
		}
	}
	return r
}

// listener is a client that keeps what it hears.
type listener struct {
	paho.Client

	mu   sync.Mutex
	got  []heard
	more chan struct{}
}

type heard struct {
	topic, payload string
	qos            byte
	retained       bool
}

func listen(tb testing.TB, address string, change ...func(*paho.ClientOptions)) *listener {
	tb.Helper()
	return listenTo(tb, address, "#", change...)
}

func listenTo(tb testing.TB, address, filter string, change ...func(*paho.ClientOptions)) *listener {
	tb.Helper()
	l := &listener{more: make(chan struct{}, 1)}
	o := paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID(fmt.Sprintf("test-%d", time.Now().UnixNano())).
		SetConnectTimeout(10 * time.Second).SetMaxReconnectInterval(500 * time.Millisecond).SetResumeSubs(true)
	o.SetOnConnectHandler(func(c paho.Client) {
		c.Subscribe(filter, 1, func(_ paho.Client, m paho.Message) {
			l.mu.Lock()
			l.got = append(l.got, heard{m.Topic(), string(m.Payload()), m.Qos(), m.Retained()})
			l.mu.Unlock()
			select {
			case l.more <- struct{}{}:
			default:
			}
		}).WaitTimeout(10 * time.Second)
	})
	for _, c := range change {
		c(o)
	}
	l.Client = paho.NewClient(o)
	token := l.Connect()
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		tb.Fatalf("the listener cannot connect: %v", token.Error())
	}
	// A message to itself proves the subscription.
	proof := strings.Replace(filter, "#", "listening", 1)
	eventually(tb, "the listener's subscription", func() bool {
		l.publish(tb, proof, "")
		time.Sleep(10 * time.Millisecond)
		return len(l.on(proof)) > 0
	})
	tb.Cleanup(func() { l.Disconnect(10) })
	return l
}

func (l *listener) publish(tb testing.TB, topic, payload string) {
	tb.Helper()
	token := l.Client.Publish(topic, 1, false, payload)
	if !token.WaitTimeout(2*time.Minute) || token.Error() != nil { // 100 MiB on a busy machine take their time
		tb.Fatalf("publishing on %s: %v", topic, token.Error())
	}
}

// on returns what was heard on a topic.
func (l *listener) on(topic string) []heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []heard
	for _, h := range l.got {
		if h.topic == topic {
			out = append(out, h)
		}
	}
	return out
}

func (l *listener) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = nil
}

// until waits for n messages on a topic.
func (l *listener) until(tb testing.TB, topic string, n int, most time.Duration) []heard {
	tb.Helper()
	deadline := time.After(most)
	for {
		if got := l.on(topic); len(got) >= n {
			return got
		}
		select {
		case <-l.more:
		case <-deadline:
			l.mu.Lock()
			defer l.mu.Unlock()
			all := fmt.Sprint(l.got)
			tb.Fatalf("not %d messages on %s; heard %s", n, topic, all[:min(len(all), 2000)])
		}
	}
}

// payload waits until the latest message on a topic is as wanted.
func (l *listener) payload(tb testing.TB, topic, want string) {
	tb.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got := l.on(topic)
		if len(got) > 0 && got[len(got)-1].payload == want {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s: heard %v, want %s", topic, got, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// lastEvent waits for the last event of a request and checks the order of those before it.
func (l *listener) lastEvent(tb testing.TB, topic string) mqtt.Event {
	tb.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		for _, h := range l.on(topic) {
			var e mqtt.Event
			if err := json.Unmarshal([]byte(h.payload), &e); err != nil {
				tb.Fatalf("%s: %v", h.payload, err)
			}
			if e.Done {
				return e
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	tb.Fatalf("no last event on %s: %v", topic, l.on(topic))
	return mqtt.Event{}
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("not within 15 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
