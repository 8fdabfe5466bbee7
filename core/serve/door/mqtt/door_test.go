package mqtt_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/mqtt"
)

// TestAnotherBase: two nodes of one name live on one broker where their bases differ.
func TestAnotherBase(t *testing.T) {
	s := startEmbedded(t)
	l := listen(t, s.address())
	here, there := &fake{}, &fake{}
	open(t, settings(s.address()), here, true)
	c := settings(s.address())
	c.Base = "house/llm"
	open(t, c, there, true)
	l.publish(t, "house/llm/pi/request/c", `{"id":"r1","prompt":"there"}`)
	l.publish(t, "edged/pi/request/c", `{"id":"r1","prompt":"here"}`)
	if e := l.lastEvent(t, "house/llm/pi/response/c/r1"); e.Text == nil || *e.Text != "there" {
		t.Errorf("%+v", e)
	}
	if e := l.lastEvent(t, "edged/pi/response/c/r1"); e.Text == nil || *e.Text != "here" {
		t.Errorf("%+v", e)
	}
	l.payload(t, "house/llm/pi/availability", "online")
	l.payload(t, "edged/pi/availability", "online")
	if here.count() != 1 || there.count() != 1 {
		t.Error(here.count(), there.count())
	}
}

func TestConversation(t *testing.T) {
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			l := listen(t, s.address())
			f := &fake{}
			d := open(t, settings(s.address()), f, true)
			l.payload(t, "edged/pi/availability", "online")

			t.Run("ask", func(t *testing.T) {
				l.publish(t, "edged/pi/ask", "hello")
				l.payload(t, "edged/pi/answer", "hello")
				l.publish(t, "edged/pi/ask/shed", "light?")
				l.payload(t, "edged/pi/answer/shed", "light?")
				l.publish(t, "edged/pi/ask/shed", "")
				l.payload(t, "edged/pi/answer/shed", "error: invalid_request: the prompt is empty")
				l.publish(t, "edged/pi/ask/shed", "\xff")
				l.payload(t, "edged/pi/answer/shed", "error: invalid_request: the prompt is not UTF-8")
			})
			t.Run("request", func(t *testing.T) {
				l.publish(t, "edged/pi/request/kitchen", `{"id":"r1","prompt":"0123456789","stream":true}`)
				e := l.lastEvent(t, "edged/pi/response/kitchen/r1")
				if *e.Text != "0123456789" || e.Finish != "stop" {
					t.Errorf("last: %+v", e)
				}
				var joined strings.Builder
				seq := 0
				for _, h := range l.on("edged/pi/response/kitchen/r1") {
					var e mqtt.Event
					if err := json.Unmarshal([]byte(h.payload), &e); err != nil {
						t.Fatal(err)
					}
					if e.Seq != seq || h.retained {
						t.Errorf("event %d: %+v", seq, h)
					}
					if (e.Done || e.Stage == "accepted") && h.qos != 1 {
						t.Errorf("QoS %d of %s", h.qos, h.payload)
					}
					seq++
					joined.WriteString(e.Delta)
				}
				if joined.String() != "0123456789" {
					t.Errorf("deltas join to %q", joined.String())
				}
				eventually(t, "the dispatcher knows of the acknowledgement", func() bool { return slices.Contains(f.acknowledged(), "kitchen/r1") })
			})
			t.Run("cancel", func(t *testing.T) {
				l.publish(t, "edged/pi/cancel", "plain")
				l.publish(t, "edged/pi/cancel/c", `{"id":"json"}`)
				eventually(t, "two cancels", func() bool {
					f.mu.Lock()
					defer f.mu.Unlock()
					return cmp.Equal(f.cancels, []string{"/plain", "c/json"}, cmpopts.SortSlices(strings.Compare))
				})
			})
			t.Run("errors", func(t *testing.T) {
				l.forget()
				l.publish(t, "edged/pi/request/c", `{"id":"bad","prompt":7}`)
				if e := l.lastEvent(t, "edged/pi/response/c/bad"); e.Error == nil || e.Error.Message != "prompt: wants a text, not the number 7" {
					t.Errorf("got %+v", e.Error)
				}
				for i, p := range []struct{ topic, payload, want string }{
					{"edged/pi/request", `{`, `{"topic":"edged/pi/request","error":{"code":"invalid_request","message":"the payload is not JSON: unexpected end of JSON input, at byte 1"}}`},
					{"edged/pi/request", ``, `{"topic":"edged/pi/request","error":{"code":"invalid_request","message":"the payload is empty"}}`},
					{"edged/pi/request/a/b", `{"id":"x","prompt":"x"}`, `{"topic":"edged/pi/request/a/b","error":{"code":"invalid_request","message":"the last level of the topic, CLIENT, must match [A-Za-z0-9._-]{1,64}"}}`},
					{"edged/pi/ask/ü", `x`, `{"topic":"edged/pi/ask/ü","error":{"code":"invalid_request","message":"the last level of the topic, TAG, must match [A-Za-z0-9._-]{1,64}"}}`},
					{"edged/pi/cancel", `a b`, `{"topic":"edged/pi/cancel","error":{"code":"invalid_request","message":"a cancel is an id, plain or as {\"id\":…}: the payload is not JSON: invalid character 'a' looking for beginning of value, at byte 1"}}`},
				} {
					l.publish(t, p.topic, p.payload)
					if got := l.until(t, "edged/pi/errors", i+1, 10*time.Second)[i].payload; got != p.want {
						t.Errorf("got  %s\nwant %s", got, p.want)
					}
				}
			})
			t.Run("not admitted", func(t *testing.T) {
				l.forget()
				f.mu.Lock()
				f.answer = func(*dispatch.Request, dispatch.Sink) error {
					return &dispatch.Error{Code: dispatch.CodeQueueFull, Message: "full", Retry: time.Second}
				}
				f.mu.Unlock()
				l.publish(t, "edged/pi/request/c", `{"id":"q","prompt":"x"}`)
				if e := l.lastEvent(t, "edged/pi/response/c/q"); e.Error == nil || e.Error.Code != "queue_full" || e.Error.RetryMS != 1000 {
					t.Errorf("got %+v", e.Error)
				}
				l.publish(t, "edged/pi/ask/q", "x")
				l.payload(t, "edged/pi/answer/q", "error: queue_full: full")
				f.mu.Lock()
				f.answer = func(*dispatch.Request, dispatch.Sink) error {
					return &dispatch.Error{Code: dispatch.CodeIDConflict, Message: "conflict"}
				}
				f.mu.Unlock()
				l.publish(t, "edged/pi/request/c", `{"id":"same","prompt":"x"}`)
				if got := l.until(t, "edged/pi/errors/c", 1, 10*time.Second)[0].payload; got != `{"topic":"edged/pi/request/c","id":"same","error":{"code":"id_conflict","message":"conflict"}}` {
					t.Errorf("got %s", got)
				}
				if got := l.on("edged/pi/response/c/same"); len(got) > 0 {
					t.Errorf("a conflict was told on the response topic: %v", got)
				}
			})
			t.Run("closing", func(t *testing.T) {
				l.forget()
				d.stop()
				l.payload(t, "edged/pi/availability", "offline")
				if n := len(l.on("edged/pi/availability")); n != 1 {
					t.Errorf("offline was said %d times", n)
				}
			})
		})
	}
}

