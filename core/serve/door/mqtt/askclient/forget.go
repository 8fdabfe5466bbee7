package askclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"edged/core/serve/door/mqtt/link"
)

// ErrOnline is why nothing is removed: a node that runs would not publish its state again before something changes.
var ErrOnline = errors.New("the node is online")

// Forget removes from the broker what a node that is gone left there: its status, adapters, models and
// availability, and what is retained on more, topics without wildcards. It returns those of them that held
// something, sorted. The status, the availability and more are emptied unseen, since a user's access list may
// let it write there and not read; adapters and models only where the broker shows them. A node that is online
// is ErrOnline, and then nothing was removed.
func (c *Client) Forget(ctx context.Context, more ...string) ([]string, error) {
	var mu sync.Mutex
	full := map[string]bool{} // by topic: whether something is retained, as far as is known
	news := make(chan struct{}, 1)
	online := false
	// It blocks no acknowledgement: a node may have more adapters than a channel has places.
	see := func(m *link.Received) {
		mu.Lock()
		if _, known := full[m.Topic]; known || len(full) < maxAdapters {
			full[m.Topic] = len(m.Payload) > 0
		}
		if m.Topic == c.topics.Availability() {
			online = string(m.Payload) == "online"
		}
		mu.Unlock()
		select {
		case news <- struct{}{}:
		default:
		}
	}
	// The availability last: until then the node is known to be away.
	ends := []string{c.topics.Status(), c.topics.Availability()}
	filters := map[string]byte{c.topics.Adapter("+"): 1, c.topics.Model("+"): 1}
	for _, topic := range slices.Concat(more, ends) {
		filters[topic] = 1
	}
	defer func() {
		c.mu.Lock()
		for f := range filters {
			delete(c.follow, f)
		}
		c.mu.Unlock()
	}()
	if err := c.subscribe(ctx, filters, see); err != nil {
		return nil, err
	}
	away := func() error {
		mu.Lock()
		defer mu.Unlock()
		if online {
			return fmt.Errorf("%w: stop it before what it left on the broker is removed", ErrOnline)
		}
		return nil
	}
	// Retained messages follow the SUBACK at once; nothing says which is the last.
	if err := c.silence(ctx, news, away); err != nil {
		return nil, err
	}
	mu.Lock()
	held := slices.DeleteFunc(slices.Sorted(maps.Keys(full)), func(topic string) bool { return !full[topic] })
	mu.Unlock()
	first := slices.DeleteFunc(slices.Clone(held), func(topic string) bool {
		return slices.Contains(ends, topic) || slices.Contains(more, topic)
	})
	for _, topic := range slices.Concat(more, first, ends) {
		err := c.wait(ctx, "removing "+topic, func(ctx context.Context) error { return c.send(ctx, topic) })
		if err != nil {
			return nil, err
		}
	}
	// A broker of MQTT 3.1.1 acknowledges what an access list keeps it from doing: that a topic is empty is seen
	// by its message.
	ctx, stop := context.WithTimeout(ctx, ackTimeout)
	defer stop()
	for {
		mu.Lock()
		left := slices.DeleteFunc(slices.Clone(held), func(topic string) bool { return !full[topic] })
		mu.Unlock()
		if len(left) == 0 {
			return held, nil
		}
		select {
		case <-news:
		case <-c.lost:
			return nil, c.lostError()
		case <-ctx.Done():
			return nil, fmt.Errorf("mqtt: broker %s: it still holds %s: may this user write there?",
				c.o.Settings.URL, strings.Join(left, ", "))
		}
	}
}

// send empties a retained topic.
func (c *Client) send(ctx context.Context, topic string) error {
	token := c.link.Publish(link.Message{Topic: topic, QoS: 1, Retained: true})
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// silence waits until nothing has come for a while, or until look has an error about what came.
func (c *Client) silence(ctx context.Context, news <-chan struct{}, look func() error) error {
	quiet := time.NewTimer(stateTimeout)
	defer quiet.Stop()
	for {
		select {
		case <-news:
			if err := look(); err != nil {
				return err
			}
			quiet.Reset(stateTimeout)
		case <-quiet.C:
			return nil
		case <-c.lost:
			return c.lostError()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
