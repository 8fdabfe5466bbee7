package engine

import (
	"math"
	"slices"
)

// Checkpoints of fixed states, see package kv: where a prompt ends, so that the same prompt, and one that goes on, find it; at the borders
// that its template shows, where others that begin alike go on otherwise; where it parts from what is known already, since what came
// twice comes again; at the last page end, where no border is near; and every checkpointPages pages. A turn's rows of a sequence end where
// one is due, since the state of a position is there only until the next row. The end of an answer is one too (retire).

// checkpointPages is the number of pages between checkpoints of a long text.
const checkpointPages = 16

// lastPage is the last page end within a prompt before its last token.
func (l *loop) lastPage(j *job) int { return (len(j.Req.PromptIDs) - 1) / l.size.Page * l.size.Page }

// lay lays down where checkpoints of a job's prompt are due, and which of them are written to disk though nobody came back to them yet.
func (l *loop) lay(j *job) {
	if !l.model.Fixed() || l.prefixes == nil || j.private {
		return
	}
	end, page, grid := len(j.Req.PromptIDs)-1, l.size.Page, checkpointPages*l.size.Page
	last := l.lastPage(j)
	var borders []int
	for _, b := range j.Req.Borders {
		if n := int(b); n >= page && n < end && (len(borders) == 0 || n > borders[len(borders)-1]) {
			borders = append(borders, n)
		}
	}
	j.points, j.lasting = j.points[:0], j.lasting[:0]
	k := len(borders)
	for i, n := range borders {
		// The first ones are shared by most prompts, the last ones by the next turns of a conversation.
		if i < 2 || i >= k-3 || n-j.points[len(j.points)-1] >= grid {
			j.points = append(j.points, n)
		}
	}
	// What stays when the process ends is where the last message begins, and what the first border is behind.
	if k > 1 && borders[k-2] >= end/2 {
		j.lasting = append(j.lasting, borders[k-2])
	} else {
		j.lasting = append(j.lasting, last)
	}
	if k > 1 {
		j.lasting = append(j.lasting, borders[0])
	}
	if k == 0 || borders[k-1] < last-page || slices.Contains(j.lasting, last) || j.Req.Pin != "" {
		j.points = append(j.points, last)
	}
	near := func(n, before int) bool { // a border serves as well
		return slices.ContainsFunc(j.points, func(x int) bool { return x > n-before && x <= n })
	}
	for n := grid; n < end; n += grid {
		if !near(n, grid/2) {
			j.points = append(j.points, n)
		}
	}
	slices.Sort(j.points)
	if n := l.prefixes.Common(j.setOf(j.stretched), j, end); n >= page && !near(n, page) {
		i, _ := slices.BinarySearch(j.points, n)
		j.points = slices.Insert(j.points, i, n)
	}
	j.points = slices.Compact(append(j.points, end))
}

// nextPoint is where the next checkpoint of a job's tokens is due behind the first n.
func (l *loop) nextPoint(j *job, n int) int {
	if i, _ := slices.BinarySearch(j.points, n+1); i < len(j.points) {
		return j.points[i]
	}
	grid := checkpointPages * l.size.Page
	return (n/grid + 1) * grid
}

// untilCheckpoint is the number of rows of u up to the next checkpoint.
func (l *loop) untilCheckpoint(u unit) int {
	if !l.model.Fixed() || l.prefixes == nil || u.job.private {
		return u.to - u.from
	}
	return min(u.to, l.nextPoint(u.job, u.from)) - u.from
}

// checkpoint keeps the states that are due behind a turn.
func (l *loop) checkpoint() {
	if !l.model.Fixed() || l.prefixes == nil {
		return
	}
	for i := range l.batch.units {
		if u := &l.batch.units[i]; !u.job.private && u.seq.Len() > 0 && l.nextPoint(u.job, u.seq.Len()-1) == u.seq.Len() {
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
		if (i == 0 || l.batch.rows[i-1].Seq != r.Seq) && r.Seq.NeedState() {
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
