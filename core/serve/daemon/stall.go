package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"edged/core/serve/pluginhost"
)

// errStalled means that a plugin has work and does not get on with it.
var errStalled = errors.New("plugin makes no progress")

// stall watches whether the backend computes while there is work. A forward pass is progress, so a long
// prompt is too: it is computed in chunks. Its check is called by one goroutine.
type stall struct {
	p    *plugins
	most time.Duration

	pid   int // of the life that the rest is about
	steps uint64
	since time.Time // of the latest progress, or of the latest moment without work
}

// check is SupervisorOptions.Check's.
func (s *stall) check(ctx context.Context, proc *pluginhost.Process) error {
	limited, cancel := context.WithTimeout(ctx, s.p.d.c.Plugins.HealthTimeout)
	defer cancel()
	st, err := proc.Backend().Stats(limited)
	if err != nil {
		return nil
	}
	work := s.p.d.serving.Load()
	if proc.Pid() != s.pid || st.Steps != s.steps || work == nil || work.Load(s.p.name).Running == 0 {
		s.pid, s.steps, s.since = proc.Pid(), st.Steps, time.Now()
		return nil
	}
	if idle := time.Since(s.since); idle >= s.most {
		return fmt.Errorf("%s: %w: requests run in it, and it has computed nothing for %v", proc.Name(), errStalled, idle.Round(time.Second))
	}
	return nil
}

// tokenizerStalls is the tokenizer's Check: one call that takes too long means that it will not end.
func (p *plugins) tokenizerStalls(_ context.Context, proc *pluginhost.Process) error {
	work := p.d.serving.Load()
	if work == nil {
		return nil
	}
	if took := work.Load(p.name).Encoding; took >= p.d.c.Plugins.StallTimeout {
		return fmt.Errorf("%s: %w: a prompt has been in it for %v", proc.Name(), errStalled, took.Round(time.Second))
	}
	return nil
}
