package prefix

import (
	"slices"

	"edged/core/infer/engine/compute"
	"edged/core/infer/kv/pagestore"
)

// States on disk. A model with a fixed state goes on behind a prefix only where it has the state, so a prefix
// on disk is its pages and a state behind them. A state may be as large as the pages of 1,500 tokens, and SD
// cards wear: of a prompt that is worth its pages those are written that Cache.lay calls lasting, one or two,
// and others only where they are no larger than the pages since the last one that was; and each that a
// request came back to.
//
// Neither way copies a state: the writer reads the slot, which has one more holder meanwhile and so is not
// written to, and the reader fills one that nobody else has. Both are taken from the slots that running
// sequences leave.

// recall is a state that is read.
type recall struct {
	n    int // positions
	name pagestore.Name
	rest []int32 // tokens of its last page, where that is not full
	slot int32
	page int32 // to read what that page holds into; noPage: none
	data []byte
	read bool
}

// noPage is no page.
const noPage = -1

// maxStates is how many states may wait to be written.
const maxStates = 64

// recallState begins to read the deepest state on disk that a prompt goes on from, with the pages before it
// that are not in memory. s holds what memory has up to a state.
func (c *Cache) recallState(p *Prompt, s compute.Seq, limit int) {
	d := c.disk
	known := -1
	for _, e := range d.store.States() {
		n := e.Depth*d.page + e.Rest
		switch {
		case n > limit || e.Depth == 0 || e.Rest >= d.page:
			continue
		case n < s.Len()+d.page:
			return // nothing that would be worth it follows
		}
		rest := p.IDs[n-e.Rest : n]
		name := p.names[e.Depth-1].State(rest)
		if !d.store.Has(name) {
			continue
		}
		if known < 0 {
			known = c.tree.Known(p.set(p.Scaling), p, limit)
		}
		from := min(known, e.Depth)
		if f := d.fetchingAny(name, p.names[from:e.Depth]); f != nil {
			f.waits = append(f.waits, p)
			p.Waits = true
			return
		}
		if !d.empty && slices.ContainsFunc(p.names[from:e.Depth], func(n pagestore.Name) bool { return !d.store.Has(n) }) {
			continue
		}
		d.store.Touch([]pagestore.Name{name}, p.used)
		c.fetchState(&fetch{prompt: p, from: from, names: p.names[from:e.Depth], state: &recall{n: n, name: name, rest: rest, page: noPage}})
		return
	}
}

// fetchingAny returns a fetch that is reading one of these, or nil.
func (d *disk) fetchingAny(state pagestore.Name, pages []pagestore.Name) *fetch {
	if f := d.fetching[state]; f != nil {
		return f
	}
	for _, n := range pages {
		if f := d.fetching[n]; f != nil {
			return f
		}
	}
	return nil
}

// fetchState takes room for a state and hands it with its pages to the reader, unless there is none.
func (c *Cache) fetchState(f *fetch) {
	d, st := c.disk, f.state
	pages := len(f.names)
	if len(st.rest) > 0 {
		pages++
	}
	if short := pages - c.model.FreePages(); short > 0 {
		c.tree.Evict(short)
	}
	if c.model.FreePages() < pages || !c.spareState() {
		return
	}
	c.tree.EvictStates(1)
	if c.model.FreeStates() == 0 {
		return
	}
	st.slot = c.model.TakeState()
	st.data = c.model.StateData(st.slot)
	d.held = append(d.held, st.slot)
	if len(st.rest) > 0 {
		st.page = c.model.Take()
	}
	d.fetching[st.name] = f
	c.fetch(f)
}

// spareState reports whether a slot may be held for the disk beside those that run.
func (c *Cache) spareState() bool { return c.StatesFor(c.running() + 1) }

// get reads a state; page is scratch for what its last page holds. It runs beside the loop.
func (r *recall) get(d *disk, page []byte) bool {
	parts := [][]byte{r.data}
	if r.page != noPage {
		parts = append(parts, page)
	}
	if d.store.GetState(r.name, r.rest, parts...) != nil {
		return false
	}
	if r.page != noPage {
		d.model.WritePage(r.page, page)
	}
	r.read = true
	return true
}

// recalled takes a state that was read into the tree.
func (c *Cache) recalled(f *fetch) {
	d, st := c.disk, f.state
	delete(d.fetching, st.name)
	if st.read = st.read && f.read == len(f.names); st.read {
		c.tree.InsertState(f.prompt.set(f.prompt.Scaling), f.prompt, st.n, st.slot, st.page)
		c.count.fromDisk += uint64(len(st.rest))
	}
	d.release(st.slot)
}

// release gives back a slot that was held for the disk.
func (d *disk) release(slot int32) {
	i := slices.Index(d.held, slot) // one of them: two writes may hold it
	d.held = slices.Delete(d.held, i, i+1)
	d.model.DropState(slot)
}

// enqueueStates queues the states within page i of a prompt, a node of the tree, that are worth a file.
func (c *Cache) enqueueStates(p *Prompt, page int32, i int) {
	d := c.disk
	if !c.model.Fixed() {
		return
	}
	made, kept := c.tree.Kept(page)
	if !kept {
		return
	}
	for _, x := range c.tree.States(page) {
		n, depth := i*d.page+x.N, i
		if x.N == d.page {
			depth++
		}
		if n > len(p.IDs) || depth == 0 || depth > len(p.names) {
			continue
		}
		again := n == p.resumed || p.Pin != "" && n == c.lastPage(p)
		if !again && (len(p.IDs) < d.least || !slices.Contains(p.lasting, n) && !c.cheap(n-p.stateSaved)) {
			continue
		}
		p.stateSaved = max(p.stateSaved, n)
		s := saving{page: page, made: made, rest: x.N, depth: depth, at: p.used, half: !again}
		s.name = p.names[depth-1].State(p.IDs[depth*d.page : n])
		if d.store.Has(s.name) {
			d.store.Touch([]pagestore.Name{s.name}, p.used)
			continue
		}
		if len(d.states) < maxStates {
			d.states = append(d.states, s)
		}
	}
}

// cheap reports whether a state takes no more than the pages of so many tokens.
func (c *Cache) cheap(tokens int) bool {
	return tokens > 0 && int64(c.model.StateSize()) <= int64(tokens)*int64(c.model.PageBytes())/int64(c.page)
}

// pumpState hands the next queued state to the writer, where a buffer and a slot can be spared.
func (c *Cache) pumpState() {
	d := c.disk
	for len(d.states) > 0 && len(d.idle) > 0 && c.spareState() {
		s := d.states[0]
		d.states = d.states[1:]
		slot := int32(noPage)
		if made, kept := c.tree.Kept(s.page); kept && made == s.made && !d.store.Has(s.name) {
			for _, x := range c.tree.States(s.page) {
				if x.N == s.rest {
					slot = x.Slot
				}
			}
		}
		if slot < 0 {
			continue // it was given back meanwhile, or written for another request
		}
		b := d.idle[len(d.idle)-1]
		d.idle = d.idle[:len(d.idle)-1]
		b.saving, b.slot = s, slot
		c.model.ShareState(slot)
		d.held = append(d.held, slot)
		b.tokens, b.parts = b.tokens[:0], append(b.parts[:0], c.model.StateData(slot))
		if s.rest < d.page {
			b.tokens = append(b.tokens, c.tree.Tokens(s.page)[:s.rest]...)
			c.model.ReadPage(s.page, b.data)
			b.parts = append(b.parts, b.data)
		}
		d.writes <- b // never full: it holds as many as there are buffers
	}
	if len(d.states) == 0 {
		d.states = nil
	}
}
