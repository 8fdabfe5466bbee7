package engine

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

// disk is the prefix cache's other half: pages of prompts that outlive the process. What it writes and reads goes through
// goroutines of its own; the loop only copies a page to a buffer, and takes pages that were read into the tree.
//
// A page is worth a write when its request is to be kept (a pinned prefix), when a request came back to it, or when its
// prompt is long: from least tokens on. Pages that nobody came back to yet get half of the day's bytes at most, so that a
// stream of new documents does not starve a system prompt that everybody uses. Answers are not written until they stand in
// the prompt of the next turn.
//
// Of a model with a fixed state pages are of use only up to a state, see diskstate.go.
//
// A request whose prompt goes on in files waits while they are read, since a page is read in a hundredth of the time that
// computing it takes; it holds the pages that it reads into from the beginning, which are no more than it would take anyway.
type disk struct {
	store *pagestore.Store
	model compute.Model
	log   *slog.Logger
	page  int    // positions of a page
	least int    // tokens of a prompt from which on its pages are written though nobody came back to them
	key   string // what all pages depend on, beside adapters and tokens
	empty bool   // pages hold nothing: all that a sequence has is its state

	// The loop owns these.
	queue    []saving                  // pages that are to be written, oldest first
	states   []saving                  // states that are to be written, behind the pages
	held     []int32                   // slots that are being written or read into
	idle     []*buffer                 // that no page waits in
	fetches  []*fetch                  // that are not taken in yet
	fetching map[pagestore.Name]*fetch // by every name that is being read

	writes chan *buffer
	reads  chan *fetch
	ended  chan struct{}  // closed: the loop listens no more
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

// fetch is a run of pages that are read for a job.
type fetch struct {
	job    *job
	waits  []*job // others that want the same
	from   int    // the first page
	names  []pagestore.Name
	tokens [][]int32
	pages  []int32 // to read into
	read   int     // how many are there
	state  *recall // what is behind the pages; nil: nothing is wanted
}

// saveBuffers is how many pages wait in copies for the disk: one is written, the next one is copied.
const saveBuffers = 2

// warnEvery is how often a disk that takes nothing is named in the log.
const warnEvery = 10 * time.Minute

// attach gives a loop that does not run yet an open store, which is the loop's from then on where there is no error.
func (l *loop) attach(s *pagestore.Store, key string, least int) error {
	size := l.model.PageBytes()
	mem, err := mmap.Anonymous(max(1, (saveBuffers+1)*size))
	if err != nil {
		return err
	}
	d := &disk{
		store: s, model: l.model, log: l.log, page: l.size.Page, least: least, key: key, memory: mem, empty: size == 0,
		fetching: map[pagestore.Name]*fetch{},
		writes:   make(chan *buffer, saveBuffers),
		reads:    make(chan *fetch, l.model.TotalPages()+l.model.TotalStates()), // never full: each has taken a page or a slot
		ended:    make(chan struct{}),
	}
	all := mem.Bytes()[:(saveBuffers+1)*size]
	for i := range saveBuffers {
		d.idle = append(d.idle, &buffer{data: all[i*size : (i+1)*size : (i+1)*size]})
	}
	d.done.Go(func() { d.write(l) })
	d.done.Go(func() { d.read(l, all[saveBuffers*size:]) })
	l.disk = d
	return nil
}

// close waits for what is being written and read, and gives back what was read into. The loop calls it at its end.
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

// send hands a function to the loop, unless that has ended.
func (d *disk) send(l *loop, f func()) {
	select {
	case l.commands <- f:
	case <-d.ended:
	}
}

// write is the goroutine that writes.
func (d *disk) write(l *loop) {
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
		d.send(l, func() {
			if b.rest > 0 {
				d.release(b.slot)
			}
			d.idle = append(d.idle, b)
			d.pump(l)
		})
	}
}

