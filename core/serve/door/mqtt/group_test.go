package mqtt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/group"
)

// member is a node of a group.
type member struct {
	*mqtt.Door
	*fake

	line *line
	stop func()
}

// line is a node's way to the broker, which can be cut: what the broker sees then is a node that died.
type line struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	conns []net.Conn
	down  bool
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: ln, to: to}
	t.Cleanup(func() { _ = ln.Close(); l.cut() })
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			l.mu.Lock()
			if err != nil || l.down {
				_ = near.Close()
				if err == nil {
					_ = far.Close()
				}
				l.mu.Unlock()
				continue
			}
			l.conns = append(l.conns, near, far)
			l.mu.Unlock()
			for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = pair[0].Close(), pair[1].Close()
				}()
			}
		}
	}()
	return l
}

// cut ends what is connected, for good.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// takeover is short, so that the tests are.
const takeover = 3 * time.Second

// join starts a node of a group, with adapters, and waits until it sits at the group's desk.
func join(t *testing.T, l *listener, node string, c config.MQTT, adapters ...string) *member {
	t.Helper()
	return joinWith(t, l, node, c, &fake{}, adapters...)
}

func joinWith(t *testing.T, l *listener, node string, c config.MQTT, f *fake, adapters ...string) *member {
	t.Helper()
	return joinAs(t, l, mqtt.Options{Node: node, Config: c}, f, adapters...)
}

func joinAs(t *testing.T, l *listener, o mqtt.Options, f *fake, adapters ...string) *member {
	t.Helper()
	node, log := o.Node, &lockedBuffer{}
	m := &member{fake: f, line: newLine(t, strings.TrimPrefix(o.Config.Broker, "tcp://"))}
	o.Config.Broker = "tcp://" + m.line.listener.Addr().String()
	o.Dispatcher, o.Takeover = f, takeover
	o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	m.Door = mqtt.New(o)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", node, log)
		}
	})
	status := mqtt.Status{State: mqtt.StateReady, Queue: mqtt.StatusQueue{Size: 500, Running: 1}}
	for _, a := range adapters {
		status.Adapters = append(status.Adapters, mqtt.StatusAdapter{Name: a})
	}
	m.SetStatus(status)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	before := len(l.on("edged/@house/members/" + node))
	go func() { defer close(done); _ = m.Run(ctx) }()
	m.stop = func() { cancel(); <-done }
	t.Cleanup(m.stop)
	if o.Config.ShareGroup == "house" {
		eventually(t, node+" sits at the desk", func() bool {
			got := l.on("edged/@house/members/" + node)
			var who group.Member
			return len(got) > before && json.Unmarshal([]byte(got[len(got)-1].payload), &who) == nil && who.Desk
		})
	} else {
		<-m.Ready()
	}
	return m
}

// house is the configuration of a group's node.
func house(s server) config.MQTT {
	c := settings(s.address())
	c.ShareGroup = "house"
	return c
}

// askGroup publishes n requests to the group and waits for the last event of each.
func askGroup(t *testing.T, l *listener, name string, n int) {
	t.Helper()
	for i := range n {
		l.publish(t, "edged/@house/request/c", fmt.Sprintf(`{"id":"%s%d","prompt":"x"}`, name, i))
	}
	for i := range n {
		l.lastEvent(t, fmt.Sprintf("edged/@house/response/c/%s%d", name, i))
	}
}

// lasts are the last events of a request, as they came.
func lasts(l *listener, topic string) []string {
	var out []string
	for _, h := range l.on(topic) {
		if strings.Contains(h.payload, `"done":true`) {
			out = append(out, h.payload)
		}
	}
	return out
}

