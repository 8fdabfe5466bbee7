package engine

import (
	"fmt"
	"slices"
	"time"

	"edged/core/protocol"
)

// Who runs. A job waits until its pages and its branches fit beside those that run; the next in the queue
// (see first) is never overtaken by a smaller one behind it, so that none waits for ever. When pages run out
// all the same, because answers grow, the youngest job is preempted: its pages are freed and it queues again,
// in its old place, with what it has generated.

// admit starts waiting jobs as long as there is room, and branches that were preempted alone.
func (l *loop) admit() {
	for _, j := range l.running {
		l.restart(j)
	}
	for len(l.waiting) > 0 {
		j := l.waiting[l.first()]
		if len(l.running) > 0 && !l.fits(j) && !l.preemptFor(j) {
			return
		}
		l.scheduler.start(j)
		if j.Times.Started.IsZero() {
			j.Times.Started = time.Now()
		}
		l.begin(j)
		l.cache.Recall(&j.prompt)
	}
}

// preemptFor makes room for a newcomer's pages, and reports whether there is room now: of the client that
// runs the most branches the youngest job is preempted, or where it has one, the last branch of that. One
// that would be left with fewer than the newcomer keeps what it has.
func (l *loop) preemptFor(j *job) bool {
	if !l.newcomer(j) {
		return false
	}
	for !l.fits(j) {
		if !l.preemptOne(j) {
			return false
		}
	}
	return true
}

// preemptOne preempts a job or a branch for a newcomer; false: there is none that should be.
func (l *loop) preemptOne(newcomer *job) bool {
	most, runs := l.victim(newcomer)
	if most == nil {
		return false
	}
	if runs > most.alive() {
		l.preempt(most)
		return true
	}
	if !most.forked {
		return false
	}
	for _, b := range slices.Backward(most.branches) {
		if b.seq != nil && b.live() && most.alive() > 1 {
			if most.sequences() == 1 {
				return false
			}
			b.drop()
			return true
		}
	}
	return false
}

// fits reports whether a waiting job has room beside those that run: branches, pages for its history and one more token
// of each branch, and a page for every branch that runs, which may need one at any time.
func (l *loop) fits(j *job) bool {
	active := 0
	for _, r := range l.running {
		active += r.alive()
	}
	if active+j.alive() > l.size.Sequences && !l.newcomer(j) {
		return false
	}
	if !l.cache.StatesFor(active + j.alive()) {
		return false
	}
	short := l.pagesOf(j) + active - (l.available() - l.promised())
	return short <= 0 || short <= l.shared(j, j, len(j.Req.PromptIDs)-1)
}

// pagesOf is the number of pages that a job which holds none will take soon.
func (l *loop) pagesOf(j *job) int {
	whole := len(j.Req.PromptIDs) / l.size.Page // what branches share
	n := 0
	for _, b := range j.branches {
		if b.live() {
			n += l.pages(b.History()+1) - whole
		}
	}
	return n + whole
}

// promised is the number of pages that running jobs still take for tokens that they have already.
func (l *loop) promised() int {
	n := 0
	l.pending(func(u unit) { n += max(0, l.pages(u.to)-u.seq.Pages()) })
	return n
}

// begin gives an admitted job its sequences: several branches fork the prompt once it is computed.
func (l *loop) begin(j *job) {
	clear(j.sum) // it may have been preempted
	l.cache.Start(&j.prompt)
	if j.alive() > 1 && len(j.Req.PromptIDs) > 1 {
		j.root = l.sequence(j, len(j.Req.PromptIDs))
		return
	}
	j.forked = true
	for _, b := range j.branches {
		if b.live() {
			b.seq = l.sequence(j, b.History())
		}
	}
}

// fork gives the branches of a job their sequences as soon as the root is computed: the prompt without its last token,
// whose logits each branch then computes for itself, the same for all.
func (l *loop) fork(j *job) {
	if j.root == nil || j.root.Len() < len(j.Req.PromptIDs)-1 {
		return
	}
	root := j.root
	j.root, j.forked = nil, true
	for _, b := range j.branches {
		if b.live() {
			b.seq = root.Fork()
		}
	}
	root.Free()
}

// preemptYoungest preempts the youngest job; where there is only one, its last branch; where that is the only
// one, it fails.
func (l *loop) preemptYoungest() {
	if n := len(l.running); n > 1 {
		l.preempt(l.running[n-1])
		return
	}
	j := l.running[0]
	var active []*branch
	for _, b := range j.branches {
		if b.seq != nil && b.live() {
			active = append(active, b)
		}
	}
	if len(active) > 1 {
		active[len(active)-1].drop()
		return
	}
	l.fail(j, fmt.Errorf("engine: %w: the pool of %d KV pages does not hold the %d tokens of one sequence",
		protocol.ErrNoMemory, l.model.TotalPages(), j.branches[0].History()))
}

// preempt takes a running job's pages and puts it into the queue again.
func (l *loop) preempt(j *job) {
	l.scheduler.remove(j)
	j.drop()
	l.enqueue(j)
	l.preemptions++
	j.prompt.Preempted = true
	if j.preemptions++; j.preemptions == 1 {
		l.log.Info("request set aside: no free pages", "request_id", j.Req.ID, "tokens", j.branches[0].History())
	}
}

// restart gives a branch that was preempted alone its sequence again, once there is room for all of it.
func (l *loop) restart(j *job) {
	if !j.forked {
		return
	}
	active := j.sequences()
	for _, b := range j.branches {
		if b.seq != nil || !b.live() {
			continue
		}
		if active > 0 {
			if !l.cache.StatesFor(active + 1) {
				return
			}
			short := l.pages(b.History()+1) + active - (l.available() - l.promised())
			if short > 0 && short > l.shared(j, b, b.first()) {
				return
			}
		}
		b.seq = l.sequence(j, b.History())
		active++
	}
}

// pages is the number of pages that so many tokens of one sequence take.
func (l *loop) pages(tokens int) int { return (tokens + l.size.Page - 1) / l.size.Page }