// read is the goroutine that reads, one run at a time: more at once would only make a disk seek.
func (d *disk) read(l *loop, data []byte) {
	for f := range d.reads {
		wanted := f.state == nil || !d.over() && f.state.get(d, data)
		for wanted && f.read < len(f.names) && !d.over() {
			if !d.empty && d.store.Get(f.names[f.read], f.tokens[f.read], data) != nil {
				break // that page and what follows it is computed
			}
			d.model.WritePage(f.pages[f.read], data)
			f.read++
		}
		d.send(l, func() { l.fetched(f) })
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

// name gives a job the names of its prompt's full pages.
func (d *disk) name(j *job) {
	if j.names != nil || j.private {
		return
	}
	n := pagestore.Root(d.key + "\n" + j.setOf(j.stretched))
	var scratch []byte
	full := len(j.Req.PromptIDs) / d.page
	j.names = make([]pagestore.Name, full)
	for i := range full {
		n, scratch = n.Next(j.Req.PromptIDs[i*d.page:(i+1)*d.page], scratch)
		j.names[i] = n
	}
	j.used = d.store.Tick()
	d.store.Touch(j.names, j.used)
}

// recall begins to read what the disk has of a started job's prompt beyond what its sequence holds.
func (l *loop) recall(j *job) {
	d := l.disk
	if d == nil || j.private {
		return
	}
	s, limit := j.front(), len(j.Req.PromptIDs)-1
	if s == nil {
		return
	}
	d.name(j)
	l.skip(j, s, j, limit) // what is in memory, so that making room does not push it out
	if l.model.Fixed() {
		l.recallState(j, s, limit)
		return
	}
	from := s.Len() / d.page
	n := from
	for (n+1)*d.page <= limit && d.store.Has(j.names[n]) {
		n++
	}
	if n == from {
		return
	}
	if f := d.fetching[j.names[from]]; f != nil {
		f.waits = append(f.waits, j)
		j.fetching = true
		return
	}
	if short := n - from - l.model.FreePages(); short > 0 {
		l.prefixes.Evict(short)
	}
	n = min(n, from+l.model.FreePages())
	if n == from {
		return
	}
	l.fetch(&fetch{job: j, from: from, names: j.names[from:n]})
}

// fetch takes the pages of a run and hands it to the reader.
func (l *loop) fetch(f *fetch) {
	d := l.disk
	for i, name := range f.names {
		at := (f.from + i) * d.page
		f.tokens = append(f.tokens, f.job.Req.PromptIDs[at:at+d.page])
		f.pages = append(f.pages, l.model.Take())
		d.fetching[name] = f
	}
	f.job.fetching = true
	d.fetches = append(d.fetches, f)
	d.reads <- f
}

// fetched takes what was read into the tree and lets the jobs go on that waited for it.
func (l *loop) fetched(f *fetch) {
	d := l.disk
	d.fetches = slices.DeleteFunc(d.fetches, func(other *fetch) bool { return other == f })
	for _, n := range f.names {
		delete(d.fetching, n)
	}
	l.prefixes.Insert(f.job.setOf(f.job.stretched), f.job, f.from, f.pages[:f.read])
	l.count.PrefixDiskTokens += uint64(f.read * d.page)
	if f.state != nil {
		l.recalled(f)
	}
	f.drop(l.model)
	for _, j := range append(f.waits, f.job) {
		j.fetching = false
		if f.state != nil && (j != f.job || !f.state.read) {
			l.recall(j) // there may be another one, less deep
		}
	}
}

// front is the sequence that computes the prompt; nil: none, or several.
func (j *job) front() compute.Seq {
	if j.root != nil {
		return j.root
	}
	var s compute.Seq
	for _, b := range j.branches {
		if b.seq == nil || !b.live() {
			continue
		}
		if s != nil {
			return nil
		}
		s = b.seq
	}
	return s
}

// save queues the pages of prompts that became full and are worth it, and hands out as many as can be written.
func (l *loop) save() {
	d := l.disk
	if d == nil {
		return
	}
	for i := range l.batch.units {
		u := &l.batch.units[i]
		d.enqueue(l, u.job, u.seq)
	}
	d.pump(l)
}

// enqueue queues the full pages of a job's prompt that were not looked at yet, and the states in them.
func (d *disk) enqueue(l *loop, j *job, s compute.Seq) {
	full := min(s.Len()/d.page, len(j.names))
	if l.model.Fixed() { // the last page, which the answer fills, may hold a state of the prompt
		full = min(s.Len()/d.page, len(j.names)+1)
	}
	for ; j.saved < full; j.saved++ {
		i := j.saved
		page := s.Page(i)
		made, kept := l.prefixes.Kept(page)
		if !kept {
			return
		}
		if !d.empty && i < len(j.names) && !d.enqueuePage(l, j, saving{page: page, made: made, name: j.names[i], depth: i, at: j.used}) {
			return
		}
		d.enqueueStates(l, j, page, i)
	}
}

// enqueuePage queues a page that is worth it; false: the queue is full.
func (d *disk) enqueuePage(l *loop, j *job, s saving) bool {
	again := s.depth < j.found || j.Req.Pin != ""
	if !again && len(j.Req.PromptIDs) < d.least || d.store.Has(s.name) {
		return true
	}
	if len(d.queue) >= l.model.TotalPages() {
		return false
	}
	s.half = !again
	d.queue = append(d.queue, s)
	return true
}

// pump copies queued pages to buffers that are free, for the writer.
func (d *disk) pump(l *loop) {
	for len(d.queue) > 0 && len(d.idle) > 0 {
		s := d.queue[0]
		d.queue = d.queue[1:]
		if made, kept := l.prefixes.Kept(s.page); !kept || made != s.made || d.store.Has(s.name) {
			continue // it was given back meanwhile, or written for another request
		}
		b := d.idle[len(d.idle)-1]
		d.idle = d.idle[:len(d.idle)-1]
		b.saving = s
		b.tokens = append(b.tokens[:0], l.prefixes.Tokens(s.page)...)
		l.model.ReadPage(s.page, b.data)
		d.writes <- b // never full: it holds as many as there are buffers
	}
	if len(d.queue) == 0 {
		d.queue = nil // the array is not kept for the longest queue there ever was
		d.pumpState(l)
	}
}

// count adds what is on disk to the counters.
func (d *disk) count(st *backend.Stats) {
	s := d.store.Stats()
	st.PrefixDiskPages, st.PrefixDiskBytes = s.Pages, s.Bytes // what the states have among the bytes
	st.PrefixDiskWritten, st.PrefixDiskDamaged = s.Written, s.Damaged
}
