package prefix

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"edged/core/infer/engine/compute"
	"edged/core/infer/kv/pagestore"
	"edged/core/model/mmap"
	"edged/core/protocol/backend"
)

// disk is the prefix cache's other half: pages of prompts that outlive the process. What it writes and reads
// goes through goroutines of its own; the loop only copies a page to a buffer, and takes pages that were read
// into the tree.
//
// A page is worth a write when its request is pinned, when a request came back to it, or when its prompt is
// long: from least tokens on. Pages that nobody came back to yet get half of the day's bytes at most, so that
// a stream of new documents does not starve a system prompt that everybody uses. Answers are not written
// until they stand in the prompt of the next turn.
//
// Of a model with a fixed state pages are of use only up to a state, see diskstate.go.
//
// A request whose prompt goes on in files waits while they are read, since a page is read in a hundredth of
// the time that computing it takes; it holds the pages that it reads into from the beginning, which are no
// more than it would take anyway.
type disk struct {
	store *pagestore.Store
	model compute.Model
	log   *slog.Logger
	owner chan<- func() // runs what is sent in the goroutine that owns the model
	page  int           // positions of a page
	least int           // tokens of a prompt from which on its pages are written though nobody came back to them
	key   string        // what all pages depend on, beside adapters and tokens
	empty bool          // pages hold nothing: all that a sequence has is its state

	// The owner's goroutine has these.
	queue    []saving                  // pages that are to be written, oldest first
	states   []saving                  // states that are to be written, behind the pages
	held     []int32                   // slots that are being written or read into
	idle     []*buffer                 // that no page waits in
	fetches  []*fetch                  // that are not taken in yet
	fetching map[pagestore.Name]*fetch // by every name that is being read

	writes chan *buffer
	reads  chan *fetch
	ended  chan struct{}  // closed: the owner listens no more
	done   sync.WaitGroup // the two goroutines
	memory *mmap.Mapping  // of the buffers
	warned time.Time      // when a failed write was logged; the writer's
}

// saving is a page that is to be written, as long as it still is the one that it was.
type saving struct {
	page  int32
	made  uint64
	name  pagestore.Name
	depth int
	at    int64
	half  bool
	rest  int // of a state: tokens of page that it is behind, of which it is the last one; 0: a page
}

// buffer holds a copy of a page on its way to the disk, or what a state needs there.
type buffer struct {
	saving
	tokens []int32
	data   []byte
	slot   int32    // of a state
	parts  [][]byte // of a state
}

// fetch is a run of pages that are read for a prompt.
type fetch struct {
	prompt *Prompt
	waits  []*Prompt // others that want the same
	from   int       // the first page
	names  []pagestore.Name
	tokens [][]int32
	pages  []int32 // to read into
	read   int     // how many are there
	state  *recall // what is behind the pages; nil: nothing is wanted
}

// saveBuffers is how many pages wait in copies for the disk: one is written, the next one is copied.
const saveBuffers = 2

// BufferPages is how many pages a cache on disk holds in buffers beside the pool: those of the writer, and
// one of the reader.
const BufferPages = saveBuffers + 1

// warnEvery is how often a disk that takes nothing is named in the log.
const warnEvery = 10 * time.Minute

// Attach gives the cache an open store, which is the cache's from then on where there is no error. key names
// all that the pages depend on, see Key. Prompts of at least so many tokens are written though nobody came
// back to them. What is to run in the owner's goroutine, which has not begun to compute, is sent to owner.
func (c *Cache) Attach(s *pagestore.Store, key string, least int, owner chan<- func()) error {
	size := c.model.PageBytes()
	mem, err := mmap.Anonymous(max(1, BufferPages*size))
	if err != nil {
		return err
	}
	d := &disk{
		store: s, model: c.model, log: c.log, owner: owner, page: c.page, least: least, key: key, memory: mem, empty: size == 0,
		fetching: map[pagestore.Name]*fetch{},
		writes:   make(chan *buffer, saveBuffers),
		reads:    make(chan *fetch, c.model.TotalPages()+c.model.TotalStates()), // never full: each has taken a page or a slot
		ended:    make(chan struct{}),
	}
	all := mem.Bytes()[:BufferPages*size]
	for i := range saveBuffers {
		d.idle = append(d.idle, &buffer{data: all[i*size : (i+1)*size : (i+1)*size]})
	}
	d.done.Go(func() { c.write(d) })
	d.done.Go(func() { c.read(d, all[saveBuffers*size:]) })
	c.disk = d
	return nil
}

