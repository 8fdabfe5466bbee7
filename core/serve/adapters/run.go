package adapters

import (
	"context"
	"sync"
	"time"

	"edged/core/serve/watch"
)

// throttle is the least time between two looks that hints ask for, relative to Settle: a program that writes
// in small steps makes thousands of events.
const throttle = 20

// First decides about everything that the folder held when it was opened, so that a node that says it is online has its
// adapters. It waits for what has not settled yet, but not for what keeps changing. The error is ctx's end.
func (f *Folder) First(ctx context.Context) error {
	if f.o.Dir == "" {
		return nil
	}
	end := time.Now().Add(2 * f.o.Settle)
	for {
		f.rescan(ctx)
		next, at := f.due(time.Now())
		if next != nil {
			if err := f.take(ctx, next); err != nil {
				return err
			}
			continue
		}
		if !f.undecided() || at.IsZero() || at.After(end) {
			return ctx.Err()
		}
		if err := watch.Pause(ctx, at, nil); err != nil {
			return err
		}
	}
}

// undecided tells whether a drop waits to be looked at.
func (f *Folder) undecided() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.names {
		if !e.done && e.state != Draining {
			return true
		}
	}
	return false
}

// Run keeps the catalogue in step with the folder until ctx ends, which is nil. Drops are proved one at a time, in the
// order in which they settled: many at once wait for each other and not for the machine.
func (f *Folder) Run(ctx context.Context) error {
	if f.o.Dir == "" {
		<-ctx.Done()
		return nil
	}
	w := watch.New(ctx, f.log, "adapters")
	defer w.Close()
	f.run(ctx, w)
	return nil
}

// eyes hint that the folder changed.
type eyes interface {
	Hints() <-chan struct{}
	// Follow says what to look at: the folder, and what in it is a folder.
	Follow(dir string, files []string)
}

func (f *Folder) run(ctx context.Context, w eyes) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.free(ctx) })
	for ctx.Err() == nil {
		began := time.Now()
		f.rescan(ctx)
		w.Follow(f.o.Dir, f.files()) // a new watch is a hint: something may have happened before it
		next, at := f.due(time.Now())
		if next != nil {
			if f.take(ctx, next) != nil {
				return
			}
			continue
		}
		if tick := began.Add(f.o.Rescan); at.IsZero() || tick.Before(at) {
			at = tick
		}
		if watch.Pause(ctx, at, w.Hints()) != nil {
			return
		}
		if soon := began.Add(f.o.Settle / throttle); time.Now().Before(soon) {
			if watch.Pause(ctx, soon, nil) != nil {
				return
			}
		}
	}
}

// files are the entries of the folder that are adapters.
func (f *Folder) files() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var files []string
	for _, e := range f.names {
		if e.file != "" {
			files = append(files, e.file)
		}
	}
	return files
}
