package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"edged/core/protocol"
)

// Phase is the state of a supervised plugin.
type Phase string

// The phases.
const (
	Starting  Phase = "starting"  // the process starts
	Preparing Phase = "preparing" // the caller's Prepare runs: the model loads
	Ready     Phase = "ready"
	Waiting   Phase = "waiting" // for the next start
	Stopped   Phase = "stopped" // Run has returned
)

// State is a snapshot of a supervised plugin.
type State struct {
	Phase    Phase
	Pid      int           // 0: no process
	Lives    int           // starts so far
	Failures int           // lives in a row that did not stay ready; what "crash loop" means
	Err      error         // why the last life ended or did not begin; nil before the first has
	Retry    time.Duration // Waiting: until the next start
}

// SupervisorOptions say how a plugin is kept alive. T is the client of a running plugin that is ready.
type SupervisorOptions[T any] struct {
	// Process says what to start.
	Process Options
	// Name is the plugin's in errors: "tokenizer".
	Name string
	// Prepare makes a new process ready, for example loads the model, and says what it is then; its ctx ends
	// when the process does. life is the number that Current gives with it, from 1 on.
	Prepare func(ctx context.Context, p *Process, life uint64) (T, error)
	// Check is called after every health check of a ready plugin; its error ends the life, for example
	// because the plugin makes no progress. It must end when ctx does. nil: health is all that is asked for.
	Check func(ctx context.Context, p *Process) error
	// OnChange is told every change of State, from Run's goroutine; it must not block for long. nil: nobody is told.
	OnChange func(State)
	// Permanent says that an error will come again however often the plugin is started: Run then returns it.
	// nil: none is. Once the plugin was ready it is not asked any more: a file may be back by the next try.
	Permanent func(error) bool
	// Degraded is how many lives in a row may fail before Current gives the reason instead of waiting for the
	// next one; 0: however many.
	Degraded int
	// MinBackoff is the pause after a first failure, doubled with each further one up to MaxBackoff, each ±20
	// %; 0: 100 ms and 30 s. A life that was ready for StableAfter (0: 30 s), or of which Proven was said,
	// makes the next failure a first one.
	MinBackoff, MaxBackoff, StableAfter time.Duration
	// HealthInterval is the time between two health checks; 0: 5 s; negative: none.
	HealthInterval time.Duration
	// HealthTimeout is how long the plugin may take to answer one before it is killed; 0: 15 s. The cores of
	// a small board may all be computing, and a health answer has to wait its turn.
	HealthTimeout time.Duration
}

func (o SupervisorOptions[T]) withDefaults() SupervisorOptions[T] {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&o.MinBackoff, 100*time.Millisecond)
	or(&o.MaxBackoff, 30*time.Second)
	or(&o.StableAfter, 30*time.Second)
	or(&o.HealthInterval, 5*time.Second)
	or(&o.HealthTimeout, 15*time.Second)
	if o.OnChange == nil {
		o.OnChange = func(State) {}
	}
	if o.Check == nil {
		o.Check = func(context.Context, *Process) error { return nil }
	}
	if o.Permanent == nil {
		o.Permanent = func(error) bool { return false }
	}
	return o
}

// ErrUnhealthy means that the plugin did not answer its health check.
var ErrUnhealthy = errors.New("plugin does not answer")

// Supervisor keeps one plugin alive. Make it with Supervise and give Run a goroutine.
type Supervisor[T any] struct {
	o     SupervisorOptions[T]
	log   *slog.Logger
	start func(context.Context, Options) (*Process, error)

	mu       sync.Mutex
	state    State
	prepared T             // by the latest Prepare
	current  *Process      // not nil: ready
	was      bool          // it was ready once
	changed  chan struct{} // closed and replaced at each change
	proven   bool          // of the present life
	restart  chan error
}