// TestGroup: the nodes of a group share what is asked of it, each request is run once, and a cancel reaches every node.
func TestGroup(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			l := listen(t, s.address())
			a, b := join(t, l, "a", house(s)), join(t, l, "b", house(s))
			askGroup(t, l, "g", 40)
			if a.count()+b.count() != 40 || a.count() < 10 || b.count() < 10 {
				t.Errorf("%d and %d requests, want 40 in all, and a part for each", a.count(), b.count())
			}
			l.publish(t, "edged/@house/cancel/c", "g1")
			for _, m := range []*member{a, b} {
				eventually(t, "the cancel reaches a node", func() bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					return slices.Contains(m.cancels, "@house/c/g1")
				})
			}
			// What else may be asked of a group.
			l.publish(t, "edged/@house/ask/shed", "warm?")
			l.payload(t, "edged/@house/answer/shed", "warm?")
			l.publish(t, "edged/@house/embed/c", `{"id":"e1","input":"x"}`)
			l.lastEvent(t, "edged/@house/response/c/e1")
			l.publish(t, "edged/@house/score/c", `{"id":"s1","prompt":"x"}`)
			l.lastEvent(t, "edged/@house/response/c/s1")
			l.publish(t, "edged/@house/rerank/c", `{"id":"k1","query":"q","documents":["x"]}`)
			l.lastEvent(t, "edged/@house/response/c/k1")
		})
	}
}

// TestGroupStopped: no request waits for a node that was told to stop, and none comes to it when it is back.
func TestGroupStopped(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			l := listen(t, s.address())
			stops := join(t, l, "stops", house(s))
			join(t, l, "a", house(s))
			join(t, l, "b", house(s))
			stops.stop()
			before := stops.count()
			askGroup(t, l, "g", 60)
			if n := stops.count(); n != before {
				t.Errorf("a node that has stopped was given %d requests", n-before)
			}
			back := join(t, l, "stops", house(s))
			if back.countOf("g0") != 0 {
				t.Error("a request waited for the node that was away")
			}
		})
	}
}

// TestGroupTakenOver: what a node has accepted when it dies is computed by another, as a later attempt, and what that one gives is the only
// answer, also when the first one comes back with its own.
func TestGroupTakenOver(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			l := listen(t, s.address())
			var mu sync.Mutex
			var held *dispatch.Request
			var sink dispatch.Sink
			dies := &fake{answer: func(req *dispatch.Request, to dispatch.Sink) error {
				mu.Lock()
				defer mu.Unlock()
				held, sink = req, to
				to.Event(req, dispatch.Event{Attempt: 1, Accepted: &dispatch.Accepted{}})
				return nil
			}}
			a := joinWith(t, l, "a", house(s), dies, "only")
			l.publish(t, "edged/@house/request/c", `{"id":"r","prompt":"x","adapter":"only"}`)
			eventually(t, "the request is accepted", func() bool { return len(l.on("edged/@house/response/c/r")) > 0 })
			b := join(t, l, "b", house(s), "only")
			a.line.cut()
			e := l.lastEvent(t, "edged/@house/response/c/r")
			if e.Attempt < 2 || b.countOf("r") != 1 {
				t.Errorf("attempt %d, %d times computed by the other", e.Attempt, b.countOf("r"))
			}
			// The first one ends it too, and is back.
			a.line.mu.Lock()
			a.line.down = false
			a.line.mu.Unlock()
			mu.Lock()
			sink.Event(held, last("another text", 1))
			mu.Unlock()
			eventually(t, "its own end is settled", func() bool { return slices.Contains(dies.acknowledged(), "@house/c/r") })
			for _, text := range lasts(l, "edged/@house/response/c/r") {
				if strings.Contains(text, "another text") {
					t.Errorf("the request has a second answer: %s", text)
				}
			}
		})
	}
}

