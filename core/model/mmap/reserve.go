package mmap

import (
	"fmt"
	"math"
)

// Reserve returns n bytes of zeroed memory outside the Go heap, so that the collector neither counts them nor
// waits for twice as many, with the mapping to close. Under the race detector they are Go memory, which is
// all that it sees.
func Reserve(n int64) ([]byte, *Mapping, error) {
	if n > math.MaxInt {
		return nil, nil, fmt.Errorf("%d bytes are more than this system's address space holds", n)
	}
	if raceEnabled {
		m, err := Anonymous(0)
		return make([]byte, n), m, err
	}
	m, err := Anonymous(int(n))
	if err != nil {
		return nil, nil, err
	}
	return m.Bytes(), m, nil
}