// TestRetained: state is there for who comes later, is restored after the broker forgot it, and what is left over from
// another life is removed.
func TestRetained(t *testing.T) {
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			early := listen(t, s.address())
			for _, name := range []string{"left-over", "pirate"} {
				token := early.Client.Publish("edged/pi/adapters/"+name, 1, true, `{"old":true}`)
				token.WaitTimeout(10 * time.Second)
			}
			d := open(t, settings(s.address()), &fake{}, false)
			d.SetStatus(mqtt.Status{State: mqtt.StateReady, Version: "1", Since: "now"})
			d.SetAdapter("pirate", &mqtt.Adapter{State: mqtt.AdapterActive, Generation: 1, SHA256: "ab"})
			d.SetAdapter("gone", &mqtt.Adapter{State: mqtt.AdapterVerifying})
			const status = `{"api":1,"node":"pi","state":"ready","version":"1","adapters":[],"queue":{"size":0,"running":0},"since":"now"}`
			const pirate = `{"state":"active","generation":1,"sha256":"ab"}`
			early.payload(t, "edged/pi/status", status)
			early.payload(t, "edged/pi/adapters/pirate", pirate)
			early.payload(t, "edged/pi/adapters/left-over", "")
			d.SetAdapter("gone", nil)
			early.payload(t, "edged/pi/adapters/gone", "")
			d.PublishStats(mqtt.Stats{Waiting: 3})
			if got := early.until(t, "edged/pi/stats", 1, 10*time.Second)[0]; !strings.Contains(got.payload, `"waiting":3`) || got.retained {
				t.Errorf("stats %+v", got)
			}

			check := func(when string) {
				t.Helper()
				late := listen(t, s.address())
				late.until(t, "edged/pi/availability", 1, 10*time.Second)
				want := map[string]string{"edged/pi/availability": "online", "edged/pi/status": status, "edged/pi/adapters/pirate": pirate}
				got := map[string]string{}
				time.Sleep(200 * time.Millisecond)
				late.mu.Lock()
				defer late.mu.Unlock()
				for _, h := range late.got {
					if h.retained && strings.HasPrefix(h.topic, "edged/") {
						got[h.topic] = h.payload
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("retained %s (-want +got):\n%s", when, diff)
				}
			}
			check("at first")
			s.stop(t)
			early.forget()
			s.start(t) // both keep nothing on disk
			early.payload(t, "edged/pi/availability", "online")
			early.payload(t, "edged/pi/status", status)
			early.payload(t, "edged/pi/adapters/pirate", pirate)
			check("after a restart of the broker")
		})
	}
}

