package engine

import (
	"cmp"
	"slices"
	"time"

	"edged/core/infer/engine/compute"
)

// Speculation: rows of guessed tokens behind the one that is to be computed anyway. A row of a batch costs a part of what
// a turn costs, since the weights are read once; where guesses come true, a turn gives several tokens.
//
// Answers do not depend on it. The logits after a guess are used only if the guess is what was drawn; every token is
// drawn by the one function that draws, from logits whose bits depend on the tokens before it only, with the random number
// of its own step. What was guessed wrong is cut off the sequence.
//
// A sequence with a fixed state cannot be cut: nothing is guessed for it.
//
// So what is guessed, and how many rows it may take, can follow the clock: a draft is as long as pays by what turns of
// so many rows took lately and by how often guesses of the same kind came true. What a branch's drafts have cost and
// brought is kept, and one that loses stops: guesses are then only compared with what is drawn, which costs nothing, until
// they would have come true often enough.

const (
	// maxDraft is the number of guessed rows of a branch: with the one before them two tiles of the kernels.
	maxDraft = 15
	// leastChance ends a draft.
	leastChance = 0.1
	// margin is what a draft must promise to bring, as a part.
	margin = 0.03
	// A branch's credit, in turns: what it may lose at first and by each token, and what it may save up. A text in which no
	// draft ever came true would lose firstCredit turns and one in a hundred.
	firstCredit = 1
	tokenCredit = 0.01
	maxCredit   = 4
)

// guess is what a branch expects of the next steps.
type guess struct {
	ids    []int32 // up to maxDraft
	match  int     // how many tokens before them stood before the place that they are from
	at     int     // the history's length when it was made
	taken  int     // ids that are rows of this turn
	charge float64 // what they cost, in turns
	steps  int     // of the branch, before this turn
	credit float64
	used   bool        // credit holds something
	seq    compute.Seq // of the draft model; nil: none
	seen   [kinds]rate
}

// rate is how often guesses of one kind came true, the latest counting most.
type rate struct{ tried, right float64 }

// kinds of guesses, by the length of the match; the last one is the draft model's.
const kinds = 6

// before are the rates to begin with, worth priorWeight guesses.
var before = [kinds]float64{0.3, 0.45, 0.6, 0.75, 0.9, 0.7} //nolint:gochecknoglobals // a table

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
func (g *guess) chance(i int) float64 {
	k := kind(g.match + i)
	r := &g.seen[k]
	return (r.right + priorWeight*before[k]) / (r.tried + priorWeight)
}

// observe compares what was drawn for the token at a place of the history with what was guessed. The tokens before it
// were guessed right, or it was the first.
func (g *guess) observe(place int, id int32) {
	i := place - g.at
	if i < 0 || i >= len(g.ids) {
		return
	}
	r := &g.seen[kind(g.match+i)]
	r.tried, r.right = rateMemory*r.tried+1, rateMemory*r.right
	if g.ids[i] == id {
		r.right++
	} else {
		g.ids = g.ids[:i] // what follows was guessed for another text
	}
}

// record books what the drafts of a turn brought.
func (g *guess) record(accepted int) {
	g.credit = min(maxCredit, g.credit-g.charge+float64(accepted)+tokenCredit*float64(1+accepted))
	g.charge = 0
}

// candidate is a guess that may become a row.
type candidate struct {
	unit   int
	chance float64 // that it and all before it come true
}

// speculator decides which guesses become rows.
type speculator struct {
	candidates []candidate
	unguessed  []*branch // that the draft model is asked about
	eager      bool      // every guess is taken, whatever it costs: for tests
}

