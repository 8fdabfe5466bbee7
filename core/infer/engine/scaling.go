package engine

import "edged/core/infer/engine/compute"

// Some models turn all positions of a sequence in another way once it is longer than a border (longrope, dynamic scaling): what was
// computed before is of no use then. It is decided so, with the prefix cache and without: a prompt that is longer than the border is
// turned by its own length from the first position on, to the end of its answer; an answer that grows beyond the border is computed
// anew once, turned for the whole context. Pages of one way of turning are never taken for those of another.

// stretch is how a sequence of n tokens of a job is turned.
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

// rescale gives up what branches have computed that are about to cross the border.
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
