package pace

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edged/core/machine"
)

// board is a processor whose turns take a time that depends on the threads and on its clock.
type board struct {
	t       *testing.T
	root    string // of its /sys
	g       *Governor
	threads int
	changes int
	now     time.Time
	cost    map[int]time.Duration // of a turn while the clock is held down
}

const flags = "sys/devices/platform/soc/soc:firmware/get_throttled"

func newBoard(t *testing.T, tuned int, cost map[int]time.Duration) *board {
	t.Helper()
	b := &board{t: t, root: t.TempDir(), threads: tuned, now: time.Unix(0, 0), cost: cost}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(b.root, flags)), 0o700); err != nil {
		t.Fatal(err)
	}
	b.flags("0")
	limited := func() bool {
		p, _ := machine.ReadPower(b.root)
		return p.Any()
	}
	b.g = NewGovernor(tuned, limited, func(n int) { b.threads = n; b.changes++ }, slog.New(slog.DiscardHandler))
	return b
}

func (b *board) flags(bits string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.root, flags), []byte(bits+"\n"), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// decode runs turns with so many streams for a while.
func (b *board) decode(streams int, d time.Duration) {
	for end := b.now.Add(d); b.now.Before(end); {
		took := b.cost[b.threads] * time.Duration(streams)
		b.now = b.now.Add(took)
		b.g.Observe(streams, 0, took, b.now)
	}
}

// hot is a board that is fastest with two of its four threads when it is throttled.
var hot = map[int]time.Duration{1: 130 * time.Millisecond, 2: 90 * time.Millisecond, 3: 100 * time.Millisecond, 4: 120 * time.Millisecond}

func TestGovernorLeavesAFreeClockAlone(t *testing.T) {
	b := newBoard(t, 4, hot)
	b.flags("50000") // it was throttled once
	b.decode(1, 10*time.Minute)
	if b.changes != 0 || b.threads != 4 {
		t.Errorf("%d changes, %d threads", b.changes, b.threads)
	}
}

func TestGovernorFindsFewerThreads(t *testing.T) {
	b := newBoard(t, 4, hot)
	b.flags("50004")
	b.decode(1, time.Minute)
	if b.g.threads != 2 {
		t.Errorf("%d threads while throttled, want 2", b.g.threads)
	}
	b.flags("50000")
	b.decode(1, 20*time.Second)
	if b.g.threads != 2 || b.threads != 2 {
		t.Errorf("%d threads (%d in use) at once, want 2 until it has cooled", b.g.threads, b.threads)
	}
	b.decode(1, 20*time.Second)
	if b.threads != 4 {
		t.Errorf("%d threads after the clock is free, want 4", b.threads)
	}
}

func TestGovernorGoesUpAgain(t *testing.T) {
	b := newBoard(t, 4, hot)
	b.flags("1")
	b.decode(1, time.Minute)
	b.cost = map[int]time.Duration{1: 400 * time.Millisecond, 2: 200 * time.Millisecond, 3: 150 * time.Millisecond, 4: 100 * time.Millisecond}
	b.decode(1, 5*time.Minute)
	if b.g.threads != 4 {
		t.Errorf("%d threads, want 4", b.g.threads)
	}
}

// TestGovernorKeepsWhatIsFastest: where fewer threads are slower, or hardly faster, the tuned number is in use but for the
// trials, which are a small part of the time.
func TestGovernorKeepsWhatIsFastest(t *testing.T) {
	b := newBoard(t, 2, map[int]time.Duration{1: 99 * time.Millisecond, 2: 100 * time.Millisecond})
	b.flags("4")
	fewer := time.Duration(0)
	for range 600 {
		before := b.now
		b.decode(1, 500*time.Millisecond)
		if b.threads != 2 {
			fewer += b.now.Sub(before)
		}
	}
	if b.g.threads != 2 || fewer > 30*time.Second {
		t.Errorf("%d threads; %v of 5 min in trials", b.g.threads, fewer)
	}
}

// TestGovernorComparesLikeWithLike: turns of several sizes decide nothing.
func TestGovernorComparesLikeWithLike(t *testing.T) {
	b := newBoard(t, 2, map[int]time.Duration{1: 10 * time.Millisecond, 2: 20 * time.Millisecond})
	b.flags("4")
	for i := range 2000 {
		b.decode(1+i%2, time.Millisecond)
		b.g.Observe(1, 40, time.Second, b.now) // a prompt
	}
	if b.g.threads != 2 || b.threads != 2 {
		t.Errorf("%d threads (%d in use)", b.g.threads, b.threads)
	}
	b.decode(2, 2*time.Second)
	if b.g.threads != 1 {
		t.Errorf("%d threads, want 1", b.g.threads)
	}
}

func TestNoGovernor(*testing.T) {
	var g *Governor
	g.Observe(1, 0, time.Second, time.Now())
}