// speculate gives the branches of a turn that decode their drafts; or none, where they may not.
func (l *loop) speculate(units []unit, may bool) {
	for _, u := range units {
		g := &u.b.guess
		g.ids, g.taken, g.charge, g.steps = g.ids[:0], 0, 0, u.b.Steps
	}
	if !may || l.model.Fixed() || !l.size.lookup && l.drafter == nil {
		return
	}
	s := &l.drafts
	s.candidates, s.unguessed = s.candidates[:0], s.unguessed[:0]
	rows := len(units)
	room := min(l.size.Logits, l.size.Batch) - rows
	usual := l.pace.Turn(rows)
	for i := range units {
		b := units[i].b
		g := &b.guess
		n := min(maxDraft, b.job.Limit-len(b.IDs)-1)
		if n <= 0 || b.known() || b.job.single || b.job.Req.Logprobs && len(b.Logprobs) < len(b.IDs) {
			continue
		}
		if g.at = b.History(); !g.used {
			g.used, g.credit = true, firstCredit
		}
		if g.match = 0; l.size.lookup {
			g.ids, g.match = lookup(g.ids, b.job.Req.PromptIDs[b.job.Virtual:], b.IDs, n)
		}
		if g.match == 0 && room > 0 {
			s.unguessed = append(s.unguessed, b)
		}
	}
	if l.drafter != nil && len(s.unguessed) > 0 {
		l.ask(rows, usual)
	}
	for i := range units {
		b := units[i].b
		g := &b.guess
		g.ids = g.ids[:min(len(g.ids), max(0, b.job.Limit-len(b.IDs)-1))]
		if len(g.ids) > 0 { // what the form does not allow is not drawn
			g.ids = g.ids[:b.Possible(g.ids)]
		}
		if len(g.ids) == 0 || usual == 0 && !s.eager {
			continue
		}
		chance := 1.0
		for k := range g.ids {
			if chance *= g.chance(k); !s.eager && (chance < leastChance || l.price(rows, k+1, usual) > g.credit) {
				break
			}
			s.candidates = append(s.candidates, candidate{unit: i, chance: chance})
		}
	}
	if len(s.candidates) == 0 {
		return
	}
	// Within a branch chances fall, so that a prefix of all is a prefix of each.
	slices.SortStableFunc(s.candidates, func(a, b candidate) int { return cmp.Compare(b.chance, a.chance) })
	best := min(room, len(s.candidates))
	if !s.eager {
		best = l.worth(rows, best, usual)
	}
	for best > 0 && !l.roomFor(units, s.candidates[:best]) {
		best /= 2
	}
	for _, o := range s.candidates[:best] {
		units[o.unit].b.guess.taken++
	}
	if best > 0 && usual > 0 {
		price := l.price(rows, best, usual)
		for _, u := range units {
			u.b.guess.charge += price * float64(u.b.guess.taken) / float64(best)
		}
	}
}

// ask lets the draft model guess for the branches without a guess that have credit for it.
func (l *loop) ask(rows int, usual time.Duration) {
	s := &l.drafts
	n := 3
	if !s.eager {
		if usual == 0 {
			return
		}
		chance, branches := 0.0, len(s.unguessed)
		for _, b := range s.unguessed {
			b.guess.match = modelMatch
			chance += b.guess.chance(0) / float64(branches)
			b.guess.match = 0
		}
		if n = l.drafter.worth(&l.pace, rows, branches, usual, chance); n == 0 {
			return
		}
		price := float64(n) * float64(rows) * float64(l.drafter.step) / float64(usual) / float64(branches)
		s.unguessed = slices.DeleteFunc(s.unguessed, func(b *branch) bool { return price > b.guess.credit })
		for _, b := range s.unguessed {
			b.guess.charge = price
		}
	}
	l.drafter.guess(s.unguessed, n)
}

// price of so many rows more than a turn has anyway, in turns of one branch: all who decode wait for them.
func (l *loop) price(rows, more int, usual time.Duration) float64 {
	return float64(rows) * float64(l.pace.Turn(rows+more)-usual) / float64(usual)
}

// worth is how many of the first n candidates give the most tokens for the time.
func (l *loop) worth(rows, n int, usual time.Duration) int {
	best, most := 0, (1+margin)*float64(rows)/float64(usual)
	tokens := float64(rows)
	for i, o := range l.drafts.candidates[:n] {
		tokens += o.chance
		if r := tokens / float64(l.pace.Turn(rows+i+1)); r > most {
			best, most = i+1, r
		}
	}
	return best
}

// roomFor reports whether the pages that drafts take can be had without setting anything aside.
func (l *loop) roomFor(units []unit, candidates []candidate) bool {
	need := 0
	for i, u := range units {
		n := 1
		for _, o := range candidates {
			if o.unit == i {
				n++
			}
		}
		need += u.seq.Need(n)
	}
	return need <= l.available()
}

// guessed is how many of the guesses that are rows of this turn stand in the history by now: a grammar may have decided more
// than was drawn, and otherwise than guessed.
func (b *branch) guessed() int {
	g, n := &b.guess, 0
	for n < g.taken && g.at+n < b.History() && b.Token(g.at+n) == g.ids[:g.taken][n] {
		n++
	}
	return n
}

// verifyDrafts cuts what was guessed wrong off the sequences of the batch and books what came of the drafts.
func (l *loop) verifyDrafts() {
	for _, u := range l.batch.units[:l.batch.decoding] {
		b := u.b
		g := &b.guess
		if g.steps == b.Steps { // it failed, or nothing was drawn: log-probabilities only
			continue
		}
		accepted := b.guessed()
		g.record(accepted)
		l.count.DraftedTokens += uint64(g.taken)
		l.count.AcceptedTokens += uint64(accepted)
		b.job.drafted += g.taken
		b.job.accepted += accepted
		l.count.DecodedTokens += uint64(accepted)
		if g.seq != nil {
			g.seq.Truncate(g.at + accepted - b.job.Virtual)
		}
		if b.seq != nil && g.taken > 0 {
			b.seq.Truncate(g.at + accepted)
		}
		g.taken = 0
	}
}
