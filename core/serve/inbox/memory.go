package inbox

import (
	"context"
	"sync"
)

// Memory is a Store that forgets everything with its process.
type Memory struct {
	mu     sync.Mutex
	x      *index
	closed bool
}

// NewMemory returns an empty store.
func NewMemory(l Limits) *Memory { return &Memory{x: newIndex(l)} }

// Accept is Store's.
func (m *Memory) Accept(ctx context.Context, r Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if err := m.x.room(r); err != nil {
		return err
	}
	m.x.add(r)
	return nil
}

// Attempt is Store's.
func (m *Memory) Attempt(k Key, note []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.x.attempt(k, note)
}

// Finish is Store's.
func (m *Memory) Finish(k Key, last []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.x.finish(k, last, false)
}

// Published is Store's.
func (m *Memory) Published(k Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.x.publish(k)
}

// Lookup is Store's.
func (m *Memory) Lookup(k Key, hash [32]byte) Found {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.x.lookup(k, hash)
}

// Unfinished is Store's.
func (m *Memory) Unfinished() []Pending {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.x.unfinished()
}

// Unpublished is Store's: always empty.
func (m *Memory) Unpublished() []Ended { return nil }

// Durable is Store's: false.
func (m *Memory) Durable() bool { return false }

// Close is Store's.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