// TestBrokerRestart: back and subscribed within 5 s, with what waited.
func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			hold := make(chan struct{})
			f := &fake{answer: func(req *dispatch.Request, sink dispatch.Sink) error {
				sink.Event(req, dispatch.Event{Attempt: 1, Accepted: &dispatch.Accepted{}})
				go func() {
					<-hold
					sink.Event(req, last(req.Prompt, 1))
				}()
				return nil
			}}
			d := open(t, settings(s.address()), f, true)
			l := listen(t, s.address())
			l.publish(t, "edged/pi/request", `{"id":"before","prompt":"kept over the restart"}`)
			l.until(t, "edged/pi/response/before", 1, 10*time.Second)
			s.stop(t)
			eventually(t, "the loss is noticed", func() bool { return !d.Online() })
			close(hold) // the answer comes while there is no broker
			time.Sleep(3 * time.Second)
			s.start(t)
			begin := time.Now()
			// A listener of its own: the other's library takes its time to come back.
			l2 := listen(t, s.address())
			eventually(t, "online again", d.Online)
			took := time.Since(begin)
			if took > 5*time.Second {
				t.Errorf("back after %v", took)
			}
			t.Logf("subscribed again %v after the broker was back", took.Round(time.Millisecond))
			l2.publish(t, "edged/pi/ask", "again")
			l2.payload(t, "edged/pi/answer", "again")
			eventually(t, "the answer that waited is acknowledged", func() bool { return slices.Contains(f.acknowledged(), "/before") })
		})
	}
}

// TestLastEventIsNotForgotten: a last event that the broker took and did not acknowledge is sent again on the next
// connection, and only then the dispatcher hears of it.
func TestLastEventIsNotForgotten(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t)
	p := newProxy(t, s.address())
	f := &fake{}
	d := open(t, settings(p.address()), f, true)
	l := listen(t, s.address())
	p.mute() // the broker's answers are lost from now on
	d.Event(&dispatch.Request{ID: "x", Reply: "edged/pi/response/x", Prompt: "y"}, last("y", 0))
	l.until(t, "edged/pi/response/x", 1, 10*time.Second)
	if got := f.acknowledged(); len(got) != 0 {
		t.Fatalf("acknowledged without a PUBACK: %v", got)
	}
	p.cut()
	l.until(t, "edged/pi/response/x", 2, 20*time.Second)
	eventually(t, "the acknowledgement", func() bool { return cmp.Equal(f.acknowledged(), []string{"/x"}) })
	got := l.on("edged/pi/response/x")
	if got[0].payload != got[1].payload {
		t.Errorf("the repeat differs: %v", got)
	}
}

