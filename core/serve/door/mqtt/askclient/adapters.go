package askclient

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/link"
)

// Watch follows the states of a node's adapters: those that the broker holds, and every change. all is called
// by one goroutine at a time with every state that is known, first when all of those that the broker holds
// have come, then after each change, until it returns true. The error is ctx's end, a lost connection, or a
// node that was never there.
func (c *Client) Watch(ctx context.Context, all func(map[string]mqtt.Adapter) (done bool)) error {
	return watch(ctx, c, c.topics.Adapter("+"), all)
}

// WatchModels follows the states of a node's models as Watch does those of its adapters.
func (c *Client) WatchModels(ctx context.Context, all func(map[string]mqtt.Model) (done bool)) error {
	return watch(ctx, c, c.topics.Model("+"), all)
}

// watch follows retained states by the last level of their topics.
func watch[T any](ctx context.Context, c *Client, filter string, all func(map[string]T) (done bool)) error {
	if err := c.online(ctx); err != nil {
		return err
	}
	var mu sync.Mutex
	known := map[string]T{}
	changed := make(chan struct{}, 1)
	complete := make(chan struct{}, 1)
	tell := func(to chan struct{}) {
		select {
		case to <- struct{}{}:
		default:
		}
	}
	err := c.subscribe(ctx, map[string]byte{filter: 1}, func(m *link.Received) {
		name := m.Topic[strings.LastIndexByte(m.Topic, '/')+1:]
		var state T
		mu.Lock()
		if len(m.Payload) == 0 {
			delete(known, name)
		} else if json.Unmarshal(m.Payload, &state) == nil {
			known[name] = state
		}
		mu.Unlock()
		tell(changed)
	})
	if err != nil {
		return err
	}
	defer c.unfollow(filter, c.topics.Status())
	// What is retained comes in the order of the subscriptions: when the status is here, so are all of these.
	err = c.subscribe(ctx, map[string]byte{c.topics.Status(): 1}, func(*link.Received) { tell(complete) })
	if err != nil {
		return err
	}
	timeout := time.NewTimer(stateTimeout)
	defer timeout.Stop()
	for first := true; ; {
		select {
		case <-complete:
		case <-changed:
			if first {
				continue
			}
		case <-timeout.C:
			if first {
				return fmt.Errorf("mqtt: broker %s: node %q has no status", c.o.Settings.URL, c.o.Node)
			}
			continue
		case <-c.lost:
			return c.lostError()
		case <-ctx.Done():
			return ctx.Err()
		}
		first = false
		mu.Lock()
		done := all(known)
		mu.Unlock()
		if done {
			return nil
		}
	}
}
