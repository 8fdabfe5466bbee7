package pace

import (
	"log/slog"
	"time"
)

const (
	// lookEvery is how often it is looked whether the clock is held down: reading the files of /sys takes a
	// Pi's firmware less than a millisecond.
	lookEvery = 5 * time.Second
	// coolFor is how long the clock must have been free before all threads work again, so that a board on the
	// verge of its limit does not go back and forth.
	coolFor = 30 * time.Second
	// trialEvery is how long a number of threads is kept before its neighbours are tried again.
	trialEvery = time.Minute
	// trialTurns is the length of one of a trial's four windows; the first turn of each warms up and does not count.
	trialTurns = 9
	// trialGain is by how much fewer or more threads must be faster to be kept, as in transformer.Tune.
	trialGain = 1.03
)

// Governor chooses the threads of decoding while the processor's clock is held down, by heat or by a weak
// power supply: then fewer threads may be faster, since they heat less, and the firmware holds the clock down
// less far. It measures what it changes: the neighbours of the present number are tried in turns with it (A B
// B A, so that a conversation that grows counts for neither), and kept where they are faster. While nothing
// holds the clock down it does nothing, and when it is free again the tuned number is back. A number of
// threads changes no bit of an answer.
type Governor struct {
	limited func() bool // the clock is held down
	set     func(threads int)
	log     *slog.Logger

	tuned   int
	threads int // that were found best; while a trial runs, set may have been called with another
	held    bool
	looked  time.Time
	heldAt  time.Time // when it was last seen held down
	rest    time.Time // no trial before
	up      bool      // the next trial is one of more threads
	trial   *trial
}

// trial compares two numbers of threads.
type trial struct {
	other    int
	decoding int // rows of every turn that counts
	window   int // 0 to 3: present, other, other, present
	turns    int // of this window
	sums     [2]time.Duration
}

// NewGovernor returns a governor for a model that was tuned to so many threads. limited reports whether the
// clock is held down, set changes the number of threads.
func NewGovernor(tuned int, limited func() bool, set func(int), log *slog.Logger) *Governor {
	return &Governor{limited: limited, set: set, log: log, tuned: tuned, threads: tuned}
}

// Observe learns from a turn that ended now. A nil governor learns nothing.
func (g *Governor) Observe(decoding, prefill int, took time.Duration, now time.Time) {
	if g == nil || g.tuned < 2 {
		return
	}
	if g.looked.IsZero() || now.Sub(g.looked) >= lookEvery {
		g.look(now)
	}
	switch {
	case !g.held || prefill > 0 || decoding == 0:
		return
	case g.trial == nil && !now.Before(g.rest):
		g.begin(decoding, now)
	case g.trial != nil:
		g.measure(decoding, took, now)
	}
}

// look sees whether the clock is held down.
func (g *Governor) look(now time.Time) {
	g.looked, g.held = now, g.limited()
	if g.held {
		g.heldAt = now
		return
	}
	if g.trial != nil {
		g.trial = nil
		g.set(g.threads)
	}
	if g.threads != g.tuned && now.Sub(g.heldAt) >= coolFor {
		g.log.Info("the clock is free again", "threads_decode", g.tuned)
		g.threads, g.rest, g.up = g.tuned, time.Time{}, false
		g.set(g.threads)
	}
}

// begin begins the trial of a neighbour.
func (g *Governor) begin(decoding int, now time.Time) {
	other := g.threads - 1
	if g.up {
		other = g.threads + 1
	}
	if other < 1 || other > g.tuned {
		g.next(now)
		return
	}
	g.trial = &trial{other: other, decoding: decoding}
}

// next makes the other direction the next to be tried, after a rest when both were.
func (g *Governor) next(now time.Time) {
	g.trial = nil
	if g.up {
		g.rest = now.Add(trialEvery)
	}
	g.up = !g.up
}

// measure counts a turn. A turn of another size than the others begins the trial anew: its time says nothing.
func (g *Governor) measure(decoding int, took time.Duration, now time.Time) {
	t := g.trial
	if decoding != t.decoding {
		*t = trial{other: t.other, decoding: decoding}
		g.set(g.threads)
		return
	}
	if t.turns++; t.turns > 1 {
		t.sums[window(t.window)] += took
	}
	if t.turns < trialTurns {
		return
	}
	t.turns, t.window = 0, t.window+1
	if t.window < 4 {
		g.set([2]int{g.threads, t.other}[window(t.window)])
		return
	}
	present, other := t.sums[0], t.sums[1]
	if float64(other)*trialGain >= float64(present) {
		g.set(g.threads)
		g.next(now)
		return
	}
	g.log.Info("the processor's clock is held down: another number of threads is faster",
		"threads_decode", t.other, "before", g.threads, "gain", float64(present)/float64(other)-1)
	g.threads, g.trial = t.other, nil
	g.set(g.threads)
}

// window is whose turn it is: 0 the present number of threads, 1 the other.
func window(n int) int { return (n + 1) / 2 % 2 }
