package engine

import "time"

const (
	minChunk = 16
	// loneTurn bounds a turn while nobody but prefills is there: a cancel waits no longer.
	loneTurn = 500 * time.Millisecond
	// stretch bounds a turn that holds a chunk beside running streams, in usual gaps between two tokens.
	stretch = 2
	// weight of a new measurement, as a shift: 1/4.
	memory = 2
)

// pace says how many rows of prompts fit into a turn, from how long turns took. Chunks change no bit of any row, so they
// may follow the machine.
type pace struct {
	perRow time.Duration // a prefill row; 0: not known yet
	gap    time.Duration // a turn without prefill; 0: not known yet
}

// chunk is the number of prefill rows for a turn that also has that many decoding rows, at most limit.
func (p *pace) chunk(decoding, limit int) int {
	if p.perRow == 0 {
		return min(limit, 2*minChunk)
	}
	room := loneTurn
	if decoding > 0 && p.gap > 0 {
		room = min(room, stretch*p.gap)
	}
	// Kernels take eight rows at once: a chunk that is no multiple of them costs up to 4 % of the prompt.
	return min(limit, max(minChunk, int(room/p.perRow)/8*8))
}

// observe learns from a turn.
func (p *pace) observe(decoding, prefill int, took time.Duration) {
	switch {
	case prefill == 0:
		p.gap = blend(p.gap, took)
	case prefill >= minChunk:
		if decoding > 0 {
			took = max(took-p.gap, took/8)
		}
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