// TestRequestIsAcknowledgedAfterSubmit: a request that was being submitted when the connection ended comes again.
func TestRequestIsAcknowledgedAfterSubmit(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			p := newProxy(t, s.address())
			hold := make(chan struct{})
			f := &fake{answer: func(req *dispatch.Request, sink dispatch.Sink) error {
				<-hold
				echo(req, sink)
				return nil
			}}
			d := open(t, settings(p.address()), f, true)
			l := listen(t, s.address())
			l.publish(t, "edged/pi/request", `{"id":"twice","prompt":"x"}`)
			eventually(t, "it arrives", func() bool { return f.count() == 1 })
			p.cut()
			eventually(t, "the loss is noticed", func() bool { return !d.Online() })
			close(hold)
			// Redelivered by the broker, since the session goes on: the dispatcher knows a repeat when it sees one.
			eventually(t, "it comes again", func() bool { return f.count() == 2 })
			l.lastEvent(t, "edged/pi/response/twice")
			// The last event can overtake the acknowledgement. What is asked after it is read after the
			// acknowledgement was given to the connection, and so its answer reaches the broker after it.
			l.Client.Publish("edged/pi/ask/fence", 0, false, "fence")
			l.payload(t, "edged/pi/answer/fence", "fence")
			p.cut()
			eventually(t, "another connection", func() bool { return !d.Online() })
			eventually(t, "another connection", d.Online)
			// What the broker still had for this session it sends right after CONNACK, so before what comes now.
			l.Client.Publish("edged/pi/ask/end", 0, false, "end")
			l.payload(t, "edged/pi/answer/end", "end")
			if n := f.countOf("twice"); n != 2 {
				t.Errorf("submitted %d times: the acknowledgement was lost", n)
			}
		})
	}
}

// ended is a Taking that is told in which order messages come over which processes ended.
type ended struct {
	mu   sync.Mutex
	ends []int // of the messages, in their order; 0: none
	open int
	most int
}

func (e *ended) Begin([32]byte) (ends int, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ends) > 0 {
		ends, e.ends = e.ends[0], e.ends[1:]
	}
	if ends >= 8 {
		return ends, false
	}
	e.open++
	e.most = max(e.most, e.open)
	return ends, true
}

func (e *ended) End([32]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open--
}

// TestMessageOverWhichTheServiceEnded: it is refused unread, where its client listens, and acknowledged.
func TestMessageOverWhichTheServiceEnded(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			p := newProxy(t, s.address())
			f, e := &fake{}, &ended{ends: []int{0, 8, 7, 9}}
			d := openWith(t, mqtt.Options{Config: settings(p.address()), Dispatcher: f, Taking: e}, true)
			l := listen(t, s.address())
			for _, id := range []string{"good", "bad", "again"} {
				l.publish(t, "edged/pi/request/cam", `{"id":"`+id+`","prompt":"x"}`)
			}
			l.lastEvent(t, "edged/pi/response/cam/good")
			l.lastEvent(t, "edged/pi/response/cam/again")
			l.publish(t, "edged/pi/ask/door", "plain")
			var c mqtt.Complaint
			if err := json.Unmarshal([]byte(l.until(t, "edged/pi/errors/cam", 1, time.Minute)[0].payload), &c); err != nil {
				t.Fatal(err)
			}
			if c.Error.Code != "quarantined" || !strings.Contains(c.Error.Message, "ended 8 times") {
				t.Errorf("told: %+v", c)
			}
			if text := l.until(t, "edged/pi/answer/door", 1, time.Minute)[0].payload; !strings.Contains(text, "quarantined") {
				t.Errorf("a plain question: %q", text)
			}
			// What was not acknowledged would come right behind the next connection, before what is sent then.
			p.cut()
			eventually(t, "another connection", func() bool { return !d.Online() })
			eventually(t, "another connection", d.Online)
			l.Client.Publish("edged/pi/ask/end", 0, false, "end")
			l.payload(t, "edged/pi/answer/end", "end")
			if f.countOf("bad") != 0 || f.countOf("again") != 1 {
				t.Errorf("submitted: bad %d, again %d times", f.countOf("bad"), f.countOf("again"))
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.open != 0 || e.most != 1 {
				t.Errorf("%d messages are said to be read still, %d at once", e.open, e.most)
			}
		})
	}
}

