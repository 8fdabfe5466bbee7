package daemon

import (
	"context"
	"log/slog"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"edged/core/dispatch"
)

// notifier tells systemd how the service is; without systemd it does nothing.
type notifier struct{ log *slog.Logger }

func newNotifier(log *slog.Logger) *notifier { return &notifier{log} }

func (n *notifier) send(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		n.log.Warn("systemd was not told", "state", state, "err", err)
	}
}

func (n *notifier) state(text string) { n.send("STATUS=" + text) }
func (n *notifier) ready(text string) { n.send(sd.SdNotifyReady + "\nSTATUS=" + text) }
func (n *notifier) stopping()         { n.send(sd.SdNotifyStopping) }

// watchdog feeds systemd's watchdog, where the unit has one, as long as the dispatcher answers.
func (n *notifier) watchdog(ctx context.Context, work *dispatch.Dispatcher) error {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			work.Stats() // takes the dispatcher's lock: where that is stuck, so is the watchdog
			n.send(sd.SdNotifyWatchdog)
		case <-ctx.Done():
			return nil
		}
	}
}
