package mqtt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/group"
)

// station is a node through its lives, with what a real one keeps on disk. It computes by waiting, and no two of its texts are alike.
type station struct {
	t    *testing.T
	name string
	to   server

	mu      sync.Mutex
	life    int // odd: it runs
	closed  bool
	running int
	texts   int
	journal map[string]*entry
	door    *mqtt.Door
	line    *line
	cancel  context.CancelFunc
	done    chan struct{}
}

type entry struct {
	req       *dispatch.Request
	last      *dispatch.Event // nil: not computed
	published bool
}

func (s *station) Submit(_ context.Context, req *dispatch.Request, sink dispatch.Sink) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sink != dispatch.Sink(s.door) || s.closed {
		return &dispatch.Error{Code: dispatch.CodeShuttingDown, Message: "it ends"}
	}
	key := req.Client + "/" + req.ID
	if e := s.journal[key]; e != nil {
		if e.req.Hash != req.Hash {
			return &dispatch.Error{Code: dispatch.CodeIDConflict, Message: "another request"}
		}
		sink.Event(req, dispatch.Event{Attempt: 1, Accepted: &dispatch.Accepted{Stored: e.last != nil}})
		if e.last != nil {
			sink.Event(req, *e.last)
		}
		return nil
	}
	e := &entry{req: req}
	s.journal[key] = e
	sink.Event(req, dispatch.Event{Attempt: 1, Accepted: &dispatch.Accepted{}})
	s.compute(e)
	return nil
}

// compute ends a request after a while, if the node lives on. s.mu is held.
func (s *station) compute(e *entry) {
	life, door := s.life, s.door
	s.running++
	time.AfterFunc(time.Duration(10+rand.IntN(60))*time.Millisecond, func() {
		s.mu.Lock()
		if s.life != life {
			s.mu.Unlock()
			return
		}
		s.running--
		s.texts++
		text := fmt.Sprintf("computation %d of %s in life %d", s.texts, s.name, life)
		e.last = &dispatch.Event{Attempt: 1, Seq: 1, Last: &dispatch.Last{
			Finish: "stop", Choices: []backend.Choice{{Text: text, Finish: "stop"}}, Node: s.name, Model: "fake", Seed: 1,
		}}
		s.mu.Unlock()
		door.Event(e.req, *e.last)
	})
}

func (s *station) Cancel(string, string) bool { return false }

func (s *station) Published(client, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.journal[client+"/"+id]; e != nil {
		e.published = true
	}
	return nil
}

