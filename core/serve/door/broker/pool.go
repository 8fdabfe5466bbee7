package broker

import (
	"sync"
	"time"
)

// pool bounds the bytes of large packets that are being read: a length is only a promise, and 136 connections
// that promise a megabyte each are more than a board has.
type pool struct {
	mu    sync.Mutex
	left  int
	freed chan struct{} // closed and replaced when bytes come back
}

func newPool(bytes int) *pool { return &pool{left: bytes, freed: make(chan struct{})} }

// take waits for n bytes: as long as timeout, and not beyond done.
func (p *pool) take(n int, timeout time.Duration, done <-chan struct{}) error {
	t := time.NewTimer(timeout)
	defer t.Stop()
	for {
		p.mu.Lock()
		if p.left >= n {
			p.left -= n
			p.mu.Unlock()
			return nil
		}
		freed := p.freed
		p.mu.Unlock()
		select {
		case <-freed:
		case <-t.C:
			return reasonBusy
		case <-done:
			return errClosed
		}
	}
}

func (p *pool) put(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left += n
	close(p.freed)
	p.freed = make(chan struct{})
}
