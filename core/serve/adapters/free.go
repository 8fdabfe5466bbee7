package adapters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"edged/core/protocol"
)

// unload takes a content out of the backend. The caller has its turn.
func (f *Folder) unload(ctx context.Context, c *content) error {
	f.mu.Lock()
	l, id, here := c.loader, c.id, c.loaded(f.life)
	if c.uses > 0 {
		here = false // somebody was faster
	} else {
		c.loader, c.id = nil, ""
	}
	f.mu.Unlock()
	if !here {
		return nil
	}
	err := l.UnloadAdapter(context.WithoutCancel(ctx), id)
	if errors.Is(err, protocol.ErrAdapterNotFound) || errors.Is(err, protocol.ErrPluginDied) {
		return nil // it is not there any more, which is what was wanted
	}
	return err
}

// free takes contents that nobody refers to out of the backend and out of the store, whenever there may be
// some, until ctx ends.
//
// After ctx's end nothing is removed any more: the dispatcher lets its requests go then, and those that stand
// in a durable journal come back for their bytes in the next process.
func (f *Folder) free(ctx context.Context) {
	for {
		f.freeOnce(ctx)
		select {
		case <-f.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (f *Folder) freeOnce(ctx context.Context) {
	f.mu.Lock()
	var unused []*content
	for _, c := range f.contents {
		if c.refs == 0 {
			unused = append(unused, c)
		}
	}
	f.mu.Unlock()
	for _, c := range unused {
		select {
		case c.turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
		f.freeContent(ctx, c)
		<-c.turn
	}
}

// freeContent forgets one content, unless somebody refers to it again. The caller has its turn.
func (f *Folder) freeContent(ctx context.Context, c *content) {
	unused := func() bool { return c.refs == 0 && ctx.Err() == nil }
	f.mu.Lock()
	ok := unused()
	f.mu.Unlock()
	if !ok {
		return
	}
	if err := f.unload(ctx, c); err != nil && ctx.Err() == nil {
		f.log.WarnContext(ctx, "an adapter was not unloaded", "sha256", c.sha256, "err", err)
	}
	f.mu.Lock()
	if !unused() {
		f.mu.Unlock()
		return
	}
	delete(f.contents, c.sha256)
	discard, err := f.store.detach(c.sha256) // a rename; with the lock held, so that nobody finds it half removed
	f.mu.Unlock()
	if err == nil {
		err = discard()
	}
	if err != nil {
		f.log.WarnContext(ctx, "a copy of an adapter was not removed", "sha256", c.sha256, "err", err)
	}
}

// Sweep removes the copies that nothing refers to. It is called once, when the requests of an earlier process have been
// taken up again: their pins keep what they need.
func (f *Folder) Sweep(ctx context.Context) {
	if f.o.Dir == "" {
		return
	}
	sums, err := f.store.list()
	if err != nil {
		f.log.WarnContext(ctx, "the copies of adapters cannot be listed", "path", f.o.Store, "err", err)
		return
	}
	for _, sum := range sums {
		f.mu.Lock()
		if f.contents[sum] != nil {
			f.mu.Unlock()
			continue
		}
		discard, err := f.store.detach(sum)
		f.mu.Unlock()
		if err == nil {
			err = discard()
		}
		if err != nil {
			f.log.WarnContext(ctx, "a copy of an adapter was not removed", "sha256", sum, "err", err)
		}
	}
}

// Prove loads what is served into a new life of the backend, so that the first request that names one does
// not wait for it: the ones that were used last, as far as the limit goes. What the backend refuses is
// rejected and stops nothing; an error is the backend's death, or ctx's end.
func (f *Folder) Prove(ctx context.Context, l Loader, life uint64) error {
	type served struct {
		g    *Generation
		used uint64
	}
	f.mu.Lock()
	f.life = max(f.life, life)
	var all []served
	for _, e := range f.names {
		if g := e.current; g != nil {
			all = append(all, served{g, g.content.used})
			g.content.refs++ // it stays while it is looked at
		}
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, s := range all {
			f.drop(s.g.content)
		}
	}()
	slices.SortFunc(all, func(a, b served) int {
		return cmp.Or(cmp.Compare(b.used, a.used), cmp.Compare(a.g.name, b.g.name))
	})
	total := int64(0)
	for _, s := range all {
		g, c := s.g, s.g.content
		f.mu.Lock()
		total += c.info.Bytes
		deadly := c.deaths >= deaths
		f.mu.Unlock()
		if total > f.o.Limits.Memory {
			return nil // the others come when they are asked for
		}
		var err error
		if deadly {
			err = errDeadly
		} else {
			_, err = f.load(ctx, c, g.name, l, life)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, protocol.ErrPluginDied):
			return fmt.Errorf("adapters: %s: %w", g.name, err)
		default:
			f.withdraw(ctx, g, err)
		}
	}
	return nil
}

// withdraw ends the service of a generation that a new life of the backend refuses.
func (f *Folder) withdraw(ctx context.Context, g *Generation, why error) {
	f.mu.Lock()
	if e := f.names[g.name]; e != nil && e.current == g {
		f.replace(e, nil)
		if e.done {
			f.refuse(e, why)
		}
	}
	f.mu.Unlock()
	f.log.WarnContext(ctx, "adapter rejected", "adapter", g.name, "generation", g.number, "err", why)
	f.o.Notify()
}

// replace makes a generation, or none, the one that is served. f.mu is held.
func (f *Folder) replace(e *entry, g *Generation) {
	old := e.current
	e.current = g
	f.dirty = true
	if g != nil {
		g.current = true
		e.number = g.number
	}
	if old != nil {
		old.current, old.counted = false, true
		e.old++ // retire takes it back where nothing is pinned
		f.retire(old)
	}
}