// TestOversize: messages beyond the limit are swallowed within bounded memory, acknowledged and told about, and service
// goes on.
func TestOversize(t *testing.T) {
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			c := settings(s.address())
			c.MaxPayload = 64 << 10
			f := &fake{}
			d := open(t, c, f, true)
			l := listen(t, s.address())
			for _, size := range []int{64<<10 + 1, 64<<10 + 4<<10, 1 << 20, 100 << 20} {
				runtime.GC()
				var before, after runtime.MemStats
				payload := strings.Repeat("x", size)
				l.forget()
				runtime.ReadMemStats(&before)
				l.publish(t, "edged/pi/request/c", payload)
				got := l.until(t, "edged/pi/errors/c", 1, 3*time.Minute)[0].payload
				runtime.ReadMemStats(&after)
				if want := fmt.Sprintf("the payload has %d bytes, and mqtt.max_payload is 65536", size); !strings.Contains(got, want) {
					t.Errorf("%d bytes: %s", size, got)
				}
				if _, real := s.(*mosquitto); real && size > 10<<20 {
					// The listener, which is subscribed to everything, gets it twice over; what the door adds is small.
					if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(7*size) {
						t.Errorf("%d bytes of payload made %d of memory", size, grown)
					}
				}
			}
			l.publish(t, "edged/pi/ask/big", strings.Repeat("x", 80<<10))
			l.payload(t, "edged/pi/answer/big", "error: invalid_request: the payload has 81920 bytes, and mqtt.max_payload is 65536")
			// Acknowledged: a new connection brings none of them again.
			l.forget()
			d.stop()
			open(t, c, f, true)
			time.Sleep(300 * time.Millisecond)
			if got := l.on("edged/pi/errors"); len(got) > 0 {
				t.Errorf("they came again: %v", got)
			}
			l.publish(t, "edged/pi/ask", "still there?")
			l.payload(t, "edged/pi/answer", "still there?")
			if f.count() != 1 {
				t.Errorf("%d requests were submitted", f.count())
			}
		})
	}
}

// TestAnswerTooLarge: an answer beyond the limit becomes an error.
func TestAnswerTooLarge(t *testing.T) {
	s := startEmbedded(t)
	c := settings(s.address())
	c.MaxPayload = 2 << 10
	f := &fake{answer: func(req *dispatch.Request, sink dispatch.Sink) error {
		sink.Event(req, last(strings.Repeat("x", 4000), 0))
		return nil
	}}
	open(t, c, f, true)
	l := listen(t, s.address())
	l.publish(t, "edged/pi/request", `{"id":"a","prompt":"x"}`)
	if e := l.lastEvent(t, "edged/pi/response/a"); e.Error == nil || e.Error.Code != "answer_too_large" {
		t.Errorf("got %+v", e)
	}
}

// TestBrokerTakesNoSuchAnswer: a broker that closes the connection over each large message gets an error in its place.
func TestBrokerTakesNoSuchAnswer(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t, "allow_anonymous true", "max_packet_size 10000")
	f := &fake{answer: func(req *dispatch.Request, sink dispatch.Sink) error {
		sink.Event(req, last(strings.Repeat("x", len(req.Prompt)*1000), 0))
		return nil
	}}
	d := open(t, settings(m.address()), f, true)
	l := listen(t, m.address())
	for i := range 4 {
		l.publish(t, "edged/pi/request", fmt.Sprintf(`{"id":"good%d","prompt":"x"}`, i))
	}
	l.publish(t, "edged/pi/request", `{"id":"large","prompt":"xxxxxxxxxxxxxxxxxxxx"}`)
	for i := range 4 {
		if e := l.lastEvent(t, fmt.Sprintf("edged/pi/response/good%d", i)); e.Error != nil {
			t.Errorf("good%d: %+v", i, e.Error)
		}
	}
	e := l.lastEvent(t, "edged/pi/response/large")
	if e.Error == nil || e.Error.Code != "answer_too_large" || !strings.Contains(e.Error.Message, "the broker does not take the answer") {
		t.Errorf("got %+v", e.Error)
	}
	eventually(t, "online", d.Online)
	l.publish(t, "edged/pi/ask", "x")
	l.payload(t, "edged/pi/answer", strings.Repeat("x", 1000))
}

// maxFlood is the door's bound on waiting messages.
const maxFlood = 1024

