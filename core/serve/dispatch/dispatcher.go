package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch/schedule"
	"edged/core/serve/inbox"
)

// parsesAtOnce is how many slow grammars are parsed at once: as many as texts are encoded of one model.
const parsesAtOnce = 2

// maxEncodeTries is how many processes in a row may end before they have encoded a request's input. That
// takes milliseconds, so after so many ends the request, or one beside it in the queue, is taken for their
// cause.
const maxEncodeTries = 8

// Dispatcher admits, queues and runs requests. Its methods may be called concurrently.
//
// Its decisions are made by two parts that have no lock and start no goroutine, so that they can be tested by
// themselves. admission knows every accepted request and decides whether there is room for one more. A
// schedule.Scheduler for each model decides which of them runs when, and what a death of the backend means
// for those that ran. The Dispatcher's lock covers both, and the Dispatcher carries out what they decide: it
// journals, wakes goroutines, calls the plugins and sends events.
type Dispatcher struct {
	o       Config
	limits  Limits
	log     *slog.Logger
	parsing *schedule.Turnstile // of requests whose grammars are parsed

	mu        sync.Mutex // of everything below
	admission *admission
	lanes     map[string]*lane // by model
	open      bool             // jobs may run
	stopped   bool             // nothing runs on
	adapter   string           // of requests that name none; "": the bare model
	stats     Stats

	work sync.WaitGroup // one for each job
}

// New returns a Dispatcher. It admits at once; what it admits runs while Run does.
func New(o Config) *Dispatcher {
	if o.Inbox == nil {
		o.Inbox = inbox.NewMemory(inbox.Limits{})
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Models == nil {
		o.Models = alone{o.Backends, o.Tokenizers}
	}
	l := o.Limits.withDefaults()
	return &Dispatcher{
		o: o, limits: l, log: o.Log,
		parsing:   schedule.NewTurnstile(parsesAtOnce),
		admission: newAdmission(l),
		lanes:     map[string]*lane{},
		adapter:   o.Defaults.Adapter,
	}
}

// Run serves until ctx ends, then refuses what comes, gives accepted requests Limits.Grace to end, and stops
// the rest: a durable inbox keeps those for the next start, otherwise their last event is a shutting_down
// error. It returns when every goroutine of the Dispatcher has ended; nil.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.mu.Lock()
	d.open = true
	for _, l := range d.lanes {
		l.scheduler.Start()
		l.grant()
	}
	d.mu.Unlock()

	<-ctx.Done()

	d.mu.Lock()
	d.admission.closed = true
	d.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		d.work.Wait()
		close(idle)
	}()
	grace := time.NewTimer(d.limits.Grace)
	defer grace.Stop()
	select {
	case <-idle:
		return nil
	case <-grace.C:
	}
	d.mu.Lock()
	d.stopped = true
	for _, j := range d.admission.jobs {
		j.cancel(errShutdown)
	}
	d.mu.Unlock()
	<-idle
	return nil
}

// Replay takes up what a durable inbox holds from an earlier process: unfinished requests run again as another attempt,
// unacknowledged last events are published again. doors maps Request.Door to its Sink. It is called once, before
// Run and the first Submit, and returns the number of both.
func (d *Dispatcher) Replay(ctx context.Context, doors map[string]Sink) (unfinished, unpublished int) {
	for _, e := range d.o.Inbox.Unpublished() {
		rec, err := decodeRecord(e.Record)
		if err != nil || doors[rec.Request.Door] == nil {
			d.log.ErrorContext(ctx, "a stored answer cannot be published", "request_id", e.ID, "err", err)
			continue
		}
		ev, err := decodeEvent(e.Last)
		if err != nil {
			d.log.ErrorContext(ctx, "a stored answer cannot be read", "request_id", e.ID, "err", err)
			continue
		}
		doors[rec.Request.Door].Event(rec.Request, ev)
		unpublished++
	}
	for _, p := range d.o.Inbox.Unfinished() {
		rec, err := decodeRecord(p.Record)
		if err != nil || doors[rec.Request.Door] == nil {
			d.log.ErrorContext(ctx, "a stored request cannot be run again", "request_id", p.ID, "err", err)
			continue
		}
		n, err := decodeNote(p.Attempt)
		if err != nil {
			d.log.ErrorContext(ctx, "a stored request cannot be run again", "request_id", p.ID, "err", err)
			continue
		}
		j := newJob(rec, doors[rec.Request.Door])
		j.attempt, j.encodeTries = n.Attempt+1, n.Taken+1
		j.failed = d.resolveModel(rec)
		d.mu.Lock()
		d.register(j)
		d.mu.Unlock()
		if failed := d.pin(j); failed != nil && j.failed == nil {
			j.failed = failed
		}
		if j.encodeTries > maxEncodeTries {
			j.failed = fail(CodeQuarantined, "this node ended %d times in a row before it had read the request, which is not tried again", n.Taken)
		}
		d.journalAttempt(ctx, j)
		d.start(ctx, j)
		unfinished++
	}
	return unfinished, unpublished
}

