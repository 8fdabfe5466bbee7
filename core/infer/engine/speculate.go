package engine

import "edged/core/infer/engine/speculate"

// speculate gives the branches of a turn that decode their drafts; or none, where they may not. A sequence
// with a fixed state cannot be cut: nothing is guessed for it.
func (l *loop) speculate(units []unit, may bool) {
	l.drafting = l.drafting[:0]
	for _, u := range units {
		b := u.b
		l.drafting = append(l.drafting, speculate.Branch{
			Choice: b.Choice, Draft: &b.draft, Seq: b.seq,
			May: !b.known() && !b.job.single && (!b.job.Req.Logprobs || len(b.Logprobs) == len(b.IDs)),
		})
	}
	speculate.Clear(l.drafting)
	if may && !l.model.Fixed() && l.drafts.Guesses() {
		l.drafts.Plan(l.drafting, speculate.Turn{
			Pace: &l.pace, Rows: min(l.size.Logits, l.size.Batch) - len(units), Pages: l.available(),
		})
	}
	clear(l.drafting) // no finished sequence is kept alive by scratch
}

// verifyDrafts cuts what was guessed wrong off the sequences of the batch and counts what came of the drafts.
func (l *loop) verifyDrafts() {
	for _, u := range l.batch.units[:l.batch.decoding] {
		b := u.b
		g := &b.draft
		accepted, drew := g.Verify(b.Choice)
		if !drew {
			continue
		}
		l.count.DraftedTokens += uint64(g.Taken)
		l.count.AcceptedTokens += uint64(accepted)
		b.job.drafted += g.Taken
		b.job.accepted += accepted
		l.count.DecodedTokens += uint64(accepted)
		if b.seq != nil && g.Taken > 0 {
			b.seq.Truncate(g.At + accepted)
		}
		g.Taken = 0
	}
}
