// Package speculate guesses the tokens that sequences go on with, so that one forward pass verifies several
// of them (speculative decoding): from what followed the same tokens before (prompt lookup), or by a smaller
// model of the same vocabulary. It decides how many guesses become rows of a turn, by what turns took lately
// and by how often guesses came true.
//
// Answers do not depend on it. The logits after a guess are used only if the guess is what was drawn; every
// token is drawn by the one function that draws, from logits whose bits depend on the tokens before it only,
// with the random number of its own step. What was guessed wrong is cut off the sequence.
//
// A row of a batch costs a part of what a turn costs, since the weights are read once; where guesses come
// true, a turn gives several tokens. What a sequence's drafts have cost and brought is its credit, and one
// that loses stops: guesses are then only compared with what is drawn, which costs nothing, until they would
// have come true often enough.
//
// The package knows neither who runs nor what else is in a batch, and it computes nothing but the draft
// model. It belongs to the goroutine that owns the batch.
package speculate

import (
	"cmp"
	"slices"
	"time"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/engine/pace"
)

// Branch is a sequence that has its next token to compute in a turn.
type Branch struct {
	*answer.Choice
	Draft *Draft      // what becomes of it is in Taken
	Seq   compute.Seq // of the model that answers
	May   bool        // something may be guessed for it
}

// candidate is a guess that may become a row.
type candidate struct {
	branch int     // its place in the turn
	chance float64 // that it and all before it come true
}

// Speculator decides which guesses become rows.
type Speculator struct {
	Lookup bool // tokens are guessed from what was said before
	Eager  bool // every guess is taken, whatever it costs: for tests

	drafter    *drafter // nil: there is no draft model
	candidates []candidate
	unguessed  []*Branch // that the draft model is asked about
}

// Turn is the room of a turn beyond the next token of each branch.
type Turn struct {
	Pace  *pace.Estimator
	Rows  int // of the batch, all of which want logits
	Pages int // that can be had without preempting anybody
}

// Clear forgets the drafts of the turn before.
func Clear(branches []Branch) {
	for i := range branches {
		g := branches[i].Draft
		g.IDs, g.Taken, g.charge, g.steps = g.IDs[:0], 0, 0, branches[i].Steps
	}
}

// Guesses reports whether there is anything to guess with.
func (s *Speculator) Guesses() bool { return s.Lookup || s.drafter != nil }

// Plan makes the drafts of the branches of a turn, which Clear has seen, and decides how much of each becomes rows.
func (s *Speculator) Plan(branches []Branch, t Turn) {
	s.candidates, s.unguessed = s.candidates[:0], s.unguessed[:0]
	rows := len(branches)
	usual := t.Pace.Turn(rows)
	for i := range branches {
		b := &branches[i]
		g := b.Draft
		n := min(maxDraft, b.Of.Limit-len(b.IDs)-1)
		if n <= 0 || !b.May {
			continue
		}
		if g.At = b.History(); !g.used {
			g.used, g.credit = true, firstCredit
		}
		if g.match = 0; s.Lookup {
			g.IDs, g.match = lookup(g.IDs, b.Of.Req.PromptIDs[b.Of.Virtual:], b.IDs, n)
		}
		if g.match == 0 && t.Rows > 0 {
			s.unguessed = append(s.unguessed, b)
		}
	}
	if s.drafter != nil && len(s.unguessed) > 0 {
		s.ask(t.Pace, rows, usual)
	}
	for i := range branches {
		b := &branches[i]
		g := b.Draft
		g.IDs = g.IDs[:min(len(g.IDs), max(0, b.Of.Limit-len(b.IDs)-1))]
		if len(g.IDs) > 0 { // what the grammar does not allow is not drawn
			g.IDs = g.IDs[:b.Possible(g.IDs)]
		}
		if len(g.IDs) == 0 || usual == 0 && !s.Eager {
			continue
		}
		chance := 1.0
		for k := range g.IDs {
			if chance *= g.chance(k); !s.Eager && (chance < leastChance || price(t.Pace, rows, k+1, usual) > g.credit) {
				break
			}
			s.candidates = append(s.candidates, candidate{branch: i, chance: chance})
		}
	}
	if len(s.candidates) == 0 {
		return
	}
	// Within a branch chances fall, so that a prefix of all is a prefix of each.
	slices.SortStableFunc(s.candidates, func(a, b candidate) int { return cmp.Compare(b.chance, a.chance) })
	best := min(t.Rows, len(s.candidates))
	if !s.Eager {
		best = s.worth(t.Pace, rows, best, usual)
	}
	for best > 0 && !roomFor(branches, s.candidates[:best], t.Pages) {
		best /= 2
	}
	for _, o := range s.candidates[:best] {
		branches[o.branch].Draft.Taken++
	}
	if best > 0 && usual > 0 {
		cost := price(t.Pace, rows, best, usual)
		for i := range branches {
			g := branches[i].Draft
			g.charge += cost * float64(g.Taken) / float64(best)
		}
	}
}

// ask lets the draft model guess for the branches without a guess that have credit for it.
func (s *Speculator) ask(p *pace.Estimator, rows int, usual time.Duration) {
	n := 3
	if !s.Eager {
		if usual == 0 {
			return
		}
		chance, branches := 0.0, len(s.unguessed)
		for _, b := range s.unguessed {
			b.Draft.match = modelMatch
			chance += b.Draft.chance(0) / float64(branches)
			b.Draft.match = 0
		}
		if n = s.drafter.worth(p, rows, branches, usual, chance); n == 0 {
			return
		}
		price := float64(n) * float64(rows) * float64(s.drafter.step) / float64(usual) / float64(branches)
		s.unguessed = slices.DeleteFunc(s.unguessed, func(b *Branch) bool { return price > b.Draft.credit })
		for _, b := range s.unguessed {
			b.Draft.charge = price
		}
	}
	s.drafter.guess(s.unguessed, n)
}

// price of so many rows more than a turn has anyway, in turns of one branch: all who decode wait for them.
func price(p *pace.Estimator, rows, more int, usual time.Duration) float64 {
	return float64(rows) * float64(p.Turn(rows+more)-usual) / float64(usual)
}

// worth is how many of the first n candidates give the most tokens for the time.
func (s *Speculator) worth(p *pace.Estimator, rows, n int, usual time.Duration) int {
	best, most := 0, (1+margin)*float64(rows)/float64(usual)
	tokens := float64(rows)
	for i, o := range s.candidates[:n] {
		tokens += o.chance
		if r := tokens / float64(p.Turn(rows+i+1)); r > most {
			best, most = i+1, r
		}
	}
	return best
}

// roomFor reports whether so many pages are enough for the next tokens of all and these guesses.
func roomFor(branches []Branch, candidates []candidate, pages int) bool {
	need := 0
	for i, b := range branches {
		n := 1
		for _, o := range candidates {
			if o.branch == i {
				n++
			}
		}
		need += b.Seq.Need(n)
	}
	return need <= pages
}
