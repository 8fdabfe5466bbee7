package dispatch

import (
	"slices"
	"time"

	"edged/core/serve/inbox"
)

// maxRemembered bounds the cancels that wait for their request: more than that is no client in a hurry.
const maxRemembered = 1024

// admission knows every request that was accepted and has not ended, and decides whether one more may be. It
// bounds what waits, what one client has, and what plain questions have together, whose clients are made-up
// names; and it remembers cancels that came before their request. It locks nothing, and takes the time from
// its caller.
type admission struct {
	limits  Limits
	jobs    map[inbox.Key]*job
	clients map[string]int // how many of jobs each has
	plain   int            // jobs that are plain questions
	closed  bool           // nothing is admitted any more
	numbers uint64         // of the latest job
	early   map[inbox.Key]time.Time
	average time.Duration // moving average of what a request takes in the backend
}

func newAdmission(l Limits) *admission {
	return &admission{limits: l, jobs: map[inbox.Key]*job{}, clients: map[string]int{}, early: map[inbox.Key]time.Time{}}
}

// room tells whether one more request of a client may be accepted while so many run. A plain question's
// client is whatever its topic ends in, so that somebody who makes one up for each would have the whole
// queue: all of them together have half of it.
func (a *admission) room(client string, plain bool, running int) *Error {
	if a.closed {
		return fail(CodeShuttingDown, "this node is shutting down")
	}
	waiting := len(a.jobs) - running
	var e *Error
	switch {
	case waiting >= a.limits.Queued:
		e = fail(CodeQueueFull, "%d requests wait already", waiting)
	case plain && a.plain >= a.limits.Queued/2:
		e = fail(CodeQueueFull, "%d plain questions wait or run already: the other places are for clients with a name", a.plain)
	case a.clients[client] >= a.limits.PerClient:
		e = fail(CodeQueueFull, "%d requests of this client wait or run already", a.clients[client])
	default:
		return nil
	}
	e.Retry = a.retry(running)
	return e
}

// retry guesses when a place will be free: between a second and five minutes.
func (a *admission) retry(running int) time.Duration {
	rounds := (len(a.jobs)-running)/a.limits.Running + 1
	return min(max(a.average*time.Duration(rounds), time.Second), 5*time.Minute).Round(time.Millisecond)
}

// add makes a job known, and numbers it.
func (a *admission) add(j *job) {
	a.numbers++
	j.entry.Number = a.numbers
	a.jobs[j.key] = j
	a.clients[j.key.Client]++
	if j.req.Plain {
		a.plain++
	}
}

// remove forgets a job and returns everybody who waits for its last event.
func (a *admission) remove(j *job) []Sink {
	delete(a.jobs, j.key)
	if j.req.Plain {
		a.plain--
	}
	if a.clients[j.key.Client]--; a.clients[j.key.Client] <= 0 {
		delete(a.clients, j.key.Client)
	}
	return j.sinks
}

// rememberCancel notes a cancel whose request is not known: it may have overtaken it.
func (a *admission) rememberCancel(k inbox.Key, now time.Time) {
	for k, at := range a.early {
		if now.Sub(at) >= a.limits.Remember {
			delete(a.early, k)
		}
	}
	if len(a.early) < maxRemembered {
		a.early[k] = now
	}
}

// wasCancelled reports whether a request was cancelled before it came. It is asked once for each.
func (a *admission) wasCancelled(k inbox.Key, now time.Time) bool {
	at, overtaken := a.early[k]
	delete(a.early, k)
	return overtaken && now.Sub(at) < a.limits.Remember
}

// served counts what a request took in the backend into the average.
func (a *admission) served(took time.Duration) {
	if a.average == 0 {
		a.average = took
	}
	a.average += (took - a.average) / 8
}

// join adds a sink to a job, for a repeat of its request.
func (j *job) join(req *Request, sink Sink) *Error {
	if j.req.Hash != req.Hash {
		return conflict(req.ID)
	}
	if !slices.Contains(j.sinks, sink) {
		j.sinks = append(j.sinks, sink)
	}
	return nil
}
