package pluginhost_test

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/pluginhost"
)

// Many lives leave nothing behind: no goroutines, no descriptors. Not parallel, since it counts.
func TestLivesLeaveNothingBehind(t *testing.T) {
	count := func() (goroutines, files int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(entries)
	}
	life := func(i int) {
		o := options(quiet(), "ok")
		o.RunDir = runDir(t)
		if i%3 == 2 {
			o.Env[0] = modeVar + "=version 2"
			if _, err := pluginhost.Start(t.Context(), o); err == nil {
				t.Fatal("it started")
			}
			return
		}
		p, err := pluginhost.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 1 {
			if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := p.Backend().Generate(t.Context(), backend.Request{}, func(backend.Event) error { return nil }); err == nil {
				t.Error("a dead plugin answered")
			}
			<-p.Done()
		}
		p.Kill()
	}
	for i := range 3 {
		life(i)
	}
	goroutines, files := count()
	for i := range 9 {
		life(i)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		g, f := count()
		if g <= goroutines+2 && f <= files+2 {
			return
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d files after 3 lives, %d and %d after 12:\n%s", goroutines, files, g, f, buf[:runtime.Stack(buf, true)])
		}
	}
}
