package daemon

import (
	"testing"
	"time"

	"edged/core/config"
	"edged/core/serve/adapters"
)

// Of the grace, what publishing the last events and ending the plugins need is kept back.
func TestGraceOfTheDispatcher(t *testing.T) {
	for grace, want := range map[time.Duration]time.Duration{0: 0, 4 * time.Second: 2 * time.Second, 20 * time.Second: 15 * time.Second} {
		c := config.Default()
		c.Node.ShutdownGrace = grace
		d := &daemon{c: c, folder: &adapters.Folder{}}
		if got := d.dispatchConfig(nil).Limits.Grace; got != want {
			t.Errorf("shutdown_grace %v: requests go on for %v, want %v", grace, got, want)
		}
	}
}