// Supervise returns a supervisor that has not started anything yet.
func Supervise[T any](o SupervisorOptions[T]) *Supervisor[T] {
	return &Supervisor[T]{
		o: o.withDefaults(), log: o.Process.Log, start: Start,
		state: State{Phase: Starting}, changed: make(chan struct{}), restart: make(chan error, 1),
	}
}

// Run starts the plugin again and again until ctx ends, which is nil, or until an error is Permanent, which
// it returns. When it returns no process is left.
func (s *Supervisor[T]) Run(ctx context.Context) error {
	failures := 0
	for lives := 1; ; lives++ {
		s.set(State{Phase: Starting, Lives: lives, Failures: failures, Err: s.State().Err}, nil)
		ready, err := s.live(ctx, lives, failures)
		if ctx.Err() != nil {
			return s.end(lives, nil)
		}
		if !s.wasReady() && s.o.Permanent(err) {
			return s.end(lives, err)
		}
		if failures++; ready >= s.o.StableAfter || s.takeProven() {
			failures = 1
		}
		pause := s.backoff(failures)
		s.log.WarnContext(ctx, "plugin is down", "err", err, "failures", failures, "retry", pause)
		s.set(State{Phase: Waiting, Lives: lives, Failures: failures, Err: err, Retry: pause}, nil)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return s.end(lives, nil)
		case <-timer.C:
		}
	}
}

// end records that Run returns err.
func (s *Supervisor[T]) end(lives int, err error) error {
	s.set(State{Phase: Stopped, Lives: lives, Err: err}, nil)
	return err
}

// live is one life of the plugin. It returns for how long it was ready, and why it ended.
func (s *Supervisor[T]) live(ctx context.Context, lives, failures int) (time.Duration, error) {
	p, err := s.start(ctx, s.o.Process)
	if err != nil {
		return 0, err
	}
	defer p.Kill()
	// A request to restart that was meant for an earlier life is void.
	select {
	case <-s.restart: //nolint:errcheck // the reason of an earlier life
	default:
	}
	alive, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The watch ends the life: what it learns is the cause of alive's end.
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		cancel(s.watch(alive, p))
	}()
	defer func() { cancel(nil); <-watch }()

	state := State{Phase: Preparing, Pid: p.Pid(), Lives: lives, Failures: failures, Err: s.State().Err}
	s.set(state, nil)
	prepared, err := s.o.Prepare(alive, p, uint64(lives))
	s.mu.Lock()
	s.prepared = prepared
	s.mu.Unlock()
	if err != nil {
		if errors.Is(err, protocol.ErrPluginDied) {
			// The connection broke; the process's own end says more.
			select {
			case <-alive.Done():
			case <-time.After(drain):
			}
		}
		if alive.Err() != nil {
			err = context.Cause(alive)
		}
		return 0, err
	}
	if alive.Err() != nil {
		return 0, context.Cause(alive)
	}
	state.Phase = Ready
	s.set(state, p)
	since := time.Now()
	<-alive.Done()
	ready := time.Since(since)
	// Nobody gets a process that is about to be killed.
	s.set(State{Phase: Waiting, Pid: p.Pid(), Lives: lives, Failures: failures, Err: context.Cause(alive)}, nil)
	return ready, context.Cause(alive)
}

// watch returns why a life ended: the process died, was asked to restart, or does not answer.
func (s *Supervisor[T]) watch(ctx context.Context, p *Process) error {
	var tick <-chan time.Time
	if s.o.HealthInterval > 0 {
		ticker := time.NewTicker(s.o.HealthInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Done():
			if err := p.Err(); err != nil {
				return err
			}
			return fmt.Errorf("pluginhost: %s: %w: it was stopped", p.Name(), protocol.ErrPluginDied)
		case err := <-s.restart:
			return err
		case <-tick:
			ours.reap()
			if err := s.check(ctx, p); err != nil {
				return err
			}
			if !s.isReady(p) {
				continue
			}
			if err := s.o.Check(ctx, p); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// check asks for the plugin's health. A dead process is for watch to report, with its last words.
func (s *Supervisor[T]) check(ctx context.Context, p *Process) error {
	limited, cancel := context.WithTimeout(ctx, s.o.HealthTimeout)
	defer cancel()
	err := p.Health(limited)
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, protocol.ErrPluginDied):
		return nil
	case limited.Err() != nil:
		return fmt.Errorf("pluginhost: %s: %w within %s", p.Name(), ErrUnhealthy, s.o.HealthTimeout)
	}
	return fmt.Errorf("pluginhost: %s: %w: %w", p.Name(), ErrUnhealthy, err)
}

func (s *Supervisor[T]) isReady(p *Process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current == p
}

func (s *Supervisor[T]) wasReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.was
}