// TestGroupIDs: an id means the same in the whole group: a repeat gets the answer that there is, and another request under it is a conflict.
func TestGroupIDs(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			l := listen(t, s.address())
			var members []*member
			for _, node := range []string{"a", "b", "c"} {
				f := &fake{answer: func(req *dispatch.Request, to dispatch.Sink) error {
					echo(&dispatch.Request{ID: req.ID, Client: req.Client, Reply: req.Reply, Prompt: node + " says"}, to)
					return nil
				}}
				members = append(members, joinWith(t, l, node, house(s), f))
			}
			const topic = "edged/@house/response/c/r"
			for i := range 3 {
				l.publish(t, "edged/@house/request/c", `{"id":"r","prompt":"x"}`)
				eventually(t, "an answer", func() bool { return len(lasts(l, topic)) > i })
			}
			if got := lasts(l, topic); got[0] != got[1] || got[1] != got[2] {
				t.Errorf("repeats give %q", got)
			}
			for i := range 2 {
				l.publish(t, "edged/@house/request/c", fmt.Sprintf(`{"id":"r","prompt":"another %d"}`, i))
			}
			eventually(t, "the conflicts are told", func() bool {
				return len(slices.DeleteFunc(l.on("edged/@house/errors/c"), func(h heard) bool { return !strings.Contains(h.payload, "id_conflict") })) == 2
			})
			n := 0
			for _, m := range members {
				n += m.count()
			}
			if n != 1 {
				t.Errorf("one request was computed %d times", n)
			}
		})
	}
}

// TestGroupRoom: a node takes only what it can serve. What one refuses another takes, and where nobody does its client is told.
func TestGroupRoom(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			l := listen(t, s.address())
			full := &fake{answer: func(req *dispatch.Request, _ dispatch.Sink) error {
				if req.Model != "" {
					return &dispatch.Error{Code: dispatch.CodeModelNotFound, Message: "no such model"}
				}
				return &dispatch.Error{Code: dispatch.CodeQueueFull, Message: "no room"}
			}}
			joinWith(t, l, "a", house(s), full)
			b := join(t, l, "b", house(s), "pirate")
			askGroup(t, l, "g", 20)
			for i := range 20 {
				if e := l.lastEvent(t, fmt.Sprintf("edged/@house/response/c/g%d", i)); e.Error != nil {
					t.Errorf("g%d: %+v", i, e.Error)
				}
			}
			before := b.count()
			l.publish(t, "edged/@house/request/c", `{"id":"p","prompt":"x","adapter":"pirate"}`)
			l.lastEvent(t, "edged/@house/response/c/p")
			if b.count() != before+1 {
				t.Error("the node that has the adapter did not get the request")
			}
			for i := range 6 {
				id := fmt.Sprintf("m%d", i)
				l.publish(t, "edged/@house/request/c", fmt.Sprintf(`{"id":%q,"prompt":"x","model":"other","adapter":"its"}`, id))
				if e := l.lastEvent(t, "edged/@house/response/c/"+id); e.Error != nil {
					t.Errorf("a model that one node has: %+v", e.Error)
				}
			}
			l.publish(t, "edged/@house/request/c", `{"id":"q","prompt":"x","adapter":"poet"}`)
			if e := l.lastEvent(t, "edged/@house/response/c/q"); e.Error == nil || e.Error.Code != dispatch.CodeAdapterNotFound {
				t.Errorf("an adapter that nobody has: %+v", e)
			}
			b.stop()
			l.publish(t, "edged/@house/request/c", `{"id":"last","prompt":"x"}`)
			if e := l.lastEvent(t, "edged/@house/response/c/last"); e.Error == nil || e.Error.Code != dispatch.CodeQueueFull || e.Error.Message != "on node a: no room" {
				t.Errorf("a group without room: %+v", e)
			}
			// A refusal leaves the id free.
			join(t, l, "b", house(s))
			l.forget()
			l.publish(t, "edged/@house/request/c", `{"id":"last","prompt":"x"}`)
			if e := l.lastEvent(t, "edged/@house/response/c/last"); e.Error != nil {
				t.Errorf("asked again: %+v", e)
			}
		})
	}
}

// library has one prompt.
type library struct{ name string }

func (s library) Fill(req *dispatch.Request, name string, _ []byte) *fields.Error {
	if name != s.name {
		return fields.NoPrompt("%q is not there; there are: %s", name, s.name)
	}
	req.Chat = []byte(`[]`)
	return nil
}

