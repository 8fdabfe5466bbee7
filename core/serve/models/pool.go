package models

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"edged/core/serve/watch"
)

// The states of an available model in a Pool.
const (
	Loading   = "loading"
	Loaded    = "loaded"
	Unloading = "unloading"
)

// ErrTooLarge means that a model cannot be loaded in the memory that there is for models, whatever else leaves it.
var ErrTooLarge = errors.New("the model is too large for this node")

// Pair is a loaded model: the two plugins that serve it.
type Pair interface {
	// Run keeps them alive until ctx ends, and returns when no process is left; an error means that they
	// cannot be started.
	Run(ctx context.Context) error
	// Ready waits until the model is loaded. It returns Run's error where that comes first.
	Ready(ctx context.Context) error
	// Bytes is the memory that the model is planned with, as soon as that is known; 0: it is not.
	Bytes() int64
}

// Wanted is a model that is to be loaded: what Folder.Lookup says.
type Wanted struct {
	State   State
	Version int
}

// Rank orders those who wait: the higher priority first, raised by one for every Ageing of waiting; then the
// lower number.
type Rank struct {
	Priority int
	Since    time.Time
	Number   uint64
}

func (r Rank) before(o Rank, now time.Time, ageing time.Duration) bool {
	a, b := r.Priority+int(now.Sub(r.Since)/ageing), o.Priority+int(now.Sub(o.Since)/ageing)
	if a != b {
		return a > b
	}
	return r.Number < o.Number
}

// PoolOptions configure a Pool.
type PoolOptions[P Pair] struct {
	// Budget is the memory for all models together, in bytes; 0: nobody knows.
	Budget int64
	// Several says that there are several models to serve: then one does not take more than half of Budget if
	// it can do with less.
	Several func() bool
	// Make makes the plugins of a model, which may plan with so many bytes; 0: as many as there are.
	Make func(w Wanted, limit int64) P
	// Pinned are names of models that are not unloaded to make room for another.
	Pinned []string
	// Keep are the models for which a pinned one leaves memory where it can do with less: the default one,
	// and what else is pinned. nil: none.
	Keep func() []State
	// Ageing is the waiting time that raises a rank by one; 0: 10 s.
	Ageing time.Duration
	// Stay is how long a model that is in use stays loaded before it makes room, at least; as long as its
	// loading took, if that is longer. So no more than half of the time goes into loading. 0: 1 s.
	Stay   time.Duration
	Log    *slog.Logger
	Notify func() // told, without a lock held, that a state changed; nil: nobody is
}

// Pool holds the models that are loaded. A model that somebody wants is loaded, one at a time, in the order
// of their ranks. Where there is no room, the idle model that was used longest ago leaves; where none is
// idle, the one that was loaded longest ago takes no further requests until those that it has are answered,
// and leaves then.
type Pool[P Pair] struct {
	o    PoolOptions[P]
	log  *slog.Logger
	wake chan struct{} // for Run

	mu      sync.Mutex
	slots   map[string]*slot[P]
	waiting []*waiter[P] // in the order in which they came
	ended   bool         // Run has returned or is about to
}

// slot is one model that is, or was, in memory. Its fields belong to Pool.mu.
type slot[P Pair] struct {
	name     string
	state    string // Available: it is not in memory
	pair     P
	version  int
	bytes    int64 // set aside for it; 0: whatever it takes
	needs    int64 // at least
	leases   map[*Lease[P]]struct{}
	closing  bool // nobody new gets in, but who goes before closedBy
	closedBy Rank
	stale    bool          // its files are others by now, or its plugins have ended
	used     time.Time     // when the latest lease ended
	since    time.Time     // when it was loaded
	took     time.Duration // the loading
	stop     context.CancelFunc
	gone     chan struct{} // closed when its plugins have ended
	err      error         // why it was not loaded the last time
}

// waiter waits for a model. Its fields belong to Pool.mu until ready is closed.
type waiter[P Pair] struct {
	Wanted

	rank  Rank
	ready chan struct{}
	lease *Lease[P]
	err   error
}

// Lease keeps a model loaded. Its methods may be called concurrently.
type Lease[P Pair] struct {
	p     *Pool[P]
	s     *slot[P]
	pair  P
	rank  Rank
	begun bool
	over  bool
	asked chan struct{} // closed: its holder is to go and wait again, unless it has begun
	told  bool          // asked is closed
}

// Pair is the model's plugins.
func (l *Lease[P]) Pair() P { return l.pair }

