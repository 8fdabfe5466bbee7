package engine

import (
	"fmt"
	"math"

	"edged/core/infer/engine/compute"
	"edged/core/infer/kv"
)

// What the loop does with the prefix cache. Pages go into it as soon as they are full, those of answers too, so that a
// request finds what an earlier one is still computing, a later turn of a conversation finds the answer before it, and a
// request that was set aside finds itself again. Pages come back out of it when a batch needs more than are free: before
// anything that runs is set aside.

// reuse lets running jobs skip what is known already. It looks again in every turn of a prefill, since another request may
// have computed the next page meanwhile.
func (l *loop) reuse() {
	if l.prefixes == nil {
		return
	}
	for _, j := range l.running {
		if j.private {
			continue
		}
		if j.root != nil {
			l.skip(j, j.root, j, len(j.Req.PromptIDs)-1)
			l.fork(j) // it may be complete now
		}
		for _, b := range j.branches {
			if b.seq != nil && b.live() {
				l.skip(j, b.seq, b, b.first())
			}
		}
	}
}

// skip lets one sequence of a job adopt what is known of its tokens before limit.
func (l *loop) skip(j *job, s compute.Seq, h kv.History, limit int) {
	from := s.Len()
	n := l.prefixes.Adopt(j.setOf(s.Stretched()), s, h, limit)
	if n == 0 {
		return
	}
	if j.found = max(j.found, s.Len()/l.size.Page); l.model.Fixed() {
		j.resumed = max(j.resumed, s.Len())
		s.Checkpoint() // its own page with these tokens has it too, when that is full
	}
	l.count.PrefixTokens += uint64(n)
	if !j.hit {
		j.hit = true
		l.count.PrefixHits++
	}
	if prompt := len(j.Req.PromptIDs); j.preemptions == 0 && (s == j.root || len(j.branches) == 1) && from < prompt {
		j.cached += min(from+n, prompt) - from
	}
}

// keep takes the full pages of the batch's sequences into the cache.
func (l *loop) keep() {
	if l.prefixes == nil {
		return
	}
	for i := range l.batch.units {
		switch u := &l.batch.units[i]; {
		case u.job.private:
		case u.b == nil:
			u.job.private = !l.prefixes.Keep(u.job.setOf(u.seq.Stretched()), u.seq, u.job, u.seq.Len())
		default:
			u.job.private = !l.prefixes.Keep(u.job.setOf(u.seq.Stretched()), u.seq, u.b, u.seq.Len()-u.b.draft.Taken)
		}
	}
}

// retire drops what a branch has computed that has come to its end: n tokens, those that stop strings cut away included.
// Where it ended with a token that was guessed, its last pages are not in the cache yet; the last one of all, which is not full,
// goes there in any case.
func (l *loop) retire(b *branch, n int) {
	if l.prefixes != nil && !b.job.private {
		n = min(n, b.History())
		b.seq.Checkpoint()
		if b.draft.Taken > 0 || l.model.Fixed() {
			n = b.seq.Truncate(n) // of a sequence with a fixed state to its last checkpoint
			b.job.private = !l.prefixes.Keep(b.job.setOf(b.seq.Stretched()), b.seq, b, n)
		}
		if !b.job.private {
			last := l.prefixes.KeepRest(b.job.setOf(b.seq.Stretched()), b.seq, b, n)
			if d := l.disk; d != nil && last >= 0 {
				d.enqueueStates(l, b.job, last, n/l.size.Page)
				d.pump(l)
			}
		}
	}
	b.drop()
}

// reserve makes the cache give back what the batch needs beyond the free pages.
func (l *loop) reserve() {
	l.reserveStates()
	if l.prefixes == nil {
		return
	}
	need, rows := 0, l.batch.rows
	for i := 0; i < len(rows); {
		n := 1
		for i+n < len(rows) && rows[i+n].Seq == rows[i].Seq {
			n++
		}
		need += rows[i].Seq.Need(n)
		i += n
	}
	if short := need - l.model.FreePages(); short > 0 {
		l.prefixes.Evict(short)
	}
}

// spoil ends a job whose logits are no numbers. Should a kept page be the cause, it must not spoil later requests too.
func (l *loop) spoil(j *job, err error) {
	l.fail(j, damaged(err))
	if l.prefixes != nil {
		l.unpin()
		l.prefixes.Clear()
		l.prefixes.EvictStates(math.MaxInt)
	}
}

// pin keeps the full pages of a finished job's prompt where it asked for it: a sequence that computes nothing holds them, so
// that they are no more idle than those of a request that runs.
func (l *loop) pin(j *job) {
	if j.Req.Pin == "" || j.private || l.prefixes == nil {
		return
	}
	if old := l.pins[j.Req.Pin]; old != nil {
		old.Free()
		delete(l.pins, j.Req.Pin)
	}
	s := l.sequence(j, len(j.Req.PromptIDs))
	full := len(j.Req.PromptIDs) / l.size.Page * l.size.Page
	if l.model.Fixed() {
		full = l.lastPage(j)
	}
	l.prefixes.Adopt(j.setOf(s.Stretched()), s, j, full)
	s.Truncate(s.Len() / l.size.Page * l.size.Page)
	n := s.Pages()
	for _, other := range l.pins {
		n += other.Pages()
	}
	if most := l.model.TotalPages() - l.pages(l.size.Context); n > most || s.Len() < full || !l.statesFor(compute.MinStates) {
		s.Free()
		l.log.Warn("a prefix is not pinned: one whole conversation has to fit beside all that are", "request_id", j.Req.ID,
			"tokens", len(j.Req.PromptIDs), "pages", n, "pages_left", max(most, 0))
		return
	}
	l.pins[j.Req.Pin] = s
}

// unpin gives all pinned prefixes back.
func (l *loop) unpin() {
	for name, s := range l.pins {
		s.Free()
		delete(l.pins, name)
	}
}

// available is the number of pages that can be had without setting anything aside.
func (l *loop) available() int { return l.model.FreePages() + l.model.IdlePages() }

// shared is the number of pages that a new sequence would share with those that run.
func (l *loop) shared(j *job, h kv.History, limit int) int {
	if l.prefixes == nil || j.private {
		return 0
	}
	return l.prefixes.Held(j.setOf(l.stretch(j, limit+1)), h, limit)
}

// describe names the adapters of a job as the cache knows them, a line each in their order: content, the bits of the scale, and of one
// that a text calls the position from which it is on. A job with an adapter of unknown content shares nothing.
func (j *job) describe() {
	var set []byte
	for i, a := range j.adapters {
		if a.info.SHA256 == "" {
			j.private = true
		}
		set = fmt.Appendf(set, "adapter %q scale %08x", a.info.SHA256, math.Float32bits(j.Req.Adapters[i].Scale))
		if len(a.invocation) > 0 {
			set = fmt.Appendf(set, " from %d", j.active[i])
		}
		set = append(set, '\n')
	}
	j.set = string(set)
}

// token makes the prompt a history.
func (j *job) Token(i int) int32 { return j.Req.PromptIDs[i] }

// first is the first token whose row has to be computed, whatever is known: its logits are wanted.
func (b *branch) first() int {
	if b.job.Req.Logprobs {
		return len(b.job.Req.PromptIDs) - 1 + len(b.Logprobs)
	}
	return b.History() - 1
}
