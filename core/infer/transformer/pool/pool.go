// Package pool runs the chunks of one job on threads that stay, with a barrier of about a microsecond: a decoded token
// of a 16-layer model passes some eighty barriers, and waking a sleeping thread for each (15 to 150 µs) would leave
// nothing of a second core.
//
// It must not know what a chunk computes. Workers take chunks from one atomic word; the barrier waits for
// chunks and not for workers, so that a worker which the kernel has descheduled costs at most the chunk that
// it holds. Who has to wait spins for a while and then sleeps. Nobody calls sched_yield: Linux 6.18 charges a
// time slice for each call, and a thread that had yielded in a loop was seen to starve for six seconds, with
// a chunk in its hands, when another process came to its core. A Pool is used by one goroutine at a time.
package pool

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Job is the work that Run divides. It is an interface and not a function, so that a preallocated struct can
// be handed over without a closure being allocated.
type Job interface {
	// Do computes one chunk on thread worker (0: the caller of Run). Different chunks run concurrently and touch
	// disjoint outputs; those of one worker run one after another, so that scratch can be kept per worker.
	Do(worker, chunk int)
}

const (
	// spinFor is how long a worker polls before it sleeps: longer than the serial pieces of a forward pass
	// and than what usually lies between two decoded tokens, short enough for an idle service to cost
	// nothing.
	spinFor = time.Millisecond
	// waitFor is how long the caller of Run polls for the end of chunks that others compute. It is longer
	// than a time slice of Linux (3 ms): who sleeps on a busy machine gives its core away for a slice, and
	// comes back later than the thread it waited for. With 200 µs a prompt took an eighth longer there.
	waitFor = 4 * time.Millisecond
	// pollsPerClock is the number of polls between two looks at the clock.
	pollsPerClock = 64
	// maxChunks is the largest value of the half word that counts chunks; Run cuts longer jobs.
	maxChunks = 1<<16 - 1
	// maxThreads is the number of bits in the mask of sleepers.
	maxThreads = 64
)

// Pool is a set of threads, the caller of Run among them.
type Pool struct {
	threads int

	job  Job // of the current Run; read after a chunk was taken, written when all chunks are done
	base int

	_      [64]byte
	word   atomic.Uint32 // chunks<<16 | next chunk
	_      [60]byte
	done   atomic.Uint32 // chunks finished
	_      [60]byte
	active atomic.Int32 // threads that may take part in the current Run
	_      [60]byte
	parked atomic.Uint64 // bit i: worker i sleeps, or is about to; bit 0: the caller of Run
	stop   atomic.Bool

	wake   [maxThreads]chan struct{}
	exited sync.WaitGroup
}

// New starts threads-1 workers; the caller of Run is the remaining thread. threads ≤ 0 means GOMAXPROCS, which is also
// the upper limit: more spinning threads than cores cost a time slice (4 to 30 ms) a barrier.
func New(threads int) *Pool {
	limit := min(runtime.GOMAXPROCS(0), maxThreads)
	if threads <= 0 || threads > limit {
		threads = limit
	}
	p := &Pool{threads: threads}
	p.wake[0] = make(chan struct{}, 1)
	for id := 1; id < threads; id++ {
		p.wake[id] = make(chan struct{}, 1)
		p.exited.Add(1)
		go p.worker(id)
	}
	return p
}

// Threads is the number of threads, the caller of Run included.
func (p *Pool) Threads() int { return p.threads }

// Run calls job.Do for every chunk in [0, n) on at most threads threads and returns when all are done. It allocates
// nothing. With one thread or one chunk everything runs on the caller's goroutine.
func (p *Pool) Run(threads, n int, job Job) {
	threads = min(threads, p.threads)
	if threads <= 1 || n <= 1 {
		for c := range n {
			job.Do(0, c)
		}
		return
	}
	for base := 0; base < n; base += maxChunks {
		p.run(threads, base, min(n-base, maxChunks), job)
	}
}

func (p *Pool) run(threads, base, n int, job Job) {
	p.job, p.base = job, base
	p.done.Store(0)
	p.active.Store(int32(threads))
	p.word.Store(uint32(n) << 16)
	// From here on a worker either sees the word before it sleeps or shows in the mask.
	if p.parked.Load() != 0 {
		for id := 1; id < threads; id++ {
			p.wakeUp(id)
		}
	}
	for p.take(0) {
	}
	var since time.Time
	for polls := 1; p.done.Load() != uint32(n); polls++ {
		if polls%pollsPerClock != 0 {
			continue
		}
		if since.IsZero() {
			since = time.Now()
		} else if time.Since(since) > waitFor {
			p.park(0) // the owner of the last chunk may be waiting for this very core
		}
	}
	p.job = nil
}

// take runs one chunk on thread worker if there is one. A word that was read in an earlier Run does no harm: when the
// exchange succeeds, it is equal to the current one and names a chunk of the current job.
func (p *Pool) take(worker int) bool {
	for {
		v := p.word.Load()
		if v&0xffff >= v>>16 {
			return false
		}
		if p.word.CompareAndSwap(v, v+1) {
			p.job.Do(worker, p.base+int(v&0xffff))
			if p.done.Add(1) == v>>16 {
				p.wakeUp(0)
			}
			return true
		}
	}
}

// worker is the life of thread id. It keeps its operating system thread: a goroutine that moves between threads while
// it spins is preempted with the thread that it happens to be on.
func (p *Pool) worker(id int) {
	defer p.exited.Done()
	runtime.LockOSThread()
	var since time.Time
	for polls := 1; !p.stop.Load(); polls++ {
		if id < int(p.active.Load()) && p.take(id) {
			polls, since = 0, time.Time{}
			continue
		}
		if polls%pollsPerClock != 0 {
			continue
		}
		if since.IsZero() {
			since = time.Now()
			continue
		}
		if time.Since(since) > spinFor {
			p.park(id)
			polls, since = 0, time.Time{}
		}
	}
}

// park sleeps until there is work for thread id: for a worker a chunk or the end, for the caller of Run the
// last chunk's end. A thread that provides work either sees the bit here, or is seen by the look after it.
func (p *Pool) park(id int) {
	bit := uint64(1) << id
	p.parked.Or(bit)
	v := p.word.Load()
	var ready bool
	if id == 0 {
		ready = p.done.Load() == v>>16
	} else {
		ready = p.stop.Load() || v&0xffff < v>>16 && id < int(p.active.Load())
	}
	if ready && p.parked.And(^bit)&bit != 0 {
		return
	}
	<-p.wake[id] // also where somebody was faster to clear the bit: a token is on its way
}

// wakeUp sends a token to thread id if it sleeps. The thread that clears the bit sends exactly one, so that
// the channel's one place is free.
func (p *Pool) wakeUp(id int) {
	bit := uint64(1) << id
	if p.parked.Load()&bit != 0 && p.parked.And(^bit)&bit != 0 {
		p.wake[id] <- struct{}{}
	}
}

// Close ends the workers and waits for them. No Run may be in progress or follow.
func (p *Pool) Close() {
	if p.stop.Swap(true) {
		return
	}
	for id := 1; id < p.threads; id++ {
		p.wakeUp(id)
	}
	p.exited.Wait()
}