// journalAttempt journals how often a job was begun and not finished. The first attempt is not written: that
// would cost every request a write.
func (d *Dispatcher) journalAttempt(ctx context.Context, j *job) {
	if j.attempt == 1 {
		return
	}
	if err := d.o.Inbox.Attempt(j.key, note{Attempt: j.attempt, Taken: j.encodeTries}.encode()); err != nil {
		d.log.WarnContext(ctx, "an attempt was not journalled", "request_id", j.key.ID, "err", err)
	}
}

// Submit admits a request or says why not, as an *Error. After nil the sink gets exactly one Last (later, for
// a durable inbox, when the process ends first). A repeat of a running request joins it; a repeat of a
// finished one gets its stored last event before Submit returns. The request runs on when ctx ends. A
// fleeting request has no place in the journal: its ID must be new, and it ends with the process.
func (d *Dispatcher) Submit(ctx context.Context, req *Request, sink Sink) error {
	if err := req.check(ctx); err != nil {
		return d.refuse(err)
	}
	key := inbox.Key{Client: req.Client, ID: req.ID}
	model, main, unknown := d.o.Models.Resolve(req.Model)
	d.mu.Lock()
	if j := d.admission.jobs[key]; j != nil {
		err := j.join(req, sink)
		d.stats.Repeats++
		d.mu.Unlock()
		if err != nil {
			return d.refuse(err)
		}
		return nil
	}
	switch found := d.o.Inbox.Lookup(key, req.Hash); found.Status {
	case inbox.Finished:
		d.stats.Repeats++
		d.mu.Unlock()
		ev, err := decodeEvent(found.Last)
		if err != nil {
			return fail(CodeInternal, "the stored answer cannot be read: %v", err)
		}
		sink.Event(req, Event{Attempt: ev.Attempt, Accepted: &Accepted{Stored: true}}) // it is journalled: a repeat is told so too
		sink.Event(req, ev)
		return nil
	case inbox.Conflict:
		d.mu.Unlock()
		return d.refuse(conflict(req.ID))
	case inbox.Running:
		// Its last event could not be stored, or Replay could not read it.
		d.mu.Unlock()
		return d.refuse(fail(CodeStorage, "the journal holds this request, and it cannot be run"))
	case inbox.Unknown:
	}
	if unknown != nil {
		d.mu.Unlock()
		return d.refuse(asError(unknown))
	}
	if err := d.admission.room(req.Client, req.Plain, d.running()); err != nil {
		d.mu.Unlock()
		return d.refuse(err)
	}
	j := newJob(d.record(req, model, main), sink)
	d.register(j)
	j.cancelledEarly = d.admission.wasCancelled(key, time.Now())
	d.mu.Unlock()

	if err := d.admit(ctx, j); err != nil {
		d.abandon(j, err)
		return d.refuse(err)
	}
	d.start(ctx, j)
	return nil
}

// Cancel ends a request whose last event then carries the text so far. It reports whether the request was known; when
// not, the cancel waits Limits.Remember for a request that it overtook.
func (d *Dispatcher) Cancel(client, id string) bool {
	key := inbox.Key{Client: client, ID: id}
	d.mu.Lock()
	defer d.mu.Unlock()
	if j := d.admission.jobs[key]; j != nil {
		j.cancelledEarly = true // where its goroutine has not started yet
		j.cancel(errCancelled)
		return true
	}
	d.admission.rememberCancel(key, time.Now())
	return false
}

