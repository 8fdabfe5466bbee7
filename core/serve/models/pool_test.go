package models

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakePair is a model that takes a second to load for each byte that it needs.
type fakePair struct {
	name  string
	bytes int64
	limit int64
	bad   error
	loads func(name, what string)
	die   chan error
}

func (f *fakePair) Run(ctx context.Context) error {
	f.loads(f.name, "begins")
	defer f.loads(f.name, "ends")
	select {
	case <-ctx.Done():
		return nil
	case err := <-f.die:
		return err
	}
}

func (f *fakePair) Ready(ctx context.Context) error {
	select {
	case <-time.After(time.Duration(f.bytes) * time.Second):
		return f.bad
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakePair) Bytes() int64 { return f.bytes }

// rig is a pool of models A to Z, of which each needs as many bytes as sizes says.
type rig struct {
	*Pool[*fakePair]

	sizes map[string]int64
	bad   map[string]error

	mu    sync.Mutex
	diary []string
	pairs map[string]*fakePair
	most  int64 // bytes in memory at once
	now   int64
	count uint64
}

func (r *rig) note(name, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.diary = append(r.diary, name+" "+what)
	if what == "begins" {
		r.now += r.sizes[name]
	} else {
		r.now -= r.sizes[name]
	}
	r.most = max(r.most, r.now)
}

func (r *rig) told() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.diary, ", ")
}

// inPool runs a test with a pool of a budget.
func inPool(t *testing.T, budget int64, pinned []string, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{sizes: map[string]int64{"a": 4, "b": 4, "c": 4, "big": 9, "huge": 11}, bad: map[string]error{}, pairs: map[string]*fakePair{}}
		r.Pool = NewPool(PoolOptions[*fakePair]{
			Budget: budget, Pinned: pinned, Several: func() bool { return true },
			Make: func(w Wanted, limit int64) *fakePair {
				f := &fakePair{name: w.State.Name, bytes: r.sizes[w.State.Name], limit: limit, bad: r.bad[w.State.Name], loads: r.note, die: make(chan error, 1)}
				r.mu.Lock()
				r.pairs[f.name] = f
				r.mu.Unlock()
				return f
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.Run(ctx) }()
		defer func() {
			cancel()
			<-done
			if len(r.waiting) != 0 || r.now != 0 {
				t.Errorf("left behind: %d wait, %d bytes are loaded", len(r.waiting), r.now)
			}
		}()
		test(t, r)
	})
}

func (r *rig) want(name string) Wanted {
	return Wanted{State: State{Name: name, Facts: Facts{Needs: r.sizes[name]}}, Version: 1}
}

// get acquires a model; priority 0.
func (r *rig) get(t *testing.T, name string) *Lease[*fakePair] {
	t.Helper()
	l, err := r.Acquire(t.Context(), r.want(name), r.rank(), nil)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return l
}

func (r *rig) rank() Rank {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	return Rank{Since: time.Now(), Number: r.count}
}

func TestLeastRecentlyUsedIdleModelLeaves(t *testing.T) {
	inPool(t, 10, nil, func(t *testing.T, r *rig) {
		r.get(t, "a").Release()
		r.get(t, "b").Release()
		time.Sleep(time.Second)
		r.get(t, "a").Release()
		told := false
		l, err := r.Acquire(t.Context(), r.want("c"), r.rank(), func() { told = true })
		if err != nil || !told {
			t.Fatalf("%v, the wait was told: %v", err, told)
		}
		if got, want := r.told(), "a begins, b begins, b ends, c begins"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got := r.Holding("b").State; got != Available {
			t.Errorf("b is %s", got)
		}
		if h := r.Holding("c"); h.State != Loaded || h.Bytes != 4 || h.Users != 1 {
			t.Errorf("c: %+v", h)
		}
		l.Release()
		l.Release() // nothing happens twice
		if got := r.Holding("c").Users; got != 0 {
			t.Errorf("c has %d users after its release", got)
		}
	})
}

// A model may take half of the memory where there are several, and the rest where it needs more.
func TestLimit(t *testing.T) {
	inPool(t, 10, nil, func(t *testing.T, r *rig) {
		r.get(t, "a").Release()
		if got := r.pairs["a"].limit; got != 5 {
			t.Errorf("a may take %d of 10", got)
		}
		r.get(t, "big").Release()
		if got := r.pairs["big"].limit; got != 10 {
			t.Errorf("big, which needs 9, may take %d of 10", got)
		}
	})
}

