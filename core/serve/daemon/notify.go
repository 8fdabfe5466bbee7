package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"edged/core/protocol/backend"
	"edged/core/serve/pluginhost"
)

// Times of what systemd is told.
const (
	// patience is how long a stage of a load may show no progress: reading gigabytes of an SD card to hash
	// them, or packing a model, says nothing in between.
	patience = 10 * time.Minute
	// stuckAfter is how long requests may run in a loaded backend without any progress before the watchdog is
	// no longer fed. The backend's own supervision acts much earlier: this is for the case that it is the
	// daemon that is stuck.
	stuckAfter = 3 * time.Minute
	// closing is how long a shutdown may take beyond node.shutdown_grace.
	closing = 15 * time.Second
)

// notifier tells systemd how the service is; without systemd it does nothing. Its methods may be called concurrently.
type notifier struct {
	log  *slog.Logger
	tell func(state string) error

	mu      sync.Mutex
	told    time.Time // when systemd last heard of a load
	stage   string    // of that load
	started bool      // READY was said
	loads   uint64    // reports of loads so far: they are progress
}

func newNotifier(log *slog.Logger) *notifier {
	return &notifier{log: log, tell: func(state string) error {
		_, err := sd.SdNotify(false, state)
		return err
	}}
}

func (n *notifier) send(state string) {
	if err := n.tell(state); err != nil {
		n.log.Warn("systemd was not told", "state", state, "err", err)
	}
}

func (n *notifier) state(text string) { n.send("STATUS=" + text) }

// loading passes the progress of a load on. Before READY it also asks for more time, so that TimeoutStartSec
// bounds a stage without progress instead of the whole of a load.
func (n *notifier) loading(p backend.LoadProgress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loads++
	if p.Stage == n.stage && time.Since(n.told) < time.Second {
		return
	}
	n.told, n.stage = time.Now(), p.Stage
	text := "STATUS=loading the model: " + p.Stage
	if p.Total > 0 && p.Done > 0 {
		text += fmt.Sprintf(", %d %%", 100*p.Done/p.Total)
	}
	if !n.started {
		text += extend(patience)
	}
	n.send(text)
}

func (n *notifier) ready(text string) {
	n.mu.Lock()
	n.started = true
	n.mu.Unlock()
	n.send(sd.SdNotifyReady + "\nSTATUS=" + text)
}

// stopping announces a shutdown that may take the grace that is configured, whatever TimeoutStopSec says.
func (n *notifier) stopping(grace time.Duration) { n.send(sd.SdNotifyStopping + extend(grace+closing)) }

func extend(d time.Duration) string { return fmt.Sprintf("\nEXTEND_TIMEOUT_USEC=%d", d.Microseconds()) }

// pulse is a sample of the service's state for the watchdog: any change of mark is progress.
type pulse struct {
	mark  string
	busy  bool          // something runs that has to make progress
	bound time.Duration // how long it may make none
}

// watchdog feeds systemd's watchdog, where the unit has one, as long as what runs makes progress.
func (n *notifier) watchdog(ctx context.Context, feel func(context.Context) pulse) error {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	var last string
	moved := time.Now()
	stuck := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		p := feel(ctx)
		if !p.busy || p.mark != last {
			last, moved, stuck = p.mark, time.Now(), false
		}
		if idle := time.Since(moved); idle >= p.bound {
			if !stuck {
				n.log.ErrorContext(ctx, "requests run and nothing moves: the watchdog is no longer fed", "for", idle.Round(time.Second))
			}
			stuck = true
			continue
		}
		n.send(sd.SdNotifyWatchdog)
	}
}

// pulse feels it: what the dispatcher has ended (where its lock is stuck, so is the watchdog), which lives
// the plugins are in, how far a load is, and how many steps the backend has computed.
func (d *daemon) pulse(ctx context.Context) pulse {
	w := d.work.Stats()
	p := pulse{busy: w.Running > 0, bound: stuckAfter}
	d.notify.mu.Lock()
	p.mark = fmt.Sprint(w.Finished, w.Failed, w.Cancelled, w.Crashes, d.notify.loads)
	d.notify.mu.Unlock()
	pairs := d.pairs()
	if len(pairs) == 0 {
		p.bound = patience
	}
	for _, pair := range pairs {
		t, _ := pair.tokenizer.Snapshot()
		b, life := pair.backend.Snapshot()
		var steps uint64
		if b.Phase == pluginhost.Ready && life.backend != nil {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			if s, err := life.backend.Stats(ctx); err == nil {
				steps = s.Steps
			}
			cancel()
		} else {
			p.bound = patience
		}
		p.mark += fmt.Sprint(" ", pair.name, t.Phase, t.Pid, b.Phase, b.Pid, b.Failures, steps)
	}
	return p
}
