package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/protocol/backend"
)

// manager is systemd's end of the notification socket.
func manager(t *testing.T) (read func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		b := make([]byte, 4096)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestLoadingAsksForTime(t *testing.T) {
	read := manager(t)
	n := newNotifier(slog.New(slog.DiscardHandler))
	n.loading(backend.LoadProgress{Stage: "map", Done: 1, Total: 4})
	n.loading(backend.LoadProgress{Stage: "map", Done: 2, Total: 4}) // at once: not worth a message
	n.loading(backend.LoadProgress{Stage: "tune"})
	n.ready("serving m")
	n.loading(backend.LoadProgress{Stage: "map"}) // another life
	n.stopping(20 * time.Second)
	for _, want := range []string{
		"STATUS=loading the model: map, 25 %\nEXTEND_TIMEOUT_USEC=600000000",
		"STATUS=loading the model: tune\nEXTEND_TIMEOUT_USEC=600000000",
		"READY=1\nSTATUS=serving m",
		"STATUS=loading the model: map",
		"STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000",
	} {
		if got := read(); got != want {
			t.Errorf("systemd was told %q, want %q", got, want)
		}
	}
	if n.loads != 4 {
		t.Errorf("%d reports counted, want 4", n.loads)
	}
}

// TestWatchdogWantsProgress: the watchdog is fed while nothing runs and while what runs moves, and not when it is stuck.
func TestWatchdogWantsProgress(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt((30*time.Second).Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	var fed atomic.Int64
	n := newNotifier(slog.New(slog.DiscardHandler))
	n.tell = func(state string) error {
		if state == "WATCHDOG=1" {
			fed.Add(1)
		}
		return nil
	}
	var counts []int64
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[pulse]
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		steps := 0
		now.Store(&pulse{bound: stuckAfter})
		go func() {
			done <- n.watchdog(ctx, func(context.Context) pulse {
				p := *now.Load()
				if p.mark == "moves" {
					steps++
					p.mark = fmt.Sprint("moves", steps)
				}
				return p
			})
		}()
		phase := func(p pulse, d time.Duration) {
			now.Store(&p)
			time.Sleep(d)
			synctest.Wait()
			counts = append(counts, fed.Swap(0))
		}
		phase(pulse{bound: stuckAfter}, 5*time.Minute+time.Second)                       // idle
		phase(pulse{mark: "moves", busy: true, bound: stuckAfter}, 5*time.Minute)        // works
		phase(pulse{mark: "stuck", busy: true, bound: stuckAfter}, stuckAfter)           // may still be alive
		phase(pulse{mark: "stuck", busy: true, bound: stuckAfter}, 5*time.Minute)        // is not
		phase(pulse{mark: "moves", busy: true, bound: stuckAfter}, time.Minute)          // and is again
		phase(pulse{mark: "loading", busy: true, bound: patience}, patience-time.Minute) // a load may take its time
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	want := []int{30, 30, 18, 0, 6, 54}
	if fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("the watchdog was fed %v times, want %v", counts, want)
	}
}