// backoff is the pause after so many failures in a row.
func (s *Supervisor[T]) backoff(failures int) time.Duration {
	pause := s.o.MinBackoff
	for i := 1; i < failures && pause < s.o.MaxBackoff; i++ {
		pause *= 2
	}
	pause = min(pause, s.o.MaxBackoff)
	return time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64()))
}

func (s *Supervisor[T]) set(state State, ready *Process) {
	s.mu.Lock()
	s.state, s.current = state, ready
	s.was = s.was || ready != nil
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.o.OnChange(state)
}

// State is the latest snapshot.
func (s *Supervisor[T]) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Snapshot is the latest state, and what the latest Prepare made of its process: of the present life where
// the state is Ready.
func (s *Supervisor[T]) Snapshot() (State, T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.prepared
}

// Changed is closed at the next change of state.
func (s *Supervisor[T]) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// ErrDisowned means that a request was told, by a plugin that lives on, that it is not available.
var ErrDisowned = errors.New("it told a request that it is not available, and has not ended")

// disownedAfter is how long a plugin that is said to have died may take to end by itself, which tells more.
const disownedAfter = time.Second

// Current returns the present life and its number if that is above after, and waits for one that is starting.
// A life that after says has died and that is still there is ended: nobody would ever ask it again. The
// errors are ctx's, that of a plugin whose supervision has ended, and that of one that is Degraded; the last
// two wrap protocol.ErrPluginDied or why the last life ended.
func (s *Supervisor[T]) Current(ctx context.Context, after uint64) (ready T, life uint64, err error) {
	var none T
	var disowned <-chan time.Time
	for {
		s.mu.Lock()
		ready, state, changed := s.prepared, s.state, s.changed
		s.mu.Unlock()
		switch {
		case state.Phase == Ready && uint64(state.Lives) > after:
			return ready, uint64(state.Lives), nil
		case state.Phase == Stopped:
			return none, 0, fmt.Errorf("the %s has stopped: %w", s.o.Name, orDied(state.Err))
		case state.Phase == Ready && disowned == nil:
			timer := time.NewTimer(disownedAfter)
			defer timer.Stop()
			disowned = timer.C
		case s.o.Degraded > 0 && state.Failures >= s.o.Degraded && state.Phase != Ready:
			return none, 0, fmt.Errorf("the %s failed %d times in a row: %w", s.o.Name, state.Failures, orDied(state.Err))
		}
		select {
		case <-changed:
		case <-disowned:
			if state.Phase == Ready {
				s.Restart(fmt.Errorf("%s: %w: %w", s.o.Name, protocol.ErrPluginDied, ErrDisowned))
			}
			disowned = nil
		case <-ctx.Done():
			return none, 0, ctx.Err()
		}
	}
}

func orDied(err error) error {
	if err == nil {
		return protocol.ErrPluginDied
	}
	return err
}

// Proven says that the present life has done what it is for: whatever ends it, it was none of a crash loop.
func (s *Supervisor[T]) Proven() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proven = s.current != nil
}

func (s *Supervisor[T]) takeProven() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.proven
	s.proven = false
	return was
}

// Restart kills the present life for a reason that its State will show, for example that it makes no
// progress. Where there is none, nothing happens.
func (s *Supervisor[T]) Restart(reason error) {
	select {
	case s.restart <- reason:
	default: // one is under way
	}
}
