package speculate

import (
	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
)

const (
	// maxDraft is the number of drafted rows of a sequence: with the one before them two tiles of the kernels.
	maxDraft = 15
	// leastChance ends a draft.
	leastChance = 0.1
	// margin is the gain that a draft must promise, as a fraction of a turn.
	margin = 0.03
	// A sequence's credit, in turns: what it may lose at first and by each token, and what it may save up. A
	// text in which no draft ever came true would lose firstCredit turns and one in a hundred.
	firstCredit = 1
	tokenCredit = 0.01
	maxCredit   = 4
)

// Draft holds the guessed continuation of a sequence, and statistics of its earlier drafts. The zero
// value is one of a sequence that nothing was guessed for yet. It belongs to one Choice, whose tokens it is
// compared with.
type Draft struct {
	IDs   []int32 // up to maxDraft
	At    int     // the history's length when it was made
	Taken int     // ids that are rows of this turn

	match  int         // how many tokens before them stood before the place that they are from
	charge float64     // what they cost, in turns
	steps  int         // of the choice, before this turn
	credit float64     // what drafts may lose, in turns
	used   bool        // credit holds something
	seq    compute.Seq // of the draft model; nil: none
	seen   [kinds]rate
}

// rate is how often guesses of one kind came true, the latest counting most.
type rate struct{ tried, right float64 }

// kinds of guesses, by the length of the match; the last one is the draft model's.
const kinds = 6

// prior are the rates to begin with, worth priorWeight guesses.
var prior = [kinds]float64{0.3, 0.45, 0.6, 0.75, 0.9, 0.7} //nolint:gochecknoglobals // a table

const (
	priorWeight = 4
	rateMemory  = 0.97
)

// kind of a guess behind so many tokens that match.
func kind(match int) int {
	switch {
	case match >= modelMatch:
		return 5
	case match <= 2:
		return 0
	case match == 3:
		return 1
	case match <= 5:
		return 2
	case match <= 9:
		return 3
	}
	return 4
}

// chance that guess i comes true if all before it do.
func (g *Draft) chance(i int) float64 {
	k := kind(g.match + i)
	r := &g.seen[k]
	return (r.right + priorWeight*prior[k]) / (r.tried + priorWeight)
}

// Observe compares what was drawn for the token at a place of the history with what was guessed. The tokens before it
// were guessed right, or it was the first.
func (g *Draft) Observe(place int, id int32) {
	i := place - g.At
	if i < 0 || i >= len(g.IDs) {
		return
	}
	r := &g.seen[kind(g.match+i)]
	r.tried, r.right = rateMemory*r.tried+1, rateMemory*r.right
	if g.IDs[i] == id {
		r.right++
	} else {
		g.IDs = g.IDs[:i] // what follows was guessed for another text
	}
}

// record books what the draft of a turn brought: as many tokens as were accepted, at its charge.
func (g *Draft) record(accepted int) {
	g.credit = min(maxCredit, g.credit-g.charge+float64(accepted)+tokenCredit*float64(1+accepted))
	g.charge = 0
}

// Forget frees what the draft model has computed for the sequence.
func (g *Draft) Forget() {
	if g.seq != nil {
		g.seq.Free()
		g.seq = nil
	}
}

// Accepted is how many of the ids that are rows of this turn stand in the choice's history by now: a grammar
// may have decided more than was drawn, and otherwise than guessed.
func (g *Draft) Accepted(c *answer.Choice) int {
	n := 0
	for n < g.Taken && g.At+n < c.History() && c.Token(g.At+n) == g.IDs[:g.Taken][n] {
		n++
	}
	return n
}

// Verify books what came of the draft when the turn's tokens are drawn, and cuts what was wrong off the draft
// model's sequence. drew is false where nothing was drawn, since the request failed or only log-probabilities
// were wanted: then nothing is booked.
func (g *Draft) Verify(c *answer.Choice) (accepted int, drew bool) {
	if g.steps == c.Steps {
		return 0, false
	}
	accepted = g.Accepted(c)
	g.record(accepted)
	if g.seq != nil {
		g.seq.Truncate(g.At + accepted - c.Of.Virtual)
	}
	return accepted, true
}