// Asked is closed when the model's memory is wanted by somebody who goes first. Whoever has not begun should
// release the lease and ask for another.
func (l *Lease[P]) Asked() <-chan struct{} { return l.asked }

// Begin says that the work begins for which the model must stay. It reports whether it may: not where the
// lease was asked back.
func (l *Lease[P]) Begin() bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.begun = l.begun || !l.told
	return l.begun
}

// Release ends the lease; later calls do nothing.
func (l *Lease[P]) Release() {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	delete(l.s.leases, l)
	l.s.used = time.Now()
	l.p.stir()
}

// NewPool returns a Pool that loads nothing before Run.
func NewPool[P Pair](o PoolOptions[P]) *Pool[P] {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Notify == nil {
		o.Notify = func() {}
	}
	if o.Several == nil {
		o.Several = func() bool { return false }
	}
	if o.Ageing <= 0 {
		o.Ageing = 10 * time.Second
	}
	if o.Stay <= 0 {
		o.Stay = time.Second
	}
	return &Pool[P]{o: o, log: o.Log, wake: make(chan struct{}, 1), slots: map[string]*slot[P]{}}
}

// stir has Run look again.
func (p *Pool[P]) stir() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Acquire waits until a model is loaded and keeps it so. wait is called once, before the waiting, where the
// model is not loaded; nil: nobody is told. The error is the cause of ctx's end, or why the model cannot be
// loaded.
func (p *Pool[P]) Acquire(ctx context.Context, w Wanted, rank Rank, wait func()) (*Lease[P], error) {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return nil, context.Canceled
	}
	s := p.slot(w.State.Name)
	if s.open(w.Version) {
		defer p.mu.Unlock()
		return p.lease(s, rank), nil
	}
	q := &waiter[P]{Wanted: w, rank: rank, ready: make(chan struct{})}
	p.waiting = append(p.waiting, q)
	p.stir()
	p.mu.Unlock()
	if wait != nil {
		wait()
	}
	select {
	case <-q.ready:
		return q.lease, q.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stir()
	if i := slices.Index(p.waiting, q); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	} else if q.lease != nil { // it came just now
		q.lease.over = true
		delete(q.lease.s.leases, q.lease)
	}
	return nil, context.Cause(ctx)
}

// open tells whether somebody new gets in.
func (s *slot[P]) open(version int) bool {
	return s.state == Loaded && !s.closing && !s.stale && s.version >= version
}

func (p *Pool[P]) slot(name string) *slot[P] {
	s := p.slots[name]
	if s == nil {
		s = &slot[P]{name: name, state: Available, leases: map[*Lease[P]]struct{}{}}
		p.slots[name] = s
	}
	return s
}

// lease lets somebody in. p.mu is held.
func (p *Pool[P]) lease(s *slot[P], rank Rank) *Lease[P] {
	l := &Lease[P]{p: p, s: s, pair: s.pair, rank: rank, asked: make(chan struct{})}
	s.leases[l] = struct{}{}
	return l
}

// settle answers a waiter. p.mu is held; the caller takes it out of p.waiting.
func (q *waiter[P]) settle(l *Lease[P], err error) {
	q.lease, q.err = l, err
	close(q.ready)
}

// Holding is the state of a model in a Pool.
type Holding struct {
	State string // Available, Loading, Loaded, Unloading
	Bytes int64  // set aside for it; while it is loaded and there is no budget, what is forecast
	Users int    // leases
	Err   error  // why it was not loaded the last time; nil: it was, or nobody tried
}

// Holding says how a model stands.
func (p *Pool[P]) Holding(name string) Holding {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slots[name]
	if s == nil {
		return Holding{State: Available}
	}
	bytes := s.bytes
	if s.state == Loading && bytes == 0 { // nothing bounds it: what its plugins forecast, or at least what it needs
		bytes = max(s.pair.Bytes(), s.needs)
	}
	return Holding{s.state, bytes, len(s.leases), s.err}
}

// Pairs are those of the models that are being loaded or are loaded, by name.
func (p *Pool[P]) Pairs() map[string]P {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]P{}
	for name, s := range p.slots {
		if s.state == Loaded || s.state == Loading {
			out[name] = s.pair
		}
	}
	return out
}

// Forget has a model leave as soon as nobody uses it: its files are gone.
func (p *Pool[P]) Forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slots[name]; s != nil && s.state == Loaded {
		s.stale = true
		p.stir()
	}
}