func TestTooLarge(t *testing.T) {
	inPool(t, 10, []string{"a"}, func(t *testing.T, r *rig) {
		r.get(t, "a").Release()
		for _, name := range []string{"huge", "big"} {
			_, err := r.Acquire(t.Context(), r.want(name), r.rank(), nil)
			if !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %v", name, err)
			}
			if h := r.Holding(name); h.State != Available || h.Err == nil {
				t.Errorf("%s: %+v", name, h)
			}
		}
		if got, want := r.told(), "a begins"; got != want {
			t.Errorf("%s, want %s: nothing leaves in vain", got, want)
		}
	})
}

func TestFailedLoadIsTold(t *testing.T) {
	inPool(t, 10, nil, func(t *testing.T, r *rig) {
		r.bad["a"] = errors.New("cut off at byte 7")
		if _, err := r.Acquire(t.Context(), r.want("a"), r.rank(), nil); err == nil || !strings.Contains(err.Error(), "byte 7") {
			t.Errorf("%v", err)
		}
		if h := r.Holding("a"); h.State != Available || h.Bytes != 0 || h.Err == nil {
			t.Errorf("%+v", h)
		}
		delete(r.bad, "a")
		r.get(t, "a").Release()
		if h := r.Holding("a"); h.Err != nil {
			t.Errorf("it is loaded, and still: %v", h.Err)
		}
	})
}

// Of models that are all in use, the one that was loaded first takes no more, those leave that have not begun, and those that have are
// waited for.
func TestBusyModelMakesRoom(t *testing.T) {
	inPool(t, 10, nil, func(t *testing.T, r *rig) {
		works := r.get(t, "a")
		if !works.Begin() {
			t.Fatal("it may not begin")
		}
		other := r.get(t, "b")
		if !other.Begin() {
			t.Fatal("it may not begin")
		}
		time.Sleep(time.Minute)
		cannot := make(chan *Lease[*fakePair])
		go func() { cannot <- r.get(t, "c") }()
		synctest.Wait()
		waits, err := r.Acquire(t.Context(), r.want("b"), r.rank(), nil) // b stays open
		if err != nil {
			t.Fatal(err)
		}
		// After c, and of a: it waits until a is back.
		late := make(chan *Lease[*fakePair])
		go func() { late <- r.get(t, "a") }()
		synctest.Wait()
		select {
		case <-late:
			t.Fatal("a took somebody in while it was to make room")
		default:
		}
		select {
		case <-works.Asked():
			t.Error("who has begun was asked to leave")
		default:
		}
		works.Release()
		c := <-cannot
		if got, want := r.told(), "a begins, b begins, a ends, c begins"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		// Now a's turn: b was loaded before c, and who waits there came before.
		synctest.Wait()
		select {
		case <-waits.Asked():
			t.Error("who came before was asked to leave")
		default:
		}
		waits.Release()
		other.Release()
		(<-late).Release()
		c.Release()
	})
}

// Who goes before the one that room is made for is still let in, and is not asked to leave.
func TestHigherPriorityIsNotSentAway(t *testing.T) {
	inPool(t, 5, nil, func(t *testing.T, r *rig) {
		works := r.get(t, "a")
		works.Begin()
		old := r.rank()
		time.Sleep(time.Minute)
		cGot := make(chan *Lease[*fakePair])
		go func() { cGot <- r.get(t, "c") }()
		synctest.Wait()
		before, err := r.Acquire(t.Context(), r.want("a"), old, nil)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-before.Asked():
			t.Error("it goes first, and was asked to leave")
		default:
		}
		if !before.Begin() {
			t.Error("it may not begin")
		}
		before.Release()
		works.Release()
		(<-cGot).Release()
	})
}

// A model in use stays at least as long as its loading took.
func TestModelStays(t *testing.T) {
	inPool(t, 5, nil, func(t *testing.T, r *rig) {
		works := r.get(t, "a")
		works.Begin()
		since := time.Now()
		cGot := make(chan *Lease[*fakePair])
		go func() { cGot <- r.get(t, "c") }()
		synctest.Wait()
		waits := r.get(t, "a") // after c, and a is still open
		<-waits.Asked()
		if waits.Begin() {
			t.Error("it may begin although it was asked to leave")
		}
		if took := time.Since(since); took != 4*time.Second {
			t.Errorf("a had to go after %v, and loading it takes 4 s", took)
		}
		waits.Release()
		works.Release()
		(<-cGot).Release()
	})
}