// TestFlood: 10,000 small requests at once end in service. What finds no room is refused, as far as there is room to say so.
func TestFlood(t *testing.T) {
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			f := &fake{answer: func(req *dispatch.Request, sink dispatch.Sink) error {
				time.Sleep(100 * time.Microsecond) // a journal
				if !req.Plain {
					sink.Event(req, last("x", 0))
					return nil
				}
				echo(req, sink)
				return nil
			}}
			open(t, settings(s.address()), f, true)
			l := listenTo(t, s.address(), "other/#")
			var tokens []paho.Token
			for i := range 10_000 {
				tokens = append(tokens, l.Client.Publish("edged/pi/request/flood", byte(i%2), false, fmt.Sprintf(`{"id":"f%d","prompt":"x"}`, i)))
			}
			for _, token := range tokens {
				if !token.WaitTimeout(60 * time.Second) {
					t.Fatal("the broker does not take the flood")
				}
			}
			l2 := listenTo(t, s.address(), "edged/pi/answer/after")
			eventually(t, "service goes on", func() bool {
				// mosquitto drops what goes to a client for which a thousand messages wait already.
				l2.publish(t, "edged/pi/ask/after", "done")
				time.Sleep(50 * time.Millisecond)
				got := l2.on("edged/pi/answer/after")
				return len(got) > 0 && got[len(got)-1].payload == "done"
			})
			t.Logf("%d of 10,000 were submitted", f.count())
			least := maxFlood
			if name == "mosquitto" {
				least = 500 // it keeps a thousand messages for a client that is slower than the flood: the rest is the machine's
			}
			if f.count() < least {
				t.Errorf("only %d of 10,000 were submitted", f.count())
			}
		})
	}
}

// TestGarbage: payloads of any kind on every input.
func TestGarbage(t *testing.T) {
	s := startEmbedded(t)
	f := &fake{}
	open(t, settings(s.address()), f, true)
	l := listen(t, s.address())
	for _, topic := range []string{"ask", "ask/x", "request", "request/x", "request/+x", "embed", "score", "cancel", "cancel/x", "nothing", "request/x/y/z", "request//"} {
		for _, payload := range []string{"", "\x00", "\xff\xfe", "{", "[]", "null", `{"id":"+"}`, `{"id":"a/#"}`, strings.Repeat("[", 10000), strings.Repeat(`{"a":`, 5000)} {
			if strings.Contains(topic, "+") {
				continue // the broker itself refuses wildcards in topics
			}
			l.publish(t, "edged/pi/"+topic, payload)
		}
	}
	l.publish(t, "edged/pi/ask/after", "done")
	l.payload(t, "edged/pi/answer/after", "done")
	for _, r := range f.requests {
		if strings.ContainsAny(r.Reply, "+#") {
			t.Errorf("reply topic %q", r.Reply)
		}
	}
}

// TestRetainedRequest: a request that somebody retained is answered when it comes, and not at every reconnect.
func TestRetainedRequest(t *testing.T) {
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			f := &fake{}
			d := open(t, settings(s.address()), f, true)
			l := listen(t, s.address())
			l.Client.Publish("edged/pi/ask", 1, true, "now").WaitTimeout(10 * time.Second)
			l.payload(t, "edged/pi/answer", "now")
			d.stop()
			open(t, settings(s.address()), f, true)
			l.publish(t, "edged/pi/ask/x", "later")
			l.payload(t, "edged/pi/answer/x", "later")
			if f.count() != 2 {
				t.Errorf("%d requests", f.count())
			}
		})
	}
}

// TestQueuedWhileAway: what clients publish at QoS 1 while the node is away is there when it comes back.
func TestQueuedWhileAway(t *testing.T) {
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			f := &fake{}
			d := open(t, settings(s.address()), f, true)
			l := listen(t, s.address())
			d.stop()
			l.publish(t, "edged/pi/request", `{"id":"waited","prompt":"x"}`)
			open(t, settings(s.address()), f, true)
			if e := l.lastEvent(t, "edged/pi/response/waited"); e.Error != nil || *e.Text != "x" {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// TestShutdownLeavesRequestsWithTheBroker: a request that is refused because the node shuts down is not acknowledged.
func TestShutdownLeavesRequestsWithTheBroker(t *testing.T) {
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			f := &fake{answer: func(*dispatch.Request, dispatch.Sink) error {
				return &dispatch.Error{Code: dispatch.CodeShuttingDown, Message: "bye"}
			}}
			d := open(t, settings(s.address()), f, true)
			l := listen(t, s.address())
			l.publish(t, "edged/pi/request", `{"id":"later","prompt":"x"}`)
			eventually(t, "it is seen", func() bool { return f.count() == 1 })
			d.stop()
			f.mu.Lock()
			f.answer = nil
			f.mu.Unlock()
			open(t, settings(s.address()), f, true)
			if e := l.lastEvent(t, "edged/pi/response/later"); e.Error != nil {
				t.Errorf("got %+v", e.Error)
			}
		})
	}
}

