package engine

import (
	"slices"

	"edged/core/infer/engine/compute"
	"edged/core/infer/kv/pagestore"
)

// States on disk. A model with a fixed state goes on behind a prefix only where it has the state, so a prefix on disk is its pages and a
// state behind them. A state may be as large as the pages of 1,500 tokens, and SD cards wear: of a prompt that is worth its pages
// those are written that loop.lay calls lasting, one or two, and others only where they are no larger than the pages since the last one that was; and
// each that a request came back to.
//
// Neither way copies a state: the writer reads the slot, which has one more holder meanwhile and so is not written to, and the
// reader fills one that nobody else has. Both are taken from the slots that running sequences leave.

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

// recallState begins to read the deepest state on disk that a job's prompt goes on from, with the pages before it that are not in
// memory. s holds what memory has up to a state.
func (l *loop) recallState(j *job, s compute.Seq, limit int) {
	d := l.disk
	known := -1
	for _, e := range d.store.States() {
		n := e.Depth*d.page + e.Rest
		switch {
		case n > limit || e.Depth == 0 || e.Rest >= d.page:
			continue
		case n < s.Len()+d.page:
			return // nothing that would be worth it follows
		}
		rest := j.Req.PromptIDs[n-e.Rest : n]
		name := j.names[e.Depth-1].State(rest)
		if !d.store.Has(name) {
			continue
		}
		if known < 0 {
			known = l.prefixes.Known(j.setOf(j.stretched), j, limit)
		}
		from := min(known, e.Depth)
		if f := d.fetchingAny(name, j.names[from:e.Depth]); f != nil {
			f.waits = append(f.waits, j)
			j.fetching = true
			return
		}
		if !d.empty && slices.ContainsFunc(j.names[from:e.Depth], func(n pagestore.Name) bool { return !d.store.Has(n) }) {
			continue
		}
		d.store.Touch([]pagestore.Name{name}, j.used)
		l.fetchState(&fetch{job: j, from: from, names: j.names[from:e.Depth], state: &recall{n: n, name: name, rest: rest, page: noPage}})
		return
	}
}

// fetchingAny is what is reading one of these, if anything is.
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
func (l *loop) fetchState(f *fetch) {
	d, st := l.disk, f.state
	pages := len(f.names)
	if len(st.rest) > 0 {
		pages++
	}
	if short := pages - l.model.FreePages(); short > 0 {
		l.prefixes.Evict(short)
	}
	if l.model.FreePages() < pages || !l.spareState() {
		return
	}
	l.prefixes.EvictStates(1)
	if l.model.FreeStates() == 0 {
		return
	}
	st.slot = l.model.TakeState()
	st.data = l.model.StateData(st.slot)
	d.held = append(d.held, st.slot)
	if len(st.rest) > 0 {
		st.page = l.model.Take()
	}
	d.fetching[st.name] = f
	l.fetch(f)
}

// spareState reports whether a slot may be held for the disk beside those that run.
func (l *loop) spareState() bool {
	n := 0
	for _, j := range l.running {
		n += j.alive()
	}
	return l.statesFor(n + 1)
}

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
func (l *loop) recalled(f *fetch) {
	d, st := l.disk, f.state
	delete(d.fetching, st.name)
	if st.read = st.read && f.read == len(f.names); st.read {
		l.prefixes.InsertState(f.job.setOf(f.job.stretched), f.job, st.n, st.slot, st.page)
		l.count.PrefixDiskTokens += uint64(len(st.rest))
	}
	d.release(st.slot)
}

// release gives back a slot that was held for the disk.
func (d *disk) release(slot int32) {
	i := slices.Index(d.held, slot) // one of them: two writes may hold it
	d.held = slices.Delete(d.held, i, i+1)
	d.model.DropState(slot)
}

// enqueueStates queues the states within page i of a job's prompt, a node of the tree, that are worth a file.
func (d *disk) enqueueStates(l *loop, j *job, page int32, i int) {
	if !l.model.Fixed() {
		return
	}
	made, kept := l.prefixes.Kept(page)
	if !kept {
		return
	}
	for _, c := range l.prefixes.States(page) {
		n, depth := i*d.page+c.N, i
		if c.N == d.page {
			depth++
		}
		if n > len(j.Req.PromptIDs) || depth == 0 || depth > len(j.names) {
			continue
		}
		again := n == j.resumed || j.Req.Pin != "" && n == l.lastPage(j)
		if !again && (len(j.Req.PromptIDs) < d.least || !slices.Contains(j.lasting, n) && !d.cheap(l, n-j.stateSaved)) {
			continue
		}
		j.stateSaved = max(j.stateSaved, n)
		s := saving{page: page, made: made, rest: c.N, depth: depth, at: j.used, half: !again}
		s.name = j.names[depth-1].State(j.Req.PromptIDs[depth*d.page : n])
		if d.store.Has(s.name) {
			d.store.Touch([]pagestore.Name{s.name}, j.used)
			continue
		}
		if len(d.states) < maxStates {
			d.states = append(d.states, s)
		}
	}
}

// cheap reports whether a state takes no more than the pages of so many tokens.
func (d *disk) cheap(l *loop, tokens int) bool {
	return tokens > 0 && int64(l.model.StateSize()) <= int64(tokens)*int64(l.model.PageBytes())/int64(d.page)
}

// pumpState hands the next queued state to the writer, where a buffer and a slot can be spared.
func (d *disk) pumpState(l *loop) {
	for len(d.states) > 0 && len(d.idle) > 0 && l.spareState() {
		s := d.states[0]
		d.states = d.states[1:]
		slot := int32(noPage)
		if made, kept := l.prefixes.Kept(s.page); kept && made == s.made && !d.store.Has(s.name) {
			for _, c := range l.prefixes.States(s.page) {
				if c.N == s.rest {
					slot = c.Slot
				}
			}
		}
		if slot < 0 {
			continue // it was given back meanwhile, or written for another request
		}
		b := d.idle[len(d.idle)-1]
		d.idle = d.idle[:len(d.idle)-1]
		b.saving, b.slot = s, slot
		l.model.ShareState(slot)
		d.held = append(d.held, slot)
		b.tokens, b.parts = b.tokens[:0], append(b.parts[:0], l.model.StateData(slot))
		if s.rest < d.page {
			b.tokens = append(b.tokens, l.prefixes.Tokens(s.page)[:s.rest]...)
			l.model.ReadPage(s.page, b.data)
			b.parts = append(b.parts, b.data)
		}
		d.writes <- b // never full: it holds as many as there are buffers
	}
	if len(d.states) == 0 {
		d.states = nil
	}
}
