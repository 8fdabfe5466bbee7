package askclient_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"edged/core/config"
	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/broker"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
	"edged/core/serve/door/mqtt/link"
)

// node is a door with a dispatcher that a test scripts.
type node struct {
	mu     sync.Mutex
	cancel map[string]chan struct{}
	script func(req *dispatch.Request, sink dispatch.Sink, cancelled <-chan struct{}) error
	door   *mqtt.Door // set by start, as is broker
	broker string     // its address
	group  string     // it shares requests with; "": none
}

func (n *node) Submit(_ context.Context, req *dispatch.Request, sink dispatch.Sink) error {
	n.mu.Lock()
	c := make(chan struct{})
	n.cancel[req.ID] = c
	n.mu.Unlock()
	return n.script(req, sink, c)
}

func (n *node) Cancel(_, id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.cancel[id]; c != nil {
		close(c)
		delete(n.cancel, id)
		return true
	}
	return false
}

// start runs a broker and a node "pi" on it, and returns a connected client.
func start(t *testing.T, n *node) *askclient.Client {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	c := config.Default().MQTT
	if n != nil {
		n.cancel = map[string]chan struct{}{}
		c.ShareGroup = n.group
		d := mqtt.New(mqtt.Options{Node: "pi", Config: c, Embedded: b.Addr(), Dispatcher: n})
		n.door, n.broker = d, b.Addr()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = d.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		<-d.Ready()
		if n.group != "" { // the group gives requests to nodes that are ready and have a place
			d.SetStatus(mqtt.Status{State: mqtt.StateReady, Queue: mqtt.StatusQueue{Size: 8, Running: 1}})
		}
	}
	name := "pi"
	if n != nil && n.group != "" {
		name = "@" + n.group
	}
	client, err := askclient.Dial(t.Context(), askclient.Options{Settings: link.From(&c, b.Addr()), Node: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func delta(attempt, seq int, text string) dispatch.Event {
	return dispatch.Event{Attempt: attempt, Seq: seq, Delta: &dispatch.Delta{Text: text}}
}

func last(attempt, seq int, text, finish string) dispatch.Event {
	return dispatch.Event{Attempt: attempt, Seq: seq, Last: &dispatch.Last{
		Finish: finish, Choices: []backend.Choice{{Text: text}}, Usage: backend.Usage{CompletionTokens: 3}, Seed: 7,
	}}
}

func TestAsk(t *testing.T) {
	tests := []struct {
		name   string
		events []dispatch.Event
		shown  string // "|" where it began anew
	}{
		{"all deltas", []dispatch.Event{delta(1, 1, "ab"), delta(1, 2, "cd"), last(1, 3, "abcd", "stop")}, "abcd"},
		{"no deltas", []dispatch.Event{last(1, 1, "abcd", "stop")}, "abcd"},
		{"a lost delta", []dispatch.Event{delta(1, 1, "ab"), delta(1, 3, "ef"), last(1, 4, "abcdef", "stop")}, "abcdef"},
		{"another attempt", []dispatch.Event{delta(1, 1, "ab"), delta(2, 0, "abcd"), last(2, 1, "abcd", "stop")}, "ab|abcd"},
		{"another text", []dispatch.Event{delta(1, 1, "xy"), last(1, 2, "abcd", "stop")}, "xy|abcd"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := start(t, &node{script: func(req *dispatch.Request, sink dispatch.Sink, _ <-chan struct{}) error {
				if !req.Stream || string(req.Chat) != `[{"role":"user","content":"hi"}]` || *req.Options.Seed != 7 {
					t.Errorf("got %+v", req)
				}
				sink.Event(req, dispatch.Event{Attempt: 1, Accepted: &dispatch.Accepted{Position: 2}})
				for _, ev := range test.events {
					sink.Event(req, ev)
				}
				return nil
			}})
			var shown strings.Builder
			position := -1
			seed := uint64(7)
			answer, err := client.Ask(t.Context(), askclient.Request{Messages: []askclient.Message{{Role: "user", Content: "hi"}}, Seed: &seed}, askclient.Follow{
				Accepted: func(p int) { position = p },
				Delta:    func(s string) { shown.WriteString(s) },
				Restart:  func(string) { shown.WriteString("|") },
			})
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(test.shown[strings.LastIndex(test.shown, "|")+1:], "|", "")
			if shown.String() != test.shown || *answer.Text != want || answer.Finish != "stop" || answer.Usage.Completion != 3 || position != 2 {
				t.Errorf("shown %q, answer %+v, position %d", shown.String(), answer, position)
			}
		})
	}
}

// TestAskGroup asks a group, of which a node answers, and one of which nobody is there.
func TestAskGroup(t *testing.T) {
	n := &node{group: "house", script: func(req *dispatch.Request, sink dispatch.Sink, _ <-chan struct{}) error {
		if req.Model != "big" {
			t.Errorf("got %+v", req)
		}
		sink.Event(req, dispatch.Event{Attempt: 1, Accepted: &dispatch.Accepted{}})
		sink.Event(req, delta(1, 1, "ab"))
		sink.Event(req, last(1, 2, "abcd", "stop"))
		return nil
	}}
	client := start(t, n)
	var shown strings.Builder
	answer, err := client.Ask(t.Context(), askclient.Request{Prompt: "hi", Model: "big"}, askclient.Follow{Delta: func(text string) { shown.WriteString(text) }})
	if err != nil || *answer.Text != "abcd" || shown.String() != "abcd" {
		t.Errorf("%+v, %v, shown %q", answer, err, shown.String())
	}
	c := config.Default().MQTT
	nobody, err := askclient.Dial(t.Context(), askclient.Options{Settings: link.From(&c, n.broker), Node: "@barn"})
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	if _, err := nobody.Ask(t.Context(), askclient.Request{Prompt: "hi"}, askclient.Follow{}); err == nil || !strings.Contains(err.Error(), `no node of the group "barn"`) {
		t.Errorf("%v", err)
	}
}

// TestAskGroupAgain: a group may lose what none of its nodes has accepted; the client asks again, with the same bytes.
func TestAskGroupAgain(t *testing.T) {
	b, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	c := config.Default().MQTT
	asked := make(chan string, 8)
	settings := link.From(&c, b.Addr())
	member, err := settings.Dial(t.Context(), link.Dialling{ID: "member", Clean: true, OnLost: func(error) {}, OnMessage: func(m *link.Received) {
		m.Ack()
		asked <- string(m.Payload)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Close)
	if err := member.Subscribe(t.Context(), map[string]byte{"edged/@house/request/+": 1}); err != nil {
		t.Fatal(err)
	}
	<-member.Publish(link.Message{Topic: "edged/@house/members/pi", QoS: 1, Retained: true, Payload: []byte("{}")}).Done()
	client, err := askclient.Dial(t.Context(), askclient.Options{Settings: settings, Node: "@house", Client: "k", Repeat: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	go func() {
		if first, second := <-asked, <-asked; first != second {
			t.Errorf("%s, and then %s", first, second)
		}
		member.Publish(link.Message{Topic: "edged/@house/response/k/r", QoS: 1, Payload: []byte(`{"id":"r","done":true,"text":"yes"}`)})
	}()
	answer, err := client.Ask(t.Context(), askclient.Request{ID: "r", Prompt: "hi"}, askclient.Follow{})
	if err != nil || answer.Text == nil || *answer.Text != "yes" {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestAskErrors(t *testing.T) {
	client := start(t, &node{script: func(req *dispatch.Request, sink dispatch.Sink, _ <-chan struct{}) error {
		if req.Prompt == "conflict" {
			return &dispatch.Error{Code: dispatch.CodeIDConflict, Message: "used"}
		}
		sink.Event(req, dispatch.Event{Attempt: 1, Last: &dispatch.Last{Error: &dispatch.Error{Code: dispatch.CodeAdapterNotFound, Message: "none"}}})
		return nil
	}})
	for prompt, want := range map[string]string{"conflict": "id_conflict: used", "x": "adapter_not_found: none"} {
		_, err := client.Ask(t.Context(), askclient.Request{Prompt: prompt}, askclient.Follow{})
		var re *askclient.RequestError
		if !errors.As(err, &re) || err.Error() != want {
			t.Errorf("%s: %v", prompt, err)
		}
	}
	if _, err := client.Ask(t.Context(), askclient.Request{Prompt: "x", ID: "no good"}, askclient.Follow{}); err == nil {
		t.Error("an id with a blank was answered")
	}
}

func TestCancel(t *testing.T) {
	client := start(t, &node{script: func(req *dispatch.Request, sink dispatch.Sink, cancelled <-chan struct{}) error {
		sink.Event(req, delta(1, 0, "so far"))
		go func() {
			<-cancelled
			sink.Event(req, last(1, 1, "so far", "cancelled"))
		}()
		return nil
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a lost delta fails the test, it does not hang it
	defer cancel()
	answer, err := client.Ask(ctx, askclient.Request{Prompt: "x"}, askclient.Follow{Delta: func(string) { cancel() }})
	if !errors.Is(err, context.Canceled) || answer.Text == nil || *answer.Text != "so far" || answer.Finish != "cancelled" {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestNoNode(t *testing.T) {
	client := start(t, nil)
	begin := time.Now()
	_, err := client.Ask(t.Context(), askclient.Request{Prompt: "x"}, askclient.Follow{})
	if err == nil || !strings.Contains(err.Error(), `no node named "pi" was ever there`) || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}
