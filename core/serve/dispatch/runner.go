package dispatch

import "time"

// runner decides which accepted request runs in the backend and when, and what a death of the backend means for those that ran. It locks
// nothing and wakes nobody: schedule returns the jobs that its caller must start.
//
// A request of n choices takes n places. Where all are taken, and somebody has more than one, a client that has none gets one all the
// same: the backend gives each client its share of every turn, and an answer of sixteen choices may take minutes.
//
// After a death of the backend everything that ran in it is a suspect. Suspects run one by one with nothing beside them, before all
// others: so a request that kills the backend is found out, and does not take others along twice.
type runner struct {
	open   bool // jobs may run
	size   int  // places
	queue  *queue
	inside map[*job]struct{} // jobs that run
	places int               // that those take
	alone  *job              // a suspect that runs
	crash  crash
}

// crash remembers the company in which the backend died last.
type crash struct {
	life    uint64
	company int // requests that ran in that life
}

func newRunner(size int, ageing time.Duration) *runner {
	return &runner{size: size, queue: newQueue(ageing), inside: map[*job]struct{}{}}
}

// running is how many jobs run.
func (r *runner) running() int { return len(r.inside) }

// enqueue makes a job wait for its places.
func (r *runner) enqueue(j *job) {
	j.granted = make(chan struct{})
	j.places = min(max(j.req.choices(), j.req.Options.BestOf), r.size)
	r.queue.push(j)
}

// schedule gives places to waiting jobs, and returns those jobs.
func (r *runner) schedule() []*job {
	var granted []*job
	for {
		c := r.next()
		if c.job == nil {
			return granted
		}
		j := r.queue.grant(c)
		r.inside[j] = struct{}{}
		r.places += j.places
		if j.suspect {
			r.alone = j
		}
		granted = append(granted, j)
	}
}

// next is the job that may run now; its job is nil where none may.
func (r *runner) next() candidate {
	if !r.open || r.alone != nil {
		return candidate{}
	}
	suspects := r.queue.suspects()
	if suspects && r.running() > 0 {
		return candidate{}
	}
	c := r.queue.first(suspects, false)
	if c.job == nil || r.running() == 0 || r.places+c.job.places <= r.size {
		return c
	}
	if suspects || r.running() >= 2*r.size || !r.queue.crowded() {
		return candidate{}
	}
	return r.queue.first(false, true)
}

// leave takes a job from its places, or out of the queue.
func (r *runner) leave(j *job) {
	if _, runs := r.inside[j]; runs {
		delete(r.inside, j)
		j.life = 0
		r.places -= j.places
		r.queue.done(j)
	} else {
		r.queue.remove(j)
	}
	if r.alone == j {
		r.alone = nil
	}
}

// enter says in which life of the backend a job runs. It reports whether that may still be there.
func (r *runner) enter(j *job, life uint64) bool {
	if life <= r.crash.life {
		return false
	}
	j.life = life
	return true
}

// died judges a job under which the backend died: it becomes a suspect, and where it ran alone that counts against it. It reports
// whether the death was not known yet.
func (r *runner) died(j *job) (first bool) {
	if r.crash.life < j.life {
		// All that ran in that life are still inside.
		first = true
		r.crash = crash{life: j.life}
		for o := range r.inside {
			if o.life == j.life {
				r.crash.company++
			}
		}
	}
	j.suspect = true
	j.crashedAt = len(j.generated)
	if r.crash.life == j.life && r.crash.company == 1 {
		j.lone++
	}
	return first
}

// clear lifts the suspicion from a job; others may run beside it again.
func (r *runner) clear(j *job) {
	j.suspect, j.lone = false, 0
	if r.alone == j {
		r.alone = nil
	}
}