// TestGroupPrompts: a prompt by name is asked for among the nodes as a model is: one that lacks it, or has none, passes the request on.
func TestGroupPrompts(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			l := listen(t, s.address())
			join(t, l, "a", house(s))
			joinAs(t, l, mqtt.Options{Node: "b", Config: house(s), Prompts: library{"meet"}}, &fake{})
			c := joinAs(t, l, mqtt.Options{Node: "c", Config: house(s), Prompts: library{"greet"}}, &fake{})
			for i := range 6 {
				id := fmt.Sprintf("p%d", i)
				l.publish(t, "edged/@house/request/c", fmt.Sprintf(`{"id":%q,"prompt_name":"greet"}`, id))
				if e := l.lastEvent(t, "edged/@house/response/c/"+id); e.Error != nil || c.countOf(id) != 1 {
					t.Errorf("a prompt that one node has: %+v", e.Error)
				}
			}
			l.publish(t, "edged/@house/request/c", `{"id":"q","prompt_name":"bid"}`)
			if e := l.lastEvent(t, "edged/@house/response/c/q"); e.Error == nil || e.Error.Code != dispatch.CodePromptNotFound || !strings.HasPrefix(e.Error.Message, "on node a: ") {
				t.Errorf("a prompt that nobody has: %+v", e.Error)
			}
		})
	}
}

// leaveSession leaves a persistent session with subscriptions at a broker.
func leaveSession(t *testing.T, address, id string, filters ...string) {
	t.Helper()
	old := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID(id).SetCleanSession(false).SetAutoReconnect(false))
	steps := []func() paho.Token{old.Connect}
	for _, f := range filters {
		steps = append(steps, func() paho.Token { return old.Subscribe(f, 1, nil) })
	}
	for _, step := range steps {
		if token := step(); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	old.Disconnect(100)
}

// TestGroupForgotten: a node that is started without its group, or in another, takes nothing of what its session still brings, and
// unsubscribes.
func TestGroupForgotten(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			l := listen(t, s.address())
			other := join(t, l, "other", house(s))
			leaveSession(t, s.address(), mqtt.Topics{Node: "pi"}.ClientID(), "edged/@house/request/#", "edged/@house/ask/#")
			c := house(s)
			c.ShareGroup = ""
			pi := join(t, l, "pi", c)
			askGroup(t, l, "g", 60)
			if pi.count() != 0 || other.count() != 60 {
				t.Errorf("%d requests were run by a node that is in no group, %d by the group's", pi.count(), other.count())
			}
		})
	}
}

// TestGroupRenamed: a session that holds the group under the share names of earlier versions is rid of them, and no request is run twice.
func TestGroupRenamed(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			leaveSession(t, s.address(), mqtt.Topics{Node: "a"}.ClientID(), "$share/edged-house/edged/@house/request/#", "$share/house/edged/@house/request/#")
			l := listen(t, s.address())
			a, b := join(t, l, "a", house(s)), join(t, l, "b", house(s))
			askGroup(t, l, "g", 20)
			if n := a.count() + b.count(); n != 20 {
				t.Errorf("20 requests were run %d times", n)
			}
		})
	}
}

// TestGroupLiteral: a group needs no shared subscriptions of its broker.
func TestGroupLiteral(t *testing.T) {
	t.Parallel()
	s := startQuirky(t, quirks{})
	c := settings(s.address())
	c.ShareGroup = "house"
	l := listen(t, s.address())
	a, b := join(t, l, "a", c), join(t, l, "b", c)
	askGroup(t, l, "g", 20)
	if n := a.count() + b.count(); n != 20 {
		t.Errorf("20 requests were run %d times", n)
	}
}