// TestWill: a node that dies is offline.
func TestWill(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			p := newProxy(t, s.address())
			d := open(t, settings(p.address()), &fake{}, true)
			l := listen(t, s.address())
			l.payload(t, "edged/pi/availability", "online")
			p.close()
			l.payload(t, "edged/pi/availability", "offline")
			eventually(t, "noticed", func() bool { return !d.Online() })
		})
	}
}

// TestDuplicateClientID: two nodes of one name are told so.
func TestDuplicateClientID(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			a := open(t, settings(s.address()), &fake{}, true)
			b := open(t, settings(s.address()), &fake{}, false)
			eventually(t, "the cause is named", func() bool {
				return strings.Contains(a.log.String()+b.log.String(), "another client uses the same client id")
			})
		})
	}
}

// TestAccess: users, access lists and what is said when they do not fit.
func TestAccess(t *testing.T) {
	dir := t.TempDir()
	passwords(t, filepath.Join(dir, "passwd"), "pi", "secret")
	acl := "user pi\ntopic readwrite edged/#\n"
	if err := os.WriteFile(filepath.Join(dir, "acl"), []byte(acl), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(dir, "wrong")
	if err := os.WriteFile(wrong, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startMosquitto(t, "allow_anonymous false", "password_file "+dir+"/passwd", "acl_file "+dir+"/acl")
	url := "tcp://" + m.address()
	for _, test := range []struct {
		name   string
		change func(*config.MQTT)
		want   string
	}{
		{"nobody", func(*config.MQTT) {}, "mqtt: broker " + url + ": it wants a user name and a password: set mqtt.username and mqtt.password_file"},
		{"wrong password", func(c *config.MQTT) { c.Username, c.PasswordFile = "pi", wrong }, "mqtt: broker " + url + ": it refuses the user \"pi\": check mqtt.username, the password file, and the broker's access list"},
		{"no file", func(c *config.MQTT) { c.Username, c.PasswordFile = "pi", filepath.Join(dir, "none") }, "mqtt: password: config: secret " + dir + "/none: no such file or directory"},
		{"good", func(c *config.MQTT) { c.Username, c.PasswordFile = "pi", secret }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := settings(m.address())
			test.change(&c)
			_, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: c})
			if got := fmt.Sprint(err); test.want == "" && err != nil || test.want != "" && got != test.want {
				t.Fatalf("got  %s\nwant %s", got, test.want)
			}
			if test.want == "" {
				open(t, c, &fake{}, true)
				l := listenTo(t, m.address(), "edged/#", func(o *paho.ClientOptions) { o.SetUsername("pi").SetPassword("secret") })
				l.publish(t, "edged/pi/ask", "hello")
				l.payload(t, "edged/pi/answer", "hello")
			}
		})
	}
}

// proxy stands between a door and a broker, to cut and to mute.
type proxy struct {
	ln    net.Listener
	to    string
	mu    sync.Mutex
	conns []net.Conn
	muted bool
}

func newProxy(tb testing.TB, to string) *proxy {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{ln: ln, to: to}
	go p.serve()
	tb.Cleanup(p.close)
	return p
}

func (p *proxy) address() string { return p.ln.Addr().String() }

func (p *proxy) serve() {
	for {
		in, err := p.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.muted = false
		p.mu.Unlock()
		go p.copy(out, in, false)
		go p.copy(in, out, true)
	}
}

// copy passes bytes on; those of the broker are lost while it is muted.
func (p *proxy) copy(to, from net.Conn, fromBroker bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		lost := fromBroker && p.muted
		p.mu.Unlock()
		if lost {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.muted = true
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *proxy) close() {
	_ = p.ln.Close()
	p.cut()
}
