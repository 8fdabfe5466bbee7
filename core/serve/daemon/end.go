package daemon

import (
	"context"
	"time"

	"edged/core/serve/pluginhost"
)

// overtime is how long the end may take beyond node.shutdown_grace, even if a plugin, a disk or a connection hangs.
const overtime = 4 * time.Second

// lastLine is the time in which the log may still say why. It is short because the reader of the log may be what hangs.
const lastLine = 200 * time.Millisecond

// limit ends the process when it has not ended by itself so long after ctx did. The journal holds what was
// accepted, so that the next start goes on as after a crash. stop takes the limit away.
func (d *daemon) limit(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		t := time.NewTimer(d.c.Node.ShutdownGrace + overtime)
		defer t.Stop()
		select {
		case <-t.C:
			d.cut()
		case <-done:
		}
	}()
	return func() { close(done) }
}

// cut ends everything at once.
func (d *daemon) cut() {
	said := make(chan struct{})
	go func() {
		defer close(said)
		d.log.Error("the end took longer than node.shutdown_grace allows: what is left is cut off", "grace", d.c.Node.ShutdownGrace)
	}()
	t := time.NewTimer(lastLine)
	defer t.Stop()
	select {
	case <-said:
	case <-t.C:
	}
	pluginhost.KillAll()
	d.exit(1)
}
