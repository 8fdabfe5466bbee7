package faults

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// width is how many requests the client has open.
const width = 4

// again is how long the client waits before it publishes an id once more.
const again = time.Second

// ask is one request, as its client sees it.
type ask struct {
	id, payload string
	combo       int
	sent        time.Time // last published
	repeats     int
	accepted    bool
	announced   int            // accepted events
	lasts       map[string]int // payloads of last events, and how often each came
	last        event
	deltas      map[[2]int]string // by attempt and seq; every event that is not the last has an entry
}

// event is what a client reads of an event.
type event struct {
	ID      string `json:"id"`
	Attempt int    `json:"attempt"`
	Seq     int    `json:"seq"`
	Stage   string `json:"stage"`
	Delta   string `json:"delta"`
	Done    any    `json:"done"` // a count in prefill events, true in the last one
	Text    string `json:"text"`
	Error   *struct{ Code, Message string }
	Stored  bool `json:"stored"`
}

// load is a client that keeps requests open, and publishes an id again until it has its last event.
type load struct {
	t      *testing.T
	client mqtt.Client

	mu       sync.Mutex
	asks     map[string]*ask
	open     []*ask
	number   int
	working  bool // new requests are made
	patient  bool // what was accepted is not published again
	want     map[int]string
	state    string              // of availability
	states   int                 // how often it came
	sessions int                 // connections with a subscription
	fresh    time.Time           // first delta of a further attempt since it was cleared
	texts    map[string][]string // other topics
	wake     chan struct{}
	quit     chan struct{}
	ended    sync.WaitGroup
}

func newLoad(t *testing.T, url string) *load {
	t.Helper()
	l := &load{
		t: t, asks: map[string]*ask{}, want: map[int]string{}, texts: map[string][]string{},
		wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	o := mqtt.NewClientOptions().AddBroker(url).SetClientID("load").SetOrderMatters(true).
		SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond).SetMaxReconnectInterval(100 * time.Millisecond).
		SetOnConnectHandler(l.connected)
	l.client = mqtt.NewClient(o)
	l.client.Connect()
	l.ended.Go(l.pump)
	t.Cleanup(func() {
		close(l.quit)
		l.ended.Wait()
		l.client.Disconnect(50)
	})
	eventually(t, "the client is connected", func() bool { return l.connections() > 0 })
	return l
}

// connected subscribes and publishes what is open once more.
func (l *load) connected(c mqtt.Client) {
	token := c.SubscribeMultiple(map[string]byte{"edged/test/response/load/+": 1, "edged/test/availability": 1, "edged/test/errors/#": 1, "edged/test/answer/#": 1}, l.take)
	if !token.WaitTimeout(patience) || token.Error() != nil {
		return // the connection is lost again
	}
	l.mu.Lock()
	l.sessions++
	for _, a := range l.open {
		a.sent = time.Time{}
	}
	l.mu.Unlock()
	l.poke()
}

func (l *load) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions
}

func (l *load) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take reads what the node publishes.
func (l *load) take(_ mqtt.Client, m mqtt.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	payload := string(m.Payload())
	if m.Topic() == "edged/test/availability" {
		l.state = payload
		l.states++
		return
	}
	var e event
	if !strings.HasPrefix(m.Topic(), "edged/test/response/") || json.Unmarshal(m.Payload(), &e) != nil {
		l.texts[m.Topic()] = append(l.texts[m.Topic()], payload)
		return
	}
	a := l.asks[e.ID]
	if a == nil {
		l.texts[m.Topic()] = append(l.texts[m.Topic()], payload)
		return
	}
	if e.Done != true {
		if e.Attempt > 1 && e.Delta != "" && l.fresh.IsZero() {
			l.fresh = time.Now()
		}
		if e.Stage == "accepted" {
			a.accepted = true
			if !e.Stored { // a repeat is told that its answer is stored; that is no second acceptance
				a.announced++
			}
		}
		a.deltas[[2]int{e.Attempt, e.Seq}] = e.Delta
		return
	}
	a.lasts[payload]++
	a.last = e
	for i, o := range l.open {
		if o == a {
			l.open = append(l.open[:i], l.open[i+1:]...)
			break
		}
	}
	l.poke()
}