// Run loads and unloads until ctx ends, and returns when every process has ended; nil.
func (p *Pool[P]) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		next := p.decide(time.Now())
		switch {
		case next.load != nil:
			wg.Go(func() { p.load(ctx, &wg, next.load, next.want, next.limit) })
			p.o.Notify()
			continue
		case next.unload != nil:
			wg.Go(func() { p.unload(ctx, next.unload, next.why) })
			p.o.Notify()
			continue
		}
		if !next.at.IsZero() {
			_ = watch.Pause(ctx, next.at, p.wake) // ctx's end is looked at above
			continue
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	p.ended = true
	for _, q := range p.waiting {
		q.settle(nil, context.Canceled)
	}
	p.waiting = nil
	p.mu.Unlock()
	return nil
}

// step is Run's next action. Of load and unload at most one is set.
type step[P Pair] struct {
	load   *slot[P]
	want   Wanted
	limit  int64 // 0: none
	unload *slot[P]
	why    string
	at     time.Time // when to look again, where nothing happens before; zero: never
}

// decide lets in who may, fails who cannot be served, and finds the next step.
func (p *Pool[P]) decide(now time.Time) step[P] {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.admit(now) // a model that has just come is in use before anybody looks for an idle one
	for _, s := range p.slots {
		if s.state == Loading || s.state == Unloading {
			return step[P]{}
		}
	}
	for _, s := range p.slots {
		s.closing, s.closedBy = s.stale, Rank{}
	}
	// Files that were replaced: the old model leaves before the new one comes.
	for _, q := range p.waiting {
		if s := p.slot(q.State.Name); s.state == Loaded && s.version < q.Version {
			s.stale, s.closing = true, true
		}
	}
	next := p.next(now)
	p.admit(now)
	return next
}

// next finds the next step. p.mu is held.
func (p *Pool[P]) next(now time.Time) step[P] {
	for _, s := range p.slots {
		if s.state == Loaded && s.stale && len(s.leases) == 0 {
			s.state = Unloading
			return step[P]{unload: s, why: "its files have changed, or it has ended"}
		}
	}
	for {
		q := p.first(now)
		if q == nil {
			return step[P]{}
		}
		s := p.slot(q.State.Name)
		if s.state == Loaded { // a stale one that is still in use
			p.ask(s, q, now)
			return step[P]{}
		}
		next, err := p.room(s, q, now)
		if err == nil {
			return next
		}
		s.err = err
		p.fail(q.State.Name, q.Version, err)
	}
}

// admit lets in everybody whose model is loaded. One that was closed for somebody's sake still takes who goes
// before them. p.mu is held.
func (p *Pool[P]) admit(now time.Time) {
	p.waiting = slices.DeleteFunc(p.waiting, func(q *waiter[P]) bool {
		s := p.slot(q.State.Name)
		if s.state != Loaded || s.stale || s.version < q.Version || s.closing && !q.rank.before(s.closedBy, now, p.o.Ageing) {
			return false
		}
		q.settle(p.lease(s, q.rank), nil)
		return true
	})
}

// fail answers everybody who waits for a model, in that version or an earlier one. p.mu is held.
func (p *Pool[P]) fail(name string, version int, err error) {
	p.waiting = slices.DeleteFunc(p.waiting, func(q *waiter[P]) bool {
		if q.State.Name != name || q.Version > version {
			return false
		}
		q.settle(nil, err)
		return true
	})
}

// first is the waiter that goes first among those whose model is not loaded; nil: there is none. p.mu is held.
func (p *Pool[P]) first(now time.Time) *waiter[P] {
	var best *waiter[P]
	for _, q := range p.waiting {
		if s := p.slot(q.State.Name); s.state == Loaded && !s.stale {
			continue
		}
		if best == nil || q.rank.before(best.rank, now, p.o.Ageing) {
			best = q
		}
	}
	return best
}

