package weights

import (
	"errors"

	"edged/core/model/mmap"
)

// An arena is memory off the Go heap for what cannot be served from the files' mappings: transposed, permuted,
// misaligned and requantised matrices. It grows only and is freed as a whole.
type arena struct {
	chunks []*mmap.Mapping
	free   []byte
}

const (
	arenaChunk = 1 << 20 // smaller pieces share a chunk of this size
	arenaAlign = 64      // a cache line, and the widest vector register
)

// alloc returns n zeroed bytes, aligned to arenaAlign.
func (a *arena) alloc(n int) ([]byte, error) {
	if n > arenaChunk/2 {
		m, err := mmap.Anonymous(n)
		if err != nil {
			return nil, err
		}
		_ = m.Advise(mmap.HugePage) // a hint: reading a layer is some 10 % faster where the system follows it
		a.chunks = append(a.chunks, m)
		return m.Bytes(), nil
	}
	if n > len(a.free) {
		m, err := mmap.Anonymous(arenaChunk)
		if err != nil {
			return nil, err
		}
		a.chunks = append(a.chunks, m)
		a.free = m.Bytes()
	}
	out := a.free[:n:n]
	a.free = a.free[min((n+arenaAlign-1)/arenaAlign*arenaAlign, len(a.free)):]
	return out, nil
}

// copyOf returns a copy of b in the arena.
func (a *arena) copyOf(b []byte) ([]byte, error) {
	out, err := a.alloc(len(b))
	if err != nil {
		return nil, err
	}
	copy(out, b)
	return out, nil
}

func (a *arena) close() error {
	var errs []error
	for _, m := range a.chunks {
		errs = append(errs, m.Close())
	}
	a.free = nil
	return errors.Join(errs...)
}
