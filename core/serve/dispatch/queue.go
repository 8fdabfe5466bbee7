package dispatch

import (
	"slices"
	"time"
)

// queue orders what waits. The highest priority goes first; among equals the client with the fewest running requests, then
// the one that was served longest ago, then the oldest request. Waiting raises a priority by one level for every ageing
// step, so that nothing waits for ever behind those who always ask with a higher one. It locks nothing.
//
// Taking one looks at all that wait: 64 by default, a microsecond, against a generation of seconds.
type queue struct {
	ageing time.Duration // 0: no ageing
	lines  map[string]*line
	length int
	grants uint64
	plain  int // plain questions that run
}

// line is what one client waits for.
type line struct {
	waiting []*job
	running int    // places
	granted uint64 // number of its last grant; 0: never
}

func newQueue(ageing time.Duration) *queue {
	return &queue{ageing: ageing, lines: map[string]*line{}}
}

func (q *queue) line(client string) *line {
	l := q.lines[client]
	if l == nil {
		l = &line{}
		q.lines[client] = l
	}
	return l
}

// push adds a job to its client's line.
func (q *queue) push(j *job) {
	l := q.line(j.req.Client)
	l.waiting = append(l.waiting, j)
	q.length++
}

// remove takes a job out, if it waits.
func (q *queue) remove(j *job) {
	l := q.lines[j.req.Client]
	if l == nil {
		return
	}
	if i := slices.Index(l.waiting, j); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		q.length--
		q.drop(j.req.Client, l)
	}
}

// first is the job that is served next; its job is nil where there is none. With suspects set only those are looked at, with
// newcomers only those of clients that run nothing.
func (q *queue) first(suspects, newcomers bool) candidate {
	var best candidate
	for _, l := range q.lines {
		if newcomers && l.running > 0 {
			continue
		}
		for _, j := range l.waiting {
			if suspects && !j.suspect || newcomers && j.req.Plain && q.plain > 0 {
				continue
			}
			if c := (candidate{j, l, q.priority(j)}); best.job == nil || c.before(best) {
				best = c
			}
		}
	}
	return best
}

// grant takes a job out that gets its places.
func (q *queue) grant(c candidate) *job {
	c.line.running += c.job.places // before remove, which drops lines without work
	q.grants++
	if c.job.req.Plain {
		q.plain++
	}
	c.line.granted = q.grants
	q.remove(c.job)
	return c.job
}

// crowded reports whether a client has more than one place. Those who ask plainly are one here: their names are tags that anybody may
// make up.
func (q *queue) crowded() bool {
	if q.plain > 1 {
		return true
	}
	for _, l := range q.lines {
		if l.running > 1 {
			return true
		}
	}
	return false
}

// suspects reports whether any waiting job is a suspect.
func (q *queue) suspects() bool {
	for _, l := range q.lines {
		if slices.ContainsFunc(l.waiting, func(j *job) bool { return j.suspect }) {
			return true
		}
	}
	return false
}

func (q *queue) priority(j *job) int64 {
	p := int64(j.req.Priority)
	if q.ageing > 0 {
		p += int64(time.Since(j.admitted) / q.ageing)
	}
	return p
}

// done says that a granted job runs no longer.
func (q *queue) done(j *job) {
	l := q.line(j.req.Client)
	l.running -= j.places
	if j.req.Plain {
		q.plain--
	}
	q.drop(j.req.Client, l)
}

// drop forgets a line without work, so that clients that come and go leave nothing behind. Its place in the turn is lost
// with it: a client without work has no turn to keep.
func (q *queue) drop(client string, l *line) {
	if len(l.waiting) == 0 && l.running == 0 {
		delete(q.lines, client)
	}
}

type candidate struct {
	job      *job
	line     *line
	priority int64
}

func (c candidate) before(o candidate) bool {
	switch {
	case c.priority != o.priority:
		return c.priority > o.priority
	case c.line.running != o.line.running:
		return c.line.running < o.line.running
	case c.line.granted != o.line.granted:
		return c.line.granted < o.line.granted
	default:
		return c.job.number < o.job.number
	}
}