// CancelAll ends every request of a client as Cancel does; "": those of all clients. It returns how many there were.
func (d *Dispatcher) CancelAll(client string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for key, j := range d.admission.jobs {
		if client == "" || key.Client == client {
			j.cancelledEarly = true // where its goroutine has not started yet
			j.cancel(errCancelled)
			n++
		}
	}
	return n
}

// DefaultAdapter is the adapter of requests that name none; "": the bare model.
func (d *Dispatcher) DefaultAdapter() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.adapter
}

// SetDefaultAdapter changes it, for requests that come from now on, until the process ends.
func (d *Dispatcher) SetDefaultAdapter(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.adapter = name
}

// Published says that the door's receiver acknowledged the last event of a request.
func (d *Dispatcher) Published(client, id string) error {
	return d.o.Inbox.Published(inbox.Key{Client: client, ID: id})
}

func (d *Dispatcher) refuse(err *Error) error {
	d.mu.Lock()
	d.stats.Refused++
	d.mu.Unlock()
	return err
}

func conflict(id string) *Error {
	return fail(CodeIDConflict, "id: %q was used for another request within the dedupe window", id)
}

// register makes a job known, and waits for it at the end. d.mu is held.
func (d *Dispatcher) register(j *job) {
	d.admission.add(j)
	j.lane = d.lane(j.rec.Model)
	d.work.Add(1)
}

// resolveModel finds the model of a request that an earlier process accepted. A request that named none goes
// to today's default model where the one of then is no longer there.
func (d *Dispatcher) resolveModel(rec *record) *Error {
	model, _, err := d.o.Models.Resolve(rec.Model)
	if err != nil && rec.Request.Model == "" {
		model, _, err = d.o.Models.Resolve("")
	}
	if err != nil {
		return asError(err)
	}
	rec.Model = model
	return nil
}

// record returns the journal's record of a request: with its seed, its time, its model and its adapters
// fixed, another attempt is the same request. The default adapter is one of the default model.
func (d *Dispatcher) record(req *Request, model string, main bool) *record {
	r := &record{Request: req, Model: model, Seed: rand.Uint64() >> 11, Now: time.Now(), Deadline: req.Deadline}
	// 53 bits of seed: a client that reads JSON numbers as float64, as JavaScript does, can send it back.
	if req.Options.Seed != nil {
		r.Seed = *req.Options.Seed
	}
	if r.Deadline == 0 {
		r.Deadline = d.limits.Deadline
	}
	if d.limits.MaxDeadline > 0 && r.Deadline > d.limits.MaxDeadline {
		r.Deadline = d.limits.MaxDeadline
	}
	refs := req.Adapters
	if refs == nil && req.Kind != Embed && req.Kind != Rank && main && d.adapter != "" {
		refs = []AdapterRef{{Name: d.adapter, Scale: 1}}
	}
	for _, ref := range refs {
		r.Adapters = append(r.Adapters, UsedAdapter{Name: ref.Name, Scale: ref.Scale})
	}
	return r
}

// admit pins the adapters and journals the request, unless it is a fleeting one.
func (d *Dispatcher) admit(ctx context.Context, j *job) *Error {
	if err := d.pin(j); err != nil {
		return err
	}
	if j.req.Fleeting {
		return nil
	}
	rec, err := j.rec.encode(j.key)
	if err != nil {
		return fail(CodeInternal, "the request cannot be journalled: %v", err)
	}
	switch err := d.o.Inbox.Accept(ctx, rec); {
	case err == nil:
		return nil
	case errors.Is(err, inbox.ErrFull):
		e := fail(CodeQueueFull, "the inbox is full")
		d.mu.Lock()
		e.Retry = d.admission.retry(d.running())
		d.mu.Unlock()
		return e
	case ctx.Err() != nil || errors.Is(err, inbox.ErrClosed):
		return fail(CodeShuttingDown, "this node is shutting down")
	default:
		d.log.ErrorContext(ctx, "the journal takes no request", "err", err)
		return fail(CodeStorage, "the request cannot be journalled: %v", err)
	}
}

