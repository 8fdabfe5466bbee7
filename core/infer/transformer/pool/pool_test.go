package pool

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// atLeast raises GOMAXPROCS for one test: the pool never has more threads than that.
func atLeast(tb testing.TB, n int) {
	tb.Helper()
	if old := runtime.GOMAXPROCS(0); old < n {
		runtime.GOMAXPROCS(n)
		tb.Cleanup(func() { runtime.GOMAXPROCS(old) })
	}
}

type hits struct{ n []atomic.Int32 }

func (h *hits) Do(_, chunk int) { h.n[chunk].Add(1) }

func TestEveryChunkOnce(t *testing.T) {
	atLeast(t, 4)
	for _, threads := range []int{1, 2, 4} {
		p := New(threads)
		if p.Threads() != threads {
			t.Fatalf("%d threads, want %d", p.Threads(), threads)
		}
		h := &hits{n: make([]atomic.Int32, 40)}
		for rep := range int32(3000) {
			n := int(rep)%40 + 1
			if rep%97 == 0 {
				n = 0
			}
			p.Run(1+int(rep)%5, n, h)
			for i := range h.n {
				want := int32(0)
				if i < n {
					want = 1
				}
				if got := h.n[i].Swap(0); got != want {
					t.Fatalf("threads %d, repetition %d: chunk %d of %d ran %d times, want %d", threads, rep, i, n, got, want)
				}
			}
			if rep%1000 == 999 {
				time.Sleep(3 * spinFor) // so that workers sleep and are woken again
			}
		}
		p.Close()
		p.Close()
	}
}

// sum writes plain memory: the race detector sees whether the barrier orders it.
type sum struct{ in, out []int }

func (s *sum) Do(_, chunk int) { s.out[chunk] += s.in[chunk] }

func TestBarrierOrdersMemory(t *testing.T) {
	atLeast(t, 3)
	p := New(3)
	defer p.Close()
	s := &sum{in: make([]int, 25), out: make([]int, 25)}
	const reps = 2000
	for range reps {
		for i := range s.in {
			s.in[i]++
		}
		p.Run(3, len(s.in), s)
	}
	for i, v := range s.out {
		if v != reps*(reps+1)/2 {
			t.Fatalf("chunk %d: %d", i, v)
		}
	}
}

func TestLongJobIsCut(t *testing.T) {
	atLeast(t, 2)
	p := New(2)
	defer p.Close()
	h := &hits{n: make([]atomic.Int32, 2*maxChunks+3)}
	p.Run(2, len(h.n), h)
	for i := range h.n {
		if h.n[i].Load() != 1 {
			t.Fatalf("chunk %d ran %d times", i, h.n[i].Load())
		}
	}
}

func TestThreadsAreCapped(t *testing.T) {
	old := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(old)
	p := New(8)
	defer p.Close()
	if p.Threads() != 1 {
		t.Fatalf("%d threads with GOMAXPROCS 1", p.Threads())
	}
	h := &hits{n: make([]atomic.Int32, 9)}
	p.Run(8, 9, h)
	for i := range h.n {
		if h.n[i].Load() != 1 {
			t.Fatalf("chunk %d ran %d times", i, h.n[i].Load())
		}
	}
}

func TestRunAllocatesNothing(t *testing.T) {
	atLeast(t, 2)
	p := New(2)
	defer p.Close()
	h := &hits{n: make([]atomic.Int32, 32)}
	if n := testing.AllocsPerRun(200, func() { p.Run(2, 32, h) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestIdleCostsNothing(t *testing.T) {
	atLeast(t, 3)
	p := New(3)
	defer p.Close()
	h := &hits{n: make([]atomic.Int32, 32)}
	p.Run(3, 32, h)
	deadline := time.Now().Add(5 * time.Second)
	for p.parked.Load() != 0b110 {
		if time.Now().After(deadline) {
			t.Fatalf("workers still awake: parked %b", p.parked.Load())
		}
		time.Sleep(spinFor)
	}
	before := cpuTime(t)
	time.Sleep(200 * time.Millisecond)
	if used := cpuTime(t) - before; used > 20*time.Millisecond {
		t.Fatalf("%v of CPU time in 200 ms of idleness", used)
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Skip(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func TestCollectorIsNotHeldUp(t *testing.T) {
	atLeast(t, 2)
	p := New(2)
	defer p.Close()
	h := &hits{n: make([]atomic.Int32, 8)}
	for range 50 {
		p.Run(2, 8, h)
		runtime.GC()
	}
}

type work struct{ n int }

var sink atomic.Uint64

func (w *work) Do(int, int) {
	s := uint64(w.n)
	for range w.n {
		s = s*6364136223846793005 + 1442695040888963407
	}
	sink.Add(s)
}

// BenchmarkBarrier gives each of two threads about 30 µs of work in 16 chunks; compare with one thread.
func BenchmarkBarrier(b *testing.B) {
	atLeast(b, 2)
	p := New(2)
	defer p.Close()
	for _, threads := range []int{1, 2} {
		b.Run(map[int]string{1: "inline", 2: "two"}[threads], func(b *testing.B) {
			w := &work{n: 3750}
			for b.Loop() {
				p.Run(threads, 16, w)
			}
		})
	}
}
