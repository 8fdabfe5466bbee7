package grammar

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// cost is what a call took: time of its thread, so that what else runs on the machine does not count, and bytes that it
// asked for, kept or not.
type cost struct {
	took  time.Duration
	bytes uint64
}

func (c cost) String() string {
	return fmt.Sprintf("%v, %d KiB", c.took.Round(100*time.Microsecond), c.bytes>>10)
}

func measure(t *testing.T, f func()) cost {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const rusageThread = 1
	now := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(rusageThread, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := now()
	f()
	took := now() - began
	runtime.ReadMemStats(&after)
	return cost{took, after.TotalAlloc - before.TotalAlloc}
}

// write draws at most n tokens at random.
func write(m *Matcher, pieces [][]byte, n int) error {
	rng := rand.New(rand.NewPCG(1, 1))
	for range n {
		st, err := m.Next()
		if err != nil || m.Ended() {
			return err
		}
		id := st.Only
		for k := rng.IntN(len(pieces)); id < 0 && k < 3*len(pieces); k++ {
			if c := int32(k % len(pieces)); st.Mask[c>>6]>>(c&63)&1 != 0 {
				id = c
			}
		}
		if id < 0 {
			return nil
		}
		if err := m.Advance(id, pieces[id]); err != nil {
			return err
		}
	}
	return nil
}