// TestGroupProof: where an access list keeps the group's log back, a check says so, and the node in its log and its status.
func TestGroupProof(t *testing.T) {
	t.Parallel()
	const lacks = "does not come back to it"
	for _, test := range []struct{ name, acl, want string }{
		{"works", "topic readwrite #\n", ""},
		{"kept back", "topic readwrite edged/pi/#\ntopic read edged/@house/request/#\n", lacks},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			acl := filepath.Join(t.TempDir(), "acl")
			if err := os.WriteFile(acl, []byte(test.acl), 0o600); err != nil {
				t.Fatal(err)
			}
			c := house(startMosquitto(t, "allow_anonymous true", "acl_file "+acl))
			found, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: c})
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, f := range found {
				if f.Grave {
					text += f.Text + f.Fix
				}
			}
			if !strings.Contains(text, test.want) || test.want == "" && text != "" || test.want != "" && !strings.Contains(text, "edged/@house/#") {
				t.Errorf("the check says %q", text)
			}
			if test.want == "" {
				return
			}
			l := listenTo(t, strings.TrimPrefix(c.Broker, "tcp://"), "edged/pi/#")
			node := open(t, c, &fake{}, true)
			node.SetStatus(mqtt.Status{State: mqtt.StateReady})
			eventually(t, "the log says so", func() bool { return strings.Contains(node.log.String(), lacks) })
			eventually(t, "and the status", func() bool {
				return slices.ContainsFunc(l.on("edged/pi/status"), func(h heard) bool { return strings.Contains(h.payload, lacks) })
			})
		})
	}
}

// TestGroupOnlyTaker: the one node that serves what a request names accepts it and dies. Its client is told by one last event that says so,
// as a later attempt; what the node makes of it when it is back counts no more, and it is stopped.
func TestGroupOnlyTaker(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			l := listen(t, s.address())
			var mu sync.Mutex
			var held *dispatch.Request
			var sink dispatch.Sink
			serves := &fake{answer: func(req *dispatch.Request, to dispatch.Sink) error {
				mu.Lock()
				defer mu.Unlock()
				held, sink = req, to
				to.Event(req, dispatch.Event{Attempt: 1, Accepted: &dispatch.Accepted{}})
				return nil
			}}
			lacks := &fake{answer: func(*dispatch.Request, dispatch.Sink) error {
				return &dispatch.Error{Code: dispatch.CodeModelNotFound, Message: "there is no model \"mine\""}
			}}
			a := joinWith(t, l, "a", house(s), serves)
			joinWith(t, l, "b", house(s), lacks)
			joinWith(t, l, "c", house(s), lacks)
			const topic = "edged/@house/response/c/r"
			l.publish(t, "edged/@house/request/c", `{"id":"r","prompt":"x","model":"mine","user":7}`)
			eventually(t, "the request is accepted", func() bool { return len(l.on(topic)) > 0 })
			a.line.cut()
			e := l.lastEvent(t, topic)
			if e.Error == nil || e.Error.Code != dispatch.CodeBackendUnavailable || !strings.Contains(e.Error.Message, "node a, which could serve this request, has gone") ||
				!strings.Contains(e.Error.Message, `: on node b: there is no model "mine"`) || e.Attempt < 3 || string(e.User) != "7" {
				t.Errorf("%+v, error %+v", e, e.Error)
			}
			a.line.mu.Lock()
			a.line.down = false
			a.line.mu.Unlock()
			eventually(t, "the node that is back is stopped", func() bool {
				serves.mu.Lock()
				defer serves.mu.Unlock()
				return slices.Contains(serves.cancels, "@house/c/r")
			})
			mu.Lock()
			sink.Event(held, last("too late", 1))
			mu.Unlock()
			eventually(t, "its own end is settled", func() bool { return slices.Contains(serves.acknowledged(), "@house/c/r") })
			before := len(lasts(l, topic))
			l.publish(t, "edged/@house/request/c", `{"id":"r","prompt":"x","model":"mine","user":7}`)
			eventually(t, "a repeat is answered", func() bool { return len(lasts(l, topic)) > before })
			for _, payload := range lasts(l, topic) {
				if payload != lasts(l, topic)[0] {
					t.Errorf("the request has several last events: %q", lasts(l, topic))
				}
			}
		})
	}
}