// pump publishes new requests and repeats of old ones.
func (l *load) pump() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-l.wake:
		case <-tick.C:
		case <-l.quit:
			return
		}
		l.mu.Lock()
		for l.working && len(l.open) < width {
			l.create(l.number%combos, 60)
		}
		var out []*ask
		if l.client.IsConnectionOpen() {
			for _, a := range l.open {
				if time.Since(a.sent) < again || l.patient && a.accepted {
					continue
				}
				if !a.sent.IsZero() {
					a.repeats++
				}
				a.sent = time.Now()
				out = append(out, a)
			}
		}
		l.mu.Unlock()
		for _, a := range out {
			l.client.Publish("edged/test/request/load", 1, false, a.payload)
		}
	}
}

// combos are the different questions: the answer to each is always the same.
const combos = 6

// create makes a request. l.mu is held.
func (l *load) create(combo, tokens int) *ask {
	l.number++
	prompt := []string{"What is the temperature in the bedroom?", "Open the porch shutters.", "Tell me a story."}[combo%3]
	a := &ask{
		id: fmt.Sprintf("r%d", l.number), combo: combo, lasts: map[string]int{}, deltas: map[[2]int]string{},
	}
	a.payload = fmt.Sprintf(`{"id":%q,"prompt":%q,"seed":%d,"temperature":0.9,"max_tokens":%d,"ignore_eos":true,"stream":%v}`,
		a.id, prompt, 7+combo, tokens, combo%2 == 0)
	l.asks[a.id] = a
	l.open = append(l.open, a)
	return a
}

// calibrate asks every question once, undisturbed.
func (l *load) calibrate() {
	l.t.Helper()
	l.mu.Lock()
	var all []*ask
	for combo := range combos {
		all = append(all, l.create(combo, 60))
	}
	l.mu.Unlock()
	l.poke()
	l.idle()
	for _, a := range all {
		if a.last.Error != nil || a.last.Text == "" || a.last.Attempt != 1 {
			l.t.Fatalf("undisturbed: %+v", a.last)
		}
		l.want[a.combo] = a.last.Text
	}
}

// work begins or ends to make new requests.
func (l *load) work(on bool) {
	l.mu.Lock()
	l.working = on
	l.mu.Unlock()
	l.poke()
}

// idle waits until nothing is open.
func (l *load) idle() {
	l.t.Helper()
	eventually(l.t, "every request has its last event", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.open) == 0
	})
}

// settle waits until everything that is open now has its last event, and a request that was made after now, too.
func (l *load) settle() {
	l.t.Helper()
	l.mu.Lock()
	until := l.number + 1
	l.mu.Unlock()
	eventually(l.t, fmt.Sprintf("the first %d requests have their last events", until), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, a := range l.open {
			if n := 0; a.id != "" {
				_, _ = fmt.Sscanf(a.id, "r%d", &n)
				if n <= until {
					return false
				}
			}
		}
		return l.number >= until
	})
}

// online waits until the node says that it is.
func (l *load) online() {
	l.t.Helper()
	eventually(l.t, "the node is online", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.state == "online"
	})
}

// counts are what verify found.
type counts struct{ requests, repeats, duplicates, attempts, joined int }

// verify checks every request so far, which must all have ended.
func (l *load) verify() (c counts) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.asks {
		c.requests++
		c.repeats += a.repeats
		c.attempts += a.last.Attempt - 1
		if len(a.lasts) != 1 {
			l.t.Errorf("%s has %d different last events: %v", a.id, len(a.lasts), a.lasts)
			continue
		}
		for _, n := range a.lasts {
			c.duplicates += n - 1
		}
		if a.last.Error != nil || a.last.Text != l.want[a.combo] {
			l.t.Errorf("%s, attempt %d: error %+v, text %q, undisturbed %q", a.id, a.last.Attempt, a.last.Error, a.last.Text, l.want[a.combo])
		}
		// Deltas may be lost with a connection; where none was, they are the text.
		var text strings.Builder
		whole := a.combo%2 == 0
		for seq := range a.last.Seq {
			delta, ok := a.deltas[[2]int{a.last.Attempt, seq}]
			whole = whole && ok
			text.WriteString(delta)
		}
		if whole {
			c.joined++
			if text.String() != a.last.Text {
				l.t.Errorf("%s, attempt %d: deltas %q, text %q", a.id, a.last.Attempt, text.String(), a.last.Text)
			}
		}
	}
	return c
}

func (c counts) String() string {
	return fmt.Sprintf("%d requests, each with one last event and the undisturbed text; %d further attempts, %d repeats by the client, %d last events again, byte for byte; deltas of %d complete",
		c.requests, c.attempts, c.repeats, c.duplicates, c.joined)
}

// moment is a random pause, up to most.
func moment(rng *rand.Rand, most time.Duration) { time.Sleep(time.Duration(rng.Int64N(int64(most)))) }
