package engine

import "math"

// Checkpoints of fixed states, see package kv: where a prompt ends, so that the same prompt, and one that goes on, find it; at the last
// page end before that, for prompts that differ in their last words; and every checkpointPages pages. A turn's rows of a sequence end
// where one is due, since the state of a position is there only until the next row. The end of an answer is one too (retire).

// checkpointPages is the number of pages between checkpoints of a long text.
const checkpointPages = 16

// lastPage is the last page end within a prompt before its last token.
func (l *loop) lastPage(j *job) int { return (len(j.req.PromptIDs) - 1) / l.size.page * l.size.page }

// due reports whether the state of a job's first n tokens is to be kept.
func (l *loop) due(j *job, n int) bool {
	return n > 0 && (n == len(j.req.PromptIDs)-1 || n == l.lastPage(j) || n%(checkpointPages*l.size.page) == 0)
}

// untilCheckpoint is the number of rows of u up to the next checkpoint.
func (l *loop) untilCheckpoint(u unit) int {
	if !l.model.Fixed() || l.prefixes == nil || u.job.private {
		return u.to - u.from
	}
	n := u.from + 1
	for n < u.to && !l.due(u.job, n) {
		n++
	}
	return n - u.from
}

// checkpoint keeps the states that are due behind a turn.
func (l *loop) checkpoint() {
	if !l.model.Fixed() || l.prefixes == nil {
		return
	}
	for i := range l.batch.units {
		if u := &l.batch.units[i]; !u.job.private && l.due(u.job, u.seq.Len()) {
			u.seq.Checkpoint()
		}
	}
}

// reserveStates makes the cache give back the slots that the batch's sequences need beyond the free ones.
func (l *loop) reserveStates() {
	if !l.model.Fixed() {
		return
	}
	need := 0
	for i, r := range l.batch.rows {
		if (i == 0 || l.batch.rows[i-1].seq != r.seq) && r.seq.NeedState() {
			need++
		}
	}
	if l.prefixes != nil {
		l.prefixes.EvictStates(need)
	}
	if l.model.FreeStates() >= need {
		return
	}
	for _, j := range l.running { // what they would have left to others
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

// statesFor reports whether so many sequences find a state each, whatever checkpoints there are: those give way.
func (l *loop) statesFor(sequences int) bool {
	held := len(l.pins)
	if l.disk != nil {
		held += len(l.disk.held)
	}
	return !l.model.Fixed() || sequences <= l.model.TotalStates()-held
}
