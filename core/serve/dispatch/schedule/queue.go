package schedule

import (
	"slices"
	"time"
)

// queue orders the requests that wait. The highest priority goes first; among equals the client with the
// fewest running requests, then the one that was served longest ago, then the oldest request. Waiting raises
// a priority by one level for every ageing step, so that nothing waits for ever behind those who always ask
// with a higher one. It has no lock of its own.
//
// Choosing one looks at all that wait: 64 by default, a microsecond, against a generation of seconds.
type queue struct {
	ageing time.Duration // 0: no ageing
	lines  map[string]*line
	length int
	grants uint64
	plain  int // plain questions that run
}

// line is the queue of one client's requests.
type line struct {
	waiting []*Entry
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

// push adds a request to its client's line.
func (q *queue) push(e *Entry) {
	l := q.line(e.Client)
	l.waiting = append(l.waiting, e)
	q.length++
}

// remove takes a request out, if it waits.
func (q *queue) remove(e *Entry) {
	l := q.lines[e.Client]
	if l == nil {
		return
	}
	if i := slices.Index(l.waiting, e); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		q.length--
		q.drop(e.Client, l)
	}
}

// first is the request that is served next; its entry is nil where there is none. With suspects set only
// those are looked at, with newcomers only those of clients that run nothing.
func (q *queue) first(suspects, newcomers bool) candidate {
	var best candidate
	for _, l := range q.lines {
		if newcomers && l.running > 0 {
			continue
		}
		for _, e := range l.waiting {
			if suspects && !e.suspect || newcomers && e.Plain && q.plain > 0 {
				continue
			}
			if c := (candidate{e, l, q.priority(e)}); best.entry == nil || c.before(best) {
				best = c
			}
		}
	}
	return best
}

// grant takes a request out that gets its places.
func (q *queue) grant(c candidate) *Entry {
	c.line.running += c.entry.places // before remove, which drops lines without work
	q.grants++
	if c.entry.Plain {
		q.plain++
	}
	c.line.granted = q.grants
	q.remove(c.entry)
	return c.entry
}

// crowded reports whether a client has more than one place. All who ask without an envelope count as one
// client: their names are tags that anybody may make up.
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

// suspects reports whether any waiting request is a suspect.
func (q *queue) suspects() bool {
	for _, l := range q.lines {
		if slices.ContainsFunc(l.waiting, func(e *Entry) bool { return e.suspect }) {
			return true
		}
	}
	return false
}

func (q *queue) priority(e *Entry) int64 {
	p := int64(e.Priority)
	if q.ageing > 0 {
		p += int64(time.Since(e.Admitted) / q.ageing)
	}
	return p
}

// done says that a granted request runs no longer.
func (q *queue) done(e *Entry) {
	l := q.line(e.Client)
	l.running -= e.places
	if e.Plain {
		q.plain--
	}
	q.drop(e.Client, l)
}

// drop forgets a line without work, so that clients that come and go leave nothing behind. Its place in the
// turn is lost with it: a client without work waits for no turn.
func (q *queue) drop(client string, l *line) {
	if len(l.waiting) == 0 && l.running == 0 {
		delete(q.lines, client)
	}
}

type candidate struct {
	entry    *Entry
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
		return c.entry.Number < o.entry.Number
	}
}
