package adapters

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// content is the bytes of an adapter in the store. Two names, and two generations, may have the same. Its fields belong
// to Folder.mu.
type content struct {
	sha256 string
	refs   int    // generations that are served or pinned, and drops that are being proved
	proved bool   // in some life of the backend of this process
	uses   int    // pins that the backend was asked about: it stays loaded meanwhile
	used   uint64 // Folder.clock of the latest use
	deaths int    // of the backend while it was being loaded
	info   backend.AdapterInfo

	turn   chan struct{} // holds a value while it is being loaded or unloaded
	loader Loader
	life   uint64 // of the backend, in which it has the id
	id     string
}

func (c *content) loaded(life uint64) bool { return c.id != "" && c.life == life }

// hold returns the content of a hash and counts a reference. f.mu is held.
func (f *Folder) hold(sum string) *content {
	c := f.contents[sum]
	if c == nil {
		c = &content{sha256: sum, turn: make(chan struct{}, 1)}
		f.contents[sum] = c
	}
	c.refs++
	return c
}

// drop takes a reference back. f.mu is held.
func (f *Folder) drop(c *content) {
	if c.refs--; c.refs == 0 {
		f.stir()
	}
}

// stir wakes the one who frees.
func (f *Folder) stir() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Pin keeps a generation for one request. Its methods are called by one goroutine at a time.
type Pin struct {
	f    *Folder
	g    *Generation
	used bool
	over bool
}

// pin is called with f.mu held.
func (f *Folder) pin(g *Generation) *Pin {
	g.pins++
	return &Pin{f: f, g: g}
}

// SHA256 is the hash of the pinned content.
func (p *Pin) SHA256() string { return p.g.content.sha256 }

// Use returns the content's id in a life of the backend, where it is loaded when it is not yet, and stays
// until Release.
func (p *Pin) Use(ctx context.Context, l Loader, life uint64) (string, error) {
	f, c := p.f, p.g.content
	f.mu.Lock()
	f.clock++
	c.used = f.clock
	if !p.used {
		p.used = true
		c.uses++
	}
	if c.loaded(life) {
		defer f.mu.Unlock()
		return c.id, nil
	}
	f.mu.Unlock()
	info, err := f.load(ctx, c, p.g.name, l, life)
	return info.ID, err
}

// Release ends the pin. It never blocks; later calls do nothing.
func (p *Pin) Release() {
	f, g := p.f, p.g
	f.mu.Lock()
	if p.over {
		f.mu.Unlock()
		return
	}
	p.over = true
	if p.used {
		g.content.uses--
	}
	g.pins--
	news := f.retire(g)
	f.mu.Unlock()
	if news {
		f.o.Notify()
	}
}

// retire ends a generation that is neither served nor pinned, and reports whether a state changed. f.mu is held.
func (f *Folder) retire(g *Generation) bool {
	if g.current || g.pins > 0 {
		return false
	}
	f.drop(g.content)
	e := f.names[g.name]
	if e == nil || !g.counted {
		return false
	}
	g.counted = false
	if e.old--; e.state == Draining && e.old == 0 {
		f.forget(e)
	}
	return true
}

// load makes a content ready in a life of the backend. Two at once for one content take turns, and the second finds it
// loaded.
func (f *Folder) load(ctx context.Context, c *content, name string, l Loader, life uint64) (backend.AdapterInfo, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return backend.AdapterInfo{}, ctx.Err()
	}
	defer func() { <-c.turn }()
	f.mu.Lock()
	f.life = max(f.life, life)
	if c.loaded(life) {
		defer f.mu.Unlock()
		return c.info, nil
	}
	need := c.info.Bytes
	f.mu.Unlock()
	if err := f.makeRoom(ctx, need, life); err != nil {
		return backend.AdapterInfo{}, err
	}
	// A load that its request does not wait for any more would leave an adapter behind that nobody knows of.
	info, err := l.LoadAdapter(context.WithoutCancel(ctx), backend.AdapterRequest{Path: f.store.path(c.sha256), SHA256: c.sha256, Name: name})
	f.mu.Lock()
	if err == nil {
		c.loader, c.life, c.id, c.info, c.deaths = l, life, info.ID, info, 0
		f.clock++
		c.used = f.clock
	} else if errors.Is(err, protocol.ErrPluginDied) && ctx.Err() == nil {
		c.deaths++
	}
	f.mu.Unlock()
	if err != nil || need > 0 {
		return info, err
	}
	return info, f.makeRoom(ctx, 0, life) // only now it is known what it takes
}

// makeRoom takes the least recently used adapters out of the backend until need more bytes fit. Those that requests use
// stay, even beyond the limit: there are at most as many as requests run at once.
func (f *Folder) makeRoom(ctx context.Context, need int64, life uint64) error {
	for {
		f.mu.Lock()
		total := need
		var idle []*content
		for _, c := range f.contents {
			if c.loaded(life) {
				total += c.info.Bytes
				if c.uses == 0 {
					idle = append(idle, c)
				}
			}
		}
		if total <= f.o.Limits.Memory || len(idle) == 0 {
			f.mu.Unlock()
			return nil
		}
		slices.SortFunc(idle, func(a, b *content) int { return cmp.Compare(a.used, b.used) })
		var out *content
		for _, c := range idle {
			select {
			case c.turn <- struct{}{}:
				out = c
			default:
				continue // it is being loaded
			}
			break
		}
		if out == nil {
			f.mu.Unlock()
			return nil
		}
		f.mu.Unlock()
		err := f.unload(ctx, out)
		<-out.turn
		if err != nil {
			return err
		}
	}
}
