package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/engine/pace"
	"edged/core/infer/engine/prefix"
	"edged/core/infer/engine/speculate"
	"edged/core/infer/transformer"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// sizes are the bounds of a loop.
type sizes struct {
	compute.Sizes
	waiting int  // jobs that may wait
	forgets bool // nothing is kept for later requests: no prefix cache
	lookup  bool // next tokens are guessed from what was said before
}

// loop is the one owner of sequences, batches, adapters and the sampler. Its goroutine repeats turns: it runs
// what was sent to it, admits waiting jobs, forms a batch, has the model compute it and draws tokens from the
// logits. Everybody else sends it functions, which run between two turns; counters are published for those
// who only read. Who runs is decided by the scheduler, which guesses become rows by the speculator, what is
// found and kept of earlier requests by the cache, and how many rows of a prompt a turn takes by pace: these
// know nothing of the loop.
type loop struct {
	model    compute.Model
	size     sizes
	log      *slog.Logger
	commands chan func()
	quit     chan struct{} // closed: come to an end
	done     chan struct{} // closed: nothing runs any more

	// All of the rest belongs to the goroutine of run.
	scheduler
	preemptions int // of requests so far
	adapters    map[string]*adapter
	prover      prover
	drawer      answer.Drawer
	logits      []float32 // (size.logits, size.rows)
	peaks       []float32 // (size.logits, size.peaks)
	batch       batch
	pace        pace.Estimator
	drafts      speculate.Speculator
	drafting    []speculate.Branch // scratch
	governor    *pace.Governor     // nil: the threads stay as they are
	cache       *prefix.Cache
	count       backend.Stats // counters; the rest of it is filled in by publish

	stalled bool // all that runs waits for the disk

	mu       sync.Mutex // guards snapshot
	snapshot backend.Stats
}

// newLoop makes a loop; run is its goroutine, stop ends it. logits is scratch of size.logits × size.rows values.
func newLoop(m compute.Model, size sizes, logits []float32, log *slog.Logger) *loop {
	l := &loop{
		model: m, size: size, log: log, logits: logits,
		scheduler: scheduler{clients: size.Sequences},
		commands:  make(chan func(), 64),
		quit:      make(chan struct{}),
		done:      make(chan struct{}),
		adapters:  map[string]*adapter{},
		peaks:     make([]float32, size.Logits*size.Peaks),
		drafts:    speculate.Speculator{Lookup: size.lookup},
	}
	l.prover = prover{limit: size.Batch, accept: func(a *adapter) { l.adapters[a.info.ID] = a }}
	l.cache = prefix.New(m, size.Sizes, size.forgets, l.alive, log)
	l.publish()
	return l
}

// stop ends the loop and waits for it. Requests that run end with errClosed.
func (l *loop) stop() {
	close(l.quit)
	<-l.done
}

