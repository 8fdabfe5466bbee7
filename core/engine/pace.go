package engine

import "time"

const (
	// minChunk is a tile of the kernels: fewer rows of a prompt cost as much.
	minChunk = 8
	// firstChunk is what is tried where nothing was measured yet.
	firstChunk = 32
	// loneTurn bounds a turn while nobody but prefills is there: a cancel waits no longer.
	loneTurn = 500 * time.Millisecond
	// stretch bounds what a chunk adds to a turn beside running streams, in usual gaps between two tokens, times 100. With
	// the streams' own rows a turn is then 2 gaps long; what is left to 3 is for chunks that take longer than they did.
	stretch = 100
	// memory is the weight of a new measurement, as a shift: 1/4.
	memory = 2
	// outlier bounds a measurement against what was expected: a turn that lost its core for a while says nothing about rows.
	outlier = 4
	// paceRows is the largest number of rows whose turns are remembered one by one.
	paceRows = 64
	// paceAge is the number of turns after which a measurement that was not renewed is forgotten, so that one bad moment does
	// not decide for ever.
	paceAge = 512
)

// pace says how many rows fit into a turn, from how long turns took. Neither chunks nor drafts change a bit of any row,
// so they may follow the machine.
type pace struct {
	perRow time.Duration // a row of a prompt with nothing beside it; 0: not known yet
	beside time.Duration // a row of a chunk beside running streams; 0: not known yet
	turns  [paceRows + 1]measured
	now    uint64 // turns so far
}

// measured is how long a turn takes whose rows all want logits, by their number.
type measured struct {
	took time.Duration // 0: not known
	at   uint64        // when it was learned
}

// known returns a measurement that still counts; 0: there is none.
func (p *pace) known(rows int) time.Duration {
	if m := &p.turns[rows]; m.took > 0 && p.now-m.at < paceAge {
		return m.took
	}
	return 0
}

// turn is how long a turn with so many rows that want logits is expected to take, between and beyond what is known in
// proportion; 0: nothing is known.
func (p *pace) turn(rows int) time.Duration {
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

// chunk is the number of prefill rows for a turn that also has that many decoding rows, at most limit.
func (p *pace) chunk(decoding, limit int) int {
	usual := p.turn(decoding)
	switch {
	case decoding == 0 && p.perRow == 0:
		return min(limit, firstChunk)
	case decoding == 0:
		return min(limit, max(minChunk, int(loneTurn/p.perRow)/minChunk*minChunk)) // whole tiles: others cost a prompt up to 4 %
	case usual == 0:
		return min(limit, minChunk)
	}
	perRow := p.beside
	if perRow == 0 {
		perRow = 2 * p.perRow
	}
	if perRow == 0 {
		return min(limit, minChunk)
	}
	// Whole tiles: the rest of one costs as much as all of it.
	rows := int(min(loneTurn, usual*stretch/100) / perRow)
	return min(limit, max(minChunk, rows/minChunk*minChunk))
}

// observe learns from a turn.
func (p *pace) observe(decoding, prefill int, took time.Duration) {
	p.now++
	switch {
	case prefill == 0:
		if decoding > paceRows {
			return
		}
		m := &p.turns[decoding]
		if usual := p.turn(decoding); usual > 0 {
			took = min(took, outlier*usual)
		}
		*m = measured{blend(p.known(decoding), took), p.now}
	case decoding > 0:
		if usual := p.turn(decoding); usual > 0 && prefill >= minChunk {
			p.beside = blend(p.beside, max(took-usual, took/8)/time.Duration(prefill))
		}
	case prefill >= 2*minChunk:
		p.perRow = blend(p.perRow, took/time.Duration(prefill))
	}
}

func blend(old, measured time.Duration) time.Duration {
	measured = max(measured, 1)
	if old == 0 {
		return measured
	}
	return max(1, old+(measured-old)>>memory)
}
