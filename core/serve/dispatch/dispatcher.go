package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/inbox"
)

// Config is what a Dispatcher is built from.
type Config struct {
	Backends   Backends
	Tokenizers Tokenizers
	Adapters   Adapters    // nil: there are none
	Inbox      inbox.Store // nil: one in memory with default limits
	Defaults   Defaults
	Limits     Limits
	Node       string // named in last events
	Prompts    bool   // prompts and answers are logged, at debug level
	Log        *slog.Logger
}

// Limits bound a Dispatcher. Zero values are the defaults that are named at each field.
type Limits struct {
	Running     int           // requests in the backend at once; default 4
	Queued      int           // waiting requests; default 64
	PerClient   int           // of one client, waiting and running; default 16
	Ageing      time.Duration // waiting raises a priority by one level each; default 10 s
	Coalesce    time.Duration // between two deltas of a request; default 50 ms
	Deadline    time.Duration // of requests that name none; 0: none
	MaxDeadline time.Duration // a request's own deadline is cut to this; 0: not cut
	Grace       time.Duration // accepted requests may go on for so long after Run's ctx ended; 0: not at all
	Remember    time.Duration // a cancel that overtakes its request; default 10 s
	LoneCrashes int           // the backend died so often while a request ran alone: it is quarantined; default 3
	Attempts    int           // of one request, whatever ran beside it; default 20
	AnswerBytes int           // of a last event as it is stored; default 4 MiB
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Running, 4},
		{&l.Queued, 64},
		{&l.PerClient, 16},
		{&l.LoneCrashes, 3},
		{&l.Attempts, 20},
		{&l.AnswerBytes, 4 << 20},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Ageing, 10 * time.Second},
		{&l.Coalesce, 50 * time.Millisecond},
		{&l.Remember, 10 * time.Second},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	return l
}

// maxTaken is how many processes may end over a request whose input they did not get to encode. That takes milliseconds, so
// one that has met so many ends is their reason, or stands in a queue that is.
const maxTaken = 8

// maxRemembered bounds the cancels that wait for their request: more than that is no client in a hurry.
const maxRemembered = 1024

// Dispatcher admits, queues and runs requests. Its methods may be called concurrently.
type Dispatcher struct {
	o        Config
	limits   Limits
	log      *slog.Logger
	encoding *turnstile // of those whose texts are encoded
	forming  *turnstile // and of those whose forms are read

	mu      sync.Mutex
	jobs    map[inbox.Key]*job // accepted and not ended
	clients map[string]int     // of jobs
	queue   *queue
	running int
	plain   int  // jobs that are plain questions
	places  int  // that those take
	alone   *job // a suspect that runs; nothing runs beside it
	crash   crash
	mute    uint64                  // the latest life of the tokenizer that is known to be dead
	early   map[inbox.Key]time.Time // cancels that overtook their request
	encodes map[*job]time.Time      // calls of the tokenizer that run, and since when
	started bool
	closed  bool // nothing is admitted any more
	stopped bool // and nothing runs on
	numbers uint64
	work    sync.WaitGroup // one for each job
	adapter string         // of requests that name none; "": the bare model
	stats   Stats
	service time.Duration // moving average of what a request takes in the backend
}

// crash remembers the company in which the backend died last.
type crash struct {
	life    uint64
	company int // requests that ran in that life
}

// Stats are counters since the start, and what is there now.
type Stats struct {
	Waiting   int
	Running   int
	Accepted  uint64
	Finished  uint64 // with an answer
	Failed    uint64 // with an error
	Cancelled uint64
	Refused   uint64 // not admitted
	Repeats   uint64 // joined or answered from the inbox
	Crashes   uint64 // deaths of the backend under a request, counted once for all that it took along

	Encoding time.Duration // how long the oldest call of the tokenizer has been running; 0: none is

	PromptTokens uint64
	Tokens       uint64        // generated
	FirstToken   time.Duration // of the latest answer, from its admission
	FirstTokens  Histogram     // of all answers
	DecodeTPS    float64       // tokens a second of the latest answer
}

