package schedule

import "time"

// Scheduler decides which accepted request runs in the backend and when, and what a death of the backend
// means for those that ran. It has no lock and no goroutine: Schedule returns the requests that its caller
// must start.
//
// A request of n choices takes n places. Where all are taken, and some client has more than one, a client
// that has none gets one beyond them: the backend gives each client its share of every turn, and an answer of
// sixteen choices may take minutes.
//
// After a death of the backend everything that ran in it is a suspect. Suspects run one by one with nothing
// beside them, before all others: so the request that kills the backend is found, and ends no others a second
// time.
type Scheduler struct {
	open   bool // requests may run
	size   int  // places
	queue  *queue
	inside map[*Entry]struct{} // requests that run
	places int                 // that those take
	alone  *Entry              // a suspect that runs
	crash  crash
}

// crash is the last death of the backend.
type crash struct {
	life    uint64
	company int // requests that ran in that life
}

// New makes a scheduler of so many places, in which waiting raises a request's priority by one for every
// ageing; 0: never. Nothing runs before Start.
func New(size int, ageing time.Duration) *Scheduler {
	return &Scheduler{size: size, queue: newQueue(ageing), inside: map[*Entry]struct{}{}}
}

// Running is how many requests run.
func (r *Scheduler) Running() int { return len(r.inside) }

// Enqueue makes a request wait for its places.
func (r *Scheduler) Enqueue(e *Entry) {
	e.Granted = make(chan struct{})
	e.places = min(e.Choices, r.size)
	r.queue.push(e)
}

// Schedule gives places to waiting requests, and returns those.
func (r *Scheduler) Schedule() []*Entry {
	var granted []*Entry
	for {
		c := r.next()
		if c.entry == nil {
			return granted
		}
		e := r.queue.grant(c)
		r.inside[e] = struct{}{}
		r.places += e.places
		if e.suspect {
			r.alone = e
		}
		granted = append(granted, e)
	}
}

// next is the request that may run now; its entry is nil where none may.
func (r *Scheduler) next() candidate {
	if !r.open || r.alone != nil {
		return candidate{}
	}
	suspects := r.queue.suspects()
	if suspects && r.Running() > 0 {
		return candidate{}
	}
	c := r.queue.first(suspects, false)
	if c.entry == nil || r.Running() == 0 || r.places+c.entry.places <= r.size {
		return c
	}
	if suspects || r.Running() >= 2*r.size || !r.queue.crowded() {
		return candidate{}
	}
	return r.queue.first(false, true)
}

// Leave takes a request from its places, or out of the queue.
func (r *Scheduler) Leave(e *Entry) {
	if _, runs := r.inside[e]; runs {
		delete(r.inside, e)
		e.life = 0
		r.places -= e.places
		r.queue.done(e)
	} else {
		r.queue.remove(e)
	}
	if r.alone == e {
		r.alone = nil
	}
}

// Enter says in which life of the backend a request runs. It reports false where that life is known to be over.
func (r *Scheduler) Enter(e *Entry, life uint64) bool {
	if life <= r.crash.life {
		return false
	}
	e.life = life
	return true
}

// Died says that the backend died while a request ran in it. The request becomes a suspect, and where it ran
// alone the death counts as its own. It reports whether this is the first request from which the death is
// heard.
func (r *Scheduler) Died(e *Entry) (first bool) {
	if r.crash.life < e.life {
		// All that ran in that life are still inside.
		first = true
		r.crash = crash{life: e.life}
		for o := range r.inside {
			if o.life == e.life {
				r.crash.company++
			}
		}
	}
	e.suspect = true
	if r.crash.life == e.life && r.crash.company == 1 {
		e.deaths++
	}
	return first
}

// Clear lifts the suspicion from a request; others may run beside it again.
func (r *Scheduler) Clear(e *Entry) {
	e.suspect, e.deaths = false, 0
	if r.alone == e {
		r.alone = nil
	}
}

// Start lets requests run; before it none may.
func (r *Scheduler) Start() { r.open = true }

// DeadLife is the latest life of the backend that is known to be over.
func (r *Scheduler) DeadLife() uint64 { return r.crash.life }

// Idle reports whether nothing waits or runs.
func (r *Scheduler) Idle() bool { return len(r.queue.lines) == 0 && len(r.inside) == 0 }
