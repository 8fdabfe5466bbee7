package daemon_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edged/core/config"
	"edged/core/serve/daemon"
)

// dam is a log whose reader stops when the node shuts down.
type dam struct {
	slog.Handler
	open  chan struct{}
	stuck atomic.Bool
}

// Enabled: what is embedded takes nothing.
func (d *dam) Enabled(context.Context, slog.Level) bool { return true }

func (d *dam) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "shutting down") {
		d.stuck.Store(true)
	}
	if d.stuck.Load() {
		<-d.open
	}
	return d.Handler.Handle(ctx, r)
}

func (d *dam) WithAttrs([]slog.Attr) slog.Handler { return d }
func (d *dam) WithGroup(string) slog.Handler      { return d }

// An address that is taken ends the start with a sentence, and the others are free again.
func TestAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}()
	for key, set := range map[string]func(c *config.Config){
		"metrics.listen": func(c *config.Config) { c.Metrics.Listen = taken.Addr().String() },
		"http.listen":    func(c *config.Config) { c.Metrics.Listen, c.HTTP.Listen = free, taken.Addr().String() },
		"wyoming.listen": func(c *config.Config) { c.HTTP.Listen, c.Wyoming.Listen = free, taken.Addr().String() },
	} {
		c := configure(t)
		set(c)
		ended := make(chan error, 1)
		go func() {
			ended <- daemon.Run(t.Context(), daemon.Options{
				Config: c, Log: slog.New(slog.DiscardHandler), Online: func(daemon.Address) { t.Error("online") },
			})
		}()
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s: %v", key, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s is taken, and the start hangs", key)
		}
		l, err := net.Listen("tcp", free)
		if err != nil {
			t.Fatalf("%s: the other address is held: %v", key, err)
		}
		l.Close()
	}
}

// Whatever hangs at the end, the process ends, and its plugins with it.
func TestTheEndIsSure(t *testing.T) {
	c := configure(t)
	c.Node.ShutdownGrace = 500 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	log := &dam{Handler: slog.DiscardHandler, open: make(chan struct{})}
	online, cut, ended := make(chan struct{}), make(chan int, 1), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{
			Config: c, Log: slog.New(log), Online: func(daemon.Address) { close(online) }, Exit: func(code int) { cut <- code },
		})
	}()
	<-online
	cancel()
	select {
	case code := <-cut:
		if code == 0 {
			t.Error("it calls that a success")
		}
	case err := <-ended:
		t.Fatal("it did not hang, which is what the test is about:", err)
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
	}
	close(log.open)
	<-ended
}
