package engine

import "edged/core/infer/engine/compute"

// Some models scale RoPE for all positions of a sequence once it is longer than the context of their training
// (longrope, dynamic scaling): keys that were computed before are of no use then. The rule is the same with
// the prefix cache and without: a prompt that is longer than that border is scaled by its own length from the
// first position on, to the end of its answer; an answer that grows beyond the border is computed anew once,
// scaled for the whole context. Pages of one scaling are never taken for those of another.

// scaling is that of RoPE for a sequence of n tokens of a job; 0: none.
func (l *loop) scaling(j *job, n int) int {
	if j.prompt.Scaling != 0 || l.model.Stretch(n) == 0 {
		return j.prompt.Scaling
	}
	return l.model.Stretch(l.size.Context)
}

// sequence is a new one for n tokens of a job.
func (l *loop) sequence(j *job, n int) compute.Seq {
	s := l.model.NewSeq()
	s.Stretch(l.scaling(j, n))
	return s
}

// rescale truncates the sequences of branches that are about to grow beyond the border, to be computed anew.
func (l *loop) rescale() {
	if l.model.Stretch(l.size.Context) == 0 {
		return
	}
	for _, j := range l.running {
		for _, b := range j.branches {
			if b.seq == nil || !b.live() {
				continue
			}
			if how := l.scaling(j, b.History()); how != b.seq.Stretched() {
				b.seq.Truncate(0)
				b.seq.Stretch(how)
			}
		}
	}
}

// withinBorder is how many of so many guesses behind n tokens of a job stay on this side of the border.
func (l *loop) withinBorder(j *job, n, guesses int) int {
	for guesses > 0 && l.scaling(j, n+guesses) != l.scaling(j, n) {
		guesses--
	}
	return guesses
}
