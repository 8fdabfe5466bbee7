//go:build unix

package mmap

import "errors"

// An Arena is memory off the Go heap for what cannot be served from the files' mappings: transposed, permuted,
// misaligned and requantised matrices. It grows only and is freed as a whole.
type Arena struct {
	chunks []*Mapping
	free   []byte
}

const (
	arenaChunk = 1 << 20 // smaller pieces share a chunk of this size
	arenaAlign = 64      // a cache line, and the widest vector register
)

// Alloc returns n zeroed bytes, aligned to arenaAlign.
func (a *Arena) Alloc(n int) ([]byte, error) {
	if n > arenaChunk/2 {
		m, err := Anonymous(n)
		if err != nil {
			return nil, err
		}
		_ = m.Advise(HugePage) // a hint: reading a layer is some 10 % faster where the system follows it
		a.chunks = append(a.chunks, m)
		return m.Bytes(), nil
	}
	if n > len(a.free) {
		m, err := Anonymous(arenaChunk)
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

// CopyOf returns a copy of b in the arena.
func (a *Arena) CopyOf(b []byte) ([]byte, error) {
	out, err := a.Alloc(len(b))
	if err != nil {
		return nil, err
	}
	copy(out, b)
	return out, nil
}

// Own makes the arena close mappings that were made beside it.
func (a *Arena) Own(m ...*Mapping) { a.chunks = append(a.chunks, m...) }

// Close gives the memory back; nothing of it may be read afterwards. Later calls do nothing.
func (a *Arena) Close() error {
	var errs []error
	for _, m := range a.chunks {
		errs = append(errs, m.Close())
	}
	a.free = nil
	return errors.Join(errs...)
}