// room finds the step that brings a waiter's model closer to being loaded. The error says why none can. p.mu is held.
func (p *Pool[P]) room(s *slot[P], q *waiter[P], now time.Time) (step[P], error) {
	need, budget := q.State.Needs, p.o.Budget
	free, could := budget, budget
	var loaded []*slot[P]
	for _, o := range p.slots {
		if o.state != Loaded {
			continue
		}
		free -= o.bytes
		if slices.Contains(p.o.Pinned, o.name) {
			could -= o.bytes
		} else {
			loaded = append(loaded, o)
		}
	}
	switch {
	case budget > 0 && need > budget:
		return step[P]{}, fmt.Errorf(
			"%w: %s needs %d MiB of memory, and there are %d MiB for models",
			ErrTooLarge,
			q.State.Name,
			need>>20,
			budget>>20,
		)
	case budget > 0 && need > could:
		return step[P]{}, fmt.Errorf(
			"%w: %s needs %d MiB of memory, and beside what is pinned there are %d MiB",
			ErrTooLarge,
			q.State.Name,
			need>>20,
			could>>20,
		)
	case budget <= 0 || need <= free:
		limit := int64(0)
		if budget > 0 {
			limit = free
			if half := budget / 2; p.o.Several() && half >= need {
				limit = min(limit, half)
			}
			limit = max(need, min(limit, could-p.spare(s)))
		}
		s.state, s.bytes, s.needs, s.version = Loading, limit, need, q.Version
		s.pair = p.o.Make(q.Wanted, limit)
		return step[P]{load: s, want: q.Wanted, limit: limit}, nil
	}
	var idle, oldest *slot[P]
	for _, o := range loaded {
		if len(o.leases) == 0 && (idle == nil || o.used.Before(idle.used)) {
			idle = o
		}
		if oldest == nil || o.since.Before(oldest.since) {
			oldest = o
		}
	}
	if idle != nil {
		idle.state = Unloading
		return step[P]{unload: idle, why: "room for " + q.State.Name}, nil
	}
	// All are in use, and there is at least one: what is pinned leaves room enough.
	if at := oldest.since.Add(max(p.o.Stay, oldest.took)); now.Before(at) {
		return step[P]{at: at}, nil
	}
	p.ask(oldest, q, now)
	return step[P]{}, nil
}

// ask closes a model for the sake of a waiter: nobody new gets in, and those leave that have not begun and go
// after it. p.mu is held.
func (p *Pool[P]) ask(s *slot[P], q *waiter[P], now time.Time) {
	s.closing, s.closedBy = true, q.rank
	for l := range s.leases {
		if !l.begun && !l.told && q.rank.before(l.rank, now, p.o.Ageing) {
			l.told = true
			close(l.asked)
		}
	}
}

// load loads a model and answers those who wait for it.
func (p *Pool[P]) load(ctx context.Context, wg *sync.WaitGroup, s *slot[P], w Wanted, limit int64) {
	began := time.Now()
	p.log.InfoContext(ctx, "loading a model", "model", s.name, "path", w.State.Path, "limit", limit)
	alive, stop := context.WithCancel(ctx)
	gone := make(chan struct{})
	pair := s.pair // set before this goroutine began
	var ended error
	wg.Go(func() {
		ended = pair.Run(alive)
		close(gone)
		p.mu.Lock()
		s.stale = s.stale || s.gone == gone
		p.stir()
		p.mu.Unlock()
	})
	err := pair.Ready(alive)
	var zero P
	if err != nil {
		stop()
		<-gone
		if ended != nil {
			err = ended
		}
	}
	p.mu.Lock()
	s.stop = stop
	if err != nil {
		s.state, s.bytes, s.pair, s.err = Available, 0, zero, err
		p.fail(s.name, w.Version, err)
	} else {
		s.state, s.gone, s.err, s.stale = Loaded, gone, nil, false
		s.since, s.took, s.used = time.Now(), time.Since(began), time.Now()
		if n := pair.Bytes(); n > 0 {
			s.bytes = n
		}
		select {
		case <-gone:
			s.stale = true
		default:
		}
	}
	took, bytes := time.Since(began), s.bytes
	p.stir()
	p.mu.Unlock()
	switch {
	case err == nil:
		p.log.InfoContext(ctx, "model loaded", "model", s.name, "bytes", bytes, "took", took.Round(time.Millisecond))
	case ctx.Err() == nil:
		p.log.WarnContext(ctx, "a model was not loaded", "model", s.name, "err", err)
	}
	p.o.Notify()
}

// unload ends the plugins of a model.
func (p *Pool[P]) unload(ctx context.Context, s *slot[P], why string) {
	p.mu.Lock()
	stop, gone := s.stop, s.gone
	p.mu.Unlock()
	stop()
	<-gone
	var zero P
	p.mu.Lock()
	s.state, s.bytes, s.pair, s.stale, s.gone = Available, 0, zero, false, nil
	p.stir()
	p.mu.Unlock()
	p.log.InfoContext(ctx, "model unloaded", "model", s.name, "why", why)
	p.o.Notify()
}