func TestWaiterThatGoesAwayIsForgotten(t *testing.T) {
	inPool(t, 5, nil, func(t *testing.T, r *rig) {
		works := r.get(t, "a")
		works.Begin()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancelCause(t.Context())
		gave := errors.New("gave up")
		got := make(chan error)
		go func() {
			_, err := r.Acquire(ctx, r.want("c"), r.rank(), nil)
			got <- err
		}()
		synctest.Wait()
		cancel(gave)
		if err := <-got; !errors.Is(err, gave) {
			t.Errorf("%v", err)
		}
		r.get(t, "a").Release() // a takes somebody in again
		works.Release()
		if got, want := r.told(), "a begins"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// Files that were replaced: who has the old model keeps it, who comes later gets the new one.
func TestReplacedFiles(t *testing.T) {
	inPool(t, 10, nil, func(t *testing.T, r *rig) {
		old := r.get(t, "a")
		next := r.want("a")
		next.Version = 2
		got := make(chan *Lease[*fakePair])
		go func() {
			l, err := r.Acquire(t.Context(), next, r.rank(), nil)
			if err != nil {
				t.Error(err)
			}
			got <- l
		}()
		synctest.Wait()
		if !old.Begin() {
			t.Error("who came before is sent away")
		}
		old.Release()
		l := <-got
		if want := "a begins, a ends, a begins"; r.told() != want {
			t.Errorf("%s, want %s", r.told(), want)
		}
		l.Release()
		r.Forget("a")
		synctest.Wait()
		if got := r.Holding("a").State; got != Available {
			t.Errorf("its files are gone, and it is %s", got)
		}
	})
}

// Plugins that end for good are no model: the next who wants it has it loaded anew.
func TestPairThatEnds(t *testing.T) {
	inPool(t, 10, nil, func(t *testing.T, r *rig) {
		r.get(t, "a").Release()
		r.pairs["a"].die <- errors.New("no such file")
		synctest.Wait()
		r.get(t, "a").Release()
		if want := "a begins, a ends, a begins"; r.told() != want {
			t.Errorf("%s, want %s", r.told(), want)
		}
	})
}

// Many requests over three models, of which two fit: each is served, and never is more loaded than there is memory.
func TestManyOverThree(t *testing.T) {
	for seed := range uint64(20) {
		inPool(t, 10, nil, func(t *testing.T, r *rig) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var wg sync.WaitGroup
			served := make([]int, 3)
			var mu sync.Mutex
			for range 300 {
				model, think, work := rnd.IntN(3), time.Duration(rnd.IntN(200))*time.Second, time.Duration(rnd.IntN(5000))*time.Millisecond
				priority := rnd.IntN(3)
				wg.Go(func() {
					time.Sleep(think)
					rank := r.rank()
					rank.Priority = priority
					for {
						l, err := r.Acquire(t.Context(), r.want(string(rune('a'+model))), rank, nil)
						if err != nil {
							t.Error(err)
							return
						}
						if l.Begin() {
							time.Sleep(work)
							l.Release()
							break
						}
						l.Release()
					}
					mu.Lock()
					served[model]++
					mu.Unlock()
				})
			}
			wg.Wait()
			synctest.Wait() // what is unloaded still writes the diary
			if n := served[0] + served[1] + served[2]; n != 300 || slices.Min(served) == 0 {
				t.Errorf("served: %v", served)
			}
			if r.most > 10 {
				t.Errorf("%d bytes were loaded at once, and there are 10", r.most)
			}
			for i, line := range r.diary {
				if strings.HasSuffix(line, "ends") && !slices.Contains(r.diary[:i], strings.TrimSuffix(line, "ends")+"begins") {
					t.Errorf("%s before it began", line)
				}
			}
		})
	}
}

func TestRankOrder(t *testing.T) {
	now := time.Now()
	for i, c := range []struct {
		a, b Rank
		want bool
	}{
		{Rank{Priority: 1, Since: now}, Rank{Since: now}, true},
		{Rank{Since: now, Number: 1}, Rank{Since: now, Number: 2}, true},
		{Rank{Since: now, Number: 2}, Rank{Since: now, Number: 1}, false},
		{Rank{Since: now.Add(-20 * time.Second), Number: 2}, Rank{Priority: 1, Since: now, Number: 1}, true},
	} {
		if got := c.a.before(c.b, now, 10*time.Second); got != c.want {
			t.Errorf("case %d: %t", i, got)
		}
	}
}

// TestForecast: while a model is loaded into memory that nobody has counted, it tells what its plugins forecast.
func TestForecast(t *testing.T) {
	inPool(t, 0, nil, func(t *testing.T, r *rig) {
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			if l, err := r.Acquire(t.Context(), r.want("a"), r.rank(), nil); err == nil {
				l.Release()
			}
		}()
		synctest.Wait()
		if h := r.Holding("a"); h.State != Loading || h.Bytes != 4 {
			t.Errorf("%+v", h)
		}
		<-asked
	})
}
