package engine

import (
	"fmt"
	"math"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/kv"
)

// What the loop does with the prefix cache, turn by turn.

// reuse lets running jobs skip what is known already. It looks again in every turn of a prefill, since
// another request may have computed the next page meanwhile.
func (l *loop) reuse() {
	for _, j := range l.running {
		if j.prompt.Private {
			continue
		}
		if j.root != nil {
			l.cache.Adopt(&j.prompt, j.root, j, len(j.Req.PromptIDs)-1, true)
			l.fork(j) // it may be complete now
		}
		for _, b := range j.branches {
			if b.seq != nil && b.live() {
				l.cache.Adopt(&j.prompt, b.seq, b, b.first(), len(j.branches) == 1)
			}
		}
	}
}

// cacheTurn takes what the batch's sequences have computed into the cache: states, full pages, and on disk
// what is worth it.
func (l *loop) cacheTurn() {
	for i := range l.batch.units {
		u := &l.batch.units[i]
		l.cache.Checkpoint(&u.job.prompt, u.seq)
	}
	for i := range l.batch.units {
		if u := &l.batch.units[i]; u.b == nil {
			l.cache.Insert(&u.job.prompt, u.seq, u.job, u.seq.Len())
		} else {
			l.cache.Insert(&u.job.prompt, u.seq, u.b, u.seq.Len()-u.b.draft.Taken)
		}
	}
	for i := range l.batch.units {
		u := &l.batch.units[i]
		l.cache.Save(&u.job.prompt, u.seq)
	}
	l.cache.Flush()
}

// retire drops what a branch has computed that has come to its end: n tokens, those that stop strings cut
// away included.
func (l *loop) retire(b *branch, n int) {
	l.cache.Retire(&b.job.prompt, b.seq, b, min(n, b.History()), b.draft.Taken > 0)
	b.drop()
}

// reserve evicts what the batch needs beyond the free pages and states. Where states are still short, what
// runs gives up the checkpoints that it would have left to others.
func (l *loop) reserve() {
	if l.cache.Reserve(l.batch.rows) {
		return
	}
	for _, j := range l.running {
		if j.root != nil {
			j.root.ForgetCheckpoints(math.MaxInt)
		}
		for _, b := range j.branches {
			if b.seq != nil {
				b.seq.ForgetCheckpoints(math.MaxInt)
			}
		}
	}
}

// failBadLogits ends a job whose logits are no numbers. Should a cached page be the cause, later requests
// must not find it.
func (l *loop) failBadLogits(j *job, err error) {
	l.fail(j, answer.BadLogits(err))
	l.cache.Clear()
}

// available is the number of pages that can be had without preempting anybody.
func (l *loop) available() int { return l.model.FreePages() + l.model.IdlePages() }

// shared is the number of pages that a new sequence would share with those that run.
func (l *loop) shared(j *job, h kv.History, limit int) int {
	return l.cache.Shared(&j.prompt, l.scaling(j, limit+1), h, limit)
}

// describe tells the cache what a job's pages depend on: the adapters, a line each in their order: content,
// the bits of the scale, and of one that a text calls the position from which it is on. A job with an adapter
// of unknown content shares nothing.
func (l *loop) describe(j *job) {
	var set []byte
	for i, a := range j.adapters {
		if a.info.SHA256 == "" {
			j.prompt.Private = true
		}
		set = fmt.Appendf(set, "adapter %q scale %08x", a.info.SHA256, math.Float32bits(j.Req.Adapters[i].Scale))
		if len(a.invocation) > 0 {
			set = fmt.Appendf(set, " from %d", j.active[i])
		}
		set = append(set, '\n')
	}
	p := &j.prompt
	p.IDs, p.Borders, p.Pin, p.Set, p.Front = j.Req.PromptIDs, j.Req.Borders, j.Req.Pin, string(set), j.front
	p.Scaling = l.model.Stretch(len(p.IDs))
}

// front is the sequence that computes the prompt; nil: none, or several. alone: the job has no other.
func (j *job) front() (s compute.Seq, alone bool) {
	if j.root != nil {
		return j.root, true
	}
	for _, b := range j.branches {
		if b.seq == nil || !b.live() {
			continue
		}
		if s != nil {
			return nil, false
		}
		s = b.seq
	}
	return s, len(j.branches) == 1
}

// Token makes the prompt a history.
func (j *job) Token(i int) int32 { return j.Req.PromptIDs[i] }

// first is the first token whose row has to be computed, whatever is known: its logits are wanted.
func (b *branch) first() int {
	if b.job.Req.Logprobs {
		return len(b.job.Req.PromptIDs) - 1 + len(b.Logprobs)
	}
	return b.History() - 1
}
