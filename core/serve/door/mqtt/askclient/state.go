package askclient

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"edged/core/serve/door/mqtt/link"
)

// State holds the retained messages of a node about itself, as they were published.
type State struct {
	Availability string                     `json:"availability"` // "online", "offline"
	Status       json.RawMessage            `json:"status"`
	Adapters     map[string]json.RawMessage `json:"adapters"`
	Stats        json.RawMessage            `json:"stats,omitempty"` // where they were waited for
}

// maxAdapters bounds what a broker may make this client keep.
const maxAdapters = 4096

// State reads the retained state of the node. With stats it also waits, until ctx ends, for the node's next figures, which
// are not retained. A node that the broker knows nothing of is an error.
func (c *Client) State(ctx context.Context, stats bool) (State, error) {
	type message struct {
		topic   string
		payload []byte
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // what still comes is nobody's
	got := make(chan message, 64)
	handler := func(m *link.Received) {
		select {
		case got <- message{m.Topic, m.Payload}:
		case <-ctx.Done():
		}
	}
	filters := map[string]byte{c.topics.Status(): 1, c.topics.Adapter("+"): 1}
	if stats {
		filters[c.topics.Stats()] = 0
	}
	defer func() {
		c.mu.Lock()
		for f := range filters {
			delete(c.follow, f)
		}
		c.mu.Unlock()
	}()
	if err := c.subscribe(ctx, filters, handler); err != nil {
		return State{}, err
	}
	out := State{Adapters: map[string]json.RawMessage{}}
	// Retained messages follow the SUBACK at once; nothing says which is the last.
	quiet := time.NewTimer(stateTimeout)
	defer quiet.Stop()
	retained := quiet.C
	for {
		select {
		case m := <-got:
			adapter, ofAdapter := strings.CutPrefix(m.topic, strings.TrimSuffix(c.topics.Adapter("+"), "+"))
			switch {
			case !json.Valid(m.payload):
				// Somebody else's, or a topic that was emptied.
			case m.topic == c.topics.Status():
				out.Status = m.payload
			case m.topic == c.topics.Stats():
				out.Stats = m.payload
			case ofAdapter && len(out.Adapters) < maxAdapters:
				out.Adapters[adapter] = m.payload
			}
			if retained != nil && out.Status != nil && m.topic != c.topics.Stats() {
				quiet.Reset(stateTimeout / 8)
			}
		case <-retained:
			retained = nil
			if out.Status == nil {
				return out, fmt.Errorf(
					"the broker %s knows nothing of a node %q: is the name right, and did it ever start?",
					c.o.Settings.URL,
					c.o.Node,
				)
			}
		case <-c.lost:
			return out, ErrLost
		case <-ctx.Done():
			return out, ctx.Err()
		}
		if retained == nil && (!stats || out.Stats != nil) {
			c.mu.Lock()
			out.Availability = c.availability
			c.mu.Unlock()
			return out, nil
		}
	}
}
