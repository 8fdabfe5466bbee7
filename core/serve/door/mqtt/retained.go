package mqtt

import (
	"slices"
	"sync"
)

// retained holds the latest payload of each retained topic and knows which of them the broker has not got yet.
type retained struct {
	mu     sync.Mutex
	topics map[string]*retainedTopic
	wake   func()
}

type retainedTopic struct {
	payload []byte // empty: to be removed from the broker
	version int
	sent    int // the version that was sent on this connection; 0: none
	acked   int // the version that the broker has acknowledged on this connection; 0: none
}

func newRetained(wake func()) *retained {
	return &retained{topics: map[string]*retainedTopic{}, wake: wake}
}

// set replaces a topic's payload.
func (r *retained) set(topic string, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[topic]
	if t == nil {
		t = &retainedTopic{}
		r.topics[topic] = t
	}
	if t.version > 0 && slices.Equal(t.payload, payload) {
		return
	}
	t.payload = payload
	t.version++
	r.wake()
}

// again makes a topic one to be sent, though the broker has it.
func (r *retained) again(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.topics[topic]; t != nil {
		t.version++
		r.wake()
	}
}

// known reports whether a topic is set to something.
func (r *retained) known(topic string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[topic]
	return t != nil && len(t.payload) > 0
}

// connected makes every topic one to be sent.
func (r *retained) connected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.topics {
		t.sent, t.acked = 0, 0
	}
}

// settled reports whether the broker has acknowledged every topic as it stands.
func (r *retained) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.topics {
		if t.acked != t.version {
			return false
		}
	}
	return true
}

// next takes a topic that the broker has an older version of.
func (r *retained) next() (topic string, payload []byte, version int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, t := range r.topics {
		if t.sent != t.version {
			t.sent = t.version
			return name, t.payload, t.version, true
		}
	}
	return "", nil, 0, false
}

// acknowledged says that the broker has a version. A removed topic is forgotten with that.
func (r *retained) acknowledged(topic string, version int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[topic]
	if t == nil {
		return
	}
	t.acked = version
	if t.version == version && len(t.payload) == 0 {
		delete(r.topics, topic)
	}
}
