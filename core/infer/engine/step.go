package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"edged/core/infer/sample"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// take draws the token that follows w.pos, or looks its log-probability up where it is known.
func (l *loop) take(w want) {
	b, j := w.b, w.b.job
	switch {
	case !b.live() || b.seq == nil:
		return // its job has failed, or an earlier row of this turn ended it
	case w.pos >= b.history() || b.Token(w.pos) != w.id:
		return // the row was computed for a token that was not drawn
	case b.guess.taken > 0 && w.pos >= b.guess.at+b.guessed():
		return // likewise one before it: what a grammar has decided behind that may be what was guessed
	}
	index := w.pos + 1 - len(j.req.PromptIDs)
	norm := 0.0
	if j.req.Logprobs || j.best {
		var err error
		if norm, err = sample.LogNorm(w.logits); err != nil {
			l.spoil(j, err)
			return
		}
	}
	if index < len(b.ids) { // known
		if !j.req.Logprobs || index < len(b.logprobs) {
			return // a guess that a grammar has decided meanwhile
		}
		b.logprobs = append(b.logprobs, l.logprob(j, w.logits, b.ids[index], norm))
		if !b.live() {
			b.drop()
		}
		return
	}
	held := b.form != nil
	if held {
		began := time.Now()
		defer func() { l.spend(j.req.Client, time.Since(began)) }()
	}
	id, err := l.draw(b, w, index)
	switch {
	case errors.Is(err, sample.ErrNone) && held:
		l.fail(j, fmt.Errorf("engine: %w: logit_bias: it leaves no token that the grammar allows", protocol.ErrInvalid))
		return
	case errors.Is(err, sample.ErrLogits):
		l.spoil(j, err)
		return
	case err != nil:
		l.fail(j, err)
		return
	}
	if j.first.IsZero() {
		j.first = time.Now()
	}
	if j.watch {
		j.times = append(j.times, time.Now())
	}
	b.guess.observe(w.pos+1, id)
	b.steps++
	if j.best {
		b.total += float64(sample.Logprob(w.logits[id], norm))
	}
	if ends := !j.req.IgnoreEOS && j.vocab.isEOG(id); ends && b.closes() {
		// The mark is decoded in its place, from here on as if it had been sampled.
	} else if ends || slices.Contains(j.req.StopIDs, id) {
		b.end(backend.FinishStop)
	} else {
		if j.req.Logprobs {
			b.logprobs = append(b.logprobs, l.logprob(j, w.logits, id, norm))
		}
		if err := b.accept(id); err != nil {
			l.fail(j, err)
			return
		}
	}
	n, err := b.acceptForced()
	if err != nil {
		l.fail(j, err)
		return
	}
	if held {
		l.count.ConstrainedTokens++
	}
	l.count.ConstrainedTokens += uint64(n)
	l.count.DecidedTokens += uint64(n)
	if ev, ok := b.release(); ok {
		j.out.put(ev)
	}
	if !b.live() {
		l.retire(b, w.pos+1)
	}
}

// draw chooses the token of a step: the forced one, where there is one, or by the request's settings.
func (l *loop) draw(b *branch, w want, index int) (int32, error) {
	j := b.job
	if index < len(j.req.ForcedIDs) {
		return j.req.ForcedIDs[index], nil
	}
	step := sample.Step{
		Logits: w.logits, Peaks: w.peaks, Limit: j.vocab.limit, Params: &j.params,
		Prompt: j.req.PromptIDs[j.virtual:], Generated: b.ids, Choice: b.index, Index: index,
	}
	if id, ok := b.thought.decided(); ok {
		return id, nil
	}
	if step.Mask = b.thoughtMask(); b.form != nil {
		mask, only, err := b.mask()
		if err != nil || only >= 0 {
			return only, err
		}
		step.Mask = mask
	}
	return l.sampler.Next(&step)
}

// logprob is the entry of one token.
func (l *loop) logprob(j *job, logits []float32, id int32, norm float64) backend.TokenLogprob {
	out := backend.TokenLogprob{ID: id, Logprob: sample.Logprob(logits[id], norm)}
	if n := j.req.TopLogprobs; n > 0 {
		l.top = l.sampler.Top(l.top[:0], logits, j.vocab.limit, n, norm)
		out.Top = make([]backend.Alternative, len(l.top))
		for i, a := range l.top {
			out.Top[i] = backend.Alternative{ID: a.ID, Logprob: a.Logprob}
		}
	}
	return out
}
