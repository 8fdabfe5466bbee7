package engine

import (
	"context"
	"sync"

	"edged/core/protocol/backend"
)

// mailbox carries the events of one request from the loop to the goroutine that called Generate. The loop
// never waits: a slow consumer finds what it missed joined to one event for each choice, so that the box
// holds no more than the answer.
type mailbox struct {
	wake chan struct{} // one token: something is there

	mu     sync.Mutex
	events []backend.Event
	err    error
	closed bool
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// put adds an event, whose slices become the box's. Prefill progress replaces older progress; new text joins
// the text of its choice.
func (m *mailbox) put(ev backend.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	for i := range m.events {
		old := &m.events[i]
		switch {
		case ev.Done || old.Done || (ev.Prefill != nil) != (old.Prefill != nil):
		case ev.Prefill != nil:
			old.Prefill = ev.Prefill
			return
		case ev.Index == old.Index:
			old.IDs = append(old.IDs, ev.IDs...)
			old.Logprobs = append(old.Logprobs, ev.Logprobs...)
			old.Text += ev.Text
			return
		}
	}
	m.events = append(m.events, ev)
	m.signal()
}

// close ends the box: with nil after the last event, otherwise with the error of the request. The first one counts.
func (m *mailbox) close(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed, m.err = true, err
	m.signal()
}

// drain empties the box.
func (m *mailbox) drain() (events []backend.Event, closed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	events, m.events = m.events, nil
	return events, m.closed, m.err
}

func (m *mailbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// do runs f between two turns and waits for it.
func (l *loop) do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case l.commands <- func() { f(); close(ran) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return errClosed
	}
	select {
	case <-ran: // f has no way back once it is sent, so ctx does not end the wait: a turn does
		return nil
	case <-l.done:
		select {
		case <-ran:
			return nil
		default:
			return errClosed
		}
	}
}
