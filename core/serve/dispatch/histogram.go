package dispatch

import "time"

// FirstTokenBounds are the upper bounds of a Histogram: from a cached prompt on a fast machine to a long one on a Pi 3.
//
//nolint:gochecknoglobals // a table
var FirstTokenBounds = [...]time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
}

// Histogram counts durations. It is plain data: a copy is a snapshot.
type Histogram struct {
	Counts [len(FirstTokenBounds) + 1]uint64 // of durations up to each bound and above the one before; last: the rest
	Sum    time.Duration
}

func (h *Histogram) add(d time.Duration) {
	h.Sum += d
	for i, bound := range FirstTokenBounds {
		if d <= bound {
			h.Counts[i]++
			return
		}
	}
	h.Counts[len(FirstTokenBounds)]++
}
