// Package pace follows how long turns of the engine take on this machine: how many rows of a prompt fit into
// a turn (Estimator), and with how many threads next tokens are computed while the processor's clock is held
// down (Governor).
//
// It knows durations and numbers of rows, and neither requests nor the model: what it says changes when
// something is computed and never a bit of what comes out. An Estimator and a Governor belong to one
// goroutine; they read no clock themselves.
package pace

import "time"

const (
	// MinChunk is a tile of the kernels, in rows: fewer rows of a prompt cost as much.
	MinChunk = 8
	// firstChunk is the chunk that is tried before anything was measured.
	firstChunk = 32
	// loneTurn bounds a turn while nobody but prefills is there: a cancel waits no longer.
	loneTurn = 500 * time.Millisecond
	// mostAdded bounds what a chunk adds to a turn beside running streams, in usual gaps between two tokens.
	mostAdded = 0.75
	// longest is how long such a turn may become, in usual gaps, when it takes as much longer than expected
	// as turns did lately. A token is not to wait longer than 3.
	longest = 2.8
	// lateDecay is how much of what turns lately took too long is remembered by the next one: half of it 230
	// turns later.
	lateDecay = 0.997
	// chunkSizes is the number of sizes of chunks beside streams whose cost is remembered one by one.
	chunkSizes = 65
	// weight of a new measurement in Blend, as a shift: 1/4.
	weight = 2
	// outlier bounds a measurement against what was expected: a turn that lost its core for a while says
	// nothing about rows.
	outlier = 1.5
	// paceRows is the largest number of rows whose turns are remembered one by one.
	paceRows = 64
	// paceAge is the number of turns after which a measurement that was not renewed is forgotten, so that one
	// bad moment does not decide for ever.
	paceAge = 512
)

// Estimator says how many rows fit into a turn, from how long turns took. Neither chunks nor drafts change a
// bit of any row, so they may follow the machine.
type Estimator struct {
	perRow time.Duration        // a row of a prompt with nothing beside it; 0: not known yet
	beside [chunkSizes]measured // what a chunk of rowsOf(i) adds to a turn of running streams
	turns  [paceRows + 1]measured
	late   float64 // by how much turns lately took longer than expected, the worst of them, as a part
	now    uint64  // turns so far
}

// rowsOf is the size of a chunk: half a tile, then whole ones. The rest of a tile costs as much as all of it,
// or nearly so.
func rowsOf(i int) int {
	if i == 0 {
		return MinChunk / 2
	}
	return i * MinChunk
}

// measured is how long a turn takes whose rows all want logits, by their number.
type measured struct {
	took time.Duration // 0: not known
	at   uint64        // when it was learned
}

// known returns a measurement that still counts; 0: there is none.
func (p *Estimator) known(rows int) time.Duration { return p.recent(&p.turns[rows]) }

func (p *Estimator) recent(m *measured) time.Duration {
	if m.took > 0 && p.now-m.at < paceAge {
		return m.took
	}
	return 0
}

// Turn is how long a turn with so many rows that want logits is expected to take, between and beyond what is known in
// proportion; 0: nothing is known.
func (p *Estimator) Turn(rows int) time.Duration {
	n := min(rows, paceRows)
	if t := p.known(n); t > 0 && n == rows {
		return t
	}
	lo, hi := n, n+1
	for lo > 0 && p.known(lo) == 0 {
		lo--
	}
	for hi <= paceRows && p.known(hi) == 0 {
		hi++
	}
	switch {
	case lo == 0 && hi > paceRows:
		return 0
	case lo == 0:
		return p.known(hi)
	case hi <= paceRows && rows < hi:
		a, b := p.known(lo), p.known(hi)
		return a + (b-a)*time.Duration(rows-lo)/time.Duration(hi-lo)
	}
	// A row more costs about what a row of a prompt does, or less: what is tried is measured.
	more := p.perRow
	if more == 0 {
		more = p.known(lo) / 16
	}
	return p.known(lo) + more*time.Duration(rows-lo)
}

// Chunk is the number of prefill rows for a turn that also has that many decoding rows, at most limit.
func (p *Estimator) Chunk(decoding, limit int) int {
	usual := p.Turn(decoding)
	switch {
	case decoding == 0 && p.perRow == 0:
		return min(limit, firstChunk)
	case decoding == 0:
		return min(limit, max(MinChunk, int(loneTurn/p.perRow)/MinChunk*MinChunk)) // whole tiles: others cost a prompt up to 4 %
	case usual == 0:
		return min(limit, MinChunk)
	}
	// The greatest chunk that fits, by what it or the next smaller one that is known took.
	room := min(loneTurn, time.Duration(float64(usual)*min(mostAdded, longest/(1+p.late)-1)))
	best, perRow := -1, 2*p.perRow
	for i := range p.beside {
		if t := p.recent(&p.beside[i]); t > 0 {
			perRow = t / time.Duration(rowsOf(i))
		}
		if perRow > 0 && perRow*time.Duration(rowsOf(i)) <= room {
			best = i
		}
	}
	if best <= 0 {
		// Half a tile, unless it was found to cost nearly as much as a whole one.
		half, whole := p.recent(&p.beside[0]), p.recent(&p.beside[1])
		if whole == 0 || half > 0 && 4*half > 3*whole {
			best = 1
		} else {
			best = 0
		}
	}
	return min(limit, rowsOf(best))
}

// Observe learns from a turn.
func (p *Estimator) Observe(decoding, prefill int, took time.Duration) {
	p.now++
	usual := p.Turn(decoding)
	switch {
	case prefill == 0:
		if decoding > paceRows {
			return
		}
		p.lateness(took, p.known(decoding))
		m := &p.turns[decoding]
		if usual > 0 {
			took = min(took, time.Duration(outlier*float64(usual)))
		}
		*m = measured{Blend(p.known(decoding), took), p.now}
	case decoding > 0 && usual > 0:
		i := prefill / MinChunk
		if i >= chunkSizes || prefill != rowsOf(i) {
			return
		}
		m := &p.beside[i]
		more := max(took-usual, took/8)
		if old := p.recent(m); old > 0 {
			p.lateness(took, usual+old)
			more = min(more, time.Duration(outlier*float64(old)))
		}
		if decoding <= paceRows && p.known(decoding) > 0 {
			p.turns[decoding].at = p.now // what it is compared with is not forgotten meanwhile
		}
		*m = measured{Blend(p.recent(m), more), p.now}
	case decoding == 0 && prefill >= 2*MinChunk:
		p.perRow = Blend(p.perRow, took/time.Duration(prefill))
	}
}

// lateness learns from a turn of running streams how far to trust what is expected of one: 0 is nothing known.
func (p *Estimator) lateness(took, expected time.Duration) {
	p.late *= lateDecay
	if expected > 0 {
		p.late = max(p.late, min(float64(took)/float64(expected), longest)-1)
	}
}

// Blend is the moving average of durations with a new one, at least a nanosecond; old is 0 where there is none.
func Blend(old, measured time.Duration) time.Duration {
	measured = max(measured, 1)
	if old == 0 {
		return measured
	}
	return max(1, old+(measured-old)>>weight)
}
