package engine

import (
	"errors"
	"fmt"
	"time"

	"edged/core/infer/sample"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// sampleRow draws the token that follows w.pos, or looks its log-probability up where it is known.
func (l *loop) sampleRow(w want) {
	b, j := w.b, w.b.job
	switch {
	case !b.live() || b.seq == nil:
		return // its job has failed, or an earlier row of this turn ended it
	case w.pos >= b.History() || b.Token(w.pos) != w.id:
		return // the row was computed for a token that was not drawn
	case b.draft.Taken > 0 && w.pos >= b.draft.At+b.draft.Accepted(b.Choice):
		return // likewise one before it: what a grammar has decided behind that may be what was guessed
	}
	index := w.pos + 1 - len(j.Req.PromptIDs)
	norm, err := b.Norm(w.logits)
	if err != nil {
		l.failBadLogits(j, err)
		return
	}
	if index < len(b.IDs) { // known
		if !j.Req.Logprobs || index < len(b.Logprobs) {
			return // a guess that a grammar has decided meanwhile
		}
		l.drawer.AddLogprob(b.Choice, b.IDs[index], w.logits, norm)
		if !b.live() {
			b.drop()
		}
		return
	}
	constrained := b.Constrained()
	if constrained {
		began := time.Now()
		defer func() { l.charge(j.Req.Client, time.Since(began)) }()
	}
	id, err := l.drawer.Draw(b.Choice, w.logits, w.peaks, index)
	switch {
	case errors.Is(err, sample.ErrNone) && constrained:
		l.fail(j, fmt.Errorf("engine: %w: logit_bias: it leaves no token that the grammar allows", protocol.ErrInvalid))
		return
	case errors.Is(err, sample.ErrLogits):
		l.failBadLogits(j, err)
		return
	case err != nil:
		l.fail(j, err)
		return
	}
	if j.watch {
		j.times = append(j.times, time.Now())
	}
	b.draft.Observe(w.pos+1, id)
	n, err := l.drawer.Take(b.Choice, id, w.logits, norm)
	if err != nil {
		l.fail(j, err)
		return
	}
	if constrained {
		l.count.ConstrainedTokens++
	}
	l.count.ConstrainedTokens += uint64(n)
	l.count.DecidedTokens += uint64(n)
	if ev, ok := b.Release(); ok {
		j.out.put(ev)
	}
	if !b.live() {
		l.retire(b, w.pos+1)
	}
}

// finishEmbeddings ends the embeddings whose tokens are computed.
func (l *loop) finishEmbeddings() {
	for _, j := range l.running {
		if j.sum == nil {
			continue
		}
		if b := j.branches[0]; b.seq != nil && b.seq.Len() == len(j.Req.PromptIDs) {
			b.Finish = backend.FinishStop
			b.drop()
		}
	}
}