// pin resolves the adapters of a job and pins their generations.
func (d *Dispatcher) pin(j *job) *Error {
	for i := range j.rec.Adapters {
		used := &j.rec.Adapters[i]
		if d.o.Adapters == nil {
			return fail(CodeAdapterNotFound, "adapter: %q is not there: this node serves no adapters", used.Name)
		}
		a, err := d.o.Adapters.Pin(j.rec.Model, used.Name, used.SHA256)
		if err != nil {
			return asError(err)
		}
		used.SHA256 = a.SHA256()
		j.pins = append(j.pins, a)
	}
	return nil
}

// abandon drops a job that was not admitted. Repeats of it that joined meanwhile get a last event, as they
// were promised.
func (d *Dispatcher) abandon(j *job, err *Error) {
	j.release()
	d.mu.Lock()
	sinks := d.admission.remove(j)
	d.mu.Unlock()
	for _, s := range sinks[1:] {
		s.Event(j.req, Event{Attempt: j.attempt, Last: &Last{Error: err, Node: d.o.Node}})
	}
	d.work.Done()
}

// start starts the goroutine of a registered job.
func (d *Dispatcher) start(ctx context.Context, j *job) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	release := context.CancelFunc(func() {})
	if j.rec.Deadline > 0 {
		ctx, release = context.WithTimeoutCause(ctx, j.rec.Deadline, errDeadline)
	}
	d.mu.Lock()
	j.cancel = cancel
	if j.cancelledEarly {
		cancel(errCancelled)
	}
	if d.stopped {
		cancel(errShutdown)
	}
	position := len(d.admission.jobs) - 1
	d.stats.Accepted++
	d.enqueue(j) // here, so that requests of a client keep their order
	d.mu.Unlock()
	go func() {
		defer d.work.Done()
		defer cancel(nil)
		defer release()
		d.serve(ctx, j, position)
	}()
}

// grant wakes the jobs that may run now. Dispatcher.mu is held.
func (l *lane) grant() {
	for _, e := range l.scheduler.Schedule() {
		close(e.Granted)
	}
}

// enqueue makes a job wait for its places. d.mu is held.
func (d *Dispatcher) enqueue(j *job) {
	j.lane.scheduler.Enqueue(&j.entry)
	j.lane.grant()
}

// yield gives a job's place, or its place in the queue, back.
func (d *Dispatcher) yield(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j.lane.scheduler.Leave(&j.entry)
	j.lane.grant()
}

// requeue gives a job's place back and makes it wait for another one.
func (d *Dispatcher) requeue(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j.lane.scheduler.Leave(&j.entry)
	d.enqueue(j)
}

// enter puts a job into a life of the backend, and reports whether that may still be there: one that nobody
// had seen die yet may have been handed out.
func (d *Dispatcher) enter(j *job, life uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return j.lane.scheduler.Enter(&j.entry, life)
}

// deadBackend is the latest life of a job's backend that is known to be dead.
func (d *Dispatcher) deadBackend(j *job) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return j.lane.scheduler.DeadLife()
}

// died says that the backend died under a job.
func (d *Dispatcher) died(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j.crashedAt = len(j.generated)
	if j.lane.scheduler.Died(&j.entry) {
		d.stats.Crashes++
	}
}

// clear lifts the suspicion from a job that got well beyond the point of its crash; others may run beside it again.
func (d *Dispatcher) clear(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j.lane.scheduler.Clear(&j.entry)
	j.lane.grant()
}

// Idle reports whether nothing waits or runs.
func (d *Dispatcher) Idle() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.admission.jobs) == 0
}

// finishCancelled is the finish reason of a request that its client cancelled.
const finishCancelled = string("cancelled")

// usage of a job that ended before the backend could tell.
func (j *job) usage() backend.Usage {
	return backend.Usage{PromptTokens: len(j.prompt), CompletionTokens: len(j.generated)}
}