// New returns a Dispatcher. It admits at once; what it admits runs while Run does.
func New(o Config) *Dispatcher {
	if o.Inbox == nil {
		o.Inbox = inbox.NewMemory(inbox.Limits{})
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := o.Limits.withDefaults()
	return &Dispatcher{
		o: o, limits: l, log: o.Log,
		// Two, so that one long conversation does not hold back the next; more would only take turns on a Pi.
		encoding: newTurnstile(2),
		forming:  newTurnstile(2),
		jobs:     map[inbox.Key]*job{},
		clients:  map[string]int{},
		queue:    newQueue(l.Ageing),
		early:    map[inbox.Key]time.Time{},
		encodes:  map[*job]time.Time{},
		adapter:  o.Defaults.Adapter,
	}
}

// Run serves until ctx ends, then refuses what comes, gives accepted requests Limits.Grace to end, and stops the rest:
// a durable inbox keeps those for the next start, otherwise their last event is a shutting_down error. It returns when every
// goroutine of the Dispatcher has ended; nil.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.mu.Lock()
	d.started = true
	d.schedule()
	d.mu.Unlock()

	<-ctx.Done()

	d.mu.Lock()
	d.closed = true
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
	for _, j := range d.jobs {
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
		j.attempt, j.taken = n.Attempt+1, n.Taken+1
		d.mu.Lock()
		d.enlist(j)
		d.mu.Unlock()
		if failed := d.pin(j); failed != nil {
			j.failed = failed
		}
		if j.taken > maxTaken {
			j.failed = fail(CodeQuarantined, "this node ended %d times in a row before it had read the request, which is not tried again", n.Taken)
		}
		d.noteTaken(ctx, j)
		d.start(ctx, j)
		unfinished++
	}
	return unfinished, unpublished
}

// noteTaken journals how often a job was taken up in vain, where it was. That of a request that runs for the first time
// is not written: it would cost each of them a write.
func (d *Dispatcher) noteTaken(ctx context.Context, j *job) {
	if j.attempt == 1 {
		return
	}
	if err := d.o.Inbox.Attempt(j.key, note{Attempt: j.attempt, Taken: j.taken}.encode()); err != nil {
		d.log.WarnContext(ctx, "an attempt was not journalled", "request_id", j.key.ID, "err", err)
	}
}

