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

// Phase is what a supervised plugin is about.
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

// SupervisorOptions say how a plugin is kept alive.
type SupervisorOptions struct {
	// Process says what to start.
	Process Options
	// Prepare makes a new process ready, for example loads the model; its ctx ends when the process does. nil: nothing to do.
	Prepare func(ctx context.Context, p *Process) error
	// Check is called after every health check of a ready plugin; its error ends the life, for example because the plugin makes
	// no progress. It must end when ctx does. nil: health is all that is asked for.
	Check func(ctx context.Context, p *Process) error
	// OnChange is told every change of State, from Run's goroutine; it must not block for long. nil: nobody is told.
	OnChange func(State)
	// Permanent says that an error will come again however often the plugin is started: Run then returns it. nil: none is.
	Permanent func(error) bool
	// MinBackoff is the pause after a first failure, doubled with each further one up to MaxBackoff, each ±20 %; 0: 100 ms
	// and 30 s. A life that was ready for StableAfter (0: 30 s), or of which Proven was said, makes the next failure a first
	// one.
	MinBackoff, MaxBackoff, StableAfter time.Duration
	// HealthInterval is the time between two health checks; 0: 5 s; negative: none.
	HealthInterval time.Duration
	// HealthTimeout is how long the plugin may take to answer one before it is killed; 0: 15 s. The cores of a small board
	// may all be computing, and a health answer has to wait its turn.
	HealthTimeout time.Duration
}

func (o SupervisorOptions) withDefaults() SupervisorOptions {
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
	if o.Prepare == nil {
		o.Prepare = func(context.Context, *Process) error { return nil }
	}
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

// Supervised keeps one plugin alive. Make it with Supervise and give Run a goroutine.
type Supervised struct {
	o     SupervisorOptions
	log   *slog.Logger
	start func(context.Context, Options) (*Process, error)

	mu      sync.Mutex
	state   State
	current *Process      // not nil: ready
	changed chan struct{} // closed and replaced at each change
	ended   error         // what Run returned, where it has
	proven  bool          // of the present life
	restart chan error
}

// Supervise returns a supervisor that has not started anything yet.
func Supervise(o SupervisorOptions) *Supervised {
	return &Supervised{
		o: o.withDefaults(), log: o.Process.Log, start: Start,
		state: State{Phase: Starting}, changed: make(chan struct{}), restart: make(chan error, 1),
	}
}

// Run starts the plugin again and again until ctx ends, which is nil, or until an error is Permanent, which it returns. When
// it returns no process is left.
func (s *Supervised) Run(ctx context.Context) error {
	failures := 0
	for lives := 1; ; lives++ {
		s.set(State{Phase: Starting, Lives: lives, Failures: failures, Err: s.State().Err}, nil)
		ready, err := s.live(ctx, lives, failures)
		if ctx.Err() != nil {
			return s.end(lives, nil)
		}
		if s.o.Permanent(err) {
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
func (s *Supervised) end(lives int, err error) error {
	s.mu.Lock()
	s.ended = fmt.Errorf("pluginhost: supervision has ended: %w", protocol.ErrPluginDied)
	if err != nil {
		s.ended = err
	}
	s.mu.Unlock()
	s.set(State{Phase: Stopped, Lives: lives, Err: err}, nil)
	return err
}

// live is one life of the plugin. It returns for how long it was ready, and why it ended.
func (s *Supervised) live(ctx context.Context, lives, failures int) (time.Duration, error) {
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
	if err := s.o.Prepare(alive, p); err != nil {
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
func (s *Supervised) watch(ctx context.Context, p *Process) error {
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
func (s *Supervised) check(ctx context.Context, p *Process) error {
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

func (s *Supervised) isReady(p *Process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current == p
}

// backoff is the pause after so many failures in a row.
func (s *Supervised) backoff(failures int) time.Duration {
	pause := s.o.MinBackoff
	for i := 1; i < failures && pause < s.o.MaxBackoff; i++ {
		pause *= 2
	}
	pause = min(pause, s.o.MaxBackoff)
	return time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64()))
}

func (s *Supervised) set(state State, ready *Process) {
	s.mu.Lock()
	s.state, s.current = state, ready
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.o.OnChange(state)
}

// State is the latest snapshot.
func (s *Supervised) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Current returns the ready process, waiting for one until ctx ends; its error then holds ctx's and why there is none. After
// Run has returned it is Run's error, or protocol.ErrPluginDied.
func (s *Supervised) Current(ctx context.Context) (*Process, error) {
	for {
		s.mu.Lock()
		p, changed, state, ended := s.current, s.changed, s.state, s.ended
		s.mu.Unlock()
		switch {
		case p != nil:
			return p, nil
		case ended != nil:
			return nil, ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if state.Err != nil {
				return nil, fmt.Errorf("pluginhost: plugin is %s: %w: %w", state.Phase, ctx.Err(), state.Err)
			}
			return nil, fmt.Errorf("pluginhost: plugin is %s: %w", state.Phase, ctx.Err())
		}
	}
}

// Proven says that the present life has done what it is for: whatever ends it, it was none of a crash loop.
func (s *Supervised) Proven() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proven = s.current != nil
}

func (s *Supervised) takeProven() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.proven
	s.proven = false
	return was
}

// Restart kills the present life for a reason that its State will show, for example that it makes no progress. Where there
// is none, nothing happens.
func (s *Supervised) Restart(reason error) {
	select {
	case s.restart <- reason:
	default: // one is under way
	}
}
