package pace

import (
	"testing"
	"time"
)

// paced is a machine in numbers: what a turn takes that has so many rows of streams and of a prompt.
type paced func(decoding, prefill int) time.Duration

// read has p choose chunks of a long prompt beside streams, after some turns without one, and returns the size of the last chunk
// and the longest turn, in usual ones. Every nth turn takes late times as long.
func (b paced) read(p *Estimator, streams, tokens, nth int, late float64) (chunk int, longest float64) {
	took := func(turn, prefill int) time.Duration {
		t := b(streams, prefill)
		if nth > 0 && turn%nth == 0 {
			t = time.Duration(late * float64(t))
		}
		return t
	}
	turn := 1
	for ; turn <= 100; turn++ {
		p.Observe(streams, 0, took(turn, 0))
	}
	for ; tokens > 0; turn++ {
		chunk = p.Chunk(streams, 512)
		t := took(turn, chunk)
		p.Observe(streams, chunk, t)
		longest = max(longest, float64(t)/float64(b(streams, 0)))
		tokens -= chunk
	}
	return chunk, longest
}

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	tiles := func(rows int) time.Duration { return time.Duration((rows + MinChunk - 1) / MinChunk) }
	for name, c := range map[string]struct {
		board       paced
		nth         int
		late        float64
		least, most int
		longest     float64
	}{
		"rows cost little":          {board: func(_, n int) time.Duration { return 100*ms + 2*ms*time.Duration(n) }, least: 32, most: 40, longest: 1.85},
		"a tile costs half a turn":  {board: func(_, n int) time.Duration { return 30*ms + 15*ms*tiles(n) }, least: 8, most: 8, longest: 1.51},
		"a tile costs a turn":       {board: func(_, n int) time.Duration { return 30*ms + 29*ms*tiles(n) }, least: 8, most: 8, longest: 2.01},
		"a tile costs two turns":    {board: func(_, n int) time.Duration { return 30*ms + 8*ms*time.Duration(n) }, least: 4, most: 4, longest: 3.2},
		"half a tile costs as much": {board: func(_, n int) time.Duration { return 30*ms + 60*ms*tiles(n) }, least: 8, most: 8, longest: 3.01},
		"turns that come late":      {board: func(_, n int) time.Duration { return 30*ms + 3*ms*time.Duration(n) }, nth: 10, late: 1.9, least: 4, most: 4, longest: 3.01},
	} {
		t.Run(name, func(t *testing.T) {
			var p Estimator
			chunk, longest := c.board.read(&p, 8, 4000, c.nth, c.late)
			if chunk < c.least || chunk > c.most || longest > c.longest {
				t.Errorf("chunks of %d rows, want %d to %d; the longest turn is %.2f usual ones, want %.2f at most", chunk, c.least, c.most, longest, c.longest)
			}
		})
	}
}

// TestPaceFollows reads a prompt whose rows cost more and more, as attention does.
func TestPaceFollows(t *testing.T) {
	var p Estimator
	at := 0
	grows := paced(func(_, n int) time.Duration {
		return 100*time.Millisecond + time.Duration(n)*(time.Millisecond+time.Duration(at)*time.Microsecond)
	})
	for range 20 {
		p.Observe(8, 0, grows(8, 0))
	}
	longest, first, last := time.Duration(0), 0, 0
	for at < 8000 {
		last = p.Chunk(8, 512)
		if at > 500 && first == 0 {
			first = last
		}
		took := grows(8, last)
		p.Observe(8, last, took)
		longest = max(longest, took)
		at += last
	}
	if last >= first || longest > 220*time.Millisecond {
		t.Errorf("chunks of %d rows at the beginning and %d at the end, the longest turn took %v", first, last, longest)
	}
}

// TestPaceAlone has nobody wait: chunks are as long as a cancel may take.
func TestPaceAlone(t *testing.T) {
	var p Estimator
	if n := p.Chunk(0, 512); n != firstChunk {
		t.Errorf("the first chunk has %d rows, want %d", n, firstChunk)
	}
	p.Observe(0, firstChunk, firstChunk*time.Millisecond)
	if n := p.Chunk(0, 512); n != 496 {
		t.Errorf("of rows of a millisecond %d are taken at once, want 496", n)
	}
}