// close waits for what is being written and read, and gives back what was read into. The owner calls it at its end.
func (d *disk) close() {
	close(d.ended)
	close(d.writes)
	close(d.reads)
	d.done.Wait()
	for _, f := range d.fetches {
		f.drop(d.model)
	}
	for _, slot := range d.held {
		d.model.DropState(slot)
	}
	if err := errors.Join(d.store.Close(), d.memory.Close()); err != nil {
		d.log.Warn("the prefix cache on disk did not close", "err", err)
	}
}

// drop gives back what was read into.
func (f *fetch) drop(m compute.Model) {
	for _, p := range f.pages {
		m.Drop(p)
	}
	if f.state != nil && f.state.page != noPage {
		m.Drop(f.state.page)
	}
}

// send hands a function to the owner, unless that has ended.
func (d *disk) send(f func()) {
	select {
	case d.owner <- f:
	case <-d.ended:
	}
}

// write is the goroutine that writes.
func (c *Cache) write(d *disk) {
	for b := range d.writes {
		var err error
		if b.rest > 0 {
			err = d.store.PutState(b.name, b.depth, b.at, b.tokens, b.half, b.parts...)
		} else {
			err = d.store.Put(b.name, b.depth, b.at, b.tokens, b.data, b.half)
		}
		if err != nil && !errors.Is(err, pagestore.ErrBudget) && time.Since(d.warned) > warnEvery {
			d.warned = time.Now()
			d.log.Warn("a part of the prefix cache is not kept on disk", "err", err)
		}
		d.send(func() {
			if b.rest > 0 {
				d.release(b.slot)
			}
			d.idle = append(d.idle, b)
			c.pump()
		})
	}
}

// read is the goroutine that reads, one run at a time: more at once would only make a disk seek.
func (c *Cache) read(d *disk, data []byte) {
	for f := range d.reads {
		wanted := f.state == nil || !d.over() && f.state.get(d, data)
		for wanted && f.read < len(f.names) && !d.over() {
			if !d.empty && d.store.Get(f.names[f.read], f.tokens[f.read], data) != nil {
				break // that page and what follows it is computed
			}
			d.model.WritePage(f.pages[f.read], data)
			f.read++
		}
		d.send(func() { c.fetched(f) })
	}
}

func (d *disk) over() bool {
	select {
	case <-d.ended:
		return true
	default:
		return false
	}
}

// name gives a prompt the names of its full pages.
func (d *disk) name(p *Prompt) {
	if p.names != nil || p.Private {
		return
	}
	n := pagestore.Root(d.key + "\n" + p.set(p.Scaling))
	var scratch []byte
	full := len(p.IDs) / d.page
	p.names = make([]pagestore.Name, full)
	for i := range full {
		n, scratch = n.Next(p.IDs[i*d.page:(i+1)*d.page], scratch)
		p.names[i] = n
	}
	p.used = d.store.Tick()
	d.store.Touch(p.names, p.used)
}

// Recall begins to read what the disk has of a started request's prompt beyond what its sequence holds. Where
// it does, the request Waits.
func (c *Cache) Recall(p *Prompt) {
	d := c.disk
	if d == nil || p.Private {
		return
	}
	s, alone := p.Front()
	limit := len(p.IDs) - 1
	if s == nil {
		return
	}
	d.name(p)
	c.Adopt(p, s, p, limit, alone) // what is in memory, so that making room does not push it out
	if c.model.Fixed() {
		c.recallState(p, s, limit)
		return
	}
	from := s.Len() / d.page
	n := from
	for (n+1)*d.page <= limit && d.store.Has(p.names[n]) {
		n++
	}
	if n == from {
		return
	}
	if f := d.fetching[p.names[from]]; f != nil {
		f.waits = append(f.waits, p)
		p.Waits = true
		return
	}
	if short := n - from - c.model.FreePages(); short > 0 {
		c.tree.Evict(short)
	}
	n = min(n, from+c.model.FreePages())
	if n == from {
		return
	}
	c.fetch(&fetch{prompt: p, from: from, names: p.names[from:n]})
}

