package dispatch

import (
	"context"
	"errors"
	"time"

	"edged/core/serve/dispatch/schedule"
)

// lane is a Dispatcher's state for one model: which of its requests run when, whose texts its tokenizer
// reads, and which lives of its plugins are known to be dead. A request that kills one model's backend is no
// suspect to another's. Its fields belong to Dispatcher.mu, but for the turnstile.
type lane struct {
	scheduler     *schedule.Scheduler
	encoding      *schedule.Turnstile // of those whose texts are encoded
	deadTokenizer uint64              // the latest life of the tokenizer that is known to be dead
	encodes       map[*job]time.Time  // calls of the tokenizer that run, and since when
}

// lane returns that of a model. d.mu is held.
func (d *Dispatcher) lane(model string) *lane {
	l := d.lanes[model]
	if l == nil {
		l = &lane{
			scheduler: schedule.New(d.limits.Running, d.limits.Ageing),
			// Two, so that one long conversation does not hold back the next; more would only take turns on a Pi.
			encoding: schedule.NewTurnstile(2),
			encodes:  map[*job]time.Time{},
		}
		if d.open {
			l.scheduler.Start()
		}
		d.lanes[model] = l
	}
	return l
}

// running is how many jobs run, of all models. d.mu is held.
func (d *Dispatcher) running() int {
	n := 0
	for _, l := range d.lanes {
		n += l.scheduler.Running()
	}
	return n
}

// Load is the current work of one model.
type Load struct {
	Running  int
	Encoding time.Duration // how long the oldest call of the tokenizer has been running; 0: none is
}

// Load says what there is to do for a model.
func (d *Dispatcher) Load(model string) Load {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lanes[model]
	if l == nil {
		return Load{}
	}
	out := Load{Running: l.scheduler.Running()}
	for _, since := range l.encodes {
		out.Encoding = max(out.Encoding, time.Since(since))
	}
	return out
}

// leaseModel waits until a job's model is loaded, and keeps it so until releaseModel.
func (d *Dispatcher) leaseModel(ctx context.Context, j *job) error {
	place := Place{Priority: j.req.Priority, Since: j.entry.Admitted, Number: j.entry.Number}
	lease, err := d.o.Models.Lease(ctx, j.rec.Model, place, func() { d.emit(j, Event{Loading: &Loading{Model: j.rec.Model}}) })
	switch why := ended(ctx, err); {
	case why != nil:
		if err == nil {
			lease.Release()
		}
		return why
	case err != nil:
		if e, ok := errors.AsType[*Error](err); ok {
			return e
		}
		return asUnavailable(err)
	}
	j.lease = lease
	return nil
}

// releaseModel ends the lease of a job's model.
func (j *job) releaseModel() {
	if j.lease != nil {
		j.lease.Release()
		j.lease = nil
	}
}

// turn waits until a job may run, with its model loaded and its input encoded. A job that has not begun makes
// room for another model where it is asked to, and keeps its place in the queue of its own.
func (d *Dispatcher) turn(ctx context.Context, j *job) error {
	for {
		if j.lease == nil {
			if err := d.leaseModel(ctx, j); err != nil {
				return err
			}
		}
		if !j.encoded {
			if err := d.encode(ctx, j); err != nil {
				return err
			}
			j.encoded = true
		}
		select {
		case <-j.entry.Granted:
			if j.lease.Begin() {
				return nil
			}
		case <-j.lease.Asked():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		j.releaseModel()
	}
}