// Submit admits a request or says why not, as an *Error. After nil the sink gets exactly one Last (later, for a durable
// inbox, when the process ends first). A repeat of a running request joins it; a repeat of a finished one gets its stored
// last event before Submit returns. The request runs on when ctx ends.
// A fleeting request has no place in the journal: its ID must be new, and it ends with the process.
func (d *Dispatcher) Submit(ctx context.Context, req *Request, sink Sink) error {
	if err := req.check(ctx); err != nil {
		return d.refuse(err)
	}
	key := inbox.Key{Client: req.Client, ID: req.ID}
	d.mu.Lock()
	if j := d.jobs[key]; j != nil {
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
	if err := d.room(req.Client, req.Plain); err != nil {
		d.mu.Unlock()
		return d.refuse(err)
	}
	j := newJob(d.record(req), sink)
	d.enlist(j)
	if at, overtaken := d.early[key]; overtaken {
		delete(d.early, key)
		j.overtaken = time.Since(at) < d.limits.Remember
	}
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
	if j := d.jobs[key]; j != nil {
		j.overtaken = true // where its goroutine has not started yet
		j.cancel(errCancelled)
		return true
	}
	for k, at := range d.early {
		if time.Since(at) >= d.limits.Remember {
			delete(d.early, k)
		}
	}
	if len(d.early) < maxRemembered {
		d.early[key] = time.Now()
	}
	return false
}

// CancelAll ends every request of a client as Cancel does; "": those of all clients. It returns how many there were.
func (d *Dispatcher) CancelAll(client string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for key, j := range d.jobs {
		if client == "" || key.Client == client {
			j.overtaken = true // where its goroutine has not started yet
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

// Stats returns the counters.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Running, s.Waiting = d.running, len(d.jobs)-d.running
	for _, since := range d.encodes {
		s.Encoding = max(s.Encoding, time.Since(since))
	}
	return s
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

// room tells whether one more request of a client may be accepted. A plain question's client is whatever its topic ends in, so that
// somebody who makes one up for each would have the whole queue: all of them together have half of it. d.mu is held.
func (d *Dispatcher) room(client string, plain bool) *Error {
	if d.closed {
		return fail(CodeShuttingDown, "this node is shutting down")
	}
	waiting := len(d.jobs) - d.running
	var e *Error
	switch {
	case waiting >= d.limits.Queued:
		e = fail(CodeQueueFull, "%d requests wait already", waiting)
	case plain && d.plain >= d.limits.Queued/2:
		e = fail(CodeQueueFull, "%d plain questions wait or run already: the other places are for clients with a name", d.plain)
	case d.clients[client] >= d.limits.PerClient:
		e = fail(CodeQueueFull, "%d requests of this client wait or run already", d.clients[client])
	default:
		return nil
	}
	e.Retry = d.retry(waiting)
	return e
}

// retry guesses when a place will be free: between a second and five minutes. d.mu is held.
func (d *Dispatcher) retry(waiting int) time.Duration {
	guess := d.service * time.Duration(waiting/d.limits.Running+1)
	return min(max(guess, time.Second), 5*time.Minute).Round(time.Millisecond)
}

// enlist makes a job known. d.mu is held.
func (d *Dispatcher) enlist(j *job) {
	d.numbers++
	j.number = d.numbers
	d.jobs[j.key] = j
	d.clients[j.key.Client]++
	if j.req.Plain {
		d.plain++
	}
	d.work.Add(1)
}

// delist forgets a job and returns everybody who waits for its last event. d.mu is held.
func (d *Dispatcher) delist(j *job) []Sink {
	delete(d.jobs, j.key)
	if j.req.Plain {
		d.plain--
	}
	if d.clients[j.key.Client]--; d.clients[j.key.Client] <= 0 {
		delete(d.clients, j.key.Client)
	}
	return j.sinks
}

// record is what is journalled of a request: with its seed, its time and its adapters fixed, another attempt is the same
// request.
func (d *Dispatcher) record(req *Request) *record {
	r := &record{Request: req, Seed: rand.Uint64() >> 11, Now: time.Now(), Deadline: req.Deadline}
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
	if refs == nil && req.Kind != Embed && d.adapter != "" {
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
		e.Retry = d.retry(len(d.jobs) - d.running)
		d.mu.Unlock()
		return e
	case ctx.Err() != nil || errors.Is(err, inbox.ErrClosed):
		return fail(CodeShuttingDown, "this node is shutting down")
	default:
		d.log.ErrorContext(ctx, "the journal takes no request", "err", err)
		return fail(CodeStorage, "the request cannot be journalled: %v", err)
	}
}

// pin resolves the adapters of a job and keeps their generations.
func (d *Dispatcher) pin(j *job) *Error {
	for i := range j.rec.Adapters {
		used := &j.rec.Adapters[i]
		if d.o.Adapters == nil {
			return fail(CodeAdapterNotFound, "adapter: %q is not there: this node serves no adapters", used.Name)
		}
		a, err := d.o.Adapters.Pin(used.Name, used.SHA256)
		if err != nil {
			return asError(err)
		}
		used.SHA256 = a.SHA256()
		j.pins = append(j.pins, a)
	}
	return nil
}

// abandon forgets a job that was not admitted. Repeats that joined meanwhile were promised a last event.
func (d *Dispatcher) abandon(j *job, err *Error) {
	j.release()
	d.mu.Lock()
	sinks := d.delist(j)
	d.mu.Unlock()
	for _, s := range sinks[1:] {
		s.Event(j.req, Event{Attempt: j.attempt, Last: &Last{Error: err, Node: d.o.Node}})
	}
	d.work.Done()
}

// start gives an enlisted job its goroutine.
func (d *Dispatcher) start(ctx context.Context, j *job) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	release := context.CancelFunc(func() {})
	if j.rec.Deadline > 0 {
		ctx, release = context.WithTimeoutCause(ctx, j.rec.Deadline, errDeadline)
	}
	d.mu.Lock()
	j.cancel = cancel
	if j.overtaken {
		cancel(errCancelled)
	}
	if d.stopped {
		cancel(errShutdown)
	}
	position := len(d.jobs) - 1
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

// schedule grants places to waiting jobs. d.mu is held.
//
// A request of n choices takes n places. Where all are taken, and somebody has more than one, a client that has none gets one all the
// same: the backend gives each client its share of every turn, and an answer of sixteen choices may take minutes.
//
// After a crash the suspects run one by one with nothing beside them, before all others.
func (d *Dispatcher) schedule() {
	for d.started && d.alone == nil {
		suspects := d.queue.suspects()
		if suspects && d.running > 0 {
			return
		}
		c := d.queue.first(suspects, false)
		if c.job != nil && d.running > 0 && d.places+c.job.places > d.limits.Running {
			if suspects || d.running >= 2*d.limits.Running || !d.queue.crowded() {
				return
			}
			c = d.queue.first(false, true)
		}
		if c.job == nil {
			return
		}
		j := d.queue.grant(c)
		d.running++
		d.places += j.places
		if j.suspect {
			d.alone = j
		}
		j.runs = true
		close(j.granted)
	}
}

// enqueue makes a job wait for a place. d.mu is held.
func (d *Dispatcher) enqueue(j *job) {
	j.granted = make(chan struct{})
	j.places = min(max(j.req.choices(), j.req.Options.BestOf), d.limits.Running)
	d.queue.push(j)
	d.schedule()
}

// yield gives a job's place, or its place in the queue, back.
func (d *Dispatcher) yield(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leave(j)
	d.schedule()
}

// requeue gives a job's place back and makes it wait for another one.
func (d *Dispatcher) requeue(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leave(j)
	d.enqueue(j)
}

// leave takes a job from its place, or out of the queue. d.mu is held.
func (d *Dispatcher) leave(j *job) {
	if j.runs {
		j.runs, j.life = false, 0
		d.running--
		d.places -= j.places
		d.queue.done(j)
	} else {
		d.queue.remove(j)
	}
	if d.alone == j {
		d.alone = nil
	}
}

// enter says in which life of the backend a job runs, and reports whether that life may still be there: one that nobody
// had seen die yet may have been handed out.
func (d *Dispatcher) enter(j *job, life uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if life <= d.crash.life {
		return false
	}
	j.life = life
	return true
}

// deadBackend is the latest life of the backend that is known to be dead.
func (d *Dispatcher) deadBackend() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.crash.life
}

// died judges a job under which the backend died: it becomes a suspect, and when it ran alone that counts against it.
func (d *Dispatcher) died(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crash.life < j.life {
		// The first one to notice: all that ran in that life are still enlisted as running in it.
		d.crash = crash{life: j.life}
		d.stats.Crashes++
		for _, o := range d.jobs {
			if o.runs && o.life == j.life {
				d.crash.company++
			}
		}
	}
	j.suspect = true
	j.crashedAt = len(j.generated)
	if d.crash.life == j.life && d.crash.company == 1 {
		j.lone++
	}
}

// clear lifts the suspicion from a job that got well beyond the point of its crash; others may run beside it again.
func (d *Dispatcher) clear(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j.suspect, j.lone = false, 0
	if d.alone == j {
		d.alone = nil
	}
	d.schedule()
}

// count keeps the figures of an ended job. d.mu is held.
func (d *Dispatcher) count(j *job, l *Last) {
	switch {
	case l.Error != nil:
		d.stats.Failed++
		return
	case l.Finish == finishCancelled:
		d.stats.Cancelled++
	default:
		d.stats.Finished++
	}
	d.stats.PromptTokens += uint64(l.Usage.PromptTokens)
	d.stats.Tokens += uint64(l.Usage.CompletionTokens)
	if l.Timings.FirstToken > 0 {
		d.stats.FirstToken = l.Timings.FirstToken
		d.stats.FirstTokens.add(l.Timings.FirstToken)
	}
	if l.Timings.Decode > 0 && l.Timings.DecodeTokens > 1 {
		d.stats.DecodeTPS = float64(l.Timings.DecodeTokens-1) / l.Timings.Decode.Seconds()
	}
	if took := time.Since(j.started); !j.started.IsZero() {
		if d.service == 0 {
			d.service = took
		}
		d.service += (took - d.service) / 8
	}
}

// Idle reports whether nothing waits or runs.
func (d *Dispatcher) Idle() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.jobs) == 0
}

// join adds a sink to a running job. d.mu is held.
func (j *job) join(req *Request, sink Sink) *Error {
	if j.req.Hash != req.Hash {
		return conflict(req.ID)
	}
	if !slices.Contains(j.sinks, sink) {
		j.sinks = append(j.sinks, sink)
	}
	return nil
}

// finishCancelled is the finish reason of a request that its client cancelled.
const finishCancelled = string("cancelled")

// usage of a job that ended before the backend could tell.
func (j *job) usage() backend.Usage {
	return backend.Usage{PromptTokens: len(j.prompt), CompletionTokens: len(j.generated)}
}