// fetch takes the pages of a run and hands it to the reader.
func (c *Cache) fetch(f *fetch) {
	d := c.disk
	for i, name := range f.names {
		at := (f.from + i) * d.page
		f.tokens = append(f.tokens, f.prompt.IDs[at:at+d.page])
		f.pages = append(f.pages, c.model.Take())
		d.fetching[name] = f
	}
	f.prompt.Waits = true
	d.fetches = append(d.fetches, f)
	d.reads <- f
}

// fetched takes what was read into the tree and lets the requests go on that waited for it.
func (c *Cache) fetched(f *fetch) {
	d := c.disk
	d.fetches = slices.DeleteFunc(d.fetches, func(other *fetch) bool { return other == f })
	for _, n := range f.names {
		delete(d.fetching, n)
	}
	c.tree.Insert(f.prompt.set(f.prompt.Scaling), f.prompt, f.from, f.pages[:f.read])
	c.count.fromDisk += uint64(f.read * d.page)
	if f.state != nil {
		c.recalled(f)
	}
	f.drop(c.model)
	for _, p := range append(f.waits, f.prompt) {
		p.Waits = false
		if f.state != nil && (p != f.prompt || !f.state.read) {
			c.Recall(p) // there may be another one, less deep
		}
	}
}

// Save queues the pages of a prompt that became full in a turn and are worth a write. Flush hands them out
// when all are queued.
func (c *Cache) Save(p *Prompt, s compute.Seq) {
	if c.disk != nil {
		c.enqueue(p, s)
	}
}

// Flush hands as many queued pages to the writer as can be written.
func (c *Cache) Flush() {
	if c.disk != nil {
		c.pump()
	}
}

// Writing reports whether anything is on its way to the disk.
func (c *Cache) Writing() bool {
	d := c.disk
	return d != nil && (len(d.queue) > 0 || len(d.states) > 0 || len(d.idle) < saveBuffers)
}

// Reading reports whether anything is being read from the disk, which the owner's goroutine will be told.
func (c *Cache) Reading() bool { return c.disk != nil && len(c.disk.fetches) > 0 }

// enqueue queues the full pages of a prompt that were not looked at yet, and the states in them.
func (c *Cache) enqueue(p *Prompt, s compute.Seq) {
	d := c.disk
	full := min(s.Len()/d.page, len(p.names))
	if c.model.Fixed() { // the last page, which the answer fills, may hold a state of the prompt
		full = min(s.Len()/d.page, len(p.names)+1)
	}
	for ; p.saved < full; p.saved++ {
		i := p.saved
		page := s.Page(i)
		made, kept := c.tree.Kept(page)
		if !kept {
			return
		}
		if !d.empty && i < len(p.names) && !c.enqueuePage(p, saving{page: page, made: made, name: p.names[i], depth: i, at: p.used}) {
			return
		}
		c.enqueueStates(p, page, i)
	}
}

// enqueuePage queues a page that is worth it; false: the queue is full.
func (c *Cache) enqueuePage(p *Prompt, s saving) bool {
	d := c.disk
	again := s.depth < p.found || p.Pin != ""
	if !again && len(p.IDs) < d.least || d.store.Has(s.name) {
		return true
	}
	if len(d.queue) >= c.model.TotalPages() {
		return false
	}
	s.half = !again
	d.queue = append(d.queue, s)
	return true
}

// pump copies queued pages to buffers that are free, for the writer.
func (c *Cache) pump() {
	d := c.disk
	for len(d.queue) > 0 && len(d.idle) > 0 {
		s := d.queue[0]
		d.queue = d.queue[1:]
		if made, kept := c.tree.Kept(s.page); !kept || made != s.made || d.store.Has(s.name) {
			continue // it was given back meanwhile, or written for another request
		}
		b := d.idle[len(d.idle)-1]
		d.idle = d.idle[:len(d.idle)-1]
		b.saving = s
		b.tokens = append(b.tokens[:0], c.tree.Tokens(s.page)...)
		c.model.ReadPage(s.page, b.data)
		d.writes <- b // never full: it holds as many as there are buffers
	}
	if len(d.queue) == 0 {
		d.queue = nil // the array is not kept for the longest queue there ever was
		c.pumpState()
	}
}

// count adds what is on disk to the counters.
func (d *disk) count(st *backend.Stats) {
	s := d.store.Stats()
	st.PrefixDiskPages, st.PrefixDiskBytes = s.Pages, s.Bytes // what the states have among the bytes
	st.PrefixDiskWritten, st.PrefixDiskDamaged = s.Written, s.Damaged
}
