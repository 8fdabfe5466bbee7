package mqtt

import (
	"slices"
	"sync"
	"time"

	"edged/core/serve/door/mqtt/group"
	"edged/core/serve/door/mqtt/link"
)

// Bounds of what waits to be published.
const (
	maxPassing      = 1024    // messages that may be dropped: deltas, progress, stats
	maxPassingBytes = 1 << 20 // of them
	maxComplaints   = 256     // refusals and complaints; floods make them
)

// class says what becomes of a message that cannot be sent now.
type class uint8

const (
	passing   class = iota // QoS 0, dropped when there is no connection or too much waits
	complaint              // QoS 1, kept over connections up to maxComplaints, then the newest are dropped
	kept                   // QoS 1, kept until acknowledged within one connection
	entry                  // QoS 1, dropped with the connection: what a node tells its group, and says again where it still holds
)

// outgoing is one message on its way.
type outgoing struct {
	topic    string
	payload  []byte
	props    link.Properties
	class    class
	event    *Event // of a last event: what stands in its place where the broker never takes it; nil: nothing does
	client   string // with id: whose event it is
	id       string
	ended    *group.Key // of an entry that tells the end of a request
	last     bool       // the request's last event
	plain    bool       // the answer to an ask
	size     int        // of the packet that it stands for, where that was refused; 0: it stands for none
	sent     time.Time
	losses   int // connections that ended soon after it was sent, unacknowledged
	alone    int // of them, while nothing else was in flight
	refusals int // for reasons that may pass
	replaced bool
}

// outbox holds what is to be published, in order. It outlives connections. Its methods may be called concurrently and
// never block.
type outbox struct {
	mu        sync.Mutex
	queue     []*outgoing
	flying    []*outgoing // sent and not acknowledged on the current connection, in order
	postponed int         // refused for a reason that may pass, and put into the queue again in a while
	online    bool
	lines     int // connections that there were
	passing   int
	bytes     int // of passing ones
	complaint int
	dropped   uint64        // since the last look
	wake      chan struct{} // has room for one value: something may be there
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// put adds a message, if there is room for its class.
func (o *outbox) put(m *outgoing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch m.class {
	case passing:
		if !o.online || o.passing >= maxPassing || o.bytes+len(m.payload) > maxPassingBytes {
			o.dropped++
			return
		}
		o.passing++
		o.bytes += len(m.payload)
	case complaint:
		if o.complaint >= maxComplaints {
			o.dropped++
			return
		}
		o.complaint++
	case entry:
		if !o.online {
			return
		}
	case kept:
	}
	o.queue = append(o.queue, m)
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// window is how many messages may be unacknowledged: brokers let some 20 be in flight the other way.
const window = 16

// next takes the message to be sent now; nil: none, or the window is full. While a message is suspected of ending
// connections, it flies alone, so that it is known whether it does.
func (o *outbox) next() *outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return nil
	}
	m := o.queue[0]
	if m.class != passing {
		room := window
		if m.losses >= suspectAfter || len(o.flying) > 0 && o.flying[0].losses >= suspectAfter {
			room = 1
		}
		if len(o.flying) >= room {
			return nil
		}
		m.sent = time.Now()
		o.flying = append(o.flying, m)
	} else {
		o.passing--
		o.bytes -= len(m.payload)
	}
	o.queue[0] = nil
	o.queue = o.queue[1:]
	return m
}

// acknowledged takes a message out of flight.
func (o *outbox) acknowledged(m *outgoing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, f := range o.flying {
		if f == m {
			o.flying = append(o.flying[:i], o.flying[i+1:]...)
			break
		}
	}
	if m.class == complaint {
		o.complaint--
	}
	o.signal()
}

// How often a message is sent again after the broker has refused it for a reason that may pass, as a full
// queue: after 1 s, 2 s, and so on, over two minutes in all.
const (
	maxRefusals  = 8
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// postpone takes a refused message out of flight and puts it back into the queue in a while; others go on.
// false: it was refused too often, and is still in flight.
func (o *outbox) postpone(m *outgoing) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m.refusals >= maxRefusals {
		return false
	}
	pause := min(firstPause<<m.refusals, longestPause)
	m.refusals++
	o.flying = slices.DeleteFunc(o.flying, func(f *outgoing) bool { return f == m })
	o.postponed++
	time.AfterFunc(pause, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.postponed--
		o.queue = append(o.queue, m)
		o.signal()
	})
	o.signal()
	return true
}

// How often a connection may end under a message before it flies alone, and while it flies alone before it is given up.
// Together that is more than a broker that is killed again and again takes from an innocent one, which needs one
// undisturbed round trip.
const (
	suspectAfter = 2
	refusedAfter = 3
)

// connected begins a connection.
func (o *outbox) connected() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.online = true
	o.lines++
	o.signal()
}

// line is the number of the connection, and whether it stands.
func (o *outbox) line() (number int, online bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lines, o.online
}

// soon is how quickly a broker closes a connection over a message that it does not bear.
const soon = 5 * time.Second

// disconnected ends it: what was in flight goes back to the front of the queue, passing messages are dropped. refused
// are the messages under which connections ended too often: they are in the queue no longer.
func (o *outbox) disconnected() (refused []*outgoing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.online = false
	old := slices.Concat(o.flying, o.queue)
	for _, m := range o.flying {
		if time.Since(m.sent) > soon {
			continue
		}
		if m.losses++; len(o.flying) == 1 && m.losses > suspectAfter {
			m.alone++
		}
	}
	o.queue, o.flying, o.passing, o.bytes = nil, nil, 0, 0
	for _, m := range old {
		switch {
		case m.class == passing:
			o.dropped++
		case m.class == entry:
			if m.ended != nil && m.losses > 0 {
				refused = append(refused, m)
			}
		case m.alone >= refusedAfter:
			refused = append(refused, m)
			if m.class == complaint {
				o.complaint--
			}
		default:
			o.queue = append(o.queue, m)
		}
	}
	return refused
}

// empty reports whether nothing waits or flies.
func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) == 0 && len(o.flying) == 0 && o.postponed == 0
}

// busy reports whether something is unacknowledged.
func (o *outbox) busy() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.flying) > 0
}

// takeDropped returns how many messages were dropped since the last call.
func (o *outbox) takeDropped() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.dropped
	o.dropped = 0
	return n
}