// follow hands a job to the loop and its events to emit, until the last one, or until ctx or emit says to stop.
func (l *loop) follow(ctx context.Context, j *job, emit func(backend.Event) error) error {
	select {
	case l.commands <- func() { l.submit(j) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return errClosed
	}
	cancelled := ctx.Done()
	var cause error
	abandon := func(err error) {
		cause, cancelled = err, nil
		select {
		case l.commands <- func() { l.cancel(j, err) }:
		case <-l.done:
		}
	}
	ended := false
	for {
		select {
		case <-cancelled:
			abandon(ctx.Err())
			continue
		case <-j.out.wake:
		case <-l.done:
			ended = true
		}
		events, closed, err := j.out.drain()
		for _, ev := range events {
			if cause != nil {
				break
			}
			if err := emit(ev); err != nil && !ev.Done {
				abandon(err)
			} else if err != nil {
				cause = err
			}
		}
		switch {
		case closed:
			return cmpOr(cause, err)
		case ended:
			return cmpOr(cause, errClosed)
		}
	}
}

// cmpOr is cmp.Or for errors, some of which are not comparable.
func cmpOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// run is the loop: take what was sent, decide who runs, compute one batch, draw tokens.
func (l *loop) run() {
	defer close(l.done)
	for l.receive() {
		l.admit()
		if l.formBatch() {
			l.turn()
		} else {
			l.stalled = l.cache.Reading()
		}
		l.publish()
		// Those who carry the turn's events away come before the next turn. Its threads leave the scheduler
		// no processor, and what is ready to run then waits until one of them has had its 10 ms, or until the
		// turn is over. Once is not enough: gRPC's writer steps back itself, to see whether there is more to
		// write.
		for range 3 {
			runtime.Gosched()
		}
	}
	for _, j := range slices.Concat(l.running, l.waiting) {
		l.remove(j)
		j.out.close(errClosed)
	}
	for _, p := range slices.Clone(l.prover.proofs) {
		l.prover.end(p, errClosed)
	}
	l.cache.Close()
	for _, a := range l.adapters {
		a.free(l.log)
	}
}

// receive runs what was sent, and waits for it while there is nothing to compute. False: the loop is to end.
func (l *loop) receive() bool {
	for {
		if l.stalled || len(l.running) == 0 && len(l.waiting) == 0 && len(l.prover.proofs) == 0 {
			l.publish()
			select {
			case f := <-l.commands:
				l.stalled = false
				f()
				continue
			case <-l.quit:
				return false
			}
		}
		select {
		case f := <-l.commands:
			f()
		case <-l.quit:
			return false
		default:
			return true
		}
	}
}

// submit takes a new job in.
func (l *loop) submit(j *job) {
	if len(l.waiting) >= l.size.waiting {
		j.out.close(fmt.Errorf("engine: %w: %d requests wait", protocol.ErrQueueFull, len(l.waiting)))
		return
	}
	if err := l.acquire(j); err != nil {
		j.out.close(err)
		return
	}
	l.arrivals++
	j.order = l.arrivals
	l.count.ConstrainedTokens += uint64(j.Decided)
	l.count.DecidedTokens += uint64(j.Decided)
	if j.done() { // all that was asked for is in GeneratedIDs, or the grammar leaves no choice
		for _, b := range j.branches {
			if ev, ok := b.Release(); ok {
				j.out.put(ev)
			}
		}
		l.complete(j)
		return
	}
	l.enqueue(j)
}

// cancel ends a job. One that has ended already is left alone.
func (l *loop) cancel(j *job, err error) {
	l.remove(j)
	j.out.close(err)
}

// complete ends a job with its last event.
func (l *loop) complete(j *job) {
	l.cache.Pin(&j.prompt, j.Req.ID, func() compute.Seq { return l.sequence(j, len(j.Req.PromptIDs)) })
	l.remove(j)
	l.publish() // before the last event: its receiver reads counters that include it
	j.out.put(j.last())
	j.out.close(nil)
}

// turn computes the batch and draws tokens from what came out.
func (l *loop) turn() {
	began := time.Now()
	l.reserve()
	err := l.model.Forward(l.batch.rows)
	switch {
	case errors.Is(err, transformer.ErrNoPages):
		l.stalled = l.cache.Reading() // what is read into becomes free soon
		if !l.stalled && !l.prover.putOff(len(l.running) == 0) {
			l.preemptYoungest()
		}
		return
	case err != nil:
		l.prover.conclude(err)
		err = fmt.Errorf("engine: %w", err)
		for _, j := range l.batch.jobs() {
			l.fail(j, err)
		}
		return
	}
	l.cacheTurn()
	for _, j := range l.running {
		l.progress(j)
		l.fork(j)
	}
	for _, w := range l.batch.wants {
		l.sampleRow(w)
	}
	l.verifyDrafts()
	l.finishEmbeddings()
	l.tally(time.Since(began))
	for i := 0; i < len(l.running); {
		if j := l.running[i]; j.done() {
			l.complete(j) // takes it out of running
		} else {
			i++
		}
	}
	took := time.Since(began)
	if l.prover.rows() == 0 {
		l.pace.Observe(len(l.batch.rows)-l.batch.prefill, l.batch.prefill, took)
		l.governor.Observe(len(l.batch.rows)-l.batch.prefill, l.batch.prefill, took, time.Now())
	}
	if len(l.debts) > 0 {
		l.repay(l.batch.units, took)
	}
	l.prover.conclude(nil)
}

// tally counts a turn, before any request learns of its end.
func (l *loop) tally(took time.Duration) {
	l.count.Steps++
	l.count.PromptTokens += uint64(l.batch.prefill)
	l.count.DecodedTokens += uint64(l.batch.decoding)
	if l.batch.prefill > 0 {
		l.count.PrefillTime += took
	} else {
		l.count.DecodeTime += took
	}
}

// progress tells how much of a prompt is computed.
func (l *loop) progress(j *job) {
	prompt := len(j.Req.PromptIDs)
	if j.scoring || j.sum != nil || j.reported == prompt {
		return
	}
	n := 0
	if j.root != nil {
		n = j.root.Len()
	}
	for _, b := range j.branches {
		if b.seq != nil {
			n = max(n, min(b.seq.Len(), prompt))
		}
	}
	if n > j.reported { // less, when it was preempted
		j.reported = n
		j.out.put(backend.Event{Prefill: &backend.Prefill{Done: n, Of: prompt}})
	}
}

// publish makes the counters readable without the loop.
func (l *loop) publish() {
	st := l.count
	st.Running, st.Waiting = len(l.running), len(l.waiting)
	st.KVPages = l.model.TotalPages()
	st.KVPagesCached = l.model.IdlePages()
	l.cache.Count(&st)
	st.KVPagesUsed = st.KVPages - l.model.FreePages() - st.KVPagesCached
	st.Adapters = len(l.adapters)
	for _, a := range l.adapters {
		st.AdapterBytes += a.info.Bytes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.snapshot = st
}

// stats is the latest snapshot.
func (l *loop) stats() backend.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.snapshot
}