func (s *station) start() {
	c := house(s.to)
	l := newLine(s.t, s.to.address())
	c.Broker = "tcp://" + l.listener.Addr().String()
	door := mqtt.New(mqtt.Options{Node: s.name, Config: c, Dispatcher: s, Takeover: takeover, Log: slog.New(slog.DiscardHandler)})
	door.SetStatus(mqtt.Status{State: mqtt.StateReady, Queue: mqtt.StatusQueue{Size: 500, Running: 2}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.mu.Lock()
	s.life++
	s.closed, s.running = false, 0
	s.door, s.line, s.cancel, s.done = door, l, cancel, done
	var ended []*entry
	for _, e := range s.journal {
		switch {
		case e.last == nil:
			s.compute(e)
		case !e.published:
			ended = append(ended, e)
		}
	}
	s.mu.Unlock()
	for _, e := range ended {
		door.Event(e.req, *e.last)
	}
	go func() { defer close(done); _ = door.Run(ctx) }()
}

// kill ends the node at once.
func (s *station) kill() {
	s.mu.Lock()
	s.life++
	l, cancel, done := s.line, s.cancel, s.done
	s.mu.Unlock()
	l.cut()
	cancel()
	<-done
}

// stop ends it as SIGTERM does.
func (s *station) stop() {
	s.door.Leave()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for range 200 {
		s.mu.Lock()
		idle := s.running == 0
		s.mu.Unlock()
		if idle {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.cancel()
	<-s.done
	s.mu.Lock()
	s.life++
	s.mu.Unlock()
}

// TestFleet: five nodes under deaths, clean stops and restarts of their broker, with ids that are repeated: what was accepted has one answer.
// EDGED_GROUP_LONG=1 has 2,000 requests of 50 clients, 100 ends of nodes and 10 of the broker.
func TestFleet(t *testing.T) {
	t.Parallel()
	requests, ends, restarts := 150, 8, 1
	if os.Getenv("EDGED_GROUP_LONG") != "" {
		requests, ends, restarts = 2000, 100, 10
	}
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fleet(t, start(t), requests, ends, restarts)
		})
	}
}

func fleet(t *testing.T, s server, requests, ends, restarts int) {
	t.Helper()
	l := listenTo(t, s.address(), "edged/@house/#")
	var nodes []*station
	for i := range 5 {
		x := &station{t: t, name: fmt.Sprintf("n%d", i), to: s, journal: map[string]*entry{}}
		nodes = append(nodes, x)
		x.start()
	}
	// told is how often a node has told of itself; seated reports whether it has told since then that it sits at the desk.
	told := func(x *station) int { return len(l.on("edged/@house/members/" + x.name)) }
	seated := func(x *station, since int) bool {
		got := l.on("edged/@house/members/" + x.name)
		for _, h := range got[min(since, len(got)):] {
			var who group.Member
			if json.Unmarshal([]byte(h.payload), &who) == nil && who.Desk {
				return true
			}
		}
		return false
	}
	for _, x := range nodes {
		within(t, time.Minute, x.name+" sits at the desk", func() bool { return seated(x, 0) })
	}

	topic := func(i int) string { return fmt.Sprintf("edged/@house/response/c%d/r%d", i%50, i) }
	ask := func(i int) { // one that nobody hears is asked again, as docs/fleet.md says
		l.Client.Publish(fmt.Sprintf("edged/@house/request/c%d", i%50), 1, false, fmt.Sprintf(`{"id":"r%d","prompt":"x"}`, i))
	}
	accepted := func(i int) bool { return len(l.on(topic(i))) > 0 }
	var asking sync.WaitGroup
	next := make(chan int)
	for range 8 {
		asking.Go(func() {
			for i := range next {
				ask(i)
				for tries := 0; !accepted(i) && tries < 600; tries++ {
					time.Sleep(50 * time.Millisecond)
					if tries%60 == 59 {
						ask(i)
					}
				}
				if rand.IntN(3) == 0 {
					ask(i)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		chance := rand.New(rand.NewPCG(1, uint64(ends))) // the same nodes end in each run
		for i := range ends + restarts {
			hit := nodes
			if i%(ends/restarts+1) != ends/restarts {
				hit = nodes[chance.IntN(len(nodes)):][:1]
			}
			since := map[*station]int{}
			for _, x := range hit {
				since[x] = told(x)
			}
			switch x := hit[0]; {
			case len(hit) > 1:
				s.stop(t)
				s.start(t)
			case i%2 == 0:
				x.kill()
				time.Sleep(time.Duration(chance.IntN(500)) * time.Millisecond) // how long it is away
				x.start()
			default:
				x.stop()
				x.start()
			}
			for _, x := range hit { // what a group promises needs a node that remembers
				for tries := 0; !seated(x, since[x]) && tries < 2400; tries++ {
					time.Sleep(25 * time.Millisecond)
				}
			}
		}
	}()
	for i := range requests {
		next <- i
	}
	close(next)
	asking.Wait()
	<-ended
	// What was published while this client was away from the broker it asks for again; then all once more, and the answer is the one
	// that there was.
	counts := func() map[string]int { // of last events
		l.mu.Lock()
		defer l.mu.Unlock()
		out := map[string]int{}
		for _, h := range l.got {
			if strings.HasPrefix(h.topic, "edged/@house/response/") && strings.Contains(h.payload, `"done":true`) {
				out[h.topic]++
			}
		}
		return out
	}
	for _, more := range []int{0, 1} {
		before, asked := counts(), time.Time{}
		var missing []int
		t.Cleanup(func() {
			for _, i := range missing[:min(len(missing), 20)] {
				t.Logf("look %d: r%d has %d of %d ends: %v", more, i, counts()[topic(i)], max(more*(before[topic(i)]+1), 1), l.on(topic(i)))
			}
			if len(missing) > 0 {
				t.Logf("look %d: %d are missing", more, len(missing))
			}
		})
		within(t, 3*time.Minute, "every request is answered", func() bool {
			missing = missing[:0]
			now := counts()
			for i := range requests {
				if now[topic(i)] < max(more*(before[topic(i)]+1), 1) {
					missing = append(missing, i)
				}
			}
			if time.Since(asked) > 5*time.Second {
				asked = time.Now()
				for _, i := range missing {
					ask(i)
				}
			}
			return len(missing) == 0
		})
	}
	for i := range requests {
		texts := map[string]bool{}
		for _, payload := range lasts(l, topic(i)) {
			var e mqtt.Event
			if err := json.Unmarshal([]byte(payload), &e); err != nil || e.Result == nil || e.Text == nil {
				t.Errorf("r%d: %s", i, payload)
				continue
			}
			texts[*e.Text] = true
		}
		if len(texts) > 1 {
			t.Errorf("r%d has %d answers: %v", i, len(texts), texts)
		}
	}
	for _, x := range nodes {
		x.kill()
	}
}

func within(t *testing.T, most time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(strings.Join([]string{"not within", most.String(), what}, " "))
		}
	}
}
